"""Inner steps of an MLP policy with kept derivatives, and the meta-objective that TRPO maximises.

docs/architecture.md, "The meta-update", says why this is by hand; `reference.py` does the same in
plain autograd.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch, Share
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.rule import InnerRule, LinearisedRuleStep, RuleInput
from metarl.device import tf32
from metarl.equations.distributions import ActionDistribution
from metarl.equations.trust_region import surrogate_gain
from metarl.graphs import graphed, unlocked
from metarl.networks.linearised import LinearisedMlp, LossHessian
from metarl.networks.mlp import added, is_adapted
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
            hessian = LossHessian.of(here, deltas, curvature)
        if "loss" in rule.reads:
            read["loss"] = (factor * here.distribution.log_probs(batch.actions)).sum(-1)
        return RuleInput(own, gradient, **read), hessian


class Part(NamedTuple):
    """Some of the tasks, linearised at the old meta-parameters."""

    steps: Sequence[LinearisedRuleStep]
    query: LinearisedMlp
    """The adapted policies on the thinned query."""
    weights: Tensor
    """[k, n] of the thinned query, divided by the number of all tasks."""


class LinearisedObjective:
    """mean_i E[ratio A] on the query of task i, at theta_i' = adapt(theta, support_i).

    Built at the meta-parameters that collected the data. It gives what a trust-region step
    needs: `gain`, `gradient`, and Gauss-Newton products of the mean KL.
    """

    def __init__(self, data: MetaBatch, meta: Params, thinned: Batch, dtype: torch.dtype):
        """`dtype` is the precision of the support's Hessians in the products."""
        self.data, self.meta, self.thinned, self.dtype = data, meta, thinned, dtype
        query, self.division = data.query, data.division()
        self.num_tasks = len(query.obs)
        self.gain = (query.weights * query.advantages).sum() / self.num_tasks
        found = self.division.each(self._begun)
        self.parts = [part for part, _, _ in found]
        """Kept for all products, unless tasks go in groups: then made again for each."""
        self.old = [old for _, old, _ in found]
        """The adapted policies on all of the query, for each share of the tasks."""
        self.gradient = added([gradient for _, _, gradient in found])
        """Gradient of the surrogate gain; a step along it increases the gain."""

    def _begun(self, share: Share) -> tuple[Part | None, ActionDistribution, Params]:
        """Returns a share of the tasks, their old policies, and their part of the gradient."""
        steps, params = self._steps(share)
        query = self.data.query.tasks(share.rows)
        here = LinearisedMlp.at(self.data.policy, params, query.obs)
        # At the old parameters the ratio is one, and its derivative is the score.
        factor = query.weights * query.advantages / self.num_tasks
        gradient, _ = here.vjp(here.distribution.score(query.actions, factor))
        pulled = pulled_back(gradient, steps, self.meta)
        whole = here if self.thinned is self.data.query else None
        kept = None if self.division.grouped else self._part(share, steps, params, whole)
        return kept, here.distribution, pulled

    def _steps(self, share: Share) -> tuple[list[LinearisedRuleStep], Params]:
        """Returns the inner steps of some tasks with their derivatives, and where they lead."""
        params, steps = self.data.begin(self.meta), []
        for index, support in enumerate(self.data.supports):
            steps.append(self.data.inner.linearise(params, support.tasks(share.rows), index))
            params = steps[-1].params
        return steps, params

    def _part(
        self,
        share: Share,
        steps: list[LinearisedRuleStep],
        params: Params,
        query: LinearisedMlp | None = None,
    ) -> Part:
        """Returns what products need; `query` is the whole one, where it is not thinned."""
        thinned = self.thinned.tasks(share.rows)
        query = query or LinearisedMlp.at(self.data.policy, params, thinned.obs)
        return Part([x.to(self.dtype) for x in steps], query, thinned.weights / self.num_tasks)

    def product(self, tangent: Params) -> Params:
        """Returns G tangent, where G is the Hessian of the mean KL at the old parameters.

        There the KL's gradient is zero, so its Hessian is exactly the Gauss-Newton matrix
        J^T F J, with J the derivative of the query's distributions through the adaptation.
        """
        still = {name: torch.zeros_like(x) for name, x in self.data.fixed.items()}
        begun = self.data.policy.begin({**still, **tangent})

        def of_share(share: Share) -> Params:
            part = self.parts[share.index] or self._part(share, *self._steps(share))
            tensors_alone = all(isinstance(step, tuple) for step in part.steps)
            product = product_of if tensors_alone else product_of.__wrapped__
            return product(part, begun, tuple(self.meta))

        return added(self.division.each(of_share))


@unlocked
def product_of(part: Part, tangent: Params, names: tuple[str, ...]) -> Params:
    """Returns a part's term of a product, for the tangent of its tasks' first parameters."""
    for step in part.steps:
        tangent = step.forward(tangent)
    distribution_dot, _ = part.query.jvp(tangent)
    curved = part.query.distribution.fisher(distribution_dot, part.weights)
    return pulled_back(part.query.vjp(curved)[0], part.steps, names)


@graphed
def gain_and_kl(
    data: MetaBatch, meta: Params, old: Sequence[ActionDistribution], as_tf32: bool = False
) -> Tensor:
    """Returns the gain and the mean KL(old || new) on all query data, at `meta`, [2] float64.

    `old` are the policies that collected the query, for each share of the tasks; `as_tf32` lets a
    GPU round the factors of products.
    """

    def of_share(share: Share) -> Tensor:
        supports = [support.tasks(share.rows) for support in data.supports]
        query, before = data.query.tasks(share.rows), old[share.index]
        return gain_and_kl_of(data.inner, data.begin(meta), supports, query, before)

    with tf32(as_tf32):
        return torch.stack(data.division().each(of_share)).sum(0) / len(data.query.obs)


@unlocked
def gain_and_kl_of(
    inner: ByHand, params: Params, supports: list[Batch], query: Batch, old: ActionDistribution
) -> Tensor:
    """Returns the sums over some tasks of gain and KL, from the parameters that they begin with."""
    for index, support in enumerate(supports):
        params = inner.step(params, support, index)
    obs, actions, advantages, weights, _ = query
    new = inner.policy(params, obs)
    gain = surrogate_gain(new, old, actions, advantages, weights).sum()
    return torch.stack([gain, (weights * old.kl(new)).sum()]).double()


def pulled_back(
    gradient: Params, steps: Sequence[LinearisedRuleStep], names: Iterable[str]
) -> Params:
    """Returns the tasks' gradients before the inner steps, by the chain rule, added up."""
    for step in reversed(steps):
        gradient = step.transposed(gradient)
    return {name: gradient[name].sum(0) for name in names}


def product_dtype(name: str, device: torch.device) -> tuple[torch.dtype, bool]:
    """Returns the dtype called `name`, and whether float32 may be multiplied as TF32.

    `auto` is bfloat16 on a CPU that multiplies it fast, and TF32 on a GPU.
    """
    if name == "auto":
        found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = found.get("avx512_bf16", False) or found.get("amx_bf16", False)
        name = "bfloat16" if fast else "tf32"
    return (torch.float32, True) if name == "tf32" else (getattr(torch, name), False)
