"""Outer rule of a recurrent policy: PPO with truncated back-propagation through time.

It runs epochs over minibatches of whole trials on the clipped surrogate of arXiv:1707.06347.

* A trial has finitely many steps, and a policy with a memory can count them. So the value after
  its last step is zero, however its last episode ended. Returns run on across earlier episode ends.
* Gradients are cut every `chunk` steps of a trial. Each chunk starts from a memory recomputed with
  the current parameters: no memory is stored, so none grows stale within the epochs.
* The value function learns returns standardised by their mean and deviation in training so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metarl.agents.outer.rule import halved
from metarl.config.ranges import Count, NonNegative, Positive
from metarl.config.settings import OuterSettings
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl import device as threads
    from metarl.config.settings import AdvantageConfig
    from metarl.equations import adam, losses, ppo, returns, running_stats
    from metarl.equations.adam import AdamState
    from metarl.equations.running_stats import RunningStats
    from metarl.networks.recurrent import RecurrentPolicy
    from metarl.types import Metrics, Params
else:
    np, torch, threads = lazy("numpy"), lazy("torch"), lazy("metarl.device")
    adam, losses = lazy("metarl.equations.adam"), lazy("metarl.equations.losses")
    ppo, returns = lazy("metarl.equations.ppo"), lazy("metarl.equations.returns")
    running_stats = lazy("metarl.equations.running_stats")


@dataclass(frozen=True)
class TrialPpoConfig(OuterSettings):
    """Outer rule of a recurrent policy: PPO with truncated back-propagation through time."""

    fits = ("trial",)
    sources = ("episodes",)

    lr: Positive = 5e-4
    epochs: Count = 8
    minibatches: Count = 4
    clip: Positive = 0.2
    entropy: NonNegative = 0.005
    entropy_half_life: NonNegative = 0.0
    """Updates after which the entropy weight has halved; 0: it stays constant."""
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    chunk: Count = 256
    """Number of steps after which gradients are cut."""
    target_kl: NonNegative = 0.0
    """KL that ends an update early: no further minibatch once the KL from the old policy, estimated
    on a minibatch, is above it; 0: all."""
    lr_half_life: NonNegative = 0.0
    """Updates after which the step size has halved; 0: it stays constant. An update that
    `target_kl` ended early counts in part, here and for the entropy."""


class Steps(NamedTuple):
    """Played steps of N trials."""

    inputs: Tensor  # [N, L, obs_dim + before_dim], the network's inputs
    actions: Tensor  # [N, L, act_dim]
    log_probs: Tensor  # [N, L], under the policy that acted
    rewards: Tensor  # [N, L]
    mask: Tensor  # [N, L] bool

    def compact(self) -> Steps:
        """Returns the steps with all padding moved to the end and cut to the longest trial."""
        longest = int(self.mask.sum(1).max())
        order = (~self.mask).byte().argsort(dim=1, stable=True)[:, :longest]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return Steps(*(x[rows, order] for x in self))

    @property
    def ended(self) -> Tensor:
        """Mask of the last step of each trial, [N, L] bool."""
        return self.mask & ~torch.cat([self.mask[:, 1:], torch.zeros_like(self.mask[:, :1])], 1)


class Lessons(NamedTuple):
    """Inputs of a gradient step, for some trials."""

    inputs: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor  # [N, L], standardised over all trials
    targets: Tensor  # [N, L], for the value function, standardised
    weights: Tensor  # [N, L], zero on padding, their sum is one

    def trials(self, rows: Tensor) -> Lessons:
        """Selects some trials and rescales their weights to sum to one."""
        found = self.rows(rows)
        return found._replace(weights=found.weights / found.weights.sum())

    def rows(self, rows: Tensor) -> Lessons:
        return Lessons(*(x[rows] for x in self))

    def span(self, steps: slice) -> Lessons:
        return Lessons(*(x[:, steps] for x in self))


class Reading(NamedTuple):
    """Weighted sums of the parts of the loss over some steps, [] each."""

    gain: Tensor
    value_loss: Tensor
    entropy: Tensor
    kl: Tensor
    clipped: Tensor


class TrialState(NamedTuple):
    """State of the rule between meta-batches."""

    adam: AdamState
    returns: RunningStats
    """Statistics of the returns to the trial's end, which scale the value function."""


