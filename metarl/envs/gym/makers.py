"""Makers of gymnasium environments: they make an environment and set its task (rows.py)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from metarl.envs.gym.attribute_paths import AttributePath
from metarl.envs.gym.plain_tasks import plain_tasks
from metarl.errors import EnvFaultError, UserError
from metarl.sampling.rows import RowError, faults_of
from metarl.types import Task

Constructor = Callable[..., gymnasium.Env]
Apply = Callable[[gymnasium.Env, Task], object]


def arguments_of(constructor: Constructor) -> frozenset[str]:
    """Returns the names of the arguments in a constructor's signature."""
    return frozenset(
        name
        for name, one in inspect.signature(constructor).parameters.items()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    )


@dataclass(frozen=True)
class Registered:
    """Makes a registered environment without its time limit, since metarl sets the horizon."""

    spec: Any
    """The registration itself, as a worker may not have imported the module that registers it."""

    def __call__(self, **kwargs: Any) -> gymnasium.Env:
        return gymnasium.make(self.spec, max_episode_steps=-1, disable_env_checker=True, **kwargs)


@dataclass(frozen=True)
class ParameterMaker:
    """Makes environments whose tasks are parameters."""

    constructor: Constructor
    kwargs: Mapping[str, Any]
    constructor_arguments: frozenset[str]
    paths: tuple[AttributePath, ...]
    relative: frozenset[str]
    changed_by: Apply | None

    def arguments(self, task: Task) -> Mapping[str, Any]:
        return {key: task[key] for key in task if key in self.constructor_arguments}

    def make(self, task: Task) -> gymnasium.Env:
        return self.constructor(**self.kwargs, **self.arguments(task))

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        try:
            return {path.name: path.get(env.unwrapped) for path in self.paths}
        except UserError as error:
            known = ", ".join(sorted(arguments_of(self.constructor) - {"render_mode"}))
            if known:
                error.args = (f"{error} (its constructor takes {known})",)
            raise

    def apply(self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task) -> None:
        if self.changed_by is not None:
            self.changed_by(env, task)
            return
        inner = env.unwrapped
        for path in self.paths:
            value, original = task[path.name], originals[path.name]
            if path.name in self.relative:
                value = original * value
            elif isinstance(original, np.ndarray):
                value = np.asarray(value, original.dtype)
            path.set(inner, value)
        if any(path.attributes[0] == "model" for path in self.paths):
            _derive_constants(inner)


def _derive_constants(env: Any) -> None:
    """Recomputes the constants that MuJoCo derives from a model, such as subtree masses."""
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and isinstance(env.model, mujoco.MjModel):
        mujoco.mj_setConst(env.model, env.data)


@dataclass(frozen=True)
class OwnClass:
    """Adapts a user's object with `sample`, `make` and perhaps `apply` to Maker and Sampler."""

    tasks: Any
    name: str

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        extra = {"draw": draw} if "draw" in arguments_of(self.tasks.sample) else {}
        if draw != "random" and not extra:
            raise UserError(
                f"{self.name}: sample has no argument `draw`, so it cannot draw {draw} tasks; "
                "use --sampling.task-draw random"
            )
        try:
            with faults_of("sample"):
                found = list(self.tasks.sample(num, rng, split, **extra))
        except RowError as error:
            raise EnvFaultError(self.name, {}, 0, 0, "sample", error.what, error.trace) from None
        if len(found) != num:
            raise UserError(f"{self.name}: sample({num}, ...) returned {len(found)} tasks")
        return [*plain_tasks(f"{self.name}: {split}", found)]

    def arguments(self, task: Task) -> Mapping[str, Any]:
        return {} if hasattr(self.tasks, "apply") else task

    def make(self, task: Task) -> gymnasium.Env:
        return self.tasks.make(task)

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        return {}

    def apply(self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task) -> None:
        if hasattr(self.tasks, "apply"):
            self.tasks.apply(env, task)
