"""MuJoCo's warnings, to Python's log. Whoever simulates imports this.

By itself MuJoCo prints them and appends them to a MUJOCO_LOG.TXT wherever one works.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import logging

import mujoco

mujoco.set_mju_user_warning(logging.getLogger("mujoco").warning)
