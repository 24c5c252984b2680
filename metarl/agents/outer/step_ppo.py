"""PPO of a policy without a memory, on the steps of whole trials.

As `trial_ppo.py`, but a minibatch is drawn from all steps, and returns that go on at a time limit
have the value of the state that the last step reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.agents.outer.trial_ppo import TrialPpo, TrialState
from metarl.agents.outer.trials import Lessons, Steps
from metarl.equations import ppo, returns, running_stats
from metarl.equations.running_stats import RunningStats
from metarl.parallel import even_slices, side_by_side
from metarl.types import Metrics, Params

Result = TypeVar("Result")

PART, PARTS = 400, 16
"""Least number of steps that a thread works on at a time, and largest number of parts."""


class Played(NamedTuple):
    """Steps of N trials of R episodes, and the states that the episodes reached."""

    steps: Steps
    last: Tensor  # [N, R], index of the last step of each episode
    reached: Tensor  # [N, R, n], the network's inputs after it


class StepPpo(TrialPpo):
    """Maximises the return of whole trials by a policy that reads each step's inputs alone."""

    def step(
        self, meta: Params, state: TrialState, objective: Played, rng: np.random.Generator
    ) -> tuple[Params, TrialState, Metrics]:
        """Runs all epochs on the steps of a batch of trials; `rng` draws the minibatches."""
        return super().step(meta, state, objective, rng)  # pyright: ignore[reportArgumentType]

    def returns_stats(self, steps: Played, before: RunningStats) -> RunningStats:
        return super().returns_stats(steps.steps, before)

    def lessons(self, meta: Params, steps: Played, stats: RunningStats) -> tuple[Lessons, Metrics]:
        """Returns GAE advantages over whole trials with standardised targets, a row for each step,
        [S, 1, ...], and metrics."""
        played, config = steps.steps, self.advantages
        mean, unit = (x.to(played.rewards) for x in (stats.mean, running_stats.deviation(stats)))
        inputs = torch.cat([played.inputs, steps.reached], 1)
        with torch.no_grad():
            of_rows = self._each(lambda rows: self.policy.value(meta, inputs[rows]), inputs)
        standard = torch.cat(of_rows)
        values, length = mean + unit * standard, played.mask.shape[1]
        values, after = values[:, :length], values[:, length:]
        limits = self.limits(played)
        beyond = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
        beyond = torch.where(limits, beyond.scatter(1, steps.last, after), beyond)
        ended = played.ended | limits
        advantages = returns.gae(
            (played.rewards * played.mask).mT, values.mT, beyond.mT,
            (ended & ~limits).mT, ended.mT, config.discount, config.gae_lambda,
        ).mT  # fmt: skip
        weights = played.mask.to(values) / played.mask.sum()
        flat = [x.flatten() for x in (values, advantages + values, weights)]
        scaled = advantages.flatten() / unit
        if self.config.standardise:
            scaled = returns.standardize(advantages.flatten(), flat[-1])
        rows = played.mask.flatten().nonzero().squeeze(-1)
        lessons = Lessons(
            inputs=played.inputs.flatten(0, 1),
            actions=played.actions.flatten(0, 1),
            log_probs=played.log_probs.flatten(),
            advantages=scaled,
            targets=(flat[1] - mean) / unit,
            values=standard[:, :length].flatten(),
            weights=flat[2],
        )
        lessons = Lessons._make([*(x.index_select(0, rows)[:, None] for x in lessons[:-1]), ()])
        return lessons, {"value/explained_variance": float(ppo.explained_variance(*flat))}

    def _each(self, work: Callable[[slice], Result], inputs: Tensor) -> list[Result]:
        rows = len(inputs)
        parts = min(max(2, inputs[..., 0].numel() // PART), PARTS, rows)
        return side_by_side(work, even_slices(rows, parts if inputs.device.type == "cpu" else 1))
