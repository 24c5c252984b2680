"""Learned inner rules on a policy's own episodes, and their derivatives."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.agents.inner.differentiable import Round, policy_loss
from metarl.agents.inner.rule import MEMORY, Rule, Seen
from metarl.agents.inner.rules import rule_of, shortened
from metarl.agents.inner.sgd import LossHessian, loss_cotangent
from metarl.config.settings import LearnedConfig
from metarl.equations.distributions import ActionDistribution
from metarl.equations.losses import score_function_loss
from metarl.networks.action_inputs import ActionInputs
from metarl.networks.linearised import LinearisedMlp
from metarl.networks.mlp import MlpPolicy, expand_to_tasks
from metarl.types import EnvSpec, Params

LOSS = "loss"


class LearnedSteps:
    """Steps of a learned rule on the score-function loss, for K tasks at once; as `Sgd`."""

    def __init__(
        self, spec: EnvSpec, policy: MlpPolicy, config: LearnedConfig, ratio: bool = False
    ):
        """`ratio`: the loss by importance ratios, as in `DifferentiableSgd`."""
        self.policy, self.config, self.ratio = policy, config, ratio
        self.actions = ActionInputs(spec)
        sample_dim = spec.obs_dim + self.actions.width + 2
        self.rule: Rule = rule_of(config, policy.shapes, policy.layers, sample_dim)
        self.first_order = getattr(config, "first_order", False)

    def init(self, start: Params, rng: np.random.Generator) -> Params:
        """The rule's own meta-parameters, beside the policy's `start`."""
        del start
        return self.rule.init(rng)

    def step(self, params: Params, batch: Batch | Round, index: int) -> Params:
        """Parameters and memory after one step from `params`, [K, ...]; they are constants."""
        with torch.no_grad():
            if isinstance(batch, Round):
                constants = {name: x.detach() for name, x in params.items()}
                after = self.follow(constants, batch, index)[0]
            else:
                seen, *_ = self._seen(params, batch)
                after = {**params, **self.rule.move(params, seen, index)}
            return shortened(self.config, self.rule.moved, params, after, index)

    def linearise(self, params: Params, batch: Batch, index: int) -> KeptStep:
        """The step with its derivatives."""
        seen, here, deltas = self._seen(params, batch)
        hessian = None
        if here is not None and not self.first_order:
            hessian = LossHessian.of(here, deltas, batch)
        return KeptStep(self.rule, params, seen, index, hessian)

    def follow(
        self, params: Params, support: Round, index: int
    ) -> tuple[Params, ActionDistribution]:
        """The step as a function of `params`, and the policy before it on the support."""
        followed = any(x.requires_grad for x in params.values())
        batch = support.batch
        with torch.enable_grad():
            own = expand_to_tasks(params, self.rule.moved, len(batch.obs))
            here = self.policy({**params, **own}, batch.obs)
            loss, gradient = policy_loss(here, support, "score", self.ratio), {}
            if self.rule.gradients:
                found = torch.autograd.grad(
                    loss.sum(),
                    list(own.values()),
                    retain_graph=followed,  # others go on from `here`
                    create_graph=followed and not self.first_order,
                )
                gradient = dict(zip(own, found, strict=True))
            seen = Seen(
                gradient,
                loss.detach() if self.first_order else loss,
                self.samples(batch),
                batch.weights,
            )
            after = {**params, **self.rule.move({**params, **own}, seen, index)}
        if not followed:
            after = {name: x.detach() for name, x in after.items()}
        return after, here

    def samples(self, batch: Batch) -> Tensor:
        """What a task's samples are, side by side: observation, action, reward, advantage."""
        numbers = torch.stack([batch.rewards, batch.advantages], -1)
        return torch.cat([batch.obs, self.actions(batch.actions).to(numbers.dtype), numbers], -1)

    def _seen(
        self, params: Params, batch: Batch
    ) -> tuple[Seen, LinearisedMlp | None, list[Tensor]]:
        """And what the Hessian is made of, where there is a gradient."""
        samples = self.samples(batch)
        if not self.rule.gradients:
            nothing = batch.weights.new_zeros(len(batch.weights))
            return Seen({}, nothing, samples, batch.weights), None, []
        here = LinearisedMlp(self.policy, params, batch.obs)
        gradient, deltas = here.vjp(loss_cotangent(here, batch))
        loss = score_function_loss(
            here.distribution, batch.actions, batch.advantages, batch.weights
        )
        return Seen(gradient, loss, samples, batch.weights), here, deltas


