"""Chooses how MuJoCo draws on a machine without a display, before mujoco is imported.

mujoco reads MUJOCO_GL when it is imported. A choice is tried in a process of its own, because a
library of graphics that fails may end its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import MutableMapping

from metarl.errors import UserError

VARIABLE = "MUJOCO_GL"
SECONDS = 60.0
"""Longest time of a trial, s."""
TRIAL = """
import mujoco
world = '<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/></worldbody></mujoco>'
model = mujoco.MjModel.from_xml_string(world)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
drawing = mujoco.Renderer(model, 16, 16)
drawing.update_scene(data)
assert drawing.render().any()
drawing.close()
"""
INSTALL = "install one, as by `apt-get install libegl1` (with a GPU or Mesa) or `libosmesa6`"


def works(choice: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Returns whether MuJoCo draws here with a value of MUJOCO_GL."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", TRIAL],
            env={**environ, VARIABLE: choice},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def prepare(
    required: bool, possible: bool = True, environ: MutableMapping[str, str] = os.environ
) -> None:
    """Sets MUJOCO_GL to what works: a choice of the user's, else EGL, OSMesa or a display.

    Where MuJoCo is only `possible`, nothing is refused, as another library may draw. On other
    systems than Linux MuJoCo's own choice works, and nothing is set.

    Raises:
        UserError: if nothing works and it is required.
    """
    given = environ.get(VARIABLE, "")
    if not possible or not sys.platform.startswith("linux") or "mujoco" in sys.modules:
        return
    if given:
        if required and not works(given, environ):
            raise UserError(
                f"{VARIABLE} is {given!r}, and MuJoCo cannot draw with it here\n"
                f"unset {VARIABLE}, or give egl or osmesa and {INSTALL}"
            )
        return
    choices = ["egl", "osmesa"]
    if environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        choices.append("glfw")
    for choice in choices:
        if works(choice, environ):
            environ[VARIABLE] = choice
            return
    if required:
        raise UserError(
            f"MuJoCo cannot draw on this machine: neither EGL nor OSMesa works\n{INSTALL}"
        )
