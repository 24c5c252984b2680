"""Paths of gymnasium's MuJoCo models."""

from __future__ import annotations

import os

import gymnasium


def model_path(file: str) -> str:
    folder = os.path.dirname(gymnasium.__file__)
    return os.path.join(folder, "envs", "mujoco", "assets", file)