class KeptStep:
    """params' = move(params, gradient, loss), and its derivative in `params`; as `LinearisedStep`.

    The rule's own derivative is autograd's, kept. That of the gradient is the Hessian, a product
    made by hand, and the loss has the gradient itself; without a Hessian (first order) both are
    constants.
    """

    def __init__(
        self, rule: Rule, params: Params, seen: Seen, index: int, hessian: LossHessian | None
    ):
        self.gradient, self.hessian = seen.gradient, hessian
        constants = {name: x.detach() for name, x in params.items()}
        own = expand_to_tasks(constants, rule.moved, len(seen.weights))
        rest = {n: x.requires_grad_() for n, x in constants.items() if n not in own}
        self.leaves = {**rest, **own}
        self.shared = [n for n in rest if not n.startswith(MEMORY)]
        felt = {**seen.gradient, LOSS: seen.loss}
        self.felt = {name: x.detach().requires_grad_() for name, x in felt.items()}
        with torch.enable_grad():
            gradient = {name: self.felt[name] for name in seen.gradient}
            there = seen._replace(gradient=gradient, loss=self.felt[LOSS])
            moved = rule.move(self.leaves, there, index)
            self.outputs = {n: x for n, x in moved.items() if x is not self.leaves.get(n)}
            # J^T u is linear in u, and so its derivative along any u is J.
            self.u = {n: torch.zeros_like(x, requires_grad=True) for n, x in self.outputs.items()}
            self.pulled = self._pull(self.u, create_graph=True)
        self.params = {**params, **{name: x.detach() for name, x in self.outputs.items()}}

    def forward(self, tangent: Params) -> Params:
        """The derivative times `tangent`, shared or [K, ...]."""
        along = [tangent[name].expand_as(x) for name, x in self.leaves.items()]
        if self.hessian is not None:
            turned = self.hessian(tangent)
            along += [turned[name] for name in self.gradient]
            rises = [(tangent[n] * x).flatten(1).sum(1) for n, x in self.gradient.items()]
            along.append(torch.stack(rises).sum(0))
        else:
            along += [torch.zeros_like(x) for x in self.felt.values()]
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
        """The derivative, transposed, times `cotangent` [K, ...].

        That of the rule's own parameters and of its memory may be missing: it is nothing before the
        last step has been met. Of what all tasks share the sum over them comes back, [1, ...].
        """
        found = self._pull({n: cotangent[n] for n in self.outputs if n in cotangent})
        before = {**cotangent, **dict(zip(self.leaves, found, strict=False))}
        for name in self.shared:
            of_tasks = cotangent.get(name)  # a policy's that the rule leaves alone has [K, ...]
            later = 0.0 if of_tasks is None else of_tasks.sum(0, keepdim=True)
            before[name] = before[name][None] + later
        if self.hessian is None:
            return before
        *turned, fallen = found[len(self.leaves) :]
        back = self.hessian(dict(zip(self.gradient, turned, strict=True)))
        for name, x in self.gradient.items():
            rise = fallen.view(-1, *[1] * (x.dim() - 1)) * x
            before[name] = before[name] + back[name] + rise
        return before

    def to(self, dtype: torch.dtype) -> KeptStep:
        """The same, with products of the Hessian in another precision."""
        other = copy.copy(self)
        other.hessian = None if self.hessian is None else self.hessian.to(dtype)
        return other

    def _pull(self, cotangent: Params, create_graph: bool = False) -> list[Tensor]:
        """Of every leaf, and of everything felt."""
        return list(
            torch.autograd.grad(
                [self.outputs[name] for name in cotangent],
                [*self.leaves.values(), *self.felt.values()],
                list(cotangent.values()),
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
        )
