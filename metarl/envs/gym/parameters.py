"""Distributions of an environment's parameters, such as gravity, a pole's length, a map's name.

`ParameterTasks` draws tasks {name: value} from a distribution for each parameter. No task is in
both splits:

* If parameters have a `test`, test tasks draw each of them from its `test`, and training tasks
  draw none of them from it. The others have the same distribution in both splits.
* Else the first `Uniform` or `LogUniform` is cut into cells (splits.py); the others have the same
  distribution in both splits.
* Else every fourth combination of the choices is held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from metarl.envs.splits import HELD_OUT_EVERY, check_draw, check_split, quantiles, shares, turns
from metarl.envs.task_bounds import Between, Bounds, OneOf
from metarl.errors import UserError
from metarl.runs.plain import plain

MAX_COMBINATIONS = 2**16
"""The most combinations of choices that are listed one by one."""
_ORDER = 20161109
"""Seed of the order in which combinations are held out; the same in all runs."""


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    test: tuple[float, float] | None = None
    """Test tasks are drawn from this range, training tasks from the rest of [low, high]."""
    relative: bool = False
    """Multiply the environment's own value by the number."""

    def __post_init__(self) -> None:
        self._check_ends(self.low, self.high)
        if self.low >= self.high:
            raise UserError(
                f"{self}: low {self.low} is not below high {self.high}; swap them, "
                "or give a single value as Choice([value])"
            )
        if self.test is None:
            return
        if not isinstance(self.test, list | tuple) or len(self.test) != 2:
            raise UserError(f"{self}: {self.test!r} is no range; write test=(first, last)")
        object.__setattr__(self, "test", tuple(self.test))
        self._check_ends(*self.test)
        if self.test[0] > self.test[1]:
            raise UserError(
                f"{self}: test starts at {self.test[0]}, above its end {self.test[1]}; swap them"
            )
        if not self._pieces("train"):
            raise UserError(
                f"{self}: test leaves nothing of [{self.low}, {self.high}] to train on; narrow it"
            )

    def at(self, shares: np.ndarray, split: str) -> np.ndarray:
        """Returns a split's values at the quantiles `shares` [num] in [0, 1)."""
        pieces = np.array(self._pieces(split), dtype=np.float64)  # [pieces, 2]
        starts, ends = self._measure(pieces).T
        reach = np.cumsum(ends - starts)
        measure = shares * reach[-1]
        piece = np.searchsorted(reach, measure)
        values = self._value(ends[piece] - (reach[piece] - measure))
        return np.clip(values, *pieces[piece].T)  # rounding must not reach the other split

    def _pieces(self, split: str) -> list[tuple[float, float]]:
        """Returns the closed intervals of a split."""
        if self.test is None:
            return [(self.low, self.high)]
        if split == "test":
            return [self.test]
        below = self.low, min(self.high, np.nextafter(self.test[0], -np.inf))
        above = max(self.low, np.nextafter(self.test[1], np.inf)), self.high
        return [(start, end) for start, end in (below, above) if start <= end]

    def _check_ends(self, first: float, last: float) -> None:
        for end in (first, last):
            if not isinstance(end, Real) or isinstance(end, bool):
                raise UserError(f"{self}: {end!r} is no number; give both ends as numbers")
        if not math.isfinite(last - first):
            raise UserError(f"{self}: [{first}, {last}] is not finite; give finite ends")

    def _measure(self, values: np.ndarray) -> np.ndarray:
        """Maps values to the scale on which draws are uniform."""
        return values

    def _value(self, measure: np.ndarray) -> np.ndarray:
        return measure


class Uniform(_Range):
    """Numbers U(low, high); the range `test=(first, last)` may lie outside [low, high]."""


class LogUniform(_Range):
    """Numbers whose logarithm is uniform; `test=(first, last)` as for Uniform."""

    def _check_ends(self, first: float, last: float) -> None:
        super()._check_ends(first, last)
        if min(first, last) <= 0:
            raise UserError(
                f"{self}: {min(first, last)} has no logarithm; use ends above 0, or Uniform"
            )

    def _measure(self, values: np.ndarray) -> np.ndarray:
        return np.log(values)

    def _value(self, measure: np.ndarray) -> np.ndarray:
        return np.exp(measure)


