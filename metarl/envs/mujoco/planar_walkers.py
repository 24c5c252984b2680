"""Walker2d and Hopper whose masses, inertias, dampings and frictions differ between tasks.

    robot   numbers of a task  observation  actions  an episode ends when
    Walker  58                 17           6        height outside (0.8, 2), or |angle| >= 1
    Hopper  34                 11           3        height <= 0.7, |angle| >= 0.2, or a coordinate
                                                     or velocity of at least 100

The code of rand_param_envs, as PEARL and VariBAD use it (arXiv:1903.08254, dennisl88/
rand_param_envs; arXiv:1910.08348, lmzintgraf/varibad environments/mujoco/rand_param_envs). Reward:
v + 1 - 0.001 ||a||^2, v the change of x over the step and a the action as sampled. Observations are
qpos[1:] and qvel clipped to [-10, 10]. The start is the model's, qpos and qvel + U(-0.005, 0.005).
A step is 4 substeps of 0.004 s; the robots' own files ask for 5 substeps of the Walker, which the
base class ignores. Horizon 200.

The models are gymnasium's hopper.xml and walker2d.xml (that of Walker2d-v4) with this timestep, and
hold the numbers of the old files. Walker2d-v5 and Hopper-v5 have the same ends, but a timestep of
0.002 s, no reward of 1 for the step of a fall, and the same friction on both feet of the Walker.
Tasks are described in factors.py.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco.factors import Factors
from metarl.envs.mujoco.run_tasks import Runs
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers

TIMESTEP = 0.004
FRAME_SKIP = 4
NOISE = 0.005
CONTROL_COST = 1e-3
ALIVE = 1.0
MOST = 10.0
"""Velocities are observed within [-MOST, MOST]."""
UNBOUND = 100.0
"""A Hopper's coordinate or velocity at which its episode ends."""


@dataclass(frozen=True)
class Robot:
    """The numbers that distinguish the two robots."""

    file: str
    heights: tuple[float, float]
    angle: float
    bounded: bool = False
    """End an episode at an unbound coordinate or velocity, too."""


WALKER = Robot("walker2d.xml", (0.8, 2.0), 1.0)
HOPPER = Robot("hopper.xml", (0.7, np.inf), 0.2, bounded=True)


def walker(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"log_mass": [...], "log_inertia": [...], ...}; see factors.py."""
    del variant
    return _runs(name, WALKER, horizon)


def hopper(name: str, variant: str, horizon: int) -> Runs:
    """Tasks as `walker` has them, with fewer numbers."""
    del variant
    return _runs(name, HOPPER, horizon)


class PlanarWalkerEnv(MujocoTasks):
    """K x E robots, with a model for each task."""

    def __init__(
        self,
        spec: EnvSpec,
        robot: Robot,
        family: Factors,
        num_tasks: int,
        episodes: int,
        workers: Workers,
    ):
        model = load_model(robot)
        super().__init__(spec, model, FRAME_SKIP, family, num_tasks, episodes, workers)
        self.robot = robot

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        model = self.batch.model
        qpos = model.qpos0 + rng.uniform(-NOISE, NOISE, model.nq)
        return qpos, rng.uniform(-NOISE, NOISE, model.nv)

    def observe(self) -> np.ndarray:
        seen = [self.batch.qpos[:, 1:], np.clip(self.batch.qvel, -MOST, MOST)]
        return np.concatenate(seen, axis=1).astype(np.float32)

    def reward(self, control: np.ndarray) -> np.ndarray:
        cost = np.einsum("ni,ni->n", self.sampled, self.sampled)
        return self.x_velocity() + ALIVE - CONTROL_COST * cost

    def fell(self) -> np.ndarray:
        low, high = self.robot.heights
        height, angle = self.batch.qpos[:, 1], self.batch.qpos[:, 2]
        upright = (height > low) & (height < high) & (np.abs(angle) < self.robot.angle)
        if self.robot.bounded:
            upright &= (np.abs(self.batch.qpos[:, 2:]) < UNBOUND).all(axis=1)
            upright &= (np.abs(self.batch.qvel) < UNBOUND).all(axis=1)
        return ~upright


@cache
def load_model(robot: Robot) -> mujoco.MjModel:
    """Loads gymnasium's model of a robot, with the timestep of rand_param_envs."""
    model = mujoco.MjModel.from_xml_path(model_path(robot.file))
    model.opt.timestep = TIMESTEP
    return model


def _runs(name: str, robot: Robot, horizon: int) -> Runs:
    model = load_model(robot)
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (model.nq - 1 + model.nv,), np.float32),
        Box(-1.0, 1.0, (model.nu,), np.float32),
        horizon,
    )
    family = Factors.of(model)
    return Runs(spec, family, partial(PlanarWalkerEnv, spec, robot, family))
