"""Plays a gymnasium environment as one row of arrays, and checks everything it returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Space
from gymnasium.spaces.utils import flatdim

from metarl.envs.gym.images import image_shape
from metarl.envs.gym.spaces import decoder, observer
from metarl.errors import nearest
from metarl.runs.plain import plain
from metarl.sampling.one_by_one import RowFactory, RowStep
from metarl.sampling.rows import RowError, faults_of, raised
from metarl.types import Task


class Maker(Protocol):
    """Makes environments and sets their tasks."""

    def arguments(self, task: Task) -> Mapping[str, Any]:
        """Returns the part of a task that needs a new environment if it differs; another task with
        equal arguments is only applied."""
        ...

    def make(self, task: Task) -> gymnasium.Env: ...

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        """Returns a new environment's own values of everything that tasks change."""
        ...

    def separated(self, task: Task) -> Maker:
        """Returns a maker whose environments share nothing that tasks write into."""
        ...

    def apply(
        self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task
    ) -> Mapping[str, Any]:
        """Sets an environment's task, whichever task it played before.

        Returns the values that must hold in the episode, by attribute.
        """
        ...

    def check(self, env: gymnasium.Env, held: Mapping[str, Any], when: str) -> None:
        """Raises RowError if the environment's attributes are not as `apply` returned."""
        ...


@dataclass(frozen=True)
class GymRows(RowFactory):
    """Makes the rows of a distribution of gymnasium tasks."""

    maker: Maker
    observation_space: Space
    action_space: Space
    horizon: int
    success: str | None
    """The key of `info` that holds whether the task is solved; None: it is not known."""

    def make(self) -> GymRow:
        return GymRow(self)

    def decode(self, actions: np.ndarray) -> Sequence[Any] | np.ndarray:
        return self._decoder(actions)

    @cached_property
    def _decoder(self) -> Callable[[np.ndarray], Sequence[Any] | np.ndarray]:
        return decoder(self.action_space)


class GymRow:
    """Resets its environment with a seed each time, and truncates at the horizon; a RowEnv."""

    def __init__(self, rows: GymRows):
        self.rows = rows
        self.env: gymnasium.Env | None = None
        self._observe = observer(rows.observation_space)
        self._arguments: Mapping[str, Any] = {}
        self._originals: Mapping[str, Any] = {}
        self._task: Task = {}
        self._steps = 0
        self._tells_success = False
        """Whether the environment has told success in any step."""

    def set_task(self, task: Task) -> None:
        arguments = plain(self.rows.maker.arguments(task))
        if self.env is None or arguments != self._arguments:
            self.close()
            with faults_of("constructor"):
                env = self.rows.maker.make(task)
            try:
                self._check_spaces(env)
                self._originals = self.rows.maker.originals(env)
            except BaseException:
                close(env)
                raise
            self.env, self._arguments = env, arguments
        self._task = task

    def _check_spaces(self, env: gymnasium.Env) -> None:
        """Checks that a task has the same spaces as the others, since one agent plays them all."""
        seen, acted = self.rows.observation_space, self.rows.action_space
        shape, others = image_shape(env.observation_space, "this task"), image_shape(seen, "others")
        if shape != others and shape and others:
            what = f"this task's images have channels, height and width {shape}, others' {others}"
            remedy = "pad or crop them to one size, as by gymnasium.wrappers.ResizeObservation"
            raise RowError("observation_space", f"{what}; {remedy}")
        if type(env.observation_space) is not type(seen) or (
            flatdim(env.observation_space) != flatdim(seen)
        ):
            what = f"this task's observation_space is {env.observation_space}, others' is {seen}"
            raise RowError("observation_space", what)
        if env.action_space != acted:
            what = f"this task's action_space is {env.action_space}, others' is {acted}"
            raise RowError("action_space", what)

    def reset(self, seed: int) -> np.ndarray:
        assert self.env is not None
        self._steps = 0
        with faults_of("apply"):  # each time: an episode may have changed what the task set
            held = self.rows.maker.apply(self.env, self._originals, self._task)
        with faults_of("reset"):
            found: Any = self.env.reset(
                seed=seed % 2**31
            )  # some environments pass it to numpy's old RandomState
        if not isinstance(found, tuple) or len(found) != 2:
            raise RowError("reset", f"reset returned {_kind_of(found)}, not (observation, info)")
        self.rows.maker.check(self.env, held, "is reset")
        return self._observe(found[0])

    def step(self, action: Any) -> RowStep:
        assert self.env is not None
        self._steps += 1
        try:
            found: Any = self.env.step(action)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # without a context manager: this is the innermost loop
            raise raised("step", error) from error
        if type(found) is not tuple or len(found) != 5:
            raise RowError(
                "step",
                f"step returned {_kind_of(found)}, not "
                "(observation, reward, terminated, truncated, info)",
            )
        obs, reward, terminated, truncated, info = found
        if type(reward) is not float:
            reward = _number(reward)
        if type(terminated) is not bool:
            terminated = _flag("terminated", terminated)
        if type(truncated) is not bool:
            truncated = _flag("truncated", truncated)
        success = False
        if self.rows.success is not None:
            success = self._success(info, terminated or truncated)
        over = truncated or self._steps >= self.rows.horizon
        return self._observe(obs), reward, terminated, over and not terminated, success

    def _success(self, info: Any, ended: bool) -> bool:
        """Returns whether the task is solved; an environment may tell it in its last step only."""
        key = self.rows.success
        if isinstance(info, dict) and key in info:
            self._tells_success = True
            return bool(np.all(info[key]))
        if not self._tells_success and (ended or self._steps >= self.rows.horizon):
            near = nearest(key, map(str, info)) if isinstance(info, dict) and key else ""
            # Where the horizon ends an episode, one that tells success in its last step cannot.
            if ended or near.startswith("; did"):
                raise RowError("info", f"info has no {key!r}, the key of success{near}")
        return False

    def close(self) -> None:
        if self.env is not None:
            close(self.env)
            self.env = None


def close(env: gymnasium.Env) -> None:
    """Closes an environment; an exception becomes a warning, since its episodes are complete."""
    try:
        env.close()
    except Exception as error:
        what = f"{type(env.unwrapped).__name__}.close raised {type(error).__name__}: {error}"
        warnings.warn(what, stacklevel=2)


def _kind_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{type(value).__name__}"


def _number(reward: Any) -> float:
    if isinstance(reward, int | float | np.number | np.bool_) or (
        isinstance(reward, np.ndarray) and reward.shape == () and reward.dtype.kind in "fiub"
    ):
        return float(reward)
    shape = f" of shape {reward.shape}" if isinstance(reward, np.ndarray) else f" {reward!r:.40}"
    raise RowError("reward", f"the reward is {type(reward).__name__}{shape}, not a number")


def _flag(field: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise RowError(field, f"{field} is {value!r:.40} ({type(value).__name__}), not a bool")
