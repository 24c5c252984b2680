"""The inputs of the rules of a Meta-World class: positions after a step, constants of a task."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

_SENSOR, _OBJECT = mujoco.mjtSensor, mujoco.mjtObj
_AXES = (_SENSOR.mjSENS_FRAMEXAXIS, _SENSOR.mjSENS_FRAMEYAXIS, _SENSOR.mjSENS_FRAMEZAXIS)


class Sensed(NamedTuple):
    """A quantity of one part of a model."""

    what: str
    """"body", "site" or "geom": a position. "body_quat": (w, x, y, z). "geom_frame" and
    "site_frame": the three axes. "joint": its position coordinate (slide, hinge)."""
    name: str


def sensed(what: str, *names: str) -> tuple[Sensed, ...]:
    """Returns one quantity of several parts."""
    return tuple(Sensed(what, name) for name in names)


ALWAYS = (
    *sensed("body", "hand", "leftpad", "rightpad", "leftclaw", "rightclaw"),
    *sensed("site", "leftEndEffector", "rightEndEffector"),
)
"""The parts of the arm that every class reads."""

_OF = {"body": _OBJECT.mjOBJ_XBODY, "site": _OBJECT.mjOBJ_SITE, "geom": _OBJECT.mjOBJ_GEOM}


def add_sensors(spec: mujoco.MjSpec, wanted: Iterable[Sensed]) -> None:
    """Adds a sensor to the model for each frame that is read."""
    for what, name in wanted:
        kind, _, quantity = what.partition("_")
        if kind == "joint":
            continue
        types = {
            "": (_SENSOR.mjSENS_FRAMEPOS,),
            "quat": (_SENSOR.mjSENS_FRAMEQUAT,),
            "frame": _AXES,
        }
        for number, sensor in enumerate(types[quantity]):
            spec.add_sensor(
                name=f"{what}:{name}:{number}", type=sensor, objtype=_OF[kind], objname=name
            )


class Constants:
    """The attributes of metaworld's environment after a reset, [N, ...] each.

    `task.target_pos` is the environment's attribute `_target_pos`: leading underscores are removed.
    `first_obs` [N, 18] is the observation after an episode's first step.
    """

    first_obs: np.ndarray

    def __init__(self, values: Mapping[str, np.ndarray]):
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> np.ndarray:
        raise AttributeError(f"a reset sets no constant {name!r}; it sets {sorted(vars(self))}")


class Readings:
    """Positions in N simulations of one class, at the state after a step.

    Attributes: `hand`, `left_pad`, `right_pad` [N, 3], views of the latest sensor readings.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        wanted: Iterable[Sensed],
        sensordata: np.ndarray,
        qpos: np.ndarray,
        touching: Callable[[str, np.ndarray], np.ndarray],
    ):
        """`sensordata` [N, nsensordata] and `qpos` [N, nq] are overwritten by each step."""
        self.touching = touching
        """touching(geom, rows) -> [len(rows)] bool: whether both pads press on the geom."""
        self._views = {each: _view(model, each, sensordata, qpos) for each in wanted}
        self.hand = self.body("hand")
        self.left_pad, self.right_pad = self.body("leftpad"), self.body("rightpad")

    def body(self, name: str) -> np.ndarray:
        """Returns the position of a body's frame, [N, 3]; `get_body_com` of metaworld."""
        return self._views[Sensed("body", name)]

    def site(self, name: str) -> np.ndarray:
        return self._views[Sensed("site", name)]

    def geom(self, name: str) -> np.ndarray:
        return self._views[Sensed("geom", name)]

    def joint(self, name: str) -> np.ndarray:
        """Returns the coordinate of a hinge (rad) or slide (m), [N]."""
        return self._views[Sensed("joint", name)]

    def body_quat(self, name: str) -> np.ndarray:
        """Returns a body's orientation, [N, 4] as (w, x, y, z)."""
        return self._views[Sensed("body_quat", name)]

    def geom_quat(self, name: str) -> np.ndarray:
        """Returns a geom's `Rotation.from_matrix(xmat).as_quat()`, [N, 4] as (x, y, z, w)."""
        return _scipy_quat(self._views[Sensed("geom_frame", name)])

    def site_quat(self, name: str) -> np.ndarray:
        """Returns a site's `Rotation.from_matrix(xmat).as_quat()`, [N, 4] as (x, y, z, w)."""
        return _scipy_quat(self._views[Sensed("site_frame", name)])

    @property
    def tcp(self) -> np.ndarray:
        """The point midway between the two fingers, [N, 3]; `tcp_center` of metaworld."""
        return (self.site("rightEndEffector") + self.site("leftEndEffector")) / 2

    @property
    def opening(self) -> np.ndarray:
        """The gripper's opening, [N] in [0, 1]: the distance between the claws over 0.1 m."""
        apart = self.body("rightclaw") - self.body("leftclaw")
        return np.clip(np.sqrt((apart * apart).sum(axis=1)) / 0.1, 0.0, 1.0)


def _view(
    model: mujoco.MjModel, sensed: Sensed, sensordata: np.ndarray, qpos: np.ndarray
) -> np.ndarray:
    if sensed.what == "joint":
        return qpos[:, model.joint(sensed.name).qposadr[0]]
    first = model.sensor(f"{sensed.what}:{sensed.name}:0")
    start = int(first.adr[0])
    width = 9 if sensed.what.endswith("frame") else int(first.dim[0])
    return sensordata[:, start : start + width]


def _scipy_quat(axes: np.ndarray) -> np.ndarray:
    # The sensors give the matrix column by column.
    return Rotation.from_matrix(axes.reshape(-1, 3, 3).transpose(0, 2, 1)).as_quat()
