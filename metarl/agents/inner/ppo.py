"""Inner rule: PPO on a round of fresh episodes (arXiv:1707.06347), for K tasks at once.

It runs epochs of minibatches on the clipped surrogate, the value loss and the entropy, as in
Stable-Baselines3's `PPO.train`, with these differences:

* Advantages are standardised over a task's valid samples of the round, not within each minibatch.
* A minibatch is drawn from all T x E steps, at the same indices for all tasks. Padding has weight
  zero, so with padding a minibatch's sums estimate the round's sums and are not means.
* Permutations have keys of (round, epoch), so an update is a pure function without randomness.
* With `baseline` linear the advantages are those of the MAML family: a baseline that is fit to the
  same round. The value function is then neither used nor trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metarl.config.ranges import Count, Natural, NonNegative, Positive
from metarl.config.settings import AdvantageConfig, AnyAgentConfig, InnerSettings
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl import graphs, keys
    from metarl.agents.inner import task_ppo
    from metarl.agents.inner.task_ppo import Course, Samples, TaskPpo
    from metarl.equations import adam, losses, ppo, returns
    from metarl.equations.adam import AdamState
    from metarl.networks.mlp import MlpPolicy
    from metarl.networks.value import MlpValue
    from metarl.types import Params, Trajectories
else:
    np, torch, keys = lazy("numpy"), lazy("torch"), lazy("metarl.keys")
    graphs, task_ppo = lazy("metarl.graphs"), lazy("metarl.agents.inner.task_ppo")
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
    baseline: Literal["value", "linear"] = "value"
    """Baseline of the advantages: the value function that tasks adapt too, or a linear one that is
    fit to each task's round, as in the MAML family."""
    target_kl: NonNegative = 0.0
    """KL that ends a task's round early: the task takes no further step once the KL from the policy
    that collected the round, estimated on a minibatch, is above it; 0: all steps."""

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found, ridge = super().without_effect(agent), "agent.advantages.baseline_ridge"
        if self.baseline == "linear":
            found.pop(ridge, None)
            if self.value_weight != PpoStepsConfig.value_weight:
                found["agent.inner.value_weight"] = "the linear baseline is fit by least squares"
        return found


