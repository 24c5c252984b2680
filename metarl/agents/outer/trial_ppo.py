"""Outer rule of a recurrent policy: PPO with truncated back-propagation through time.

The clipped surrogate of arXiv:1707.06347 on whole trials, by epochs over minibatches of trials.

* A trial ends after finitely many steps, which a policy with a memory can count: the value beyond
  its last step is zero, however its last episode ended. Ends of episodes within it cut nothing.
* Gradients are cut every `chunk` steps of a trial. A chunk starts from the memory that the present
  parameters have built up before it: no memory is stored, so none grows stale within the epochs.
* The value function learns returns in deviations from their mean, both of training so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.config.settings import AdvantageConfig, TrialPpoConfig
from metarl.device import torch_threads
from metarl.equations.adam import AdamState, adam_step, clip_norm
from metarl.equations.losses import clipped_gain
from metarl.equations.ppo import explained_variance, value_loss
from metarl.equations.returns import discounted_returns, gae, standardize
from metarl.equations.running_stats import RunningStats, deviation, merge, stats_of
from metarl.networks.recurrent import RecurrentPolicy
from metarl.types import Metrics, Params


class Steps(NamedTuple):
    """The steps of N trials, what was played of them."""

    inputs: Tensor  # [N, L, obs_dim + before_dim], the network's inputs
    actions: Tensor  # [N, L, act_dim]
    log_probs: Tensor  # [N, L], of who acted
    rewards: Tensor  # [N, L]
    mask: Tensor  # [N, L] bool

    def compact(self) -> Steps:
        """Valid steps one after the other, what is left of the padding at the end."""
        longest = int(self.mask.sum(1).max())
        order = (~self.mask).byte().argsort(dim=1, stable=True)[:, :longest]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return Steps(*(x[rows, order] for x in self))

    @property
    def ended(self) -> Tensor:
        """The last step of each trial, [N, L] bool."""
        return self.mask & ~torch.cat([self.mask[:, 1:], torch.zeros_like(self.mask[:, :1])], 1)


class Lessons(NamedTuple):
    """What a gradient step reads of some trials."""

    inputs: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor  # [N, L], standardised over all trials
    targets: Tensor  # [N, L], for the value function, in its unit
    weights: Tensor  # [N, L], zero on padding, their sum is one

    def trials(self, rows: Tensor) -> Lessons:
        """Of some trials, as if there were no others."""
        found = self.rows(rows)
        return found._replace(weights=found.weights / found.weights.sum())

    def rows(self, rows: Tensor) -> Lessons:
        return Lessons(*(x[rows] for x in self))

    def span(self, steps: slice) -> Lessons:
        return Lessons(*(x[:, steps] for x in self))


class Reading(NamedTuple):
    """Sums of a loss's parts over some steps, weighted, [] each."""

    gain: Tensor
    value_loss: Tensor
    entropy: Tensor
    kl: Tensor
    clipped: Tensor


