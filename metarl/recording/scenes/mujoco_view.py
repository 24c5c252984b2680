"""Pictures of MuJoCo models, without a window."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from metarl.errors import UserError

GREEN = (0.0, 0.62, 0.45, 1.0)
SKY = 240
"""Grey level of the sky."""


class Drawing:
    """Draws states of one model; has a data of its own, so that no simulation changes."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int, own_model: bool = True):
        """`own_model` copies the model, whose size of pictures is changed.

        Raises:
            UserError: where MuJoCo cannot draw.
        """
        self.model = copy.copy(model) if own_model else model
        screen = self.model.vis.global_
        screen.offwidth, screen.offheight = max(width, 640), max(height, 480)
        self.data = mujoco.MjData(self.model)
        try:
            self._renderer: Any = mujoco.Renderer(self.model, height, width)
        except Exception as error:  # of EGL, OSMesa or OpenGL, each with its own
            raise UserError(
                f"MuJoCo cannot draw here: {type(error).__name__}: {' '.join(str(error).split())}"
                "\nset MUJOCO_GL to egl or osmesa, and install libegl1 or libosmesa6"
            ) from error

    def without_shadows(self) -> None:
        """Leaves shadows and reflections out, which cost time and make films large."""
        flags, kinds = self._renderer.scene.flags, mujoco.mjtRndFlag
        flags[kinds.mjRND_SHADOW.value] = flags[kinds.mjRND_REFLECTION.value] = 0

    def image(self, camera: Any, poles: Sequence[tuple[float, float]] = ()) -> np.ndarray:
        """Returns a picture of `data`, [height, width, 3] uint8, with poles at places (x, y), m."""
        self._renderer.update_scene(self.data, camera)
        for x, y in poles:
            self._add_pole(x, y)
        return self._renderer.render()

    def _add_pole(self, x: float, y: float) -> None:
        scene = self._renderer.scene
        if scene.ngeom >= scene.maxgeom:
            return
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_CYLINDER.value,
            np.array([0.025, 0.55, 0.0]),
            np.array([x, y, 0.55]),
            np.eye(3).flatten(),
            np.array(GREEN, np.float32),
        )
        scene.ngeom += 1

    def close(self) -> None:
        self._renderer.close()


def lightened(model: mujoco.MjModel) -> mujoco.MjModel:
    """Returns a copy of the model of a robot in light grey surroundings, which make small films."""
    light = copy.copy(model)
    for index in range(light.ntex):
        start, kind = light.tex_adr[index], light.tex_type[index]
        size = light.tex_width[index] * light.tex_height[index] * light.tex_nchannel[index]
        pixels = light.tex_data[start : start + size]
        if kind == mujoco.mjtTexture.mjTEXTURE_SKYBOX.value:
            pixels[:] = SKY
        elif kind == mujoco.mjtTexture.mjTEXTURE_2D.value:  # the floor's squares
            pixels[:] = 191 + pixels // 8
    light.light_ambient[:], light.light_specular[:] = 0.15, 0.1
    light.vis.headlight.ambient[:] = 0.2
    return light


def following(x: float, y: float, z: float, distance: float, elevation: float) -> Any:
    """Returns a camera that looks along the y axis at a place, from the side, angles in degrees."""
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
    camera.lookat[:] = x, y, z
    camera.distance, camera.azimuth, camera.elevation = distance, 90.0, elevation
    return camera
