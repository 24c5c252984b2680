"""Ant: runs at a given velocity, in a given direction, or to a goal in the plane.

Reward: task + alive - w ||a||^2 - 0.0005 ||clip(contact forces, -1, 1)||^2. The task's part is
1 - |v - v*| (velocity, targets U(0, 3)), d v (direction), the velocity along an angle, or minus
|dx| + |dy| to the goal, measured after the step. An episode ends when the torso leaves the heights
[0.2, 1] m; that of ant-goal does not end. Horizon 200.

    variant    timestep  substeps  velocity v      w      action      alive  start
    maml2017   0.02 s    1         centre of mass  0.005  clipped     0.05   crouched, 0.01 N(0, 1)
    gymnasium  0.01 s    5         change of x     0.5    clipped     1      upright, U(-0.1, 0.1)
    varibad    0.01 s    5         change of x, y  0.5    as sampled  1      upright, U(-0.1, 0.1)
    2d         0.01 s    5         change of x, y  0.5    as sampled  1      upright, U(-0.1, 0.1)
    ant-goal   0.01 s    5         -               0.1    as sampled  0      upright, U(-0.1, 0.1)

* `maml2017` is the MAML paper's own code (arXiv:1703.03400; cbfinn/maml_rl ant_env_rand.py). Its
  model file has another timestep and softer contacts than gymnasium's. Its policy observed 125
  numbers, including contact forces and the torso's rotation and position. Here all variants but
  ant-goal observe gymnasium's 27 numbers without contact forces: qpos[2:] and qvel.
* `gymnasium` has Ant-v5's model and reward weights with these tasks. (Ant-v5 itself charges for
  actions before they are clipped.)
* `varibad` is PEARL's and VariBAD's Ant-Dir (arXiv:1903.08254, katerakelly/oyster
  rlkit/envs/ant_dir.py; arXiv:1910.08348, lmzintgraf/varibad environments/mujoco/ant_dir.py) with
  the angles 0 and pi, which PEARL's code calls forward_backward. VariBAD's code draws +1 or -1 and
  takes that as an angle in radians, so its two directions are 115 degrees apart: give
  `angle=1` and `angle=-1` as tasks to have those. `2d` is PEARL's without forward_backward.
* ant-goal is the same projects' ant_goal.py: goals 3 sqrt(U(0, 1)) m away at an angle U(0, 2 pi).
  It observes qpos, qvel and the clipped contact forces of all bodies, the world's zeros first: 113
  numbers.

The old model and gymnasium's ant.xml hold the same numbers. Contact forces are `cfrc_ext` of the
state after the step, as a final `mj_forward` and `mj_rnePostConstraint` compute them; the 2017
code called them. mujoco-py's with MuJoCo 1.50 and gymnasium's are those of the last Runge-Kutta
stage, and so are the torso's places there; here a velocity is the change of qpos. With MuJoCo 2.0,
which PEARL used, contact forces were zero.
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
from metarl.envs.mujoco.run_tasks import Angle, Direction, Family, Place, Runs, RunTask, Velocity
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers

MODEL = "ant.xml"
MAX_VELOCITY = 3.0
CONTACT_COST = 0.0005
HEIGHTS = (0.2, 1.0)
"""Heights of the torso, m, outside of which an episode ends."""
GOALS = 3.0
"""The farthest goal of ant-goal, m."""


@dataclass(frozen=True)
class Variant:
    """The numbers that distinguish the variants."""

    as_in_2017: bool
    """Use the timestep, contacts, start and centre-of-mass velocity of the 2017 code."""
    frame_skip: int
    control_cost: float
    alive: float
    """Reward of every step."""
    cost_as_sampled: bool = False
    """Charge for the action before it is clipped."""


VARIANTS = {
    "maml2017": Variant(True, 1, 0.005, 0.05),
    "gymnasium": Variant(False, 5, 0.5, 1.0),
    "varibad": Variant(False, 5, 0.5, 1.0, cost_as_sampled=True),
    "2d": Variant(False, 5, 0.5, 1.0, cost_as_sampled=True),
}
GOAL = Variant(False, 5, 0.1, 0.0, cost_as_sampled=True)


def velocity(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"velocity": v*}, in m/s."""
    return _runs(name, AntEnv, VARIANTS[variant], horizon, Velocity(MAX_VELOCITY, bonus=1.0))