class TrialPpo:
    """Maximises the return of whole trials."""

    def __init__(
        self, policy: RecurrentPolicy, config: TrialPpoConfig, advantages: AdvantageConfig
    ):
        self.policy, self.config, self.advantages = policy, config, advantages

    def step(
        self,
        meta: Params,
        adam: AdamState,
        returns: RunningStats,
        steps: Steps,
        rng: np.random.Generator,
    ) -> tuple[Params, AdamState, RunningStats, Metrics]:
        """New parameters, moments of gradients and of returns, by a round of trials.

        All stays as it was, and `skipped` is 1, where a loss, gradient or KL is not finite.
        """
        config, rows = self.config, len(steps.mask)
        params, moments, seen = meta, adam, self.returns(steps, returns)
        lessons, explained = self.lessons(meta, steps, seen)
        norms: list[float] = []
        entropy = self.entropy(adam, rows)
        for _ in range(config.epochs):
            for part in np.array_split(rng.permutation(rows), min(config.minibatches, rows)):
                chosen = lessons.trials(torch.from_numpy(part).to(steps.mask.device))
                gradient, reading = self.gradient(params, chosen, entropy)
                gradient, norm = clip_norm(gradient, config.max_grad_norm)
                norms.append(float(norm))
                if not np.isfinite([*map(float, reading), norms[-1]]).all():
                    found = {**_metrics(reading), "gradient_norm": norms[-1]}
                    return meta, adam, returns, {**found, "skipped": 1.0, **explained}
                params, moments = adam_step(params, gradient, moments, config.lr)
        found = {**_metrics(self.evaluate(params, lessons)), "gradient_norm": float(np.mean(norms))}
        if not np.isfinite(list(found.values())).all():
            return meta, adam, returns, {**found, "skipped": 1.0, **explained}
        return params, moments, seen, {**found, "skipped": 0.0, **explained}

    def returns(self, steps: Steps, before: RunningStats) -> RunningStats:
        """What is known of discounted returns, from each step to its trial's end, with these."""
        rest = discounted_returns(steps.rewards.mT, steps.ended.mT, self.advantages.discount).mT
        return merge(before, stats_of(rest, steps.mask))

    @torch.no_grad()
    def lessons(self, meta: Params, steps: Steps, seen: RunningStats) -> tuple[Lessons, Metrics]:
        """Advantages by GAE over whole trials, and targets in deviations of the returns `seen`."""
        mean, unit = seen.mean.to(steps.rewards), deviation(seen).to(steps.rewards)
        normal = [self.policy.value(meta, shown) for _, shown in self.passes(meta, steps.inputs)]
        values = mean + unit * torch.cat(normal, 1)
        beyond = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
        ended, config = steps.ended.mT, self.advantages
        advantages = gae(
            (steps.rewards * steps.mask).mT, values.mT, beyond.mT, ended, ended,
            config.discount, config.gae_lambda,
        ).mT  # fmt: skip
        targets = advantages + values
        weights = steps.mask.to(values) / steps.mask.sum()
        flat = [x.flatten() for x in (values, targets, weights)]
        standard = standardize(advantages.flatten(), flat[-1]).view_as(advantages)
        lessons = Lessons(
            steps.inputs, steps.actions, steps.log_probs, standard, (targets - mean) / unit, weights
        )
        return lessons, {"value/explained_variance": float(explained_variance(*flat))}

    def passes(self, params: Params, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yields each chunk of the steps and the cell's output over it, of inputs [N, L, ...]."""
        memory = self.policy.empty_memory(len(inputs), like=inputs)
        for start in range(0, inputs.shape[1], self.config.chunk):
            span = slice(start, start + self.config.chunk)
            shown, memory = self.policy.run(params, inputs[:, span], memory)
            memory = tuple(x.detach() for x in memory)
            yield span, shown

    def gradient(self, params: Params, lessons: Lessons, entropy: float) -> tuple[Params, Reading]:
        """Of the loss, downhill is better; and what it is made of. `entropy` is its weight.

        On a processor the two halves of the trials go side by side, since a recurrence keeps one
        core busy. There are two on any machine, so that sums have the same order.
        """
        if lessons.inputs.is_cuda:
            return self._gradient(params, entropy, lessons)
        halves = torch.arange(len(lessons.inputs)).tensor_split(2)
        work = partial(self._gradient, params, entropy)
        one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with torch_threads(1), ThreadPoolExecutor(len(halves), **one_thread) as pool:
            done = list(pool.map(work, (lessons.rows(half) for half in halves if len(half))))
        gradients, readings = zip(*done, strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in params}
        return total, _sum(readings)

    @torch.no_grad()
    def evaluate(self, params: Params, lessons: Lessons) -> Reading:
        """What the loss is made of, without its gradient."""
        passes = self.passes(params, lessons.inputs)
        return _sum([self.read(params, shown, lessons.span(span)) for span, shown in passes])

    def _gradient(self, params: Params, entropy: float, lessons: Lessons) -> tuple[Params, Reading]:
        """One chunk after the other, so that no more than one is kept for the way back."""
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        total = {name: torch.zeros_like(x) for name, x in params.items()}
        found: list[Reading] = []
        for span, shown in self.passes(leaves, lessons.inputs):
            reading = self.read(leaves, shown, lessons.span(span))
            gradients = torch.autograd.grad(self.loss(reading, entropy), list(leaves.values()))
            for name, x in zip(total, gradients, strict=True):
                total[name] += x
            found.append(Reading(*(x.detach() for x in reading)))
        return total, _sum(found)

    def entropy(self, adam: AdamState, trials: int) -> float:
        """The weight of the entropy in the update after the steps that Adam has log_probs."""
        config = self.config
        if not config.entropy_half_life:
            return config.entropy
        updates = float(adam.count) / (config.epochs * min(config.minibatches, trials))
        return config.entropy * 0.5 ** (updates / config.entropy_half_life)

    def loss(self, reading: Reading, entropy: float) -> Tensor:
        """Where `entropy` is the weight of the policy's."""
        value = self.config.value_weight * reading.value_loss
        return value - reading.gain - entropy * reading.entropy

    def read(self, params: Params, shown: Tensor, lessons: Lessons) -> Reading:
        """Where the cell shows [N, T, size]. The KL of old from new is estimated by the ratio r of
        the actions log_probs, as E[r - 1 - log r] (Schulman, "Approximating KL divergence", k3)."""
        _, actions, before, advantages, targets, weights = lessons
        distribution = self.policy.distribution(params, shown)
        log_probs = distribution.log_probs(actions)
        gain, clipped = clipped_gain(log_probs, before, advantages, weights, self.config.clip)
        log_ratio = (log_probs - before).detach()
        return Reading(
            gain.sum(),
            value_loss(self.policy.value(params, shown), targets, weights).sum(),
            (weights * distribution.entropy()).sum(),
            (weights * (log_ratio.exp() - 1.0 - log_ratio)).sum(),
            clipped.sum(),
        )


def _sum(readings: Sequence[Reading]) -> Reading:
    return Reading(*(torch.stack(x).sum(0) for x in zip(*readings, strict=True)))


def _metrics(reading: Reading) -> Metrics:
    return {
        "kl": float(reading.kl),
        "clip_fraction": float(reading.clipped),
        "entropy": float(reading.entropy),
        "value/loss": float(reading.value_loss),
    }
