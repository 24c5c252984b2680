"""The pieces that Meta-World's rewards are made of, for N simulations at once.

Row by row they are `metaworld.utils.reward_utils` and `SawyerXYZEnv._gripper_caging_reward`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings

AT_MARGIN = 0.1
"""Value of `tolerance` at `margin` from its bounds."""

PAD_THRESH = 0.05
"""Distance of a pad from the object along y, m, up to which `enclosing` is satisfied."""

SHOULDER = np.array([0.0, 0.055, 0.07])
"""The gripper's shoulder, which lifts levers and turns locks, as seen from the hand, m."""

_FALLING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gaussian": lambda d: np.exp(np.log(AT_MARGIN) * d * d),
    "long_tail": lambda d: 1.0 / (d * d * (1.0 / AT_MARGIN - 1.0) + 1.0),
}


def norm(vectors: np.ndarray) -> np.ndarray:
    """Euclidean lengths, [N, d] -> [N]."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def tolerance(
    x: np.ndarray,
    bounds: tuple[float | np.ndarray, float | np.ndarray],
    margin: float | np.ndarray,
    sigmoid: str = "gaussian",
) -> np.ndarray:
    """1 where x [N] lies within `bounds`, falling to 0.1 at `margin` from them."""
    lower, upper = bounds
    outside = np.maximum(lower - x, x - upper)
    inside = outside <= 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        falling = np.where(np.equal(margin, 0), 0.0, _FALLING[sigmoid](outside / margin))
    return np.where(inside, 1.0, falling)


def nearness(
    distance: np.ndarray, radius: float, start: np.ndarray, sigmoid: str = "long_tail"
) -> np.ndarray:
    """1 within `radius` of a target, 0.1 at `start`: the distance that an episode starts from."""
    return tolerance(distance, (0, radius), np.abs(start - radius), sigmoid)


def hamacher(a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    """The Hamacher product of two numbers in [0, 1], [N]: ab / (a + b - ab)."""
    product = a * b
    total = a + b - product
    return np.where(total > 0, product / np.where(total > 0, total, 1.0), 0.0)


def funnel(distance: np.ndarray, mouth: float, slope: float, height: float) -> np.ndarray:
    """The height, m, that a hand is to keep above at a horizontal `distance` [N] from what it may
    reach down to: 0 within `mouth`, from there on slope log(distance - mouth) + height."""
    outside = distance - mouth
    away = outside > 0
    return np.where(away, slope * np.log(np.where(away, outside, 1.0)) + height, 0.0)


def above(hand: np.ndarray, floor: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """1 for hands [N, 3] above a floor [N] or at most 1 cm below, falling to 0.1 at `margin`."""
    return tolerance(floor - hand[:, 2], (-np.inf, 0.01), margin, "long_tail")


def caging(
    at: Readings,
    task: Constants,
    action: np.ndarray,
    obj: np.ndarray,
    *,
    obj_radius: float,
    pad_success_thresh: float,
    xz_thresh: float,
    object_reach_radius: float = 0.01,
    desired_gripper_effort: float = 1.0,
    density: str = "low",
) -> np.ndarray:
    """How well the gripper holds what is at `obj` [N, 3], in [0, 1].

    `density`: "low", "medium" (adds how near the gripper is, 1 within `object_reach_radius`) or
    "high" (adds how well it cages). `action` [N, 4]. Reads the task's `obj_init_pos` and
    `init_tcp`.
    """
    init = task.obj_init_pos
    # Along y each pad is to be between the object's radius and the threshold from it, and the
    # margin is the same of the object's first place.
    sides = []
    for pad in (at.left_pad, at.right_pad):
        margin = np.abs(np.abs(pad[:, 1] - init[:, 1]) - pad_success_thresh)
        distance = np.abs(pad[:, 1] - obj[:, 1])
        bounds = (obj_radius, pad_success_thresh)
        sides.append(tolerance(distance, bounds, margin, "long_tail"))
    along_y = hamacher(*sides)

    xz = [0, 2]
    margin = norm(init[:, xz] - task.init_tcp[:, xz]) - xz_thresh
    distance = norm(at.tcp[:, xz] - obj[:, xz])
    caged = hamacher(along_y, tolerance(distance, (0, xz_thresh), margin, "long_tail"))

    effort = np.clip(action[:, 3], 0.0, desired_gripper_effort) / desired_gripper_effort
    held = hamacher(caged, np.where(caged > 0.97, effort, 0.0))
    if density == "high":
        return (held + caged) / 2
    if density == "medium":
        margin = np.abs(norm(init - task.init_tcp) - object_reach_radius)
        distance = norm(obj - at.tcp)
        near = tolerance(distance, (0, object_reach_radius), margin, "long_tail")
        return (held + near) / 2
    return held


def enclosing(
    at: Readings, task: Constants, obj: np.ndarray, obj_radius: float, xz_thresh: float
) -> np.ndarray:
    """How well the pads cage what is at `obj` [N, 3], each on its own side of it, in [0, 1].

    What pick-place, push-back, soccer, sweep and sweep-into have in place of `caging`.
    """
    xz = [0, 2]
    margin = norm(task.obj_init_pos[:, xz] - task.init_tcp[:, xz]) - xz_thresh
    distance = norm(at.tcp[:, xz] - obj[:, xz])
    along_xz = tolerance(distance, (0, xz_thresh), margin, "long_tail")
    return hamacher(_between_pads(at, obj, (obj_radius, PAD_THRESH)), along_xz)


def pinching(
    at: Readings,
    task: Constants,
    obj: np.ndarray,
    *,
    obj_radius: float,
    grip_thresh: float,
    xz_thresh: float,
) -> np.ndarray:
    """`enclosing`, and once that is high, whether both pads are within `grip_thresh`, m, along y.

    `_gripper_caging_reward` of push-back, soccer, sweep and sweep-into: no effort is asked for.
    """
    caged = enclosing(at, task, obj, obj_radius, xz_thresh)
    gripped = _between_pads(at, obj, (obj_radius, grip_thresh))
    return (caged + np.where(caged > 0.95, gripped, 0.0)) / 2


def _between_pads(at: Readings, obj: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    # Negative where a pad has passed to the other side, [2, N].
    distances = np.stack([at.left_pad[:, 1] - obj[:, 1], obj[:, 1] - at.right_pad[:, 1]])
    # Meant to be of the pads' first places, but the reference's `init_left_pad` and
    # `init_right_pad` are views of where the pads are now.
    margin = np.abs(np.abs(distances) - PAD_THRESH)
    return hamacher(*tolerance(distances, bounds, margin, "long_tail"))