@dataclass(frozen=True)
class Choice:
    """Draws one of `values` uniformly: numbers, strings, members of an enumeration, or lists,
    tuples, arrays or dictionaries of these. The environment gets the value as it stands here.

    Test tasks draw from `test`, which need not be in `values`; training tasks draw from the values
    that are not in `test`.
    """

    values: Sequence[Any]
    test: Sequence[Any] = ()
    relative: bool = False
    """Multiply the environment's own value by the number."""

    def __post_init__(self) -> None:
        for field in ("values", "test"):
            given = getattr(self, field)
            if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
                raise UserError(f"{self}: {field} is {given!r}; give a list")
            object.__setattr__(self, field, tuple(deepcopy(value) for value in given))
            known = [plain(value, f"{self}") for value in given]
            for index, value in enumerate(known):
                if value in known[:index]:
                    raise UserError(f"{self}: {value!r} is twice in {field}; leave one out")
                if self.relative and np.asarray(value).dtype.kind not in "if":
                    raise UserError(f"{self}: {value!r} is no factor; only numbers are relative")
        if not self.of("train"):
            raise UserError(f"{self}: no value is left to train on; add one to values")

    def of(self, split: str) -> list[Any]:
        """Returns the values of a split."""
        if split == "test" and self.test:
            return list(self.test)
        held_out = [plain(value) for value in self.test]
        return [value for value in self.values if plain(value) not in held_out]


Parameter: TypeAlias = Uniform | LogUniform | Choice


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
                    "give Uniform(low, high), LogUniform(low, high) or Choice(values)"
                )
        self.names = tuple(parameters)
        self.relative = frozenset(name for name in parameters if parameters[name].relative)
        self._parameters = dict(parameters)
        self._cut: str | None = None
        """The parameter whose quantiles are cut into train and test cells."""
        self._combinations: dict[str, list[tuple[Any, ...]]] = {}
        """The tasks of each split, if all parameters are choices and none has a `test`."""
        if any(parameter.test for parameter in parameters.values()):
            return
        self._cut = next((n for n, p in parameters.items() if not isinstance(p, Choice)), None)
        if self._cut is None:
            choices = (p.values for p in parameters.values() if isinstance(p, Choice))
            self._combinations = _combinations(list(choices))

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Bounds of training tasks."""
        return {
            name: OneOf([plain(value) for value in parameter.of("train")])
            if isinstance(parameter, Choice)
            else Between(parameter.low, parameter.high)
            for name, parameter in self._parameters.items()
        }

    def sample(
        self, num: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[dict[str, Any]]:
        """Draws tasks; `stratified`: a Latin hypercube of the ranges, equal counts of choices."""
        check_split(split)
        if self._combinations:
            rows = _pick(self._combinations[split], num, rng, draw)
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
            return _pick(parameter.of(split), num, rng, draw)
        if name == self._cut:
            return parameter.at(quantiles(num, rng, split, draw), split).tolist()
        return parameter.at(shares(num, rng, draw), split).tolist()


def _pick(values: Sequence[Any], num: int, rng: np.random.Generator, draw: str) -> list[Any]:
    """Draws `num` of the values, independently or with equal counts if `stratified`."""
    if check_draw(draw) == "stratified":
        return [values[i] for i in turns(len(values), num, rng)]
    return [values[i] for i in rng.integers(len(values), size=num)]


def _combinations(values: Sequence[Sequence[Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """Holds out every fourth combination for testing; each split gets at least one."""
    size = math.prod(map(len, values))
    if not values or size == 1:
        raise UserError(
            "these parameters allow only a single task, so there is nothing to adapt to; "
            "give one of them a range or more values"
        )
    if size > MAX_COMBINATIONS:
        raise UserError(
            f"{size} combinations of choices are more than {MAX_COMBINATIONS}; "
            "hold out values of one of them, Choice(values, test=[...])"
        )
    listed = list(product(*values))
    order = np.random.default_rng(_ORDER).permutation(size)
    first = min(HELD_OUT_EVERY, size) - 1
    held_out = set(order[first::HELD_OUT_EVERY].tolist())
    return {
        "train": [row for i, row in enumerate(listed) if i not in held_out],
        "test": [row for i, row in enumerate(listed) if i in held_out],
    }
