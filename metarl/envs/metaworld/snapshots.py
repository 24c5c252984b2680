"""The state after a reset of a Meta-World task, taken once from metaworld's own environment.

A reset costs twice 50 control steps and depends on the task alone. So its result is kept: the
physics state, the model fields that it changes, and the constants that it sets.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
from metaworld.env_dict import ENV_CLS_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

import metarl.envs.mujoco.warnings  # noqa: F401  sends MuJoCo's warnings to Python's log

WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION.value
"""All of the state that the next step depends on, with the solver's warmstart and mocap body."""
MAX_CONSTANT = 16
"""The most numbers in an attribute that is kept as a constant of the task."""
MODEL_FIELDS = (
    "body_pos",
    "body_quat",
    "site_pos",
    "site_size",
    "geom_pos",
    "eq_data",
    "geom_rgba",
)
"""The fields of a model that resets change."""

MOVING = ("qpos", "qvel", "xpos", "xquat", "xmat", "geom_xpos", "geom_xmat", "site_xpos")


class Snapshot(NamedTuple):
    """The state of a task after its reset, as plain arrays."""

    state: np.ndarray  # [nstate] float64, mjSTATE_INTEGRATION
    obs: np.ndarray  # [39] float64
    constants: dict[str, np.ndarray]
    """Numerical attributes of the environment, without leading underscores."""
    model: dict[str, np.ndarray]
    """Whole fields of the model, MODEL_FIELDS."""


def reference(name: str, reward_version: str = "v2") -> SawyerXYZEnv:
    """Makes metaworld's own environment of a class, with the goal hidden."""
    env = ENV_CLS_MAP[name](reward_function_version=reward_version)
    env._partially_observable = True
    env._set_task_called = True
    return env


def model_path(name: str) -> str:
    """Returns the path of a class's model."""
    path = ENV_CLS_MAP[name].model_name.fget  # a property that does not use `self`
    assert path is not None
    return path(None)


def set_goal(env: SawyerXYZEnv, rand_vec: np.ndarray) -> None:
    """Sets the goal as `set_task` does, without a pickle."""
    env._freeze_rand_vec = True
    env._last_rand_vec = np.array(rand_vec, dtype=np.float64)


def snapshot(env: SawyerXYZEnv) -> Snapshot:
    """Resets `env` to its task and returns the state after it."""
    obs, _ = env.reset()
    state = np.empty(mujoco.mj_stateSize(env.model, WHOLE))
    mujoco.mj_getState(env.model, env.data, state, WHOLE)
    model = {field: np.array(getattr(env.model, field)) for field in MODEL_FIELDS}
    return Snapshot(state, np.array(obs), _constants(env), model)


def _constants(env: SawyerXYZEnv) -> dict[str, np.ndarray]:
    found, moving = {}, [getattr(env.data, field) for field in MOVING]
    for name, value in vars(env).items():
        if isinstance(value, np.ndarray) and any(np.may_share_memory(value, x) for x in moving):
            continue  # a view of simulated data, which changes with every step
        if isinstance(value, (bool, int, float, np.ndarray, np.number)):
            array = np.array(value)
            if array.dtype.kind in "biuf" and array.size <= MAX_CONSTANT:
                found[name.lstrip("_")] = array.astype(np.float64)
    return found
