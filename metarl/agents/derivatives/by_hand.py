"""Inner steps of an MLP policy with kept derivatives, and the meta-objective that TRPO maximises.

docs/architecture.md, "The meta-update", says why this is by hand; `reference.py` does the same in
plain autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch, chunks
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.rule import InnerRule, LinearisedRuleStep, RuleInput
from metarl.equations.distributions import ActionDistribution
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.linearised import LinearisedMlp, LossHessian
from metarl.networks.mlp import is_adapted
from metarl.types import Params

if TYPE_CHECKING:
    from metarl.agents.policy_gradient import MetaBatch


class ByHand:
    """Steps of any rule on the score-function loss of a policy, for K tasks at once."""

    def __init__(self, rule: InnerRule, loss: PolicyLoss):
        self.rule, self.policy, self.loss = rule, loss.policy, loss

    @torch.no_grad()
    def step(self, params: Params, batch: Batch, index: int) -> Params:
        """Returns the parameters after one step from `params`, as constants."""
        given, _ = self._read(params, batch, second_order=False)
        return {**params, **self.rule.step(params, given, index)}

    def linearise(self, params: Params, batch: Batch, index: int) -> LinearisedRuleStep:
        """Returns the step with its derivatives."""
        given, hessian = self._read(params, batch, second_order=not self.rule.first_order)
        return self.rule.linearise(params, given, index, hessian)

    def _read(
        self, params: Params, batch: Batch, second_order: bool
    ) -> tuple[RuleInput, LossHessian | None]:
        """Returns what the rule reads at `params`, and the Hessian of the loss there."""
        rule, num_tasks, hessian = self.rule, len(batch.obs), None
        moved = {name: params[name] for name in rule.adapted}
        own = {
            n: x if is_adapted(n, x) else x.expand(num_tasks, *x.shape) for n, x in moved.items()
        }
        read = self.loss.sample_inputs(batch) if "samples" in rule.reads else {}
        if "gradient" not in rule.reads:
            return RuleInput(own, {}, **read), None
        here = LinearisedMlp.at(self.policy, params, batch.obs)
        factor = -batch.weights * batch.advantages
        gradient, deltas = here.vjp(here.distribution.score(batch.actions, factor))
        if second_order:
            curvature = here.distribution.score_curvature(batch.actions, factor)
            hessian = LossHessian(here, deltas, curvature)
        if "loss" in rule.reads:
            read["loss"] = (factor * here.distribution.log_probs(batch.actions)).sum(-1)
        return RuleInput(own, gradient, **read), hessian


class Part(NamedTuple):
    """Some of the tasks, linearised at the old meta-parameters."""

    rows: slice
    steps: Sequence[LinearisedRuleStep]
    old: ActionDistribution
    """The adapted policies on all of the query."""
    query: LinearisedMlp
    """The adapted policies on the thinned query."""
    weights: Tensor
    """[k, n] of the thinned query, divided by the number of all tasks."""


class LinearisedObjective:
    """mean_i E[ratio A] on the query of task i, at theta_i' = adapt(theta, support_i).

    Built at the meta-parameters that collected the data. It gives what a trust-region step
    needs: `gain`, `gradient`, Gauss-Newton products of the mean KL, and new values of both.
    """

    def __init__(self, data: MetaBatch, meta: Params, thinned: Batch, dtype: torch.dtype):
        """`dtype` is the precision of the support's Hessians in the products."""
        self.data, self.meta = data, meta
        self.num_tasks = len(data.query.obs)
        self.gradient = {name: torch.zeros_like(x) for name, x in meta.items()}
        """Gradient of the surrogate gain; a step along it increases the gain."""
        self.parts = [
            self._linearise(rows, thinned.tasks(rows), dtype)
            for rows in chunks((*data.supports, data.query), data.policy)
        ]
        self.gain = float((data.query.weights * data.query.advantages).sum() / self.num_tasks)

    def _linearise(self, rows: slice, thinned: Batch, dtype: torch.dtype) -> Part:
        data, params, steps = self.data, self.data.begin(self.meta), []
        for index, support in enumerate(data.supports):
            steps.append(data.inner.linearise(params, support.tasks(rows), index))
            params = steps[-1].params
        query = data.query.tasks(rows)
        here = LinearisedMlp.at(data.policy, params, query.obs)
        # At the old parameters the ratio is one, and its derivative is the score.
        factor = query.weights * query.advantages / self.num_tasks
        gradient, _ = here.vjp(here.distribution.score(query.actions, factor))
        self.gradient = pulled_back(gradient, steps, self.gradient)
        kept = LinearisedMlp.at(data.policy, params, thinned.obs)
        steps = [step.to(dtype) for step in steps]
        return Part(rows, steps, here.distribution, kept, thinned.weights / self.num_tasks)

    def product(self, tangent: Params) -> Params:
        """Returns G tangent, where G is the Hessian of the mean KL at the old parameters.

        There the KL's gradient is zero, so its Hessian is exactly the Gauss-Newton matrix
        J^T F J, with J the derivative of the query's distributions through the adaptation.
        """
        total = {name: torch.zeros_like(x) for name, x in self.meta.items()}
        still = {name: torch.zeros_like(x) for name, x in self.data.fixed.items()}
        for part in self.parts:
            moved = self.data.policy.begin({**still, **tangent})
            for step in part.steps:
                moved = step.forward(moved)
            distribution_dot, _ = part.query.jvp(moved)
            curved = part.query.distribution.fisher(distribution_dot, part.weights)
            total = pulled_back(part.query.vjp(curved)[0], part.steps, total)
        return total

    def evaluate(self, meta: Params) -> tuple[float, float]:
        """Returns the gain and the mean KL(old || new) on all query data, at `meta`."""
        gain = kl = 0.0
        for part in self.parts:
            params = self.data.begin(meta)
            for index, support in enumerate(self.data.supports):
                params = self.data.inner.step(params, support.tasks(part.rows), index)
            obs, actions, advantages, weights, _ = self.data.query.tasks(part.rows)
            new = self.data.policy(params, obs)
            gain += float(surrogate_gain(new, part.old, actions, advantages, weights).sum())
            kl += float((weights * part.old.kl(new)).sum())
        return gain / self.num_tasks, kl / self.num_tasks


def pulled_back(gradient: Params, steps: Sequence[LinearisedRuleStep], total: Params) -> Params:
    """Returns `total` and the tasks' gradients before the inner steps, by the chain rule."""
    for step in reversed(steps):
        gradient = step.transposed(gradient)
    return {name: x + gradient[name].sum(0) for name, x in total.items()}


def product_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype called `name`; `auto` is bfloat16 on a CPU that multiplies it fast, else
    float32: on other CPUs bfloat16 is slow, and on a GPU it gains nothing."""
    if name != "auto":
        return getattr(torch, name)
    found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    fast = found.get("avx512_bf16", False) or found.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32