ADAM, RETURNS = "adam.", "returns."
"""Prefixes of the names of the rule's state in saved weights."""


class TrialPpo:
    """Maximises the return of whole trials."""

    left_behind = ""

    def __init__(
        self, policy: RecurrentPolicy, config: TrialPpoConfig, advantages: AdvantageConfig
    ):
        self.policy, self.config, self.advantages = policy, config, advantages
        self.threads = torch.get_num_threads()

    def init(self, meta: Params) -> TrialState:
        stats = running_stats.no_stats(device=next(iter(meta.values())).device)
        return TrialState(adam.adam_start(meta), stats)

    def step(
        self, meta: Params, state: TrialState, objective: Steps, rng: np.random.Generator
    ) -> tuple[Params, TrialState, Metrics]:
        """Runs all epochs on the steps of a batch of trials; `rng` draws the minibatches."""
        config, rows = self.config, len(objective.mask)
        params, adam_state = meta, state.adam
        stats = self.returns_stats(objective, state.returns)
        lessons, explained = self.lessons(meta, objective, stats)
        norms: list[float] = []
        parts = min(config.minibatches, rows)
        updates = float(adam_state.count) / (config.epochs * parts)
        entropy = halved(config.entropy, config.entropy_half_life, updates)
        lr = halved(config.lr, config.lr_half_life, updates)
        for part in self.minibatches(rows, rng):
            chosen = lessons.trials(torch.from_numpy(part).to(objective.mask.device))
            gradient, reading = self.gradient(params, chosen, entropy)
            if norms and config.target_kl and reading.kl > config.target_kl:
                break
            gradient, norm = adam.clip_norm(gradient, config.max_grad_norm)
            norms.append(float(norm))
            if not np.isfinite([*map(float, reading), norms[-1]]).all():
                found = {**_metrics(reading), "gradient_norm": norms[-1]}
                return meta, state, {**found, "skipped": 1.0, **explained}
            params, adam_state = adam.adam_step(params, gradient, adam_state, lr)
        found = {**_metrics(self.evaluate(params, lessons)), "gradient_norm": float(np.mean(norms))}
        if config.target_kl:
            found["epochs"] = len(norms) / parts
        if not np.isfinite(list(found.values())).all():
            return meta, state, {**found, "skipped": 1.0, **explained}
        return params, TrialState(adam_state, stats), {**found, "skipped": 0.0, **explained}

    def minibatches(self, rows: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yields the indices of the trials of each minibatch, epoch after epoch."""
        for _ in range(self.config.epochs):
            yield from np.array_split(rng.permutation(rows), min(self.config.minibatches, rows))

    def state_dict(self, state: TrialState) -> Params:
        stats = {f"{RETURNS}{part}": x for part, x in state.returns._asdict().items()}
        return {**adam.adam_state_dict(state.adam, ADAM), **stats}

    def load(self, state: TrialState, saved: Params) -> TrialState:
        stats = {part: saved[f"{RETURNS}{part}"] for part in state.returns._fields}
        return TrialState(
            adam.adam_loaded(state.adam, saved, ADAM), running_stats.RunningStats(**stats)
        )

    def returns_stats(self, steps: Steps, before: RunningStats) -> RunningStats:
        """Returns the statistics of discounted returns, updated with these steps' returns."""
        rest = returns.discounted_returns(
            steps.rewards.mT, steps.ended.mT, self.advantages.discount
        ).mT
        return running_stats.merge(before, running_stats.stats_of(rest, steps.mask))

    def lessons(self, meta: Params, steps: Steps, stats: RunningStats) -> tuple[Lessons, Metrics]:
        """Returns GAE advantages over whole trials with standardised targets, and metrics."""
        mean, unit = stats.mean.to(steps.rewards), running_stats.deviation(stats).to(steps.rewards)
        with torch.no_grad():
            passes = self.passes(meta, steps.inputs)
            normal = [self.policy.value(meta, output) for _, output in passes]
        values = mean + unit * torch.cat(normal, 1)
        beyond = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
        ended, config = steps.ended.mT, self.advantages
        advantages = returns.gae(
            (steps.rewards * steps.mask).mT, values.mT, beyond.mT, ended, ended,
            config.discount, config.gae_lambda,
        ).mT  # fmt: skip
        targets = advantages + values
        weights = steps.mask.to(values) / steps.mask.sum()
        flat = [x.flatten() for x in (values, targets, weights)]
        standard = returns.standardize(advantages.flatten(), flat[-1]).view_as(advantages)
        lessons = Lessons(
            steps.inputs, steps.actions, steps.log_probs, standard, (targets - mean) / unit, weights
        )
        return lessons, {"value/explained_variance": float(ppo.explained_variance(*flat))}

    def passes(self, params: Params, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yields each chunk of steps of inputs [N, L, ...] with the cell's output on it."""
        memory = self.policy.empty_memory(len(inputs), like=inputs)
        for start in range(0, inputs.shape[1], self.config.chunk):
            span = slice(start, start + self.config.chunk)
            output, memory = self.policy.run(params, inputs[:, span], memory)
            memory = tuple(x.detach() for x in memory)
            yield span, output

    def gradient(self, params: Params, lessons: Lessons, entropy: float) -> tuple[Params, Reading]:
        """Returns the gradient of the loss and the parts of the loss; `entropy` is a weight.

        On a CPU with two threads the two halves of the trials run in parallel, since a recurrence
        keeps only one core busy. There are two halves on any machine, so that sums have the same
        order.
        """
        if lessons.inputs.is_cuda:
            return self._gradient(params, entropy, lessons)
        halves = torch.arange(len(lessons.inputs)).tensor_split(2)
        work = partial(self._gradient, params, entropy)
        one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
        at_once = min(self.threads, len(halves))
        with threads.torch_threads(1), ThreadPoolExecutor(at_once, **one_thread) as pool:
            done = list(pool.map(work, (lessons.rows(half) for half in halves if len(half))))
        gradients, readings = zip(*done, strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in params}
        return total, _sum(readings)

    def evaluate(self, params: Params, lessons: Lessons) -> Reading:
        """Returns the parts of the loss without its gradient."""
        with torch.no_grad():
            passes = self.passes(params, lessons.inputs)
            return _sum([self.read(params, output, lessons.span(span)) for span, output in passes])

    def _gradient(self, params: Params, entropy: float, lessons: Lessons) -> tuple[Params, Reading]:
        """Sums the gradient chunk by chunk, so that only one chunk's graph is in memory."""
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        total = {name: torch.zeros_like(x) for name, x in params.items()}
        found: list[Reading] = []
        for span, output in self.passes(leaves, lessons.inputs):
            reading = self.read(leaves, output, lessons.span(span))
            gradients = torch.autograd.grad(self.loss(reading, entropy), list(leaves.values()))
            for name, x in zip(total, gradients, strict=True):
                total[name] += x
            found.append(Reading(*(x.detach() for x in reading)))
        return total, _sum(found)

    def loss(self, reading: Reading, entropy: float) -> Tensor:
        """Returns the loss to minimise; `entropy` is the weight of the policy's entropy."""
        value = self.config.value_weight * reading.value_loss
        return value - reading.gain - entropy * reading.entropy

    def read(self, params: Params, output: Tensor, lessons: Lessons) -> Reading:
        """Returns the parts of the loss at the cell's output [N, T, size]. KL(old || new) is
        E[r - 1 - log r], r the probability ratio (Schulman, "Approximating KL divergence", k3)."""
        _, actions, before, advantages, targets, weights = lessons
        distribution = self.policy.head(params, output)
        log_probs = distribution.log_probs(actions)
        gain, clipped = losses.clipped_gain(
            log_probs, before, advantages, weights, self.config.clip
        )
        log_ratio = (log_probs - before).detach()
        return Reading(
            gain.sum(),
            ppo.value_loss(self.policy.value(params, output), targets, weights).sum(),
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
