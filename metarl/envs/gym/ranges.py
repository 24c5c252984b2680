"""Ranges of numbers that a task's parameters are drawn from, and vectors of such numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.errors import UserError
from metarl.lazy import lazy

special: Any = lazy("scipy.special")

Numbers: TypeAlias = "float | Sequence[Any] | NDArray[Any]"
"""A number, or a vector of them: a list, a tuple or an array."""
LEAST_MASS = 1e-12
"""The least probability of the values that a normal distribution is cut to, as a share of that of
all values on the same side of the nearer end: rounding would spoil less."""
LAST = 2.0**-42
"""The least share of a normal distribution on either side; a range without an end has no last."""

USUAL = 4.0
"""Standard deviations from the mean within which nearly all values of a normal distribution lie."""


class Range:
    """Numbers from a range. With vectors as ends each component is drawn by itself."""

    parts_of: ClassVar[tuple[str, ...]] = ("low", "high")
    """Fields that may be vectors."""
    low: Any
    high: Any
    test: Any
    relative: bool

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.parts_of}
        if self.test is not None:
            object.__setattr__(self, "test", self._test())
        ends = list(self.test) if self.test is not None else []
        if not any(isinstance(x, list | tuple | np.ndarray) for x in (*given.values(), *ends)):
            self._check()
            return
        shape = self._shape([*given.values(), *ends])
        for name, value in given.items():
            object.__setattr__(self, name, self._spread(value, shape))
        if self.test is not None:
            first, last = (self._spread(end, shape) for end in self.test)
            object.__setattr__(self, "test", (first, last))
        _ = self._parts  # raises for a component that is wrong

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of a value: () for a number."""
        return np.shape(self.low)

    @property
    def size(self) -> int:
        """Count of numbers in a value."""
        return math.prod(self.shape)

    @property
    def usual(self) -> tuple[Numbers, Numbers]:
        """Ends between which nearly all training values lie."""
        return self.low, self.high

    def at(self, shares: np.ndarray, split: str) -> np.ndarray:
        """Returns a split's values at the quantiles `shares` in [0, 1), [num] or [num, size].

        The values are [num, *shape].
        """
        if not self.shape:
            return self._at(shares, split)
        parts = [part._at(shares[:, i], own) for i, (part, own) in enumerate(self._parts[split])]
        return np.stack(parts, axis=1).reshape(len(shares), *self.shape)

    def _at(self, shares: np.ndarray, split: str) -> np.ndarray:
        pieces = np.array(self._pieces(split), dtype=np.float64)  # [pieces, 2]
        starts, ends = self._measure(pieces).T
        reach = np.cumsum(ends - starts)
        measure = shares * reach[-1]
        piece = np.searchsorted(reach, measure)
        values = self._value(ends[piece] - (reach[piece] - measure))
        return np.clip(values, *pieces[piece].T)  # rounding must not reach the other split

    @cached_property
    def _parts(self) -> dict[str, list[tuple[Any, str]]]:
        """Returns a number's range for each component, and the split to ask it for.

        A component whose `test` covers its whole range is free: it tells no splits apart.
        """
        found: dict[str, list[tuple[Any, str]]] = {"train": [], "test": []}
        free = 0
        columns = [np.ravel(getattr(self, name)).tolist() for name in self.parts_of]
        tests = [None] * self.size
        if self.test is not None:
            tests = list(zip(*(np.ravel(end).tolist() for end in self.test), strict=True))
        for *ends, test in zip(*columns, tests, strict=True):
            own = replace(self, **dict(zip(self.parts_of, ends, strict=True)), test=None)  # pyright: ignore[reportArgumentType]
            if test is None:
                pair = (own, "train"), (own, "test")
            elif test[0] <= own.low and own.high <= test[1]:
                free += 1
                held = replace(own, low=test[0], high=test[1])  # pyright: ignore[reportArgumentType]
                pair = (own, "train"), (held, "test")
            else:
                own = replace(own, test=test)  # pyright: ignore[reportArgumentType]
                pair = (own, "train"), (own, "test")
            for split, one in zip(("train", "test"), pair, strict=True):
                found[split].append(one)
        if self.test is not None and free == self.size:
            raise self._leaves_nothing()
        return found

    def _pieces(self, split: str) -> list[tuple[float, float]]:
        """Returns the closed intervals of a split."""
        if self.test is None:
            return [(self.low, self.high)]
        if split == "test":
            return [self.test]
        below = self.low, min(self.high, np.nextafter(self.test[0], -np.inf))
        above = max(self.low, np.nextafter(self.test[1], np.inf)), self.high
        return [(start, end) for start, end in (below, above) if start <= end]

    def _check(self) -> None:
        """Raises a UserError for ends of a single number that do not fit."""
        self._check_ends(self.low, self.high)
        if self.low >= self.high:
            raise UserError(
                f"{self}: low {self.low} is not below high {self.high}; swap them, "
                "or give a single value as Constant(value)"
            )
        if self.test is None:
            return
        self._check_ends(*self.test)
        if self.test[0] > self.test[1]:
            raise UserError(
                f"{self}: test starts at {self.test[0]}, above its end {self.test[1]}; swap them"
            )
        if not self._pieces("train"):
            raise self._leaves_nothing()

    def _leaves_nothing(self) -> UserError:
        return UserError(
            f"{self}: test leaves nothing of [{self.low}, {self.high}] to train on; narrow it"
        )

    def _check_ends(self, first: float, last: float) -> None:
        self._check_numbers(first, last)
        if not math.isfinite(last - first):
            raise UserError(f"{self}: [{first}, {last}] is not finite; give finite ends")

    def _check_numbers(self, *values: Any) -> None:
        for value in values:
            if not isinstance(value, Real) or isinstance(value, bool):
                raise UserError(f"{self}: {value!r} is no number; give both ends as numbers")

    def _test(self) -> tuple[Any, Any]:
        if not isinstance(self.test, list | tuple) or len(self.test) != 2:
            raise UserError(f"{self}: {self.test!r} is no range; write test=(first, last)")
        return self.test[0], self.test[1]

    def _shape(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Returns the shape that all values have or are spread to."""
        arrays = []
        for value in values:
            try:
                arrays.append(np.asarray(value))
            except ValueError:
                raise UserError(f"{self}: {value!r} is no array; give rows of one length") from None
            if arrays[-1].dtype.kind not in "iuf" or not arrays[-1].size:
                raise UserError(f"{self}: {value!r} holds no numbers; give them as numbers")
        try:
            return np.broadcast_shapes(*(array.shape for array in arrays))
        except ValueError:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise UserError(f"{self}: vectors of shapes {shapes}; give them one shape") from None

    @staticmethod
    def _spread(value: Any, shape: tuple[int, ...]) -> Any:
        """Returns an array of that shape as tuples, which are equal and hashed by their values."""
        return _tuples(np.broadcast_to(np.asarray(value), shape).tolist())

    def _measure(self, values: np.ndarray) -> np.ndarray:
        """Maps values to the scale on which draws are uniform."""
        return values

    def _value(self, measure: np.ndarray) -> np.ndarray:
        return measure


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class _Between(Range):
    low: Numbers
    high: Numbers
    test: tuple[Any, Any] | None = None
    """Test tasks are drawn from this range, training tasks from the rest of [low, high]."""
    relative: bool = False
    """Multiply the environment's own value by the number."""


class Uniform(_Between):
    """Numbers U(low, high); the range `test=(first, last)` may lie outside [low, high].

    `Uniform([0, 0], [1, 5])` draws vectors, each component by itself. Training tasks then have
    each component outside its part of `test`. A component whose part covers its whole range is
    free in both splits.
    """


class LogUniform(_Between):
    """Numbers whose logarithm is uniform; `test=(first, last)` and vectors as for Uniform."""

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
class Normal(Range):
    """Numbers N(mean, std), cut to [low, high]; `test=(first, last)` and vectors as for Uniform.

    Test tasks are drawn from the same normal distribution, cut to `test`.
    """

    parts_of: ClassVar[tuple[str, ...]] = ("mean", "std", "low", "high")

    mean: Numbers
    std: Numbers
    low: Numbers = -math.inf
    high: Numbers = math.inf
    test: tuple[Any, Any] | None = None
    """Test tasks are drawn from this range, training tasks from the rest of [low, high]."""
    relative: bool = False
    """Multiply the environment's own value by the number."""

    @property
    def usual(self) -> tuple[Numbers, Numbers]:
        mean, reach = np.asarray(self.mean), USUAL * np.asarray(self.std)
        low, high = np.maximum(self.low, mean - reach), np.minimum(self.high, mean + reach)
        return low.tolist(), high.tolist()

    def _check(self) -> None:
        self._check_numbers(self.mean, self.std)
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):  # pyright: ignore
            raise UserError(
                f"{self}: mean {self.mean} and std {self.std}; give finite numbers, std above 0"
            )
        super()._check()
        for split in ("train", "test"):
            starts, ends = self._measure(np.array(self._pieces(split), dtype=np.float64)).T
            if (ends - starts).sum() <= LEAST_MASS * max(np.abs([starts, ends]).max(), 1e-300):
                raise UserError(
                    f"{self}: values to {'test' if split == 'test' else 'train'} on are all but "
                    "impossible; give ranges nearer to the mean"
                )

    def _check_ends(self, first: float, last: float) -> None:
        self._check_numbers(first, last)
        if math.isnan(first) or math.isnan(last):
            raise UserError(f"{self}: [{first}, {last}] is no range; give numbers")

    def _measure(self, values: np.ndarray) -> np.ndarray:
        z = (values - self.mean) / self.std
        return -special.ndtr(-z) if self._upper else special.ndtr(z)

    def _value(self, measure: np.ndarray) -> np.ndarray:
        z = -special.ndtri(-measure) if self._upper else special.ndtri(measure)
        return self.mean + self.std * z

    @property
    def _upper(self) -> bool:
        """Whether all values lie above the mean: measured from above rounding spoils less."""
        low: Any = self.low
        return low > self.mean

    def _at(self, shares: np.ndarray, split: str) -> np.ndarray:
        return super()._at(np.clip(shares, LAST, 1 - LAST), split)
