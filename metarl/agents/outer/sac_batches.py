"""Data of recurrent soft actor-critic: a gradient step's batch and draws, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from metarl.equations.adam import AdamState
    from metarl.types import Metrics, Params


class Batch(NamedTuple):
    """Steps of N trials, or parts of trials, that a gradient step learns from."""

    inputs: Tensor  # [N, L, obs_dim + before_dim], of the encoders
    obs: Tensor  # [N, L, obs_dim], normalised
    actions: Tensor  # [N, L, action width], in units of the box or one-hot
    rewards: Tensor  # [N, L]
    continues: Tensor  # [N, L], 0 where no value follows, else 1
    weights: Tensor  # [N, L], zero where there is no next row; their sum is one

    def rows(self, rows: slice) -> Batch:
        return Batch(*(x[rows] for x in self))


class Draws(NamedTuple):
    """Random numbers of a gradient step."""

    noise: Tensor  # [N, L, action width], standard normal
    chosen: Tensor  # [M] int64, critics of the target


class SacState(NamedTuple):
    """State of the rule between gradient steps."""

    adam: AdamState
    targets: Params
    """Parameters of the target critics."""
    played: Tensor
    """Trials so far, [] float64."""


class Reading(NamedTuple):
    """Parts of the loss, [] each."""

    critic_loss: Tensor
    actor_loss: Tensor
    entropy: Tensor
    target: Tensor
    """Mean of what the critics learn."""
    target_square: Tensor
    """Mean of its square."""
    norm: Tensor
    """Norm of the whole gradient."""

    def metrics(self, critics: int) -> Metrics:
        """Returns the parts by name, and the share of the targets' variance that the critics
        explain; 0 where they have none."""
        found = {name: float(x) for name, x in self._asdict().items()}
        variance = found.pop("target_square") - found["target"] ** 2
        error, norm = found["critic_loss"] / critics, found.pop("norm")
        explained = 1.0 - error / variance if variance > 1e-9 else 0.0
        names = {"gradient_norm": norm, "value/explained_variance": explained}
        return {**names, "value/mean": found.pop("target"), **found}


class Experience(NamedTuple):
    """Data of a meta-update: batches from the replay, and how much was added to it."""

    played: int
    """Trials that this meta-iteration added to the replay."""
    env_steps: int
    """Steps of those trials."""
    draw: Callable[[np.random.Generator], Batch]
    """Draws the batch of a gradient step."""
