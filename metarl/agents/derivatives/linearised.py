"""The derivative of any rule's step, kept: autograd's for the rule, by hand for the Hessian."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from metarl.agents.inner.rule import MEMORY, InnerRule, RuleInput
from metarl.networks.linearised import LossHessian
from metarl.types import Params

LOSS = "loss"


class AutogradStep:
    """params' = step(params, gradient, loss), and its derivative in `params`.

    The rule's own derivative is autograd's, kept. That of the gradient is the Hessian, a product
    made by hand, and that of the loss is the gradient itself. Without a Hessian (first order) both
    are constants.
    """

    def __init__(
        self,
        rule: InnerRule,
        params: Params,
        given: RuleInput,
        index: int,
        hessian: LossHessian | None,
    ):
        self.gradient, self.hessian = given.gradient, hessian
        constants = {name: x.detach() for name, x in params.items()}
        own = {name: x.detach().requires_grad_() for name, x in given.params.items()}
        rest = {n: x.requires_grad_() for n, x in constants.items() if n not in own}
        self.leaves = {**rest, **own}
        self.shared = [n for n in rest if not n.startswith(MEMORY)]
        read = dict(given.gradient)
        if given.loss is not None:
            read[LOSS] = given.loss
        self.read = {name: x.detach().requires_grad_() for name, x in read.items()}
        with torch.enable_grad():
            gradient = {name: self.read[name] for name in given.gradient}
            there = given._replace(params=own, gradient=gradient, loss=self.read.get(LOSS))
            after = rule.step(self.leaves, there, index)
            self.outputs = {n: x for n, x in after.items() if x is not self.leaves.get(n)}
            # J^T u is linear in u, and so its derivative along any u is J.
            self.u = {n: torch.zeros_like(x, requires_grad=True) for n, x in self.outputs.items()}
            self.pulled = self._pull(self.u, create_graph=True)
        self.params = {**params, **{name: x.detach() for name, x in self.outputs.items()}}

    def forward(self, tangent: Params) -> Params:
        """Returns the derivative times `tangent`, shared or [K, ...]."""
        along = [tangent[name].expand_as(x) for name, x in self.leaves.items()]
        if self.hessian is None:
            along += [torch.zeros_like(x) for x in self.read.values()]
        elif self.gradient:
            turned = self.hessian(tangent)
            along += [turned[name] for name in self.gradient]
            if LOSS in self.read:
                rises = [(tangent[n] * x).flatten(1).sum(1) for n, x in self.gradient.items()]
                along.append(torch.stack(rises).sum(0))
        linear = [(x, v) for x, v in zip(self.pulled, along, strict=True) if x.requires_grad]
        found = torch.autograd.grad(
            [x for x, _ in linear],
            list(self.u.values()),
            [v for _, v in linear],
            retain_graph=True,
            materialize_grads=True,
        )
        return {**tangent, **dict(zip(self.u, found, strict=True))}

    def transposed(self, cotangent: Params) -> Params:
        """Returns the transposed derivative times `cotangent` [K, ...].

        Cotangents of the rule's own parameters and of its memory are missing behind the last step,
        where they are zero. Parameters that all tasks share get the sum over tasks, [1, ...].
        """
        found = self._pull({n: cotangent[n] for n in self.outputs if n in cotangent})
        before = {**cotangent, **dict(zip(self.leaves, found, strict=False))}
        for name in self.shared:
            of_tasks = cotangent.get(name)  # [K, ...] of a parameter that the rule does not adapt
            later = 0.0 if of_tasks is None else of_tasks.sum(0, keepdim=True)
            before[name] = before[name][None] + later
        if self.hessian is None:
            return before
        back = dict(zip(self.read, found[len(self.leaves) :], strict=True))
        loss = back.pop(LOSS, None)
        turned = self.hessian(back)
        for name, x in self.gradient.items():
            before[name] = before[name] + turned[name]
            if loss is not None:
                before[name] = before[name] + loss.view(-1, *[1] * (x.dim() - 1)) * x
        return before

    def to(self, dtype: torch.dtype) -> AutogradStep:
        """Returns the same step, whose Hessian products have another precision."""
        other = copy.copy(self)
        other.hessian = self.hessian and self.hessian.to(dtype)
        return other

    def _pull(self, cotangent: Params, create_graph: bool = False) -> list[Tensor]:
        """Returns the cotangents of every leaf, then of everything that the step read."""
        return list(
            torch.autograd.grad(
                [self.outputs[name] for name in cotangent],
                [*self.leaves.values(), *self.read.values()],
                list(cotangent.values()),
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
        )
