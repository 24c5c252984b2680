"""Ant: run at a given velocity, or in a given direction.

Reward: task + alive - w ||a||^2 - 0.0005 ||clip(contact forces, -1, 1)||^2, with the action
clipped to the box; task is 1 - |v - v*| (velocity, targets U(0, 3)) or d v (direction). An
episode ends when the torso leaves the heights [0.2, 1] m. Horizon 200.

    variant    timestep  substeps  velocity v      w      alive  start
    maml2017   0.02 s    1         centre of mass  0.005  0.05   crouched, qpos + 0.01 N(0, 1)
    gymnasium  0.01 s    5         change of x     0.5    1      as the model, qpos + U(-0.1, 0.1)

`maml2017` is the MAML paper's own code (arXiv:1703.03400; cbfinn/maml_rl ant_env_rand.py): its
file has another timestep and softer contacts than gymnasium's. It showed the policy 125
numbers, contact forces, the torso's rotation and place among them; here both variants observe
gymnasium's 27 without contact forces, qpos[2:] and qvel. `gymnasium` is Ant-v5's model and
weights under these tasks.

Contact forces are `cfrc_ext` of the state after the step, as a trailing `mj_forward` gives
them, which the 2017 code called. (gymnasium reads what the last Runge-Kutta stage left behind,
for its `x_velocity` too: there v is the change of qpos.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.contact_probe import ContactProbe
from metarl.envs.gymnasium_models import model_path
from metarl.envs.mujoco_batch import MujocoBatch
from metarl.envs.mujoco_tasks import MujocoTasks
from metarl.envs.run_tasks import RunTasks
from metarl.types import EnvSpec, Task

CONTACT_COST = 0.0005
HEIGHTS = (0.2, 1.0)
"""Of the torso above the ground, m; elsewhere an episode ends."""
VELOCITY_NOISE = 0.1
"""Standard deviation of qvel at the start."""


@dataclass(frozen=True)
class Variant:
    """What distinguishes the two."""

    model_of_2017: bool
    """The timestep, contacts, start and centre-of-mass velocity of the 2017 code."""
    frame_skip: int
    control_cost: float
    alive: float


VARIANTS = {
    "maml2017": Variant(True, 1, 0.005, 0.05),
    "gymnasium": Variant(False, 5, 0.5, 1.0),
}
MAX_VELOCITY = 3.0


class AntEnv(MujocoTasks):
    """K x E ants; subclasses say what is rewarded."""

    def __init__(
        self, spec: EnvSpec, variant: Variant, num_tasks: int, episodes: int, threads: int
    ):
        model = load_model(variant)
        batch = MujocoBatch(model, num_tasks * episodes, variant.frame_skip, threads)
        super().__init__(spec, batch, num_tasks, episodes)
        self.variant = variant
        self._probe = ContactProbe(batch, model_path("ant.xml"))
        self._first = model.numeric("init_qpos").data if variant.model_of_2017 else model.qpos0
        self._x_before = np.zeros(batch.size)

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.variant.model_of_2017:
            noise = 0.01 * rng.standard_normal(self.batch.model.nq)
        else:
            noise = rng.uniform(-0.1, 0.1, self.batch.model.nq)
        qpos = self._first + noise
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        return qpos, VELOCITY_NOISE * rng.standard_normal(self.batch.model.nv)

    def before_step(self) -> None:
        self._x_before[:] = self.batch.qpos[:, 0]

    def observe(self) -> np.ndarray:
        obs = np.empty((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[:, :13], obs[:, 13:] = self.batch.qpos[:, 2:], self.batch.qvel
        return obs

    def reward(self, control: np.ndarray) -> np.ndarray:
        velocity = (self.batch.qpos[:, 0] - self._x_before) / self.batch.seconds_per_step
        forces, com_velocity = self._probe.read(self.live)
        contact = np.zeros(self.batch.size)
        rows = slice(None) if self.live is None else self.live
        np.clip(forces, -1.0, 1.0, out=forces)
        contact[rows] = np.einsum("nbi,nbi->n", forces, forces)
        if self.variant.model_of_2017:
            velocity[rows] = com_velocity[:, 0]
        return (
            self.progress(velocity)
            + self.variant.alive
            - self.variant.control_cost * np.einsum("ni,ni->n", control, control)
            - CONTACT_COST * contact
        )

    def fell(self) -> np.ndarray:
        height = self.batch.qpos[:, 2]
        return (height < HEIGHTS[0]) | (height > HEIGHTS[1])


class AntVelocityEnv(AntEnv):
    def progress(self, velocity: np.ndarray) -> np.ndarray:
        return 1.0 - np.abs(velocity - self.goal)
