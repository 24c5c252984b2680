"""HalfCheetah: run at a given velocity, or in a given direction.

Published results come from several benchmarks of these names. A variant is one of them:

    variant   target     horizon  substeps  velocity       obs  reset noise (qpos)
    maml2017  U(0, 2)    200      1         centre of mass  20  0.01 N(0, 1)
    promp     U(0, 3)    100      5         change of x     17  U(-0.1, 0.1)
    varibad   U(0, 3)    200      5         change of x     17  U(-0.1, 0.1)

A substep is 0.01 s. Reward of the velocity family: -|v - v*| - 0.05 ||a||^2, of the direction
family: d v - 0.05 ||a||^2, with the action clipped to the box and the velocity that of the
state after the step (for "change of x": over the step).

`maml2017` is the MAML paper's own code (arXiv:1703.03400; cbfinn/maml_rl): observations are
qpos[1:], qvel and the centre of mass. `promp` (arXiv:1810.06784) shows the policy the box
[-10, 10]^6 and divides by 10: a policy's unit standard deviation is 0.1 of the simulator's
box. `varibad` (arXiv:1910.08348) has gymnasium's own observations and frame skip.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco_batch import MujocoBatch
from metarl.envs.mujoco_tasks import MujocoTasks
from metarl.envs.planar import PlanarChain
from metarl.envs.splits import check_draw, check_split, quantiles
from metarl.types import EnvSpec, Task

CONTROL_COST = 0.05
VELOCITY_NOISE = 0.1
"""Standard deviation of qvel at the start, in every variant."""


@dataclass(frozen=True)
class Variant:
    """What distinguishes the benchmarks that share the name."""

    max_velocity: float
    """Targets are U(0, this), m/s."""
    frame_skip: int
    centre_of_mass: bool
    """Reward the centre of mass's velocity and observe its position; else the root's x."""
    action_scale: float
    """The policy's box is [-scale, scale]; the simulator's is [-1, 1]."""
    position_noise: float
    """Scale of the noise on qpos at the start: normal with `centre_of_mass`, else uniform."""


VARIANTS = {
    "maml2017": Variant(2.0, 1, True, 1.0, 0.01),
    "promp": Variant(3.0, 5, False, 10.0, 0.1),
    "varibad": Variant(3.0, 5, False, 1.0, 0.1),
}


class HalfCheetahEnv(MujocoTasks):
    """K x E half-cheetahs; subclasses say what is rewarded."""

    def __init__(
        self, spec: EnvSpec, variant: Variant, num_tasks: int, episodes: int, threads: int
    ):
        model = load_model()
        batch = MujocoBatch(model, num_tasks * episodes, variant.frame_skip, threads)
        super().__init__(spec, batch, num_tasks, episodes, variant.action_scale)
        self.variant = variant
        self._chain = PlanarChain(model)
        self._x_before = np.zeros(batch.size)
        self._velocity = np.zeros(batch.size)
        self._goal = np.zeros(batch.size)

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scale, nq = self.variant.position_noise, self.batch.model.nq
        if self.variant.centre_of_mass:
            qpos = scale * rng.standard_normal(nq)
        else:
            qpos = rng.uniform(-scale, scale, nq)
        return qpos, VELOCITY_NOISE * rng.standard_normal(self.batch.model.nv)

    def before_step(self) -> None:
        self._x_before[:] = self.batch.qpos[:, 0]

    def observe(self) -> np.ndarray:
        qpos, qvel = self.batch.qpos, self.batch.qvel
        obs = np.empty((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[:, :8], obs[:, 8:17] = qpos[:, 1:], qvel
        if self.variant.centre_of_mass:
            com, self._velocity = self._chain.centre_of_mass(qpos, qvel)
            obs[:, 17:] = com.T
        else:
            self._velocity = (qpos[:, 0] - self._x_before) / self.batch.seconds_per_step
        return obs

    def reward(self, control: np.ndarray) -> np.ndarray:
        cost = np.einsum("bi,bi->b", control, control)
        return self._progress(self._velocity) - CONTROL_COST * cost

    def _progress(self, velocity: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class VelocityEnv(HalfCheetahEnv):
    def assign(self, tasks: Sequence[Task]) -> None:
        self._goal = np.repeat([float(task["velocity"]) for task in tasks], self.shape[1])

    def _progress(self, velocity: np.ndarray) -> np.ndarray:
        return -np.abs(velocity - self._goal)


class DirectionEnv(HalfCheetahEnv):
    def assign(self, tasks: Sequence[Task]) -> None:
        self._goal = np.repeat([float(task["direction"]) for task in tasks], self.shape[1])

    def _progress(self, velocity: np.ndarray) -> np.ndarray:
        return velocity * self._goal


class HalfCheetahVelocity:
    """Tasks {"velocity": v*}, in m/s."""

    def __init__(self, name: str, variant: str, horizon: int):
        self.variant = VARIANTS[variant]
        self.spec = _spec(name, self.variant, horizon)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        shares = quantiles(num_tasks, rng, split, draw)
        return [{"velocity": float(v)} for v in self.variant.max_velocity * shares]

    def open(self, num_tasks: int, episodes_per_task: int, threads: int) -> VelocityEnv:
        return VelocityEnv(self.spec, self.variant, num_tasks, episodes_per_task, threads)

    def describe(self, task: Task) -> str:
        return f"v*={task['velocity']:.2f}"


class HalfCheetahDirection:
    """Tasks {"direction": +1 or -1}.

    The two are all there is, so both splits hold both, as is the practice in the field.
    """

    def __init__(self, name: str, variant: str, horizon: int):
        self.variant = VARIANTS[variant]
        self.spec = _spec(name, self.variant, horizon)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        return directions(num_tasks, rng, split, draw)

    def open(self, num_tasks: int, episodes_per_task: int, threads: int) -> DirectionEnv:
        return DirectionEnv(self.spec, self.variant, num_tasks, episodes_per_task, threads)

    def describe(self, task: Task) -> str:
        return "forward" if task["direction"] > 0 else "backward"


def directions(num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
    """Forward and backward by a coin, or by turns if `stratified`."""
    check_split(split)
    if check_draw(draw) == "stratified":
        signs = np.where(np.arange(num) % 2 == 0, 1.0, -1.0)
    else:
        signs = rng.choice([1.0, -1.0], num)
    return [{"direction": float(sign)} for sign in signs]


def load_model() -> mujoco.MjModel:
    """gymnasium's half_cheetah.xml; the 2017 file holds the same numbers."""
    assets = os.path.join(os.path.dirname(gymnasium.__file__), "envs", "mujoco", "assets")
    return mujoco.MjModel.from_xml_path(os.path.join(assets, "half_cheetah.xml"))


def _spec(name: str, variant: Variant, horizon: int) -> EnvSpec:
    width = 20 if variant.centre_of_mass else 17
    scale = variant.action_scale
    return EnvSpec(
        name,
        Box(-np.inf, np.inf, (width,), np.float32),
        Box(-scale, scale, (6,), np.float32),
        horizon,
    )
