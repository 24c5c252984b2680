"""Sampling of actions from the last layer of a network, in numpy."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np


class GaussianActions(NamedTuple):
    """Normal distributions of the actions, or of actions in units of a box."""

    log_std: np.ndarray | None
    """[K or 1, act_dim]; None: it is the second half of the last layer's output."""
    min_log_std: np.float32
    max_log_std: np.float32
    """Infinite where there is no upper bound."""
    middle: np.ndarray | None
    """Middle of the box [act_dim]; None: actions keep their own units."""
    half: np.ndarray | None
    """Half of the box's width, [act_dim]."""

    noise = "normal"

    def of(self, tasks: slice) -> GaussianActions:
        """Returns the distributions of some tasks."""
        log_std = self.log_std
        if log_std is None or len(log_std) == 1:
            return self
        return self._replace(log_std=log_std[tasks])

    def deviation(self) -> np.ndarray | None:
        """Returns the deviation [K or 1, act_dim]; None if it depends on the observation."""
        return None if self.log_std is None else self._exponential(self.log_std)

    def _exponential(self, log_std: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # actions that are not finite end the run with an error
            return np.exp(np.clip(log_std, self.min_log_std, self.max_log_std))

    def sample(self, output: np.ndarray, noise: np.ndarray, std: np.ndarray | None) -> np.ndarray:
        """Returns actions [U, e, act_dim]; `std` is that of each unit [U, 1, act_dim], if shared
        by all observations."""
        mean = output
        if std is None:
            mean, log_std = np.split(output, 2, axis=-1)
            std = self._exponential(log_std)
        units = mean + std * noise
        return units if self.middle is None else self.middle + self.half * units

    def encoded(self, actions: np.ndarray) -> np.ndarray:
        """Returns actions as a network reads them: in units of the box, if there is one."""
        return actions if self.middle is None else (actions - self.middle) / self.half


class SquashedActions(NamedTuple):
    """Normal distributions squashed into a box by tanh; mean and log_std are the output's halves.

    As `metarl/equations/squashed_gaussian.py` has them in torch.
    """

    min_log_std: np.float32
    max_log_std: np.float32
    middle: np.ndarray
    """Middle of the box, [act_dim]."""
    half: np.ndarray
    """Half of the box's width, [act_dim]."""

    noise = "normal"

    def of(self, tasks: slice) -> SquashedActions:
        return self

    def deviation(self) -> None:
        """Returns None: it depends on the observation."""

    def sample(self, output: np.ndarray, noise: np.ndarray, std: np.ndarray | None) -> np.ndarray:
        """Returns actions [U, e, act_dim] for `output` [U, e, 2 act_dim]."""
        mean, log_std = np.split(output, 2, axis=-1)
        std = np.exp(np.clip(log_std, self.min_log_std, self.max_log_std))
        return self.middle + self.half * np.tanh(mean + std * noise)

    def encoded(self, actions: np.ndarray) -> np.ndarray:
        """Returns actions in units of the box."""
        return (actions - self.middle) / self.half


class ChosenActions(NamedTuple):
    """One or more choices, each of the option with the largest sum of logit and Gumbel noise."""

    options: tuple[int, ...]
    """Number of options of each choice."""

    noise = "gumbel"

    def of(self, tasks: slice) -> ChosenActions:
        return self

    def deviation(self) -> None:
        """Returns None: choices have no deviation."""

    def sample(self, output: np.ndarray, noise: np.ndarray, std: np.ndarray | None) -> np.ndarray:
        """Returns indices [U, e, choices] int64 for logits `output` [U, e, sum(options)]."""
        scores = output + noise
        bounds = pairwise(accumulate(self.options, initial=0))
        return np.stack([scores[..., a:b].argmax(-1) for a, b in bounds], -1)

    def encoded(self, actions: np.ndarray) -> np.ndarray:
        """Returns indices one-hot, [U, e, sum(options)] float32."""
        codes = [np.eye(n, dtype=np.float32)[actions[..., i]] for i, n in enumerate(self.options)]
        return np.concatenate(codes, -1)


Family: TypeAlias = GaussianActions | SquashedActions | ChosenActions
