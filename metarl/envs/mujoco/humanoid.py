"""Humanoid: runs along an angle in the plane.

PEARL's and VariBAD's Humanoid-Dir (arXiv:1903.08254, katerakelly/oyster rlkit/envs/humanoid_dir.py;
arXiv:1910.08348, lmzintgraf/varibad environments/mujoco/humanoid_dir.py), with gym's old Humanoid.
Angles are U(0, 2 pi). Reward:

    0.25 d / 0.003 + 5 - 0.1 ||u||^2 - min(10, 0.5e-6 ||contact forces||^2)

d is how far the centre of mass moved along the angle in the step, m. u is the control: 0.4 times
the action as sampled, since policies act in [-1, 1]^17 and the model's range is [-0.4, 0.4]. An
episode ends when the torso's height leaves [1, 2] m. Start: the model's, qpos and qvel
+ U(-0.01, 0.01). A step is 5 substeps of 0.003 s; horizon 200.

The observation has 376 numbers:

    qpos[2:]  qvel  cinert  cvel  qfrc_actuator  cfrc_ext
    22        23    140     84    23             84

The last four are MuJoCo's: inertias and velocities of the bodies about the centre of mass, forces
of the actuators, and contact forces. They are of 14 bodies, the world's zeros first. Humanoid-v5
leaves the world's out (348 numbers), and rewards 1.25 d / 0.015 along x. The old file holds the
numbers of gymnasium's humanoid.xml but for one: there the left hip bends to -120 degrees, here to
-110 as the right one.

All numbers are those of the state after the step, as a final `mj_forward` and
`mj_rnePostConstraint` compute them. mujoco-py and gymnasium read what the last Runge-Kutta stage
left, also of the centre of mass. With MuJoCo 2.0, which PEARL used, contact forces were zero.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from functools import cache, partial

import mujoco
import numpy as np
from gymnasium.spaces import Box

from metarl.envs.mujoco.contact_probe import ContactProbe, cross, rotate
from metarl.envs.mujoco.run_tasks import Angle, Runs
from metarl.envs.mujoco.tasks import MujocoTasks, model_path
from metarl.types import EnvSpec, Workers

MODEL = "humanoid.xml"
FRAME_SKIP = 5
NOISE = 0.01
SPEED, CONTROL_COST, ALIVE = 0.25, 0.1, 5.0
CONTACT_COST, MOST_CONTACT_COST = 0.5e-6, 10.0
HEIGHTS = (1.0, 2.0)
"""Heights of the torso, m, outside of which an episode ends."""
CONTROL = 0.4
"""Control for an action of 1."""
WIDTHS = (22, 23, 140, 84, 23, 84)
"""Numbers of the parts of an observation."""


def direction(name: str, variant: str, horizon: int) -> Runs:
    """Tasks {"angle": radians from the x axis}."""
    del variant
    spec = EnvSpec(
        name,
        Box(-np.inf, np.inf, (sum(WIDTHS),), np.float32),
        Box(-1.0, 1.0, (17,), np.float32),
        horizon,
    )
    family = Angle()
    return Runs(spec, family, partial(HumanoidEnv, spec, family))


class HumanoidEnv(MujocoTasks):
    """K x E humanoids."""

    def __init__(
        self, spec: EnvSpec, family: Angle, num_tasks: int, episodes: int, workers: Workers
    ):
        model, scale = load_model(), 1.0 / CONTROL
        super().__init__(spec, model, FRAME_SKIP, family, num_tasks, episodes, workers, scale)
        self._probe = ContactProbe(self.batch, model_path(MODEL), motion=True)
        self._centre, self._moved = np.zeros((2, self.batch.size, 2))
        self._contact = np.zeros(self.batch.size)
        self._pulled = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        self._gear = model.actuator_gear[:, 0] * model.actuator_gainprm[:, 0]

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        model = self.batch.model
        qpos = model.qpos0 + rng.uniform(-NOISE, NOISE, model.nq)
        qpos[3:7] /= np.linalg.norm(qpos[3:7])  # the simulator needs a unit quaternion
        return qpos, rng.uniform(-NOISE, NOISE, model.nv)

    def observe(self) -> np.ndarray:
        """Returns the observations, and keeps what the reward needs; rows that ended are zero."""
        rows = slice(None) if self.live is None else self.live
        forces, _ = self._probe.read(self.live)
        centre = self._probe.centre
        self._moved[rows] = centre[:, :2] - self._centre[rows]
        self._centre[rows] = centre[:, :2]
        self._contact[rows] = np.einsum("nbi,nbi->n", forces, forces)
        inertia, velocity = about_centre(self.batch.model, self._probe.frames, centre)
        pulls, world = np.zeros((len(centre), 23)), np.zeros((len(centre), 10))
        if self._steps:  # before the first step there is no control
            pulls[:, self._pulled] = self._gear * self._control[rows]
        parts = [self.batch.qpos[rows, 2:], self.batch.qvel[rows], world, _flat(inertia)]
        parts += [world[:, :6], _flat(velocity), pulls, world[:, :6], _flat(forces)]
        obs = np.zeros((self.batch.size, self.spec.obs_dim), dtype=np.float32)
        obs[rows] = np.concatenate(parts, axis=1)
        return obs

    def reward(self, control: np.ndarray) -> np.ndarray:
        """Computes the rewards from what `observe` has kept."""
        along = np.einsum("ni,ni->n", self._moved, self.goal)
        cost = np.einsum("ni,ni->n", self.sampled, self.sampled)
        return (
            SPEED * along / float(self.batch.model.opt.timestep)
            + ALIVE
            - CONTROL_COST * cost
            - np.minimum(CONTACT_COST * self._contact, MOST_CONTACT_COST)
        )

    def fell(self) -> np.ndarray:
        height = self.batch.qpos[:, 2]
        return (height < HEIGHTS[0]) | (height > HEIGHTS[1])


def about_centre(
    model: mujoco.MjModel, frames: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns MuJoCo's `cinert` and `cvel` of all bodies but the world.

    Args:
        frames: [N, bodies, 13], as `ContactProbe.frames`.
        centre: [N, 3], the centre of mass about which they are, m.

    Returns:
        [N, bodies, 10]: moments of inertia xx, yy, zz, xy, xz, yz (kg m^2), mass times offset
        (kg m), mass (kg); and [N, bodies, 6]: angular velocity (rad/s), and the velocity of the
        body's extension at the centre (m/s). In world axes.
    """
    place, quaternion, spin, speed = np.split(frames, [3, 7, 10], axis=2)
    mass = model.body_mass[1:, None]
    offset = place + rotate(quaternion, model.body_ipos[1:]) - centre[:, None]
    # Columns of `axes` are the principal axes of each body, in world axes.
    turned = [rotate(model.body_iquat[1:], axis) for axis in np.eye(3)]
    axes = np.stack([rotate(quaternion, axis) for axis in turned], axis=-1)
    inertia = np.einsum("nbij,bj,nbkj->nbik", axes, model.body_inertia[1:], axes)
    square = np.einsum("nbi,nbi->nb", offset, offset)[..., None, None]
    inertia += mass[..., None] * (square * np.eye(3) - offset[..., :, None] * offset[..., None, :])
    first, second = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    masses = np.broadcast_to(mass, (*offset.shape[:2], 1))
    inertias = np.concatenate([inertia[..., first, second], mass * offset, masses], axis=2)
    speed = speed + cross(spin, centre[:, None] - place)
    return inertias, np.concatenate([spin, speed], axis=2)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), values.shape[1] * values.shape[2])


@cache
def load_model() -> mujoco.MjModel:
    """Loads gymnasium's humanoid.xml."""
    return mujoco.MjModel.from_xml_path(model_path(MODEL))
