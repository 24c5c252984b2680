"""The meta-objective: how good, after adaptation, are the parameters that it started from?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.agents.chunks import chunks
from metarl.agents.inner.learned import KeptStep, LearnedSteps
from metarl.agents.inner.sgd import LinearisedStep, Sgd
from metarl.equations.distributions import ActionDistribution
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.linearised import LinearisedMlp
from metarl.networks.mlp import MlpPolicy
from metarl.types import Params


class Part(NamedTuple):
    """Some of the tasks, linearised at the old meta-parameters."""

    rows: slice
    steps: Sequence[LinearisedStep | KeptStep]
    query: LinearisedMlp
    """On the thinned query data."""
    weights: Tensor
    """[k, n] of the thinned query data, over all tasks' number."""


class AdaptationObjective:
    """mean_i E[ratio A] on the query of task i, at theta_i' = adapt(theta, support_i).

    Built at the meta-parameters that collected the data. It gives what a trust-region step
    needs: `gain`, `gradient`, Gauss-Newton products of the mean KL, and new values of both.
    """

    def __init__(
        self,
        policy: MlpPolicy,
        rule: Sgd | LearnedSteps,
        meta: Params,
        supports: Sequence[Batch],
        query: Batch,
        thinned_query: Batch,
        product_dtype: torch.dtype,
        fixed: Params | None = None,
    ):
        """`fixed`: what tasks start from besides `meta`, where that is not learned."""
        self.policy, self.rule, self.supports, self.query = policy, rule, supports, query
        self.num_tasks = query.obs.shape[0]
        self.meta, self.fixed = meta, fixed or {}
        self.gradient: Params = {name: torch.zeros_like(x) for name, x in meta.items()}
        """Of the gain, upwards."""
        self.behaviour: list[ActionDistribution] = []
        self.parts: list[Part] = []
        for rows in chunks((*self.supports, self.query), policy):
            self._linearise(rows, thinned_query.tasks(rows), product_dtype)
        self.gain = float((query.weights * query.advantages).sum() / self.num_tasks)

    def _linearise(self, rows: slice, thinned: Batch, product_dtype: torch.dtype) -> None:
        params, steps = self._begin(self.meta), []
        for index, support in enumerate(self.supports):
            steps.append(self.rule.linearise(params, support.tasks(rows), index))
            params = steps[-1].params
        query = self.query.tasks(rows)
        here = LinearisedMlp(self.policy, params, query.obs)
        self.behaviour.append(here.distribution)
        # At the old parameters the ratio is one, and its derivative is the score.
        score = here.distribution.score(query.actions)
        gradient, _ = here.vjp(score.scaled(query.weights * query.advantages / self.num_tasks))
        self._add(self.gradient, _pull_back(steps, gradient))
        kept = LinearisedMlp(self.policy, params, thinned.obs)
        steps = [step.to(product_dtype) for step in steps]
        self.parts.append(Part(rows, steps, kept, thinned.weights / self.num_tasks))

    def product(self, tangent: Params) -> Params:
        """G tangent, where G is the Hessian of the mean KL at the old parameters.

        There the KL's gradient is zero, so its Hessian is exactly the Gauss-Newton matrix
        J^T F J, with J the derivative of the query's distributions through the adaptation.
        """
        total = {name: torch.zeros_like(x) for name, x in self.meta.items()}
        for part in self.parts:
            still = {name: torch.zeros_like(x) for name, x in self.fixed.items()}
            moved = self.policy.begin({**still, **tangent})
            for step in part.steps:
                moved = step.forward(moved)
            distribution_dot, _ = part.query.jvp(moved)
            curved = part.query.distribution.fisher(distribution_dot).scaled(part.weights)
            gradient, _ = part.query.vjp(curved)
            self._add(total, _pull_back(part.steps, gradient))
        return total

    def evaluate(self, meta: Params) -> tuple[float, float]:
        """The gain and the mean KL(old || new) on all query data, at other meta-parameters."""
        gain = kl = 0.0
        for part, old in zip(self.parts, self.behaviour, strict=True):
            params = self._begin(meta)
            for index, support in enumerate(self.supports):
                params = self.rule.step(params, support.tasks(part.rows), index)
            query = self.query.tasks(part.rows)
            new = self.policy(params, query.obs)
            gain += float(
                surrogate_gain(new, old, query.actions, query.advantages, query.weights).sum()
            )
            kl += float((query.weights * old.kl(new)).sum())
        return gain / self.num_tasks, kl / self.num_tasks

    def _begin(self, meta: Params) -> Params:
        return self.policy.begin({**self.fixed, **meta})

    @staticmethod
    def _add(total: Params, per_task: Params) -> None:
        for name, x in per_task.items():
            if name in total:  # a context, or a fixed start, is no meta-parameter
                total[name] += x.sum(0)


def _pull_back(steps: Sequence[LinearisedStep | KeptStep], gradient: Params) -> Params:
    """The chain rule through the inner steps, last one first."""
    for step in reversed(steps):
        gradient = step.transposed(gradient)
    return gradient
