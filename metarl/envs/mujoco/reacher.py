"""Reacher: an arm of two links reaches a place that the observation does not show.

gymnasium's Reacher-v5 as a task distribution of ours: goals are uniform in the disc of 0.2 m that
the arm can reach, as there, but hidden. Reward: minus the distance of the fingertip to the goal
after the step, minus ||a||^2, the action as sampled. Observation, 8 numbers: cosines and sines of
the two angles, their rates, and the fingertip's place, m. (Reacher-v5 shows the goal, and the
fingertip's place from there.) Start: angles U(-0.1, 0.1) rad, rates U(-0.005, 0.005) rad/s. A step
is 2 substeps of 0.01 s. Episodes do not end; horizon 50.

Reacher-v5 measures the distance where the last Runge-Kutta stage left the fingertip; here it is
that of the state after the step.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from functools import cache, partial

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco.run_tasks import Place, Runs
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers

FRAME_SKIP = 2
REACH = 0.2
"""The farthest goal, m."""
LINKS = (0.1, 0.11)
"""Lengths of the links up to the fingertip, m."""
ANGLE, RATE = 0.1, 0.005
"""Noise of the start, rad and rad/s."""


def goal(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"goal": [x, y]}, in m."""
    del variant
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (8,), np.float32),
        Box(-1.0, 1.0, (2,), np.float32),
        horizon,
    )
    family = Place(REACH)
    return Runs(spec, family, partial(ReacherEnv, spec, family))


class ReacherEnv(MujocoTasks):
    """K x E arms; the model's target is at the goal, where it touches nothing."""

    def __init__(
        self, spec: EnvSpec, family: Place, num_tasks: int, episodes: int, workers: Workers
    ):
        super().__init__(spec, load_model(), FRAME_SKIP, family, num_tasks, episodes, workers)

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws angles and rates; `reset` places the target."""
        angles, rates = rng.uniform(-ANGLE, ANGLE, 2), rng.uniform(-RATE, RATE, 2)
        return np.append(angles, [0.0, 0.0]), np.append(rates, [0.0, 0.0])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        obs = super().reset(seeds)
        self.batch.qpos[:, 2:] = self.goal
        return obs

    def observe(self) -> np.ndarray:
        angles, rates = self.batch.qpos[:, :2], self.batch.qvel[:, :2]
        seen = [np.cos(angles), np.sin(angles), rates, fingertip(angles)]
        return np.concatenate(seen, axis=1).astype(np.float32)

    def reward(self, control: np.ndarray) -> np.ndarray:
        offset = fingertip(self.batch.qpos[:, :2]) - self.goal
        cost = np.einsum("ni,ni->n", self.sampled, self.sampled)
        return -np.hypot(offset[:, 0], offset[:, 1]) - cost


def fingertip(angles: np.ndarray) -> np.ndarray:
    """Returns the fingertip's place [..., 2], m, for angles [..., 2] of the joints."""
    first, both = angles[..., 0], angles[..., 0] + angles[..., 1]
    x = LINKS[0] * np.cos(first) + LINKS[1] * np.cos(both)
    y = LINKS[0] * np.sin(first) + LINKS[1] * np.sin(both)
    return np.stack([x, y], axis=-1)


@cache
def load_model() -> mujoco.MjModel:
    """Loads gymnasium's reacher.xml."""
    return mujoco.MjModel.from_xml_path(model_path("reacher.xml"))
