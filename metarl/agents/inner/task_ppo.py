"""State, samples and metrics of K tasks that learn by PPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.equations import adam
from metarl.equations.adam import AdamState
from metarl.types import Params


class TaskPpo(NamedTuple):
    """State of K tasks between rounds; shared before the first round, then [K, ...]."""

    params: Params
    """Parameters of the policy and of the value function."""
    moments: AdamState
    """Adam's moments over a task's rounds so far; plain gradient descent leaves them alone."""
    rounds: int
    """Number of rounds that the tasks have learned from."""

    def of_tasks(self, number: int, apart: bool) -> TaskPpo:
        """Returns the state with a leading K on parameters and moments; where tasks go `apart`, on
        the number of steps too."""
        if self.rounds:
            return self

        def each(shared: Params) -> Params:
            return {name: x.expand(number, *x.shape) for name, x in shared.items()}

        count, mean, square = self.moments
        count = count.expand(number) if apart else count
        return TaskPpo(each(self.params), adam.AdamState(count, each(mean), each(square)), 0)

    def tasks(self, rows: slice) -> TaskPpo:
        """Returns the state of some of the tasks."""
        if not self.rounds:
            return self
        count, *moments = self.moments
        parts = [{n: x[rows] for n, x in part.items()} for part in (self.params, *moments)]
        count = count[rows] if count.dim() else count
        return TaskPpo(parts[0], adam.AdamState(count, *parts[1:]), self.rounds)

    @classmethod
    def joined(cls, parts: Sequence[TaskPpo]) -> TaskPpo:
        """Inverts `tasks`, for consecutive tasks' states after a round."""

        def whole(some: Sequence[Params]) -> Params:
            return {name: torch.cat([x[name] for x in some]) for name in some[0]}

        counts, means, squares = zip(*(x.moments for x in parts), strict=True)
        count = torch.cat(counts) if counts[0].dim() else counts[0]
        moments = adam.AdamState(count, whole(means), whole(squares))
        return cls(whole([x.params for x in parts]), moments, parts[0].rounds)

    def where(self, chosen: Tensor, other: TaskPpo) -> TaskPpo:
        """Takes these tasks if `chosen` [K] is true, and those of `other` if not."""

        def each(these: Params, those: Params) -> Params:
            return {
                name: torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), x, those[name])
                for name, x in these.items()
            }

        (count, mean, square), (other_count, other_mean, other_square) = self.moments, other.moments
        count = torch.where(chosen, count, other_count) if count.dim() else count
        moments = adam.AdamState(count, each(mean, other_mean), each(square, other_square))
        return TaskPpo(each(self.params, other.params), moments, self.rounds)


class Samples(NamedTuple):
    """Samples that K tasks learn from in a round, N = T E each; padding has weight zero."""

    obs: Tensor  # [K, N, obs_dim]
    actions: Tensor  # [K, N, act_dim]
    log_probs: Tensor  # [K, N] of the policy that collected them
    advantages: Tensor  # [K, N], standardised within each task
    values: Tensor  # [K, N], predicted values before the update
    targets: Tensor  # [K, N], targets of the value function
    weights: Tensor  # [K, N], summing to one for each task

    def minibatch(self, rows: Tensor) -> Samples:
        """Selects some samples of every task."""
        part, share = Samples(*(x[:, rows] for x in self)), len(rows) / self.weights.shape[1]
        return part._replace(weights=part.weights / share)


class Course(NamedTuple):
    """Metrics of one gradient step, or their means over those of a round, [K] each."""

    value_loss: Tensor
    clip_fraction: Tensor
    gradient_norm: Tensor
    """Norm before clipping."""
    kl: Tensor
    """KL(collecting || policy) before the step: E[r - 1 - log r], as in `trial_ppo`."""
    steps: Tensor
    """Number of steps: 1, or 0 where the task stopped instead; over a round their sum."""
    read: Tensor
    """1, or 0 where the task had stopped before and this minibatch is none of its own."""

    @classmethod
    def of_round(cls, steps: Sequence[Course]) -> Course:
        """Returns the means of each task's own minibatches, and its number of steps."""
        parts = cls(*(torch.stack(x) for x in zip(*steps, strict=True)))
        own = parts.read > 0
        means = [torch.where(own, x, 0.0).sum(0) / parts.read.sum(0) for x in parts]
        return cls(*means)._replace(steps=parts.steps.sum(0))