def direction(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"direction": +1 or -1}; of `varibad` and `2d` {"angle": radians from the x axis}."""
    if variant in ("varibad", "2d"):
        return _runs(name, AngleEnv, VARIANTS[variant], horizon, Angle(two=variant == "varibad"))
    return _runs(name, AntEnv, VARIANTS[variant], horizon, Direction())


def goal(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"goal": [x, y]}, in m."""
    del variant
    return _runs(name, GoalEnv, GOAL, horizon, Place(GOALS), width=113)


class AntEnv(MujocoTasks):
    """K x E ants."""

    family: RunTask

    def __init__(
        self,
        spec: EnvSpec,
        variant: Variant,
        family: Family,
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
        forces, centre_velocity = self.contacts()
        contact = np.zeros(self.batch.size)
        contact[self._live()] = np.einsum("nbi,nbi->n", forces, forces)
        paid = self.sampled if self.variant.cost_as_sampled else control
        return (
            self.aim(centre_velocity)
            + self.variant.alive
            - self.variant.control_cost * np.einsum("ni,ni->n", paid, paid)
            - CONTACT_COST * contact
        )

    def aim(self, centre_velocity: np.ndarray) -> np.ndarray:
        """Returns the task's part of the rewards, [K*E].

        Args:
            centre_velocity: [N, 3] of the centre of mass after the step, of the live rows, m/s.
        """
        if self.variant.as_in_2017:
            speed = np.zeros(self.batch.size)
            speed[self._live()] = centre_velocity[:, 0]
        else:
            speed = self.x_velocity()
        return self.family.progress(speed, self.goal)

    def contacts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the clipped contact forces [N, bodies, 6] and the velocity of the centre of mass
        [N, 3] in the current state, of the live rows."""
        forces, centre_velocity = self._probe.read(self.live)
        return np.clip(forces, -1.0, 1.0, out=forces), centre_velocity

    def fell(self) -> np.ndarray | None:
        height = self.batch.qpos[:, 2]
        return (height < HEIGHTS[0]) | (height > HEIGHTS[1])

    def _live(self) -> np.ndarray | slice:
        return slice(None) if self.live is None else self.live


class AngleEnv(AntEnv):
    """Ants that run along an angle."""

    def aim(self, centre_velocity: np.ndarray) -> np.ndarray:
        return np.einsum("ni,ni->n", self.velocity(), self.goal)


class GoalEnv(AntEnv):
    """Ants that run to a place, and observe contact forces."""

    def observe(self) -> np.ndarray:
        qpos, qvel = self.batch.qpos, self.batch.qvel
        self._felt = super().contacts()  # all rows are live
        obs = np.zeros((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[:, :15], obs[:, 15:29] = qpos, qvel
        # The first six are the world's.
        obs[:, 35:] = self._felt[0].reshape(len(obs), -1)
        return obs

    def contacts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `observe` has read."""
        return self._felt

    def aim(self, centre_velocity: np.ndarray) -> np.ndarray:
        return -np.abs(self.batch.qpos[:, :2] - self.goal).sum(axis=1)

    def fell(self) -> None:
        return None


@cache
def load_model(variant: Variant) -> mujoco.MjModel:
    """Loads gymnasium's ant.xml; the 2017 file differs only in the two fields set here."""
    model = mujoco.MjModel.from_xml_path(model_path(MODEL))
    if variant.as_in_2017:
        model.opt.timestep = 0.02
        model.geom_solimp[:, :3] = (0.8, 0.8, 0.01)
    return model


def _runs(
    name: str, env: type[AntEnv], variant: Variant, horizon: int, family: Family, width: int = 27
) -> Runs:
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (width,), np.float32),
        Box(-1.0, 1.0, (8,), np.float32),
        horizon,
    )
    return Runs(spec, family, partial(env, spec, variant, family))
