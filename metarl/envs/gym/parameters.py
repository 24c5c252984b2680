"""Distributions of an environment's parameters, such as gravity, a pole's length, a map's name.

`ParameterTasks` draws tasks {name: value} from a distribution for each parameter. No task is in
both splits:

* If parameters have a `test`, test tasks draw each of them from its `test`, and training tasks
  draw none of them from it. The others have the same distribution in both splits.
* Else the first `Uniform`, `LogUniform` or `Normal` is cut into cells (splits.py), of a vector its
  first component; the others have the same distribution in both splits.
* Else every fourth combination of the choices is held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from metarl.envs.gym.choices import Choice as Choice
from metarl.envs.gym.choices import Constant as Constant
from metarl.envs.gym.choices import pick
from metarl.envs.gym.ranges import LogUniform as LogUniform
from metarl.envs.gym.ranges import Normal as Normal
from metarl.envs.gym.ranges import Uniform as Uniform
from metarl.envs.splits import HELD_OUT_EVERY, check_split, quantiles, shares
from metarl.envs.task_bounds import Between, Bounds, OneOf
from metarl.errors import UserError
from metarl.runs.plain import plain

MAX_COMBINATIONS = 2**16
"""The most combinations of choices that are listed one by one."""
_ORDER = 20161109
"""Seed of the order in which combinations are held out; the same in all runs."""

Parameter: TypeAlias = Uniform | LogUniform | Normal | Choice


class ParameterTasks:
    """Tasks {name: value}, each value from the distribution of its parameter."""

    def __init__(self, parameters: Mapping[str, Parameter]):
        """
        Raises:
            UserError: if the parameters allow only a single task.
        """
        for name, parameter in parameters.items():
            if not isinstance(parameter, Parameter):
                raise UserError(
                    f"parameter {name!r} is {parameter!r}; "
                    "give Uniform(low, high), LogUniform(low, high), Normal(mean, std), "
                    "Choice(values) or Constant(value)"
                )
        self.names = tuple(parameters)
        self.relative = frozenset(name for name in parameters if parameters[name].relative)
        self._parameters = dict(parameters)
        self._cut: str | None = None
        """The parameter whose quantiles are cut into train and test cells."""
        self._combinations: dict[str, list[tuple[Any, ...]]] = {}
        """The tasks of each split, if all parameters are choices and none has a `test`."""
        self._weights: dict[str, list[float] | None] = {}
        """Weights of these tasks; None: all are equally likely."""
        if any(parameter.test for parameter in parameters.values()):
            return
        self._cut = next((n for n, p in parameters.items() if not isinstance(p, Choice)), None)
        if self._cut is None:
            choices = [p for p in parameters.values() if isinstance(p, Choice)]
            self._combinations, self._weights = _combinations(choices)

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Bounds of training tasks."""
        return {
            name: OneOf([plain(value) for value in parameter.of("train")])
            if isinstance(parameter, Choice)
            else Between(*parameter.usual)
            for name, parameter in self._parameters.items()
        }

    def sample(
        self, num: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[dict[str, Any]]:
        """Draws tasks; `stratified`: a Latin hypercube of the ranges, equal counts of choices."""
        check_split(split)
        if self._combinations:
            rows = pick(self._combinations[split], self._weights[split], num, rng, draw)
        else:
            columns = [self._column(name, num, rng, split, draw) for name in self.names]
            rows = zip(*columns, strict=True)
        return [deepcopy(dict(zip(self.names, row, strict=True))) for row in rows]

    def _column(
        self, name: str, num: int, rng: np.random.Generator, split: str, draw: str
    ) -> list[Any]:
        """Draws one parameter's values for `num` tasks."""
        parameter = self._parameters[name]
        if isinstance(parameter, Choice):
            return pick(parameter.of(split), parameter.weights_of(split), num, rng, draw)
        draws = [shares(num, rng, draw) for _ in range(parameter.size - (name == self._cut))]
        if name == self._cut:
            draws.insert(0, quantiles(num, rng, split, draw))
        together = np.stack(draws, axis=1) if parameter.shape else draws[0]
        return parameter.at(together, split).tolist()


def _combinations(
    choices: Sequence[Choice],
) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, list[float] | None]]:
    """Holds out every fourth combination for testing; each split gets at least one.

    Returns the combinations and their weights by split.
    """
    size = math.prod(len(choice.values) for choice in choices)
    if not choices or size == 1:
        raise UserError(
            "these parameters allow only a single task, so there is nothing to adapt to; "
            "give one of them a range or more values"
        )
    if size > MAX_COMBINATIONS:
        raise UserError(
            f"{size} combinations of choices are more than {MAX_COMBINATIONS}; "
            "hold out values of one of them, Choice(values, test=[...])"
        )
    listed = list(product(*(choice.values for choice in choices)))
    order = np.random.default_rng(_ORDER).permutation(size)
    first = min(HELD_OUT_EVERY, size) - 1
    held_out = set(order[first::HELD_OUT_EVERY].tolist())
    in_split = {
        "train": [i for i in range(size) if i not in held_out],
        "test": [i for i in range(size) if i in held_out],
    }
    tasks = {split: [listed[i] for i in rows] for split, rows in in_split.items()}
    if all(choice.weights is None for choice in choices):
        return tasks, dict.fromkeys(in_split)
    each = [choice.weights or (1.0,) * len(choice.values) for choice in choices]
    weights = [math.prod(row) for row in product(*each)]
    return tasks, {split: [weights[i] for i in rows] for split, rows in in_split.items()}
