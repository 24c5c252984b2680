"""Inner rule: PPO on a round of fresh episodes (arXiv:1707.06347), for K tasks at once.

Epochs of minibatches on the clipped surrogate, the value function's loss and the entropy, as in
Stable-Baselines3's `PPO.train`, but for these:

* Advantages are standardised over a task's valid samples of the round, not in each minibatch.
* A minibatch is drawn from all of T x E, the same places for all tasks. Padding weighs nothing, so
  where there is some a minibatch's sums estimate those of the round, and are no means.
* No randomness: permutations belong to (round, epoch), so that an update is a pure function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from metarl.config.ranges import Count, Natural, NonNegative, Positive
from metarl.config.settings import AnyAgentConfig, InnerSettings, unused_policy_parts
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.config.settings import AdvantageConfig
    from metarl.equations import adam, losses, ppo, returns
    from metarl.equations.adam import AdamState
    from metarl.networks.mlp import MlpPolicy
    from metarl.networks.value import MlpValue
    from metarl.types import Params, Trajectories
else:
    np, torch, adam = lazy("numpy"), lazy("torch"), lazy("metarl.equations.adam")
    losses, ppo = lazy("metarl.equations.losses"), lazy("metarl.equations.ppo")
    returns = lazy("metarl.equations.returns")

ADAM_EPSILON = 1e-5
"""Stable-Baselines3's for PPO; torch's 1e-8 makes large steps of gradients near zero."""


@dataclass(frozen=True)
class PpoStepsConfig(InnerSettings):
    """Inner rule: PPO on each round of fresh episodes."""

    family = "ppo"
    agents = {"episodes": "metarl.agents.reptile:ReptilePpo"}  # noqa: RUF012

    lr: Positive = 1e-3
    steps: Natural = 1
    """Rounds of episodes in a meta-iteration before its last one, with an update after each; the
    last one is learned from too."""
    epochs: Count = 5
    minibatches: Count = 4
    clip: Positive = 0.2
    entropy: NonNegative = 0.0
    """Weight of the policy's entropy in the loss."""
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    optimizer: Literal["adam", "sgd"] = "adam"
    """Its state begins anew with each task."""

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        return unused_policy_parts(agent)


class TaskPpo(NamedTuple):
    """K tasks on their way; shared before the first round, then [K, ...]."""

    params: Params
    """Of the policy and of the value function."""
    moments: AdamState
    """Of a task's rounds so far; plain gradient descent leaves it as it is."""
    rounds: int
    """That they have learned from."""

    def of_tasks(self, number: int) -> TaskPpo:
        """Parameters and moments with a leading K."""
        if self.rounds:
            return self

        def each(shared: Params) -> Params:
            return {name: x.expand(number, *x.shape) for name, x in shared.items()}

        count, mean, square = self.moments
        return TaskPpo(each(self.params), adam.AdamState(count, each(mean), each(square)), 0)

    def where(self, chosen: Tensor, other: TaskPpo) -> TaskPpo:
        """These tasks where `chosen` [K] holds, elsewhere those of `other`."""

        def each(these: Params, those: Params) -> Params:
            return {
                name: torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), x, those[name])
                for name, x in these.items()
            }

        (count, mean, square), (_, other_mean, other_square) = self.moments, other.moments
        moments = adam.AdamState(count, each(mean, other_mean), each(square, other_square))
        return TaskPpo(each(self.params, other.params), moments, self.rounds)


class Samples(NamedTuple):
    """What K tasks learn from in a round, N = T E samples for each; padding has weight zero."""

    obs: Tensor  # [K, N, obs_dim]
    actions: Tensor  # [K, N, act_dim]
    log_probs: Tensor  # [K, N] of the policy that collected them
    advantages: Tensor  # [K, N], standardised within each task
    values: Tensor  # [K, N], the value function's before the update
    targets: Tensor  # [K, N], what it is to learn
    weights: Tensor  # [K, N], each task's sum to one

    def minibatch(self, rows: Tensor, share: float) -> Samples:
        """Some samples of every task, a `share` of all."""
        part = Samples(*(x[:, rows] for x in self))
        return part._replace(weights=part.weights / share)


class Losses(NamedTuple):
    """Of one minibatch, [K] each."""

    total: Tensor
    value: Tensor
    clipped: Tensor
    """Share of the samples whose ratio is beyond the clip."""


class Course(NamedTuple):
    """Of one gradient step, or means over those of a round, [K] each."""

    value_loss: Tensor
    clip_fraction: Tensor
    gradient_norm: Tensor
    """Before it was clipped."""


class PpoSteps:
    """PPO's update of a round."""

    def __init__(
        self,
        policy: MlpPolicy,
        value: MlpValue,
        config: PpoStepsConfig,
        advantages: AdvantageConfig,
    ):
        self.policy, self.value, self.config = policy, value, config
        self.discount, self.gae_lambda = advantages.discount, advantages.gae_lambda

    def start(self, params: Params) -> TaskPpo:
        """TaskPpo before their first round, at shared parameters."""
        return TaskPpo(params, adam.adam_start(params), 0)

    def samples(self, params: Params, episodes: Trajectories) -> Samples:
        """Returns samples with advantages by each task's own value function, [K, ...] or shared.

        A time limit is no end of the task: a truncated episode bootstraps from the value of the
        observation that it stopped at.
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
            self.discount,
            self.gae_lambda,
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
        """TaskPpo [K, ...] after one more round, from shared ones or [K, ...]; how that went;
        and whether all of it was finite, [K]: a task where it was not keeps what it had."""
        tasks, size = samples.weights.shape
        before = after = learners.of_tasks(tasks)
        found = []
        for epoch in range(self.config.epochs):
            order = np.random.default_rng((learners.rounds, epoch)).permutation(size)
            for part in np.array_split(order, min(self.config.minibatches, size)):
                rows = torch.from_numpy(part).to(samples.weights.device)
                minibatch = samples.minibatch(rows, len(part) / size)
                after, measured = self._descend(after, minibatch)
                found.append(measured)
        course = Course(*(torch.stack(x).mean(0) for x in zip(*found, strict=True)))
        numbers = [x.reshape(tasks, -1) for x in (*course, *after.params.values())]
        finite = torch.cat(numbers, 1).isfinite().all(1)
        after = after.where(finite, before)._replace(rounds=learners.rounds + 1)
        return after, course, finite

    def losses(self, params: Params, samples: Samples) -> Losses:
        """What PPO minimises, for parameters shared or [K, ...]."""
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
        return Losses(total, value, clipped)

    def _descend(self, learners: TaskPpo, samples: Samples) -> tuple[TaskPpo, Course]:
        """One gradient step."""
        params, config = learners.params, self.config
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        losses = self.losses(leaves, samples)
        gradients = torch.autograd.grad(losses.total.sum(), list(leaves.values()))
        gradient = dict(zip(params, gradients, strict=True))
        gradient, norm = adam.clip_norm(gradient, config.max_grad_norm, tasks=True)
        if config.optimizer == "adam":
            params, moments = adam.adam_step(
                params, gradient, learners.moments, config.lr, eps=ADAM_EPSILON
            )
            learners = learners._replace(params=params, moments=moments)
        else:
            params = {name: x - config.lr * gradient[name] for name, x in params.items()}
            learners = learners._replace(params=params)
        return learners, Course(losses.value.detach(), losses.clipped, norm)
