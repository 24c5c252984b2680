"""The state after a reset of a Meta-World task, taken from the reference environment once.

A reset costs 50 control steps, twice over, and depends on the task alone. So its outcome is kept:
the physics' state, the fields of the model that it changed, and the constants that it left.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
from metaworld.env_dict import ENV_CLS_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

import metarl.envs.mujoco.warnings  # noqa: F401  no log where one works

WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION.value
"""All that the next step depends on: what the solver starts from too, and the mocap body."""
MAX_CONSTANT = 16
"""Numbers in the largest attribute that is taken for a constant of the task."""
MODEL_FIELDS = (
    "body_pos",
    "body_quat",
    "site_pos",
    "site_size",
    "geom_pos",
    "eq_data",
    "geom_rgba",
)
"""What resets change in a model."""

MOVING = ("qpos", "qvel", "xpos", "xquat", "xmat", "geom_xpos", "geom_xmat", "site_xpos")


class Snapshot(NamedTuple):
    """A task after its reset; plain arrays."""

    state: np.ndarray  # [nstate] float64, mjSTATE_INTEGRATION
    obs: np.ndarray  # [39] float64
    constants: dict[str, np.ndarray]
    """Numerical attributes of the environment, without leading underscores."""
    model: dict[str, np.ndarray]
    """Fields of the model, whole."""


def reference(name: str, reward_version: str = "v2") -> SawyerXYZEnv:
    """The reference environment of a class, goal hidden."""
    env = ENV_CLS_MAP[name](reward_function_version=reward_version)
    env._partially_observable = True
    env._set_task_called = True
    return env


def model_path(name: str) -> str:
    """The file of a class's model."""
    path = ENV_CLS_MAP[name].model_name.fget  # a property that reads nothing of the object
    assert path is not None
    return path(None)


def set_goal(env: SawyerXYZEnv, rand_vec: np.ndarray) -> None:
    """What `set_task` does, without a pickle."""
    env._freeze_rand_vec = True
    env._last_rand_vec = np.array(rand_vec, dtype=np.float64)


def snapshot(env: SawyerXYZEnv) -> Snapshot:
    """Resets `env` to the task that it was given and takes what that left."""
    obs, _ = env.reset()
    state = np.empty(mujoco.mj_stateSize(env.model, WHOLE))
    mujoco.mj_getState(env.model, env.data, state, WHOLE)
    model = {field: np.array(getattr(env.model, field)) for field in MODEL_FIELDS}
    return Snapshot(state, np.array(obs), _constants(env), model)


def _constants(env: SawyerXYZEnv) -> dict[str, np.ndarray]:
    found, moving = {}, [getattr(env.data, field) for field in MOVING]
    for name, value in vars(env).items():
        if isinstance(value, np.ndarray) and any(np.may_share_memory(value, x) for x in moving):
            continue  # a view of the simulation
        if isinstance(value, (bool, int, float, np.ndarray, np.number)):
            array = np.array(value)
            if array.dtype.kind in "biuf" and array.size <= MAX_CONSTANT:
                found[name.lstrip("_")] = array.astype(np.float64)
    return found
