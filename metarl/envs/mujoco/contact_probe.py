"""External forces on every body and the velocity of the centre of mass, for all simulations.

`mujoco.rollout` returns states and sensor readings, and no sensor of MuJoCo 3.3 reads `cfrc_ext`.
So a second model is derived from the first: each body's geoms move to a massless child, its skin,
which is welded to the body. Only contacts and the weld act on a skin. So the weld's force, which
`force` and `torque` sensors read, is minus the contact force.

The probe takes one Euler step of this model and discards the state: the sensors are evaluated at
the given state, as after a final `mj_forward`, at a quarter of the cost of a Runge-Kutta step.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import mujoco
import numpy as np

from metarl.envs.mujoco.batch import MujocoBatch

_PER_BODY = (
    (mujoco.mjtSensor.mjSENS_FORCE, 3),
    (mujoco.mjtSensor.mjSENS_TORQUE, 3),
    (mujoco.mjtSensor.mjSENS_FRAMEPOS, 3),
    (mujoco.mjtSensor.mjSENS_FRAMEQUAT, 4),
)
_ROOT = (mujoco.mjtSensor.mjSENS_SUBTREECOM, mujoco.mjtSensor.mjSENS_SUBTREELINVEL)
_WIDTH = sum(width for _, width in _PER_BODY)


class ContactProbe:
    """Reads contact forces of the states of a batch, whose model was compiled from `path`."""

    def __init__(self, batch: MujocoBatch, path: str):
        self._batch = batch
        self._bodies = batch.model.nbody - 1
        self._model = skinned(batch.model, path)
        self._data = batch.data_per_thread(self._model)
        self._readings = np.zeros((batch.size, 1, self._model.nsensordata))

    def read(self, live: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns external forces and the root's subtree velocity at the current state and control.

        Returns:
            cfrc_ext without the world's row, [N, bodies, 6]: torque about the centre of mass
            (N m) and force (N), in world axes; and subtree_linvel of body 1, [N, 3] in m/s.
            N is the number of `live` rows, or of all rows.
        """
        readings = self._batch.sense(self._model, self._data, live, self._readings)
        bodies, com, velocity = np.split(readings, [self._bodies * _WIDTH, -3], axis=1)
        bodies = bodies.reshape(len(readings), self._bodies, _WIDTH)
        force, torque, position, quaternion = np.split(bodies, [3, 6, 9], axis=2)
        wrench = np.empty((len(readings), self._bodies, 6))
        wrench[..., 3:] = -rotate(quaternion, force)
        wrench[..., :3] = -rotate(quaternion, torque)
        wrench[..., :3] += cross(position - com[:, None], wrench[..., 3:])
        return wrench, velocity


def skinned(model: mujoco.MjModel, path: str) -> mujoco.MjModel:
    """Compiles `model` again from `path` with its geoms on massless skins, and adds sensors."""
    spec = mujoco.MjSpec.from_file(path)
    spec.compiler.inertiafromgeom = int(mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE)
    names = []
    for body, spec_body in enumerate(list(_depth_first(spec.worldbody))):
        if body:
            names.append(f"skin{body}")
            _move_geoms(spec_body, model, body, names[-1])
    for name in names:
        for sensor, _ in _PER_BODY:
            spec.add_sensor(type=sensor, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=name)
    root = model.body(1).name
    for sensor in _ROOT:
        spec.add_sensor(type=sensor, objtype=mujoco.mjtObj.mjOBJ_BODY, objname=root)
    result = spec.compile()
    result.opt.timestep = model.opt.timestep
    result.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    # The contacts of `model` may have been changed after it was compiled. World first, then skins.
    homes = [0] + [result.body(name).id for name in names]
    order = np.concatenate([np.flatnonzero(result.geom_bodyid == home) for home in homes])
    result.geom_solimp[order] = model.geom_solimp
    result.geom_solref[order] = model.geom_solref
    return result


def _move_geoms(spec_body, model: mujoco.MjModel, body: int, name: str) -> None:
    """Sets the compiled inertia of `spec_body` explicitly and moves its geoms to a skin.

    The skin has the body's inertial frame, since MuJoCo softens contacts by the inverse weight
    there.
    """
    frame = {"ipos": model.body_ipos[body], "iquat": model.body_iquat[body]}
    spec_body.explicitinertial = True
    spec_body.mass, spec_body.inertia = model.body_mass[body], model.body_inertia[body]
    spec_body.ipos, spec_body.iquat = frame["ipos"], frame["iquat"]
    skin = spec_body.add_body(
        name=name, explicitinertial=True, mass=0.0, inertia=np.zeros(3), **frame
    )
    skin.add_site(name=name)
    for geom in list(spec_body.geoms):
        kept = ("type", "size", "pos", "quat", "fromto", "contype", "conaffinity", "condim")
        kept += ("friction", "margin", "gap", "priority", "solmix")
        skin.add_geom(mass=0.0, **{field: getattr(geom, field) for field in kept})
        geom.delete()


def _depth_first(spec_body):
    """Yields bodies in the order of the compiled model; `MjSpec.bodies` has another order."""
    yield spec_body
    for child in spec_body.bodies:
        yield from _depth_first(child)


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotates vectors [..., 3] by unit quaternions (w, u) [..., 4].

    v + 2 w (u x v) + 2 u x (u x v).
    """
    axis = quaternion[..., 1:]
    twist = 2.0 * cross(axis, vector)
    return vector + quaternion[..., :1] * twist + cross(axis, twist)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes `np.cross`, several times faster for small vectors."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out
