"""HalfCheetah: runs at a given velocity, in a given direction, or under a given gravity.

Several published benchmarks share these names. Each variant is one of the benchmarks:

    variant    target   horizon  substeps  velocity v      start                 cost of action
    maml2017   U(0, 2)  200      1         centre of mass  qpos + 0.01 N(0, 1)   clipped
    promp      U(0, 3)  100      5         change of x     qpos + U(-0.1, 0.1)   clipped
    varibad    U(0, 3)  200      5         change of x     qpos + U(-0.1, 0.1)   as sampled
    wide       U(0, 7)  200      5         change of x     qpos + U(-0.1, 0.1)   as sampled
    gymnasium  U(0, 3)  200      5         change of x     qpos + U(-0.1, 0.1)   clipped

All start with qvel + 0.1 N(0, 1). A substep is 0.01 s. Reward: -|v - v*| - 0.05 ||a||^2 (velocity)
or d v - 0.05 ||a||^2 (direction). The simulator gets the action clipped to the box. The velocity v
is that of the state after the step, or for "change of x" the mean over the step. Observations are
qpos[1:] and qvel, 17 numbers; `maml2017` and `varibad` add a position, 3 more.

* `maml2017` is the MAML paper's own code (arXiv:1703.03400; cbfinn/maml_rl,
  half_cheetah_env_rand.py and normalized_env.py). It adds the centre of mass.
* `promp` is ProMP's code (arXiv:1810.06784; half_cheetah_rand_vel.py and normalized_env.py). The
  action space is [-10, 10]^6 and actions are divided by 10: a standard deviation of 1 in the policy
  is 0.1 in the simulator.
* `varibad` is VariBAD's code (arXiv:1910.08348; lmzintgraf/varibad, environments/mujoco). It adds
  the position of the torso, which lags by a substep (`_torso`). A policy with deviation 1 pays 60
  an episode for its actions, and 31 if they were clipped. PEARL's (katerakelly/oyster) is the same
  for actions in the box; its wrapper clips the others.
* `wide` is `varibad` with the targets of robust task sampling, which have more tasks that are hard
  (arXiv:2301.11147, ido90/RobustMetaRL). It is of the velocity family alone.
* `gymnasium` is no paper's: gymnasium's model, start, frame skip and observations with VariBAD's
  targets.

half-cheetah-gravity is ours, of a published kind: gravity g ~ U(0.5, 1.5) x 9.81 m/s^2, the range
of gym-extensions, which has four values of it (arXiv:1708.04352).
The rest is HalfCheetah-v5: reward v - 0.1 ||a||^2, the action as sampled, v the change of x; start
and 17 observations are those of `gymnasium`; horizon 200.

All use gymnasium's half_cheetah.xml, which has the same numbers as the files of the old projects.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco.gravity import Gravity
from metarl.envs.mujoco.planar import PlanarChain
from metarl.envs.mujoco.run_tasks import Direction, Runs, RunTask, Velocity
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers


@dataclass(frozen=True)
class Variant:
    """The numbers that distinguish the benchmarks of the same name."""

    max_velocity: float
    """Targets are U(0, max_velocity), m/s."""
    frame_skip: int
    centre_of_mass: bool
    """Reward the velocity of the centre of mass and observe its position; False: the root's x."""
    action_scale: float
    """The policy's action space is [-scale, scale]; the simulator's is [-1, 1]."""
    position_noise: float
    """Scale of the noise on qpos at the start: normal with `centre_of_mass`, else uniform."""
    torso: bool = False
    """Observe the torso's position."""
    cost_as_sampled: bool = False
    """Charge for the action before it is clipped."""
    control_cost: float = 0.05


VARIANTS = {
    "maml2017": Variant(2.0, 1, True, 1.0, 0.01),
    "promp": Variant(3.0, 5, False, 10.0, 0.1),
    "varibad": Variant(3.0, 5, False, 1.0, 0.1, torso=True, cost_as_sampled=True),
    "wide": Variant(7.0, 5, False, 1.0, 0.1, torso=True, cost_as_sampled=True),
    "gymnasium": Variant(3.0, 5, False, 1.0, 0.1),
}
HEAVY = Variant(0.0, 5, False, 1.0, 0.1, cost_as_sampled=True, control_cost=0.1)
"""half-cheetah-gravity, which has no target."""


def velocity(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"velocity": v*}, in m/s."""
    return _runs(name, VARIANTS[variant], horizon, Velocity(VARIANTS[variant].max_velocity))


def direction(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"direction": +1 or -1}."""
    return _runs(name, VARIANTS[variant], horizon, Direction())


def gravity(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"gravity": g}, in m/s^2, downwards."""
    del variant
    return _runs(name, HEAVY, horizon, Gravity())


class HalfCheetahEnv(MujocoTasks):
    """K x E half-cheetahs."""

    family: RunTask

    def __init__(
        self,
        spec: EnvSpec,
        variant: Variant,
        family: RunTask,
        num_tasks: int,
        episodes: int,
        workers: Workers,
    ):
        model, skip, scale = load_model(), variant.frame_skip, variant.action_scale
        super().__init__(spec, model, skip, family, num_tasks, episodes, workers, scale)
        self.variant = variant
        self._chain = PlanarChain(model)
        self._velocity = np.zeros(self.batch.size)

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scale, nq = self.variant.position_noise, self.batch.model.nq
        if self.variant.centre_of_mass:
            qpos = scale * rng.standard_normal(nq)
        else:
            qpos = rng.uniform(-scale, scale, nq)
        return qpos, 0.1 * rng.standard_normal(self.batch.model.nv)

    def observe(self) -> np.ndarray:
        qpos, qvel = self.batch.qpos, self.batch.qvel
        obs = np.empty((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[:, :8], obs[:, 8:17] = qpos[:, 1:], qvel
        if self.variant.centre_of_mass:
            centre, self._velocity = self._chain.centre_of_mass(qpos, qvel)
            obs[:, 17:] = centre.T
        else:
            self._velocity = self.x_velocity()
        if self.variant.torso:
            obs[:, 17:] = self._torso()
        return obs

    def _torso(self) -> np.ndarray:
        """Returns mujoco-py's `body_xpos` of the torso, [K*E, 3] in m.

        MuJoCo computes it at the begin of a substep, so after a step it is the position before the
        last substep; after a reset it is that of the start.
        """
        batch, place = self.batch, np.tile(self.batch.model.body_pos[1], (self.batch.size, 1))
        seconds = batch.model.opt.timestep if self._steps else 0.0
        place[:, [0, 2]] += batch.qpos[:, :2] - seconds * batch.qvel[:, :2]
        return place

    def reward(self, control: np.ndarray) -> np.ndarray:
        """Computes the rewards from the velocity that `observe` found."""
        paid = self.sampled if self.variant.cost_as_sampled else control
        cost = np.einsum("ni,ni->n", paid, paid)
        progress = self.family.progress(self._velocity, self.goal)
        return progress - self.variant.control_cost * cost


@cache
def load_model() -> mujoco.MjModel:
    """Loads gymnasium's half_cheetah.xml; the 2017 file has the same numbers."""
    return mujoco.MjModel.from_xml_path(model_path("half_cheetah.xml"))


def _runs(name: str, variant: Variant, horizon: int, family: RunTask) -> Runs:
    width = 20 if variant.centre_of_mass or variant.torso else 17
    scale = variant.action_scale
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (width,), np.float32),
        Box(-scale, scale, (6,), np.float32),
        horizon,
    )
    return Runs(spec, family, partial(HalfCheetahEnv, spec, variant, family))
