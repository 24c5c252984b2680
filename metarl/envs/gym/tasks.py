"""Any gymnasium environment as a distribution of tasks.

    gym_tasks("CartPole-v1", {"gravity": Uniform(5, 15), "force_mag": Uniform(5, 15)}, horizon=200)

Environments step one at a time, on worker processes (`sampling/pool.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as Spec
from gymnasium.envs.registration import load_env_creator

from metarl.envs.gym.attribute_paths import attribute_path
from metarl.envs.gym.fixed_tasks import FixedTasks
from metarl.envs.gym.images import image_shape
from metarl.envs.gym.makers import (
    Apply,
    Constructor,
    OwnClass,
    ParameterMaker,
    Registered,
    arguments_of,
    defaults_of,
)
from metarl.envs.gym.parameters import Parameter, ParameterTasks
from metarl.envs.gym.rows import GymRows, Maker, close
from metarl.envs.gym.spaces import flat_actions, flat_observations
from metarl.envs.task_bounds import Bounds
from metarl.errors import EnvFaultError, UserError
from metarl.sampling.pool import Pool
from metarl.sampling.rows import RowError, Shares, faults_of
from metarl.types import EnvSpec, Progress, Task, Workers


class Sampler(Protocol):
    """Draws tasks of a split."""

    def sample(
        self, num: int, rng: np.random.Generator, split: str, draw: str
    ) -> Sequence[Task]: ...


Curriculum = Callable[[Task, Progress], bool]
MOST_REFUSED = 1000
"""Draws of a meta-batch in a row of which a curriculum offers no task, after which it is wrong."""


@dataclass(frozen=True)
class GymTasks:
    """Tasks of one gymnasium environment; implements TaskDistribution."""

    name: str
    maker: Maker
    tasks: Sampler
    horizon: int
    success: str | None = None
    deterministic: bool = True
    sparse: bool = False
    curriculum: Curriculum | None = None

    @property
    def spec(self) -> EnvSpec:
        """Returns names and spaces; the first call makes an environment to read its spaces.

        Raises:
            EnvFaultError: if the constructor raises.
            UserError: for spaces that no agent supports.
        """
        return self._spec

    @cached_property
    def _spec(self) -> EnvSpec:
        return EnvSpec(
            self.name,
            flat_observations(self.rows.observation_space, self.name),
            flat_actions(self.rows.action_space, self.name),
            self.horizon,
            has_success=self.success is not None,
            deterministic=self.deterministic,
            sparse=self.sparse,
            image=image_shape(self.rows.observation_space, self.name),
        )

    def sample(
        self,
        num_tasks: int,
        rng: np.random.Generator,
        split: str = "train",
        draw: str = "random",
        progress: Progress | None = None,
    ) -> Sequence[Task]:
        """Draws tasks; in training `progress` lets a curriculum choose among them."""
        if isinstance(self.tasks, OwnClass):
            return self.tasks.sample(num_tasks, rng, split, draw, progress)
        if self.curriculum is None or progress is None or split != "train":
            return self.tasks.sample(num_tasks, rng, split, draw)
        return self._offered(self.curriculum, num_tasks, rng, draw, progress)

    @property
    def takes_progress(self) -> bool:
        """Whether what is drawn depends on the progress of training."""
        own = isinstance(self.tasks, OwnClass) and self.tasks.takes_progress
        return own or self.curriculum is not None

    def _offered(
        self,
        offers: Curriculum,
        num_tasks: int,
        rng: np.random.Generator,
        draw: str,
        progress: Progress,
    ) -> list[Task]:
        """Draws training tasks until the curriculum has offered as many as are asked for."""
        found: list[Task] = []
        refused = 0
        while len(found) < num_tasks:
            drawn = self.tasks.sample(num_tasks, rng, "train", draw)
            try:
                with faults_of("curriculum"):
                    more = [task for task in drawn if offers(task, progress)]
            except RowError as error:
                raise EnvFaultError(
                    self.name, {}, 0, 0, "curriculum", error.what, error.trace
                ) from None
            refused = 0 if more else refused + 1
            if refused == MOST_REFUSED:
                raise UserError(
                    f"{self.name}: the curriculum offers none of {MOST_REFUSED * num_tasks} drawn "
                    f"tasks, such as {dict(drawn[0])}, after iteration {progress.iteration}\n"
                    "let it return True for some training tasks at any time"
                )
            room = num_tasks - len(found)
            if len(more) > room:  # any of them: stratified draws come in order
                more = [more[i] for i in np.sort(rng.permutation(len(more))[:room])]
            found += more
        return found

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> Pool:
        return Pool(self.rows, self.spec, num_tasks, episodes_per_task, workers)

    @property
    def shares(self) -> Shares:
        """Shares for whole rounds, with one environment for each episode."""
        return Shares(self.rows)

    @cached_property
    def rows(self) -> GymRows:
        """Makes the environments, in this process or in workers."""
        maker, env = self._make_one()
        for space in ("observation_space", "action_space"):
            if getattr(env, space, None) is None:
                raise UserError(f"{self.name} has no {space}; set it in __init__")
        spaces = env.observation_space, env.action_space
        close(env)
        return GymRows(maker, *spaces, self.horizon, self.success)

    @property
    def task_bounds(self) -> Mapping[str, Bounds]:
        return getattr(self.tasks, "bounds", {})

    def with_horizon(self, horizon: int) -> GymTasks:
        """Returns these tasks with episodes of another length."""
        return self if horizon == self.horizon else replace(self, horizon=int(horizon))

    def describe(self, task: Task) -> str:
        return ", ".join(f"{_last_word(key)}={_short(value)}" for key, value in task.items())

    def _make_one(self) -> tuple[Maker, gymnasium.Env]:
        """Returns the maker of all environments, and one of them."""
        task = self.sample(1, np.random.default_rng(0))[0]
        try:
            with faults_of("constructor"):
                env = self.maker.make(task)
            self.maker.originals(env)  # raises if a parameter's attribute is missing
            with faults_of("constructor"):
                maker = self.maker.separated(task)
        except RowError as error:
            raise EnvFaultError(
                self.name, task, 0, 0, error.field, error.what, error.trace
            ) from None
        return maker, env


def _last_word(key: str) -> str:
    return key.rpartition(".")[2]


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def gym_tasks(
    env: str | Spec | Constructor,
    parameters: Mapping[str, Parameter] | None = None,
    *,
    horizon: int,
    train: Sequence[Task] | None = None,
    test: Sequence[Task] | None = None,
    apply: Apply | None = None,
    kwargs: Mapping[str, Any] | None = None,
    success: str | None = None,
    name: str | None = None,
    deterministic: bool = True,
    sparse: bool = False,
    curriculum: Curriculum | None = None,
) -> GymTasks:
    """Returns tasks of one gymnasium environment that differ in parameters.

    If the constructor has an argument of a parameter's name, the parameter is passed to it.
    Otherwise the parameter is set before every reset as an attribute of the unwrapped environment:
    `a`, `a.b` or `a.b[2]`. A field of a MuJoCo model (`model.body_mass[2]`) is such an attribute;
    the constants that MuJoCo derives from it are recomputed.

    Args:
        env: the id or the spec of a registered environment, or a class or function that makes one.
        parameters: name -> Uniform, LogUniform, Normal, Choice or Constant.
        horizon: steps after which an episode is truncated, instead of a registered limit.
        train, test: explicit lists of tasks, instead of `parameters`.
        apply: `apply(env, task)` sets an environment's task before every reset, instead of the
            rules above.
        kwargs: the constructor's other arguments.
        success: the key of `info` that holds whether the task is solved; an environment may report
            it at the last step of an episode only.
        name: the name in errors and reports; the id or the constructor's name by default.
        deterministic: False if seed and actions do not decide an episode.
        curriculum: `curriculum(task, progress)` returns whether a training task is offered now, by
            the iteration and the last returns (metarl.Progress). Held-out tasks stay as they are.
        sparse: True if random actions seldom meet what differs between tasks. Otherwise training
            refuses tasks whose episodes of random actions are all the same.

    Raises:
        UserError: for arguments that conflict, an unknown id or a parameter that is nowhere found.
    """
    if not isinstance(horizon, Integral) or horizon < 1:
        raise UserError(f"horizon={horizon} is no number of steps; give a whole number, at least 1")
    tasks = _sampler(parameters, train, test)
    spec = _registered(env) if isinstance(env, str) else env if isinstance(env, Spec) else None
    constructor = _entry_point(spec) if spec else env
    if not callable(constructor):
        kind = type(constructor).__name__
        raise UserError(
            f"env is an instance of {kind}; give the class {kind}, or a function that makes one"
        )
    given = dict(kwargs or {})
    if twice := given.keys() & set(tasks.names):
        raise UserError(f"{min(twice)!r} is in kwargs and differs by task; leave it out of kwargs")
    if apply is None:
        taken = arguments_of(constructor)
        arguments = frozenset(key for key in tasks.names if key in taken)
        paths = tuple(attribute_path(key) for key in tasks.names if key not in arguments)
    else:
        arguments, paths = frozenset(), ()
    if stuck := tasks.relative - {path.name for path in paths}:
        raise UserError(
            f"{min(stuck)} is relative to the environment's own value, so it must be an attribute; "
            "arguments of the constructor and tasks for `apply` have no such value"
        )
    make = Registered(spec) if spec else constructor
    defaults = {**defaults_of(constructor), **(spec.kwargs if spec else {})}
    maker = ParameterMaker(make, given, arguments, paths, tasks.relative, apply, defaults)
    title = name or (env if isinstance(env, str) else spec.id if spec else _name_of(env))
    return GymTasks(title, maker, tasks, int(horizon), success, deterministic, sparse, curriculum)


def _name_of(constructor: Any) -> str:
    return getattr(constructor, "__name__", "environment")


def _sampler(
    parameters: Mapping[str, Parameter] | None,
    train: Sequence[Task] | None,
    test: Sequence[Task] | None,
) -> ParameterTasks | FixedTasks:
    if parameters is not None and train is None and test is None:
        return ParameterTasks(parameters)
    if parameters is None and train is not None and test is not None:
        return FixedTasks(train, test)
    raise UserError(
        "tasks are either parameters={name: distribution} or train=[...] and test=[...]"
    )


def _registered(env_id: str) -> Any:
    module, _, inner_id = env_id.rpartition(":")
    try:
        if module:  # as in gymnasium.make, the module registers the id
            importlib.import_module(module)
        return gymnasium.spec(inner_id)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UserError(
            f"{env_id!r} is no gymnasium environment: {error}{_remedy(env_id)}"
        ) from None


def _remedy(env_id: str) -> str:
    """Returns what an id of MiniGrid lacks: its module, or the library."""
    name = env_id.rpartition(":")[2]
    if not name.startswith(("MiniGrid-", "BabyAI-")):
        return ""
    if importlib.util.find_spec("minigrid") is None:
        return '\npip install "metarl[minigrid]"'
    return "" if ":" in env_id else f"\nname the module that registers it: 'minigrid:{name}'"


def _entry_point(spec: Any) -> Constructor:
    point: Any = spec.entry_point
    if isinstance(point, str):
        point = load_env_creator(point)
    return point


def class_tasks(tasks: Any, name: str) -> GymTasks:
    """Returns the distribution of an object with `sample`, `make(task)` and `horizon`.

    `sample` is called as `sample(num_tasks, rng, split)`. If the object has `apply(env, task)`,
    that sets an environment's task; otherwise each task gets new environments. `success`,
    `deterministic` and `sparse` are as for `gym_tasks`.
    """
    horizon = getattr(tasks, "horizon", None)
    if not isinstance(horizon, Integral) or horizon < 1:
        raise UserError(f"{name} has no horizon; give it the number of steps of an episode")
    own = OwnClass(tasks, name)
    success = getattr(tasks, "success", None)
    facts = getattr(tasks, "deterministic", True), getattr(tasks, "sparse", False)
    return GymTasks(name, own, own, int(horizon), success, *facts)
