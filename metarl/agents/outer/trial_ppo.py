"""Outer rule of a recurrent policy: PPO with truncated back-propagation through time.

It runs epochs over minibatches of whole trials on the clipped surrogate of arXiv:1707.06347.

* A trial has finitely many steps, and a policy with a memory can count them. So the value after
  its last step is zero, however its last episode ended. Returns run on across earlier episode ends.
  With `bootstrap` returns end one step before a time limit, with the value of its state, as if
  there were no limit. No memory then has to count steps, where the discount is short beside them.
* Gradients are cut every `chunk` steps of a trial. Each chunk starts from a memory recomputed with
  the current parameters, so none grows stale within the epochs. With `memory` stored it starts from
  the memory that the parameters before the update had there ("stored state", Kapturowski et al.,
  "Recurrent experience replay in distributed reinforcement learning", ICLR 2019). Then the chunks
  of a trial are computed side by side, and minibatches are drawn from all chunks.
* The value function learns returns standardised by their mean and deviation in training so far.
  Its loss is (V - target)^2; with `value_clip` the larger one of this loss and that of V moved by
  at most so much from the V that acted, and with `huber` linear in errors beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from metarl.agents.outer.rule import halved
from metarl.config.ranges import Count, NonNegative, Positive
from metarl.config.settings import OuterSettings
from metarl.errors import UserError
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl import graphs, parallel
    from metarl.agents.outer import trials
    from metarl.agents.outer.trials import Descent, Lessons, Reading, Steps, Weighing
    from metarl.config.settings import AdvantageConfig, AnyAgentConfig
    from metarl.equations import adam, losses, ppo, returns, running_stats
    from metarl.equations.adam import AdamState
    from metarl.equations.running_stats import RunningStats
    from metarl.networks.cells import Memory
    from metarl.networks.recurrent import RecurrentPolicy
    from metarl.types import Metrics, Params
else:
    np, torch = lazy("numpy"), lazy("torch")
    graphs, parallel = lazy("metarl.graphs"), lazy("metarl.parallel")
    trials = lazy("metarl.agents.outer.trials")
    adam, losses = lazy("metarl.equations.adam"), lazy("metarl.equations.losses")
    ppo, returns = lazy("metarl.equations.ppo"), lazy("metarl.equations.returns")
    running_stats = lazy("metarl.equations.running_stats")

Result = TypeVar("Result")


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
    value_clip: NonNegative = 0.0
    """Change of a value in an update, in deviations of the returns, from which its loss is clipped;
    0: never."""
    huber: NonNegative = 0.0
    """Error of a value, in deviations of the returns, from which its loss grows linearly; 0: it is
    squared throughout."""
    bootstrap: Literal["never", "trials", "episodes"] = "never"
    """Time limits at which returns go on with the value function, as if there were none: those
    that end a trial, or those of all episodes. The action at such a limit has the advantage 0."""
    standardise: bool = True
    """Centre the advantages of a meta-batch and divide them by their deviation. Off: divide them by
    the deviation of returns in training so far."""
    max_grad_norm: Positive = 0.5
    chunk: Count = 256
    """Number of steps after which gradients are cut."""
    memory: Literal["recomputed", "stored"] = "recomputed"
    """Memory at the start of each chunk: recomputed with the current parameters, chunk after chunk,
    or as it was before the update; then all chunks are computed together, which is faster."""
    target_kl: NonNegative = 0.0
    """KL that ends an update early: no further minibatch once the KL from the old policy, estimated
    on a minibatch, is above it; 0: all."""
    lr_half_life: NonNegative = 0.0
    """Updates after which the step size has halved; 0: it stays constant. An update that
    `target_kl` ended early counts in part, here and for the entropy."""

    def check(self, agent: AnyAgentConfig) -> None:
        if self.memory == "stored" and getattr(agent.inner, "cell", "") == "transformer":
            raise UserError(
                "agent.outer.memory stored: that of a transformer grows with each step and cannot "
                "be stored\n  leave it out, or take --agent.inner.cell gru"
            )


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
        self.descend = graphs.graphed(self._descend)

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        return ()

    def init(self, meta: Params) -> TrialState:
        stats = running_stats.no_stats(device=next(iter(meta.values())).device)
        return TrialState(adam.adam_start(meta), stats)

    def step(
        self, meta: Params, state: TrialState, objective: Steps, rng: np.random.Generator
    ) -> tuple[Params, TrialState, Metrics]:
        """Runs all epochs on the steps of a batch of trials; `rng` draws the minibatches."""
        stats = self.returns_stats(objective, state.returns)
        lessons, explained = self.lessons(meta, objective, stats)
        at, number = (
            trials.Descent.start(meta, state.adam),
            min(self.config.minibatches, len(lessons[0])),
        )
        weighing = self.weighing(state.adam, number)
        for _ in range(self.config.epochs):
            order = torch.from_numpy(rng.permutation(len(lessons[0]))).to(lessons.inputs.device)
            for chosen in order.tensor_split(number):
                at = self.descend(at, lessons, chosen, weighing)
                if graphs.seen(~at.going):
                    break
            if not at.going:  # a GPU is waited for here
                break
        steps, norms = float(at.steps), float(at.norms)
        *read, norm = at.last.unbind()
        if at.finite:
            read, norm = self.evaluate(at.params, lessons), norms / steps
        found = {**trials.Reading(*read).metrics(), "gradient_norm": float(norm)}
        if not at.finite or not np.isfinite(list(found.values())).all():
            return meta, state, {**found, "skipped": 1.0, **explained}
        if self.config.target_kl:
            found["epochs"] = steps / number
        return at.params, TrialState(at.adam, stats), {**found, "skipped": 0.0, **explained}

    def weighing(self, state: AdamState, minibatches: int) -> Weighing:
        """Returns the weights after as many updates as the optimizer has counted."""
        config, updates = self.config, float(state.count) / (self.config.epochs * minibatches)
        like = next(iter(state.mean.values()))
        return trials.Weighing(
            like.new_tensor(halved(config.entropy, config.entropy_half_life, updates)),
            state.count.new_tensor(halved(config.lr, config.lr_half_life, updates)),
        )

    def _descend(
        self, at: Descent, lessons: Lessons, chosen: Tensor, weighing: Weighing
    ) -> Descent:
        """Takes a step on the `chosen` trials, unless the update has ended or ends with them."""
        config, chosen_lessons = self.config, lessons.trials(chosen)
        gradient, reading = self.gradient(at.params, chosen_lessons, weighing.entropy)
        gradient, norm = adam.clip_norm(gradient, config.max_grad_norm)
        read = torch.stack([*reading, norm])
        going, finite = at.going, read.isfinite().all()
        if config.target_kl:
            going = going & ~((at.steps > 0) & (reading.kl > config.target_kl))
        finite, going = at.finite & (finite | ~going), going & finite
        params, state = adam.adam_step(at.params, gradient, at.adam, weighing.lr)
        count, mean, square = state
        moments = (_where(going, x, y) for x, y in zip((mean, square), at.adam[1:], strict=True))
        return trials.Descent(
            _where(going, params, at.params),
            adam.AdamState(torch.where(going, count, at.adam.count), *moments),
            going,
            finite,
            at.steps + going,
            at.norms + torch.where(going, norm, 0.0),
            torch.where(at.going, read, at.last),
        )

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

        def valued(rows: slice) -> tuple[Tensor, list[Memory]]:
            passes = list(self.passes(meta, steps.inputs[rows]))
            values = [self.policy.value(meta, output) for _, output, _ in passes]
            return torch.cat(values, 1), [memory for *_, memory in passes]

        with torch.no_grad():
            found, memories = zip(*self._each(valued, steps.inputs), strict=True)
        standard = torch.cat(found)
        values = mean + unit * standard
        beyond = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
        limits = self.limits(steps)
        # With its value as the last reward, a step at a limit has the advantage zero.
        rewards = torch.where(limits, values, steps.rewards * steps.mask)
        ended, config = (steps.ended | limits).mT, self.advantages
        advantages = returns.gae(
            rewards.mT, values.mT, beyond.mT, ended, ended, config.discount, config.gae_lambda
        ).mT
        targets = advantages + values
        weights = steps.mask.to(values) / steps.mask.sum()
        flat = [x.flatten() for x in (values, targets, weights)]
        scaled = advantages / unit
        if self.config.standardise:
            scaled = returns.standardize(advantages.flatten(), flat[-1]).view_as(advantages)
            scaled = scaled.masked_fill(limits, 0.0)  # centring had moved them
        lessons = trials.Lessons(
            steps.inputs, steps.actions, steps.log_probs, scaled, (targets - mean) / unit,
            standard, weights,
        )  # fmt: skip
        if self.config.memory == "stored":
            starts = (
                tuple(torch.cat(x) for x in zip(*parts, strict=True))
                for parts in zip(*memories, strict=True)
            )
            lessons = lessons.chunks(self.config.chunk, list(starts))
        return lessons, {"value/explained_variance": float(ppo.explained_variance(*flat))}

    def limits(self, steps: Steps) -> Tensor:
        """Returns the mask of steps at whose time limits returns go on, [N, L] bool."""
        if self.config.bootstrap == "never":
            return torch.zeros_like(steps.truncated)
        some = steps.ended if self.config.bootstrap == "trials" else steps.mask
        return steps.truncated & some

    def passes(
        self, params: Params, inputs: Tensor, memory: Memory = ()
    ) -> Iterator[tuple[slice, Tensor, Memory]]:
        """Yields each chunk of steps of inputs [N, L, ...], the cell's output on it, and the memory
        before it; the first one's is `memory`, or an empty one."""
        memory = memory or self.policy.empty_memory(len(inputs), like=inputs)
        for start in range(0, inputs.shape[1], self.config.chunk):
            span, before = slice(start, start + self.config.chunk), memory
            output, memory = self.policy.run(params, inputs[:, span], before)
            memory = tuple(x.detach() for x in memory)
            yield span, output, before

    def gradient(self, params: Params, lessons: Lessons, entropy: Tensor) -> tuple[Params, Reading]:
        """Returns the gradient of the loss and the parts of the loss; `entropy` is a weight."""

        def one(rows: slice) -> tuple[Params, Reading]:
            return self._gradient(params, lessons.rows(rows), entropy)

        gradients, readings = zip(*self._each(one, lessons.inputs), strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in params}
        return total, trials.Reading.total(readings)

    def evaluate(self, params: Params, lessons: Lessons) -> Reading:
        """Returns the parts of the loss without its gradient."""

        def one(rows: slice) -> Reading:
            own = lessons.rows(rows)
            passes = self.passes(params, own.inputs, own.memory)
            return trials.Reading.total(
                [self.read(params, x, own.span(span)) for span, x, _ in passes]
            )

        with torch.no_grad():
            return trials.Reading.total(self._each(one, lessons.inputs))

    def _each(self, work: Callable[[slice], Result], inputs: Tensor) -> list[Result]:
        """Returns `work(rows)` of each part of the trials, side by side."""
        parts = trials.parts_of(inputs, self.policy.cell.parallel)
        return parallel.side_by_side(work, parts)

    def _gradient(
        self, params: Params, lessons: Lessons, entropy: Tensor
    ) -> tuple[Params, Reading]:
        """Sums the gradient chunk by chunk, so that only one chunk's graph is in memory."""
        leaves = {name: x.detach().requires_grad_() for name, x in params.items()}
        total = {name: torch.zeros_like(x) for name, x in params.items()}
        found: list[Reading] = []
        for span, output, _ in self.passes(leaves, lessons.inputs, lessons.memory):
            reading = self.read(leaves, output, lessons.span(span))
            gradients = torch.autograd.grad(self.loss(reading, entropy), list(leaves.values()))
            for name, x in zip(total, gradients, strict=True):
                total[name] += x
            found.append(trials.Reading(*(x.detach() for x in reading)))
        return total, trials.Reading.total(found)

    def loss(self, reading: Reading, entropy: Tensor) -> Tensor:
        """Returns the loss to minimise; `entropy` is the weight of the policy's entropy."""
        value = self.config.value_weight * reading.value_loss
        return value - reading.gain - entropy * reading.entropy

    def read(self, params: Params, output: Tensor, lessons: Lessons) -> Reading:
        """Returns the parts of the loss at the cell's output [N, T, size]. KL(old || new) is
        E[r - 1 - log r], r the probability ratio (Schulman, "Approximating KL divergence", k3)."""
        _, actions, before, advantages, targets, values, weights, _ = lessons
        distribution = self.policy.head(params, output)
        log_probs = distribution.log_probs(actions)
        gain, clipped = losses.clipped_gain(
            log_probs, before, advantages, weights, self.config.clip
        )
        log_ratio = (log_probs - before).detach()
        config, value = self.config, self.policy.value(params, output)
        value_loss = ppo.clipped_value_loss(
            value, targets, weights, values, config.value_clip, config.huber
        )
        return trials.Reading(
            gain.sum(),
            value_loss.sum(),
            (weights * distribution.entropy()).sum(),
            (weights * (log_ratio.exp() - 1.0 - log_ratio)).sum(),
            clipped.sum(),
        )


def _where(chosen: Tensor, these: Params, those: Params) -> Params:
    return {name: torch.where(chosen, x, those[name]) for name, x in these.items()}
