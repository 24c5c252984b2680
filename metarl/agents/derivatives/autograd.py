"""Inner steps through autograd, which can follow their result to the meta-parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch, CollectedBatch, Share
from metarl.agents.inner.rule import InnerRule, RuleInput
from metarl.equations.losses import clipped_gain
from metarl.equations.returns import standardize
from metarl.networks.mlp import added, expand_to_tasks
from metarl.types import Params

if TYPE_CHECKING:
    from metarl.agents.derivatives.policy_loss import PolicyLoss
    from metarl.agents.policy_gradient import MetaBatch
    from metarl.agents.supervised import ExampleLoss


class Autograd:
    """Steps of any rule on any loss, for K tasks at once."""

    def __init__(self, rule: InnerRule, loss: PolicyLoss | ExampleLoss):
        self.rule, self.loss = rule, loss

    def step(self, params: Params, support: Any, index: int) -> Params:
        """Returns the parameters after one step from `params`, as constants."""
        constants = {name: x.detach() for name, x in params.items()}
        return self.follow(constants, support, index, followed=False)[0]

    def follow(
        self, params: Params, support: Any, index: int, followed: bool
    ) -> tuple[Params, Any]:
        """Returns the parameters after one step, and the network's output before it.

        Where `followed`, autograd can follow the parameters to `params`. A rule of first order
        has gradient and loss as constants.
        """
        rule = self.rule
        read: dict[str, Any] = {}
        with torch.enable_grad():
            own = expand_to_tasks(params, rule.adapted, self.loss.num_tasks(support))
            gradients, output = "gradient" in rule.reads, None
            if gradients or self.loss.always:
                loss, output = self.loss({**params, **own}, support)
                read = {"loss": loss.detach() if rule.first_order else loss}
                if gradients:
                    found = torch.autograd.grad(
                        loss.sum(),
                        list(own.values()),
                        retain_graph=followed,  # others go on from the output
                        create_graph=followed and not rule.first_order,
                    )
                    read["gradient"] = dict(zip(own, found, strict=True))
            read |= self.loss.inputs(support, rule.reads)
            given = RuleInput(**{"params": own, "gradient": {}, **read})
            after = {**params, **rule.step(params, given, index)}
        if not followed:
            after = {name: x.detach() for name, x in after.items()}
        return after, output


def gradient_of(loss: Tensor, leaves: Params) -> Params:
    """Returns the gradient of `loss` [] in `leaves`, zero where it does not depend on them."""
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def outcome_credit(query: Batch) -> Tensor:
    """Returns each task's mean reward on the query in standard units, [K, 1] (E-MAML).

    Mean and deviation that standardise a reward are those of all steps of all tasks; their mean is
    a baseline. Units of reward do not matter, so neither does their normalisation.
    """
    valid = (query.weights > 0).to(query.rewards.dtype)
    standard = standardize(query.rewards.flatten(), (valid / valid.sum()).flatten())
    return (query.weights * standard.view_as(valid)).sum(1, keepdim=True)


class SurrogateParts(NamedTuple):
    """Parts of the surrogate objective at some meta-parameters: means over tasks, [] each."""

    gain: Tensor
    """Clipped surrogate of the query, after adaptation."""
    exploration: Tensor
    """Clipped surrogate of the first support's actions, credited by the rewards of the query."""
    entropy: Tensor
    """Entropy of the adapted policies on the query."""
    inner_kl: Tensor
    """KL(old || new) of the policies that collect the support."""
    kl: Tensor
    """KL(old || new) of the adapted policies."""
    clipped: Tensor
    """Share of the query with a ratio beyond the clip."""


class SurrogateObjective:
    """mean_i E[min(ratio A, clip(ratio) A)] on the query of task i, at theta_i' =
    adapt(theta, support_i), and the parts that outer rules add to it.

    The exploration term is E-MAML's (arXiv:1803.01118, Eq. 4 and 5), as jonasrothfuss/ProMP has it
    (vpg_maml.py): where the support was collected its gradient is that of the mean log-probability
    of the first support's actions times `outcome_credit`. The paper has a sum over episodes, and
    returns without a baseline. For later epochs it is clipped.
    """

    def __init__(self, data: MetaBatch, clip: float):
        self.data, self.clip, self.num_tasks = data, clip, data.query.obs.shape[0]
        self.credit = outcome_credit(data.query.batch)

    def gradient(
        self, meta: Params, loss: Callable[[SurrogateParts], Tensor]
    ) -> tuple[Params, SurrogateParts]:
        """Returns the gradient of that loss of the parts, and the parts."""
        leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}

        def of_share(share: Share) -> tuple[Params, SurrogateParts]:
            parts = self._parts(leaves, share.rows, followed=True)
            slope = gradient_of(loss(parts), leaves)
            return slope, SurrogateParts(*(x.detach() for x in parts))

        found = self.data.division().each(of_share)
        return added([slope for slope, _ in found]), _sum([parts for _, parts in found])

    @torch.no_grad()
    def evaluate(self, meta: Params) -> SurrogateParts:
        def of_share(share: Share) -> SurrogateParts:
            return self._parts(meta, share.rows, followed=False)

        return _sum(self.data.division().each(of_share))

    def _parts(self, meta: Params, rows: slice, followed: bool) -> SurrogateParts:
        """Returns the share of some tasks in the means over all."""
        data, clip = self.data, self.clip
        params, credit = data.begin(meta), self.credit[rows]
        exploration = inner_kl = credit.new_zeros(())
        for index, whole in enumerate(data.supports):
            support: CollectedBatch = whole.tasks(rows)
            params, here = data.inner.follow(params, support, index, followed)
            _, actions, _, weights, _ = support.batch
            if index == 0:
                log_probs, before = here.log_probs(actions), support.behaviour.log_probs(actions)
                exploration = clipped_gain(log_probs, before, credit, weights, clip)[0].sum()
            inner_kl = inner_kl + (weights * support.behaviour.kl(here)).sum()
        query = data.query.tasks(rows)
        obs, actions, advantages, weights, _ = query.batch
        new = data.policy(params, obs)
        log_probs, before = new.log_probs(actions), query.behaviour.log_probs(actions)
        gain, clipped = clipped_gain(log_probs, before, advantages, weights, clip)
        entropy, kl = (weights * new.entropy()).sum(), (weights * query.behaviour.kl(new)).sum()
        inner_kl = inner_kl / max(1, len(data.supports))
        parts = (gain.sum(), exploration, entropy, inner_kl, kl, clipped.sum())
        return SurrogateParts(*(x / self.num_tasks for x in parts))


def _sum(parts: Sequence[SurrogateParts]) -> SurrogateParts:
    return SurrogateParts(*(torch.stack(x).sum(0) for x in zip(*parts, strict=True)))
