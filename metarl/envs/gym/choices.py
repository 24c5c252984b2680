"""Lists of values that a task's parameters are drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from metarl.envs.splits import check_draw, shares, turns
from metarl.errors import UserError
from metarl.runs.plain import plain


@dataclass(frozen=True)
class Choice:
    """Draws one of `values`: numbers, strings, members of an enumeration, or lists, tuples, arrays
    or dictionaries of these. The environment gets the value as it stands here.

    All are equally likely, or as likely as `weights` say, a number above 0 for each value. Test
    tasks draw from `test`, which need not be in `values`; training tasks draw from the values that
    are not in `test`. Values of `test` keep their weights if all of them are in `values`, and are
    equally likely otherwise.
    """

    values: Sequence[Any]
    test: Sequence[Any] = ()
    relative: bool = False
    """Multiply the environment's own value by the number."""
    weights: Sequence[float] | None = None

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
        if self.weights is not None:
            self._check_weights(self.weights)
        if not self.of("train"):
            raise UserError(f"{self}: no value is left to train on; add one to values")

    def _check_weights(self, weights: Any) -> None:
        if isinstance(weights, str) or not isinstance(weights, Sequence | np.ndarray):
            raise UserError(f"{self}: weights is {weights!r}; give a list")
        if len(weights) != len(self.values):
            raise UserError(
                f"{self}: {len(weights)} weights for {len(self.values)} values; give one for each"
            )
        for weight in weights:
            number = isinstance(weight, Real) and not isinstance(weight, bool)
            if not number or not 0 < float(weight) < math.inf:
                raise UserError(
                    f"{self}: the weight {weight!r} is no number above 0; leave out values that "
                    "are not drawn"
                )
        object.__setattr__(self, "weights", tuple(map(float, weights)))

    def of(self, split: str) -> list[Any]:
        """Returns the values of a split."""
        if split == "test" and self.test:
            return list(self.test)
        return [self.values[i] for i in self._kept()]

    def weights_of(self, split: str) -> list[float] | None:
        """Returns the weights of a split's values; None if all are equally likely."""
        if self.weights is None:
            return None
        if split == "train" or not self.test:
            return [self.weights[i] for i in self._kept()]
        by_value = [plain(value) for value in self.values]
        tests = [plain(value) for value in self.test]
        if any(value not in by_value for value in tests):
            return None
        return [self.weights[by_value.index(value)] for value in tests]

    def _kept(self) -> list[int]:
        """Returns the indices of the values that are not held out."""
        held_out = [plain(value) for value in self.test]
        return [i for i, value in enumerate(self.values) if plain(value) not in held_out]


class Constant(Choice):
    """A value that is the same in all tasks: any that `Choice` takes."""

    def __init__(self, value: Any, relative: bool = False):
        super().__init__([value], relative=relative)

    def __repr__(self) -> str:
        return f"Constant({self.values[0]!r}{', relative=True' if self.relative else ''})"


def pick(
    values: Sequence[Any],
    weights: Sequence[float] | None,
    num: int,
    rng: np.random.Generator,
    draw: str,
) -> list[Any]:
    """Draws `num` of the values. `stratified`: counts as even as can be, or as near to the weights.

    Without weights all are equally likely.
    """
    if weights is not None:
        reach = np.cumsum(weights) / math.fsum(weights)
        at = np.searchsorted(reach, shares(num, rng, draw), side="right")
        return [values[min(i, len(values) - 1)] for i in at]
    if check_draw(draw) == "stratified":
        return [values[i] for i in turns(len(values), num, rng)]
    return [values[i] for i in rng.integers(len(values), size=num)]
