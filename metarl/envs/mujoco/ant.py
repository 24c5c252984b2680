"""Ant: runs at a given velocity, or in a given direction.

Reward: task + alive - w ||a||^2 - 0.0005 ||clip(contact forces, -1, 1)||^2, with the action
clipped to the box; task is 1 - |v - v*| (velocity, targets U(0, 3)) or d v (direction). An
episode ends when the torso leaves the heights [0.2, 1] m. Horizon 200.

    variant    timestep  substeps  velocity v      w      alive  start
    maml2017   0.02 s    1         centre of mass  0.005  0.05   crouched, qpos + 0.01 N(0, 1)
    gymnasium  0.01 s    5         change of x     0.5    1      as the model, qpos + U(-0.1, 0.1)

`maml2017` is the MAML paper's own code (arXiv:1703.03400; cbfinn/maml_rl ant_env_rand.py). Its
model file has another timestep and softer contacts than gymnasium's. Its policy observed 125
numbers, including contact forces and the torso's rotation and position. Here both variants observe
gymnasium's 27 numbers without contact forces: qpos[2:] and qvel. `gymnasium` has Ant-v5's model
and reward weights with these tasks. (Ant-v5 itself charges for actions before they are clipped.)

Contact forces are `cfrc_ext` of the state after the step, as a final `mj_forward` computes them;
the 2017 code called it. (gymnasium reads `cfrc_ext` from the last Runge-Kutta stage, and
`x_velocity` too: there v is the change of qpos.)
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco.contact_probe import ContactProbe
from metarl.envs.mujoco.run_tasks import Direction, Runs, RunTask, Velocity
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers

MODEL = "ant.xml"
MAX_VELOCITY = 3.0
CONTACT_COST = 0.0005
HEIGHTS = (0.2, 1.0)
"""Heights of the torso, m, outside of which an episode ends."""


@dataclass(frozen=True)
class Variant:
    """The numbers that distinguish the two variants."""

    as_in_2017: bool
    """Use the timestep, contacts, start and centre-of-mass velocity of the 2017 code."""
    frame_skip: int
    control_cost: float
    alive: float
    """Reward of every step."""


VARIANTS = {
    "maml2017": Variant(True, 1, 0.005, 0.05),
    "gymnasium": Variant(False, 5, 0.5, 1.0),
}


def velocity(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"velocity": v*}, in m/s."""
    return _runs(name, VARIANTS[variant], horizon, Velocity(MAX_VELOCITY, bonus=1.0))


def direction(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"direction": +1 or -1}."""
    return _runs(name, VARIANTS[variant], horizon, Direction())


class AntEnv(MujocoTasks):
    """K x E ants."""

    def __init__(
        self,
        spec: EnvSpec,
        variant: Variant,
        family: RunTask,
        num_tasks: int,
        episodes: int,
        workers: Workers,
    ):
        model, skip = load_model(variant), variant.frame_skip
        super().__init__(spec, model, skip, family, num_tasks, episodes, workers)
        self.variant = variant
        self._probe = ContactProbe(self.batch, model_path(MODEL))
        self._first = model.numeric("init_qpos").data if variant.as_in_2017 else model.qpos0

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        nq, nv = self.batch.model.nq, self.batch.model.nv
        if self.variant.as_in_2017:
            qpos = self._first + 0.01 * rng.standard_normal(nq)
        else:
            qpos = self._first + rng.uniform(-0.1, 0.1, nq)
        qpos[3:7] /= np.linalg.norm(qpos[3:7])  # the simulator needs a unit quaternion
        return qpos, 0.1 * rng.standard_normal(nv)

    def observe(self) -> np.ndarray:
        obs = np.empty((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[:, :13], obs[:, 13:] = self.batch.qpos[:, 2:], self.batch.qvel
        return obs

    def reward(self, control: np.ndarray) -> np.ndarray:
        forces, centre_velocity = self._probe.read(self.live)
        np.clip(forces, -1.0, 1.0, out=forces)
        rows = slice(None) if self.live is None else self.live
        contact = np.zeros(self.batch.size)
        contact[rows] = np.einsum("nbi,nbi->n", forces, forces)
        if self.variant.as_in_2017:
            speed = np.zeros(self.batch.size)
            speed[rows] = centre_velocity[:, 0]
        else:
            speed = self.x_velocity()
        return (
            self.family.progress(speed, self.goal)
            + self.variant.alive
            - self.variant.control_cost * np.einsum("ni,ni->n", control, control)
            - CONTACT_COST * contact
        )

    def fell(self) -> np.ndarray:
        height = self.batch.qpos[:, 2]
        return (height < HEIGHTS[0]) | (height > HEIGHTS[1])


@cache
def load_model(variant: Variant) -> mujoco.MjModel:
    """Loads gymnasium's ant.xml; the 2017 file differs only in the two fields set here."""
    model = mujoco.MjModel.from_xml_path(model_path(MODEL))
    if variant.as_in_2017:
        model.opt.timestep = 0.02
        model.geom_solimp[:, :3] = (0.8, 0.8, 0.01)
    return model


def _runs(name: str, variant: Variant, horizon: int, family: RunTask) -> Runs:
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (27,), np.float32),
        Box(-1.0, 1.0, (8,), np.float32),
        horizon,
    )
    return Runs(spec, family, partial(AntEnv, spec, variant, family))
