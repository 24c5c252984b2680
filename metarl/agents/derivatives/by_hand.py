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
from metarl.equations.distributions import ActionDistribution, Curvature, each
from metarl.equations.losses import score_function_loss
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.linearised import LinearisedMlp
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
        here = LinearisedMlp(self.policy, params, batch.obs)
        factor = -batch.weights * batch.advantages
        gradient, deltas = here.vjp(here.distribution.score(batch.actions).scaled(factor))
        if second_order:
            curvature = here.distribution.score_curvature(batch.actions, factor)
            hessian = LossHessian(here, deltas, curvature)
        if "loss" in rule.reads:
            _, actions, advantages, weights, _ = batch
            read["loss"] = score_function_loss(here.distribution, actions, advantages, weights)
        return RuleInput(own, gradient, **read), hessian


class LossHessian(NamedTuple):
    """The Hessian of each task's score-function loss at one point, as a product."""

    here: LinearisedMlp
    deltas: list[Tensor]
    curvature: Curvature
    """Second derivative of each sample's loss by the parameters of its distribution."""

    def __call__(self, tangent: Params) -> Params:
        """Returns H_i tangent for each task, [K, ...]; `tangent` may hold more than the policy."""
        dtype = self.here.inputs[0].dtype
        v = {name: x.to(dtype) for name, x in tangent.items()}
        moved, hidden_dot = self.here.jvp(v)
        product = self.here.vjp_dot(v, hidden_dot, self.deltas, self.curvature.times(moved))
        return {name: x.to(tangent[name].dtype) for name, x in product.items()}

    def to(self, dtype: torch.dtype) -> LossHessian:
        curvature = each(lambda x: x.to(dtype), self.curvature)
        return LossHessian(self.here.to(dtype), [x.to(dtype) for x in self.deltas], curvature)


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
        self.num_tasks = data.query.obs.shape[0]
        self.gradient: Params = {name: torch.zeros_like(x) for name, x in meta.items()}
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
        here = LinearisedMlp(data.policy, params, query.obs)
        # At the old parameters the ratio is one, and its derivative is the score.
        score = here.distribution.score(query.actions)
        gradient, _ = here.vjp(score.scaled(query.weights * query.advantages / self.num_tasks))
        self._add(self.gradient, _pull_back(steps, gradient))
        kept = LinearisedMlp(data.policy, params, thinned.obs)
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
            curved = part.query.distribution.fisher(distribution_dot).scaled(part.weights)
            self._add(total, _pull_back(part.steps, part.query.vjp(curved)[0]))
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

    @staticmethod
    def _add(total: Params, per_task: Params) -> None:
        for name, x in per_task.items():
            if name in total:  # a context, or a fixed start, is no meta-parameter
                total[name] += x.sum(0)


def _pull_back(steps: Sequence[LinearisedRuleStep], gradient: Params) -> Params:
    """Returns the gradient before the inner steps, by the chain rule, last step first."""
    for step in reversed(steps):
        gradient = step.transposed(gradient)
    return gradient


def product_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype called `name`; `auto` is bfloat16 on a CPU that multiplies it fast.

    On other CPUs bfloat16 is slow, and on a GPU it gains nothing: `auto` is float32 there.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return torch.float32
    found = torch.cpu.get_capabilities()
    fast = found.get("avx512_bf16", False) or found.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32
