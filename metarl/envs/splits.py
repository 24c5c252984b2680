"""Draws from an interval so that no task is in both the train and the test split.

The quantiles [0, 1) are cut into 1024 equal cells; every fourth is held out for testing. So both
splits cover the whole range evenly and share no task. Positions are integers until the last
division: rounding cannot move a draw into the next cell.
"""

from __future__ import annotations

import numpy as np

from metarl.errors import UserError

CELLS = 1024
HELD_OUT_EVERY = 4
TICKS = 2**30
"""Number of positions within a cell."""

_ALL = np.arange(CELLS)
_IN_TEST = _ALL % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
_CELLS = {"train": _ALL[~_IN_TEST], "test": _ALL[_IN_TEST]}


def quantiles(num: int, rng: np.random.Generator, split: str, draw: str = "random") -> np.ndarray:
    """Draws the quantiles of `num` tasks of a split, [num] in [0, 1).

    `random` draws them independently. `stratified` draws one from each of `num` equal parts of the
    split, in order: meta-batches vary less, and together the draws have the same distribution.
    """
    cells = _CELLS[check_split(split)]
    within = rng.random(num)
    shares = (np.arange(num) + within) / num if check_draw(draw) == "stratified" else within
    last = len(cells) * TICKS - 1
    cell, tick = np.divmod(np.minimum((shares * len(cells) * TICKS).astype(np.int64), last), TICKS)
    return (cells[cell] * TICKS + tick) / (CELLS * TICKS)


def held_out(quantile: np.ndarray | float) -> np.ndarray:
    """Returns whether each quantile lies in a cell of the test split."""
    return _IN_TEST[np.floor(np.asarray(quantile) * CELLS).astype(np.int64)]


def shares(num: int, rng: np.random.Generator, draw: str) -> np.ndarray:
    """Draws `num` numbers U(0, 1); `stratified`: one in each of `num` equal parts, shuffled."""
    within = rng.random(num)
    return (rng.permutation(num) + within) / num if check_draw(draw) == "stratified" else within


def turns(size: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """Draws `num` indices below `size` without repeats until all have been drawn, then again."""
    rounds = -(-num // size)
    return rng.permuted(np.tile(np.arange(size), (rounds, 1)), axis=1).ravel()[:num]


def check_split(split: str) -> str:
    return _known(split, ("train", "test"), "split")


def check_draw(draw: str) -> str:
    return _known(draw, ("random", "stratified"), "way to draw tasks")


def _known(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise UserError(f"{value!r} is no {what}; choose {' or '.join(map(repr, allowed))}")
    return value