class PpoSteps:
    """Updates K tasks by PPO on one round of episodes."""

    def __init__(
        self,
        policy: MlpPolicy,
        value: MlpValue,
        config: PpoStepsConfig,
        advantages: AdvantageConfig,
    ):
        self.policy, self.value, self.config, self.advantages = policy, value, config, advantages
        self.descend = graphs.graphed(self._descend)

    def start(self, params: Params) -> TaskPpo:
        """Returns the tasks' state before the first round, at shared parameters."""
        return task_ppo.TaskPpo(params, adam.adam_start(params), 0)

    def samples(self, params: Params, episodes: Trajectories) -> Samples:
        """Returns samples with standardised advantages; parameters are [K, ...] or shared."""
        read = self._by_baseline if self.config.baseline == "linear" else self._by_value
        values, advantages = (x.flatten(1) for x in read(params, episodes))
        weights = episodes.mask.flatten(1).to(advantages.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return task_ppo.Samples(
            episodes.obs.flatten(1, 2),
            episodes.actions.flatten(1, 2),
            episodes.behaviour.log_probs(episodes.actions).flatten(1),
            returns.standardize(advantages, weights),
            values,
            advantages + values,
            weights,
        )

    def _by_value(self, params: Params, episodes: Trajectories) -> tuple[Tensor, Tensor]:
        """Returns values and advantages by each task's value function, [K, T, E].

        A time limit does not end the task: a truncated episode bootstraps from the value of its
        final observation.
        """
        ended = episodes.terminated | episodes.truncated
        with torch.no_grad():
            values = self.value(params, episodes.obs)
            final_values = self.value(params, episodes.final_obs)
        later = ppo.following_values(values, final_values, ended)
        return values, self._gae(episodes, values, later, episodes.terminated)

    def _by_baseline(self, params: Params, episodes: Trajectories) -> tuple[Tensor, Tensor]:
        """Returns values and advantages by the linear baseline, [K, T, E].

        As in `agents.batch.learning_batch` its targets are the returns up to the horizon, so the
        value beyond the last step is zero at either ending.
        """
        del params
        ended = episodes.terminated | episodes.truncated
        rewards = torch.where(episodes.mask, episodes.rewards, 0.0)
        found = returns.discounted_returns(rewards, ended, self.advantages.discount)
        values = returns.fitted_values(
            episodes.obs, found, episodes.mask, self.advantages.baseline_ridge
        )
        later = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
        return values, self._gae(episodes, values, later, ended)

    def _gae(self, episodes: Trajectories, values: Tensor, later: Tensor, last: Tensor) -> Tensor:
        """Returns advantages [K, T, E]; after the `last` steps there is no value."""
        return returns.gae(
            torch.where(episodes.mask, episodes.rewards, 0.0),
            values,
            later,
            last,
            episodes.terminated | episodes.truncated,
            self.advantages.discount,
            self.advantages.gae_lambda,
        )

    def step(self, learners: TaskPpo, samples: Samples) -> tuple[TaskPpo, Course, Tensor]:
        """Learns from one more round. Returns the state [K, ...], metrics, and whether all numbers
        were finite, [K]; a task with others keeps its old parameters."""
        tasks, target = len(samples.weights), self.config.target_kl
        before = learners.of_tasks(tasks, apart=target > 0.0)
        params, moments = before.params, before.moments
        going = torch.ones(tasks, dtype=torch.bool, device=samples.weights.device)
        found: list[Course] = []
        for epoch in self._epochs(samples, learners.rounds):
            for rows in epoch:
                params, moments, going, course = self.descend(params, moments, going, samples, rows)
                found.append(course)
                if target and graphs.seen(~going.any()):
                    break
            if target and not going.any():  # a GPU is waited for here
                break
        course = task_ppo.Course.of_round(found)
        numbers = [x.reshape(tasks, -1) for x in (*course[:3], *params.values())]
        finite = torch.cat(numbers, 1).isfinite().all(1)
        after = task_ppo.TaskPpo(params, moments, before.rounds).where(finite, before)
        return after._replace(rounds=learners.rounds + 1), course, finite

    def _epochs(self, samples: Samples, round: int) -> Iterator[Sequence[Tensor]]:
        """Yields the minibatches' indices, an epoch at a time."""
        size = samples.weights.shape[1]
        for epoch in range(self.config.epochs):
            order = keys.generator(0, keys.Purpose.MINIBATCHES, round, epoch).permutation(size)
            rows = torch.from_numpy(order).to(samples.weights.device)
            yield rows.tensor_split(min(self.config.minibatches, size))

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
        if config.baseline == "linear":
            value, total = ppo.value_loss(samples.values, samples.targets, weights), -gain
        else:
            value = ppo.value_loss(self.value(params, samples.obs), samples.targets, weights)
            total = config.value_weight * value - gain
        if config.entropy:
            total = total - config.entropy * (weights * distribution.entropy()).sum(-1)
        log_ratio = (log_probs - samples.log_probs).detach()
        return total, value, clipped, (weights * (log_ratio.exp() - 1.0 - log_ratio)).sum(-1)

    def _descend(
        self, params: Params, moments: AdamState, going: Tensor, samples: Samples, rows: Tensor
    ) -> tuple[Params, AdamState, Tensor, Course]:
        """Takes a gradient step of every task that is `going` [K] on these of its samples.

        Returns the parameters, Adam's state, and whether each task goes on, with metrics.
        """
        config, chosen = self.config, samples.minibatch(rows)
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        loss, value_loss, clipped, kl = self.loss(leaves, chosen)
        gradients = torch.autograd.grad(
            loss.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        gradient = dict(zip(params, gradients, strict=True))
        gradient, norm = adam.clip_norm(gradient, config.max_grad_norm, tasks=True)
        before, after = task_ppo.TaskPpo(params, moments, 0), {}
        if config.optimizer == "adam":
            after, moments = adam.adam_step(params, gradient, moments, config.lr, eps=ADAM_EPSILON)
        else:
            after = {name: x - config.lr * gradient[name] for name, x in params.items()}
        moved, read = task_ppo.TaskPpo(after, moments, 0), going
        if config.target_kl:
            going = going & ~(kl > config.target_kl)
            moved = moved.where(going, before)
        counts = going.to(kl), read.to(kl)
        course = task_ppo.Course(value_loss.detach(), clipped, norm, kl, *counts)
        return moved.params, moved.moments, going, course
