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

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

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
_MOTION = ((mujoco.mjtSensor.mjSENS_FRAMEANGVEL, 3), (mujoco.mjtSensor.mjSENS_FRAMELINVEL, 3))


class ContactProbe:
    """Reads contact forces of the states of a batch, whose model was compiled from `path`.

    Attributes:
        frames: [N, bodies, 13] of the last reading, with `motion`: place (m) and quaternion of each
            body's frame, its angular velocity (rad/s) and its velocity (m/s), in world axes.
        centre: [N, 3] of the last reading: the centre of mass, m.
    """

    def __init__(self, batch: MujocoBatch, path: str, motion: bool = False):
        """`motion` reads the velocities of all bodies, too."""
        self._batch = batch
        self._bodies = batch.model.nbody - 1
        sensors = (*_PER_BODY, *(_MOTION if motion else ()))
        self._width = sum(width for _, width in sensors)
        self._model = skinned(batch.model, path, [sensor for sensor, _ in sensors])
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
        bodies, com, velocity = np.split(readings, [self._bodies * self._width, -3], axis=1)
        bodies = bodies.reshape(len(readings), self._bodies, self._width)
        force, torque, position, quaternion, _ = np.split(bodies, [3, 6, 9, 13], axis=2)
        self.frames, self.centre = bodies[..., 6:], com
        wrench = np.empty((len(readings), self._bodies, 6))
        wrench[..., 3:] = -rotate(quaternion, force)
        wrench[..., :3] = -rotate(quaternion, torque)
        wrench[..., :3] += cross(position - com[:, None], wrench[..., 3:])
        return wrench, velocity


def skinned(
    model: mujoco.MjModel, path: str, sensors: Sequence[mujoco.mjtSensor]
) -> mujoco.MjModel:
    """Compiles `model` again from `path` with its geoms on massless skins, and adds sensors of
    each body and of the root.

    A skin is the first child of its body. So geoms, and with them contacts, have the order that
    they have in `model`, and a solver that stops early finds the same forces.
    """
    root = ElementTree.parse(path).getroot()
    for body, element in enumerate(list(root.iterfind("worldbody//body")), start=1):
        _move_geoms(element, model, body)
    for compiler in root.iterfind("compiler"):
        compiler.set("inertiafromgeom", "false")
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    for body in range(1, model.nbody):
        for sensor in sensors:
            spec.add_sensor(type=sensor, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=f"skin{body}")
    for sensor in _ROOT:
        torso = model.body(1).name
        spec.add_sensor(type=sensor, objtype=mujoco.mjtObj.mjOBJ_BODY, objname=torso)
    result = spec.compile()
    result.opt.timestep = model.opt.timestep
    result.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    # The contacts of `model` may have been changed after it was compiled.
    result.geom_solimp[:], result.geom_solref[:] = model.geom_solimp, model.geom_solref
    return result


def _move_geoms(element: ElementTree.Element, model: mujoco.MjModel, body: int) -> None:
    """Writes the compiled inertia of a body into its element, and moves its geoms to a skin.

    The skin has the body's inertial frame, since MuJoCo softens contacts by the inverse weight
    there.
    """
    frame = {"pos": _text(model.body_ipos[body]), "quat": _text(model.body_iquat[body])}
    mass, inertia = model.body_mass[body], model.body_inertia[body]
    own = {**frame, "mass": _text([mass]), "diaginertia": _text(inertia)}
    none = {**frame, "mass": "0", "diaginertia": "0 0 0"}
    skin = ElementTree.Element("body", name=f"skin{body}")
    ElementTree.SubElement(skin, "inertial", none)
    ElementTree.SubElement(skin, "site", name=f"skin{body}")
    for geom in element.findall("geom"):
        element.remove(geom)
        skin.append(geom)
    children = [at for at, child in enumerate(element) if child.tag == "body"]
    element.insert(children[0] if children else len(element), skin)
    element.insert(0, ElementTree.Element("inertial", own))


def _text(numbers: Iterable[float]) -> str:
    """Returns numbers for a model file, each with all its digits."""
    return " ".join(repr(float(number)) for number in numbers)


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
