"""Inner rule: PPO on a round of fresh episodes (arXiv:1707.06347), for K tasks at once.

It runs epochs of minibatches on the clipped surrogate, the value loss and the entropy, as in
Stable-Baselines3's `PPO.train`, with these differences:

* Advantages are standardised over a task's valid samples of the round, not within each minibatch.
* A minibatch is drawn from all T x E steps, at the same indices for all tasks. Padding has weight
  zero, so with padding a minibatch's sums estimate the round's sums and are not means.
* Permutations have keys of (round, epoch), so an update is a pure function without randomness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from metarl.config.ranges import Count, Natural, NonNegative, Positive
from metarl.config.settings import InnerSettings
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl import keys
    from metarl.config.settings import AdvantageConfig
    from metarl.equations import adam, losses, ppo, returns
    from metarl.equations.adam import AdamState
    from metarl.networks.mlp import MlpPolicy
    from metarl.networks.value import MlpValue
    from metarl.types import Params, Trajectories
else:
    np, torch, keys = lazy("numpy"), lazy("torch"), lazy("metarl.keys")
    adam = lazy("metarl.equations.adam")
    losses, ppo = lazy("metarl.equations.losses"), lazy("metarl.equations.ppo")
    returns = lazy("metarl.equations.returns")

ADAM_EPSILON = 1e-5
"""Stable-Baselines3's value for PPO; torch's 1e-8 gives large steps for gradients near zero."""


@dataclass(frozen=True)
class PpoStepsConfig(InnerSettings):
    """Inner rule: PPO on each round of fresh episodes."""

    family = "ppo"
    agents = {"episodes": "metarl.agents.reptile:ReptilePpo"}  # noqa: RUF012
    learns_values = True

    lr: Positive = 1e-3
    steps: Natural = 1
    """Rounds of episodes in a meta-iteration before the last one. PPO updates after every round,
    the last one too."""
    epochs: Count = 5
    minibatches: Count = 4
    clip: Positive = 0.2
    entropy: NonNegative = 0.0
    """Weight of the policy's entropy in the loss."""
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of the updates; its state starts afresh for each task."""
    target_kl: NonNegative = 0.0
    """KL that ends a task's round early: the task takes no further step once the KL from the policy
    that collected the round, estimated on a minibatch, is above it; 0: all steps."""


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

    def minibatch(self, rows: Tensor, share: float) -> Samples:
        """Selects some samples of every task, a `share` of all."""
        part = Samples(*(x[:, rows] for x in self))
        return part._replace(weights=part.weights / share)


class Course(NamedTuple):
    """Metrics of one gradient step, or their means over a round, [K] each."""

    value_loss: Tensor
    clip_fraction: Tensor
    gradient_norm: Tensor
    """Norm before clipping."""
    kl: Tensor
    """KL(collecting || policy) before the step: E[r - 1 - log r], as in `trial_ppo`."""
    steps: Tensor
    """Number of steps: 1, or 0 where the task had stopped; over a round their sum."""


class PpoSteps(NamedTuple):
    """Updates K tasks by PPO on one round of episodes."""

    policy: MlpPolicy
    value: MlpValue
    config: PpoStepsConfig
    advantages: AdvantageConfig

    def start(self, params: Params) -> TaskPpo:
        """Returns the tasks' state before the first round, at shared parameters."""
        return TaskPpo(params, adam.adam_start(params), 0)

    def samples(self, params: Params, episodes: Trajectories) -> Samples:
        """Returns samples with advantages from each task's value function, [K, ...] or shared.

        A time limit does not end the task: a truncated episode bootstraps from the value of its
        final observation.
        """
        ended = episodes.terminated | episodes.truncated
        with torch.no_grad():
            values = self.value(params, episodes.obs)
            final_values = self.value(params, episodes.final_obs)
        advantages = returns.gae(
            torch.where(episodes.mask, episodes.rewards, 0.0),
            values,
            ppo.following_values(values, final_values, ended),
            episodes.terminated,
            ended,
            self.advantages.discount,
            self.advantages.gae_lambda,
        ).flatten(1)
        weights = episodes.mask.flatten(1).to(advantages.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return Samples(
            episodes.obs.flatten(1, 2),
            episodes.actions.flatten(1, 2),
            episodes.behaviour.log_probs(episodes.actions).flatten(1),
            returns.standardize(advantages, weights),
            values.flatten(1),
            advantages + values.flatten(1),
            weights,
        )

    def step(self, learners: TaskPpo, samples: Samples) -> tuple[TaskPpo, Course, Tensor]:
        """Learns from one more round. Returns the state [K, ...], metrics, and whether all numbers
        were finite, [K]; a task with others keeps its old parameters."""
        tasks, target = len(samples.weights), self.config.target_kl
        before = after = learners.of_tasks(tasks, apart=target > 0.0)
        going = torch.ones(tasks, dtype=torch.bool, device=samples.weights.device)
        found = []
        for minibatch in self._minibatches(samples, learners.rounds):
            moved, measured = self._descend(after, minibatch)
            if target:
                going = going & ~(measured.kl > target)
                moved = moved.where(going, after)
                measured = measured._replace(steps=measured.steps * going)
            after = moved
            found.append(measured)
            if target and not going.any():
                break
        parts = [torch.stack(x) for x in zip(*found, strict=True)]
        course = Course(*(x.mean(0) for x in parts))._replace(steps=parts[-1].sum(0))
        numbers = [x.reshape(tasks, -1) for x in (*course[:3], *after.params.values())]
        finite = torch.cat(numbers, 1).isfinite().all(1)
        after = after.where(finite, before)._replace(rounds=learners.rounds + 1)
        return after, course, finite

    def _minibatches(self, samples: Samples, round: int) -> Iterator[Samples]:
        """Yields the minibatches of a round, epoch after epoch."""
        size = samples.weights.shape[1]
        for epoch in range(self.config.epochs):
            order = keys.generator(0, keys.Purpose.MINIBATCHES, round, epoch).permutation(size)
            for part in np.array_split(order, min(self.config.minibatches, size)):
                rows = torch.from_numpy(part).to(samples.weights.device)
                yield samples.minibatch(rows, len(part) / size)

    def loss(self, params: Params, samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the loss that PPO minimises, that of the value function, the share of clipped
        samples, and the KL from the collecting policy, [K] each; parameters are shared or [K, ...].
        """
        config, weights = self.config, samples.weights
        distribution = self.policy(params, samples.obs)
        log_probs = distribution.log_probs(samples.actions)
        gain, clipped = losses.clipped_gain(
            log_probs, samples.log_probs, samples.advantages, weights, config.clip
        )
        value = ppo.value_loss(self.value(params, samples.obs), samples.targets, weights)
        total = config.value_weight * value - gain
        if config.entropy:
            total = total - config.entropy * (weights * distribution.entropy()).sum(-1)
        log_ratio = (log_probs - samples.log_probs).detach()
        return total, value, clipped, (weights * (log_ratio.exp() - 1.0 - log_ratio)).sum(-1)

    def _descend(self, learners: TaskPpo, samples: Samples) -> tuple[TaskPpo, Course]:
        """Takes one gradient step."""
        (params, moments, _), config = learners, self.config
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        loss, value_loss, clipped, kl = self.loss(leaves, samples)
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
        gradient = dict(zip(params, gradients, strict=True))
        gradient, norm = adam.clip_norm(gradient, config.max_grad_norm, tasks=True)
        if config.optimizer == "adam":
            params, moments = adam.adam_step(params, gradient, moments, config.lr, eps=ADAM_EPSILON)
        else:
            params = {name: x - config.lr * gradient[name] for name, x in params.items()}
        learners = learners._replace(params=params, moments=moments)
        course = Course(value_loss.detach(), clipped, norm, kl, torch.ones_like(norm))
        return learners, course
