"""What an inner rule sees of K tasks, and what it does with it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from metarl.types import Params

RULE = "rule."
"""What the names of a rule's own meta-parameters begin with. Matrices end in `weight`, all else
are vectors, as with a network's."""
MEMORY = "memory."
"""What the names begin with of what a rule remembers of each task from step to step, [K, n, ...].
It lies beside the task's parameters and starts from nothing."""


class Seen(NamedTuple):
    """K tasks at their parameters, on what they learn from."""

    gradient: Params
    """Of each task's loss in what is moved, [K, ...]; empty where a rule has no use for it."""
    loss: Tensor  # [K]
    samples: Tensor  # [K, N, sample_dim]: inputs and outcomes, side by side
    weights: Tensor  # [K, N], each task's sum to one


class Rule(Protocol):
    """How tasks' parameters move: a function of meta-parameters, differentiable in all it reads.

    `params` holds the parameters of the tasks (shared before the first step, then [K, ...]), the
    rule's own meta-parameters, and its memory.
    """

    @property
    def gradients(self) -> bool:
        """Whether it moves by the gradient and the loss."""
        ...

    @property
    def moved(self) -> tuple[str, ...]:
        """Names of the parameters that it moves."""
        ...

    def init(self, rng: np.random.Generator) -> Params:
        """The rule's own meta-parameters, named `rule.`..."""
        ...

    def move(self, params: Params, seen: Seen, index: int) -> Params:
        """What is other after step `index` (0 is the first), [K, ...], or all of `params`."""
        ...
