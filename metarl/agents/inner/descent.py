"""Inner rule: theta' = theta - alpha g, whatever g is the gradient of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from metarl.agents.inner.rule import Seen
from metarl.config.settings import SgdConfig
from metarl.types import Params

SIZE = "lr."
"""What the names of learned step sizes begin with, before that of the parameter they are for."""


class Descent:
    """theta_i' = theta - alpha grad L_i(theta), arXiv:1703.03400, Eq. 1, for K tasks at once.

    alpha has an entry for each parameter: `config.lr` for those that are `moved`, 0 elsewhere.
    Entries that are meta-learned, each of any sign, are Meta-SGD (arXiv:1707.09835).
    """

    gradients = True

    def __init__(self, config: SgdConfig, moved: Sequence[str]):
        self.config, self.moved = config, tuple(moved)
        """Names of the parameters that a step moves; no other gets a leading K by it."""

    def sized(self, start: Params) -> Params:
        """The rule's own meta-parameters, beside those that tasks `start` from: learned step
        sizes, if any."""
        if not self.config.learn_lr:
            return {}
        return {SIZE + n: torch.full_like(start[n], self.config.lr) for n in self.moved}

    def sizes(self, params: Params, index: int) -> StepSizes:
        """Those of the adaptation step `index` (0 is the first); `params` holds learned ones."""
        trained = index < max(1, self.config.steps)
        scale = 1.0 if trained else self.config.extra_step_scale
        if not self.config.learn_lr:
            return StepSizes(self.config.lr * scale, self.moved, {})
        return StepSizes(scale, self.moved, {name: params[SIZE + name] for name in self.moved})

    def descended(self, params: Params, gradient: Params, index: int) -> Params:
        """params - alpha gradient; shared ones that are moved take one gradient [K, ...] each."""
        sizes = self.sizes(params, index)
        return descend(params, sizes.times(gradient), sizes.rate)

    def move(self, params: Params, seen: Seen, index: int) -> Params:
        """`descended` along what was seen, as other rules move."""
        return self.descended(params, seen.gradient, index)


def all_of(layers: int) -> tuple[str, ...]:
    """Names of the parameters of so many layers."""
    return tuple(f"layer{i}.{part}" for i in range(layers) for part in ("weight", "bias"))


def head_of(layers: int) -> tuple[str, ...]:
    """Names of the last of so many layers, which alone ANIL moves (arXiv:1909.09157)."""
    return all_of(layers)[-2:]


def descend(params: Params, direction: Params, lr: float) -> Params:
    """params - lr direction, where there is one; shared parameters take one for each task."""
    return {**params, **{name: params[name] - lr * x for name, x in direction.items()}}


class StepSizes(NamedTuple):
    """alpha = rate D. The diagonal D is 1 or learned where a parameter is moved, else 0."""

    rate: float
    moved: tuple[str, ...]
    learned: Params
    """By the moved parameter's name; empty where D is 1."""

    def times(self, x: Params) -> Params:
        """D x, but for its zeros."""
        if not self.learned:
            return {name: x[name] for name in self.moved}
        return {name: x[name] * self.learned[name] for name in self.moved}
