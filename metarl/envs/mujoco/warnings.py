"""Sends MuJoCo's warnings to Python's log; modules that simulate import this.

By default MuJoCo prints warnings and appends them to MUJOCO_LOG.TXT in the working directory.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import logging

import mujoco

mujoco.set_mju_user_warning(logging.getLogger("mujoco").warning)
