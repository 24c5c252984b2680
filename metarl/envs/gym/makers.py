"""Makers of gymnasium environments: they make an environment and set its task (rows.py)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any

import gymnasium
import numpy as np

from metarl.envs.gym.attribute_paths import AttributePath
from metarl.envs.gym.fixed_tasks import checked_tasks
from metarl.envs.gym.rows import close
from metarl.envs.gym.values import alike, is_many, of_kind, times
from metarl.errors import EnvFaultError, UserError
from metarl.sampling.rows import RowError, faults_of
from metarl.types import Progress, Task

Constructor = Callable[..., gymnasium.Env]
Apply = Callable[[gymnasium.Env, Task], object]
OWN = (
    "; give values that the environment keeps, or gym_tasks(..., apply=function), a function of "
    "yours that makes the task hold"
)


def defaults_of(constructor: Constructor) -> Mapping[str, Any]:
    """Returns the defaults of the arguments in a constructor's signature."""
    signature = inspect.signature(constructor).parameters
    return {name: one.default for name, one in signature.items() if one.default is not one.empty}


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
    defaults: Mapping[str, Any]
    """The constructor's own values of its arguments."""
    shared: frozenset[tuple[str, ...]] = frozenset()
    """The objects on the paths that all environments of a process share."""

    def arguments(self, task: Task) -> Mapping[str, Any]:
        return {
            key: of_kind(task[key], self.defaults.get(key))
            for key in task
            if key in self.constructor_arguments
        }

    def make(self, task: Task) -> gymnasium.Env:
        env = self.constructor(**self.kwargs, **deepcopy(self.arguments(task)))
        inner = env.unwrapped
        if not all(path.exists(inner) for path in self.paths):
            env.reset(seed=0)  # some attributes exist only then
        for path in self.paths:
            path.separate(inner, self.shared)
        return env

    def separated(self, task: Task) -> ParameterMaker:
        if not any(len(path.attributes) > 1 or path.index is not None for path in self.paths):
            return self
        one, other = self.make(task), self.make(task)
        found = (path.shared(one.unwrapped, other.unwrapped) for path in self.paths)
        shared = frozenset[tuple[str, ...]]().union(*found)
        for path in self.paths:  # raises for what cannot be separated
            path.separate(one.unwrapped, shared, other.unwrapped)
        close(one)
        close(other)
        return replace(self, shared=shared)

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        try:
            return {path.name: path.get(env.unwrapped) for path in self.paths}
        except UserError as error:
            known = ", ".join(sorted(arguments_of(self.constructor) - {"render_mode"}))
            if known:
                error.args = (f"{error} (its constructor takes {known})",)
            raise

    def apply(
        self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task
    ) -> Mapping[str, Any]:
        if self.changed_by is not None:
            self.changed_by(env, task)
            return {}
        inner, held = env.unwrapped, {}
        for path in self.paths:
            given, own = task[path.name], originals[path.name]
            relative = path.name in self.relative
            if path.index is None and not relative and isinstance(given, Number) and is_many(own):
                raise RowError(path.name, f"{path.name} is {own!r:.60}, not a single number{OWN}")
            try:
                value = times(given, own) if relative else of_kind(given, own)
            except ValueError as error:
                raise RowError(path.name, f"{path.name}: {error}") from error
            try:
                path.set(inner, value)
            except Exception as error:
                what = f"{path.name} cannot be set to {value!r:.60}: {error}{OWN}"
                raise RowError(path.name, what) from error
            held[path.name] = value
        if any(path.attributes[0] == "model" for path in self.paths):
            _derive_constants(inner)
        self.check(env, held, "is set")
        return held

    def check(self, env: gymnasium.Env, held: Mapping[str, Any], when: str) -> None:
        for path in self.paths:
            now, value = path.get(env.unwrapped), held[path.name]
            if not alike(now, value):
                what = f"{path.name} is {now!r:.60} once it {when}, the task's is {value!r:.60}"
                raise RowError(path.name, what + OWN)


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

    @property
    def takes_progress(self) -> bool:
        """Whether `sample` has an argument `progress`."""
        return "progress" in arguments_of(self.tasks.sample)

    def sample(
        self,
        num: int,
        rng: np.random.Generator,
        split: str,
        draw: str,
        progress: Progress | None = None,
    ) -> list[Task]:
        extra: dict[str, Any] = {}
        if "draw" in arguments_of(self.tasks.sample):
            extra["draw"] = draw
        if draw != "random" and "draw" not in extra:
            raise UserError(
                f"{self.name}: sample has no argument `draw`, so it cannot draw {draw} tasks; "
                "use --sampling.task-draw random"
            )
        if self.takes_progress:
            extra["progress"] = progress
        try:
            with faults_of("sample"):
                found = list(self.tasks.sample(num, rng, split, **extra))
        except RowError as error:
            raise EnvFaultError(self.name, {}, 0, 0, "sample", error.what, error.trace) from None
        if len(found) != num:
            raise UserError(f"{self.name}: sample({num}, ...) returned {len(found)} tasks")
        return [*checked_tasks(f"{self.name}: {split}", found)]

    def arguments(self, task: Task) -> Mapping[str, Any]:
        return {} if hasattr(self.tasks, "apply") else task

    def make(self, task: Task) -> gymnasium.Env:
        return self.tasks.make(task)

    def separated(self, task: Task) -> OwnClass:
        return self

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        return {}

    def apply(
        self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task
    ) -> Mapping[str, Any]:
        if hasattr(self.tasks, "apply"):
            self.tasks.apply(env, task)
        return {}

    def check(self, env: gymnasium.Env, held: Mapping[str, Any], when: str) -> None:
        """Nothing is known of what `apply` sets."""
