"""Inner rule: a gradient step on the score-function loss, and its derivatives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.agents.inner.descent import SIZE, Descent, StepSizes, all_of, descend, head_of
from metarl.config.settings import SgdConfig
from metarl.equations.distributions import Curvature, each
from metarl.equations.gaussian import Gaussian
from metarl.errors import UserError
from metarl.networks.linearised import LinearisedMlp
from metarl.networks.mlp import MlpPolicy
from metarl.types import Params


class Sgd(Descent):
    """A gradient step of K tasks on the score-function loss of their supports.

    The last layer alone is ANIL (arXiv:1909.09157). The context alone, which starts at zero in
    every task and has no meta-parameter, is CAVIA (arXiv:1810.03642).
    """

    def __init__(self, policy: MlpPolicy, config: SgdConfig):
        """Raises UserError for settings that do not go together."""
        _check(config, policy.config.context)
        super().__init__(config, _moved(policy, config.moved))
        self.policy = policy

    def init(self, start: Params, rng: np.random.Generator) -> Params:
        """The rule's own meta-parameters, beside the policy's `start`."""
        del rng
        return self.sized(self.policy.begin(start))

    def step(self, params: Params, batch: Batch, index: int) -> Params:
        """Parameters after one step from `params`: moved ones [K, ...], others as they are."""
        here = LinearisedMlp(self.policy, params, batch.obs)
        gradient, _ = here.vjp(loss_cotangent(here, batch))
        return self.descended(params, gradient, index)

    def linearise(self, params: Params, batch: Batch, index: int) -> LinearisedStep:
        """The step with its derivatives."""
        here = LinearisedMlp(self.policy, params, batch.obs)
        gradient, deltas = here.vjp(loss_cotangent(here, batch))
        after, sizes = self.descended(params, gradient, index), self.sizes(params, index)
        if self.config.first_order:
            return LinearisedStep(after, gradient, sizes, None)
        return LinearisedStep(after, gradient, sizes, LossHessian.of(here, deltas, batch))


def _check(config: SgdConfig, context: int) -> None:
    if config.moved == "context" and not context:
        raise UserError(
            "agent.inner.moved is 'context', and agent.policy.context is 0: nothing would move\n"
            "  give the policy context inputs, --agent.policy.context 10, or move 'all' or 'head'"
        )
    if context and config.moved != "context":
        raise UserError(
            f"agent.policy.context is {context}, and agent.inner.moved is {config.moved!r}: the "
            "context would stay zero\n"
            "  move it, --agent.inner.moved context, or leave it out, --agent.policy.context 0"
        )
    if config.moved == "context" and not config.steps:
        raise UserError(
            "agent.inner.moved is 'context', and agent.inner.steps is 0: what reads it is not "
            "trained\n"
            "  take a step in training, --agent.inner.steps 1, or move 'all' or 'head'"
        )
    if config.learn_lr and not config.steps:
        raise UserError(
            "agent.inner.learn_lr is on, and agent.inner.steps is 0: no step to learn a size from\n"
            "  take a step in training, --agent.inner.steps 1, or switch agent.inner.learn_lr off"
        )


def _moved(policy: MlpPolicy, what: str) -> tuple[str, ...]:
    """The names of all parameters, the last layer's ("head") or the context alone.

    log_std goes with the last layer: its outputs are the distribution's parameters, and log_std
    is those of them that have a bias and no weights.
    """
    if what == "context":
        return ("context",)
    names = head_of(policy.layers) if what == "head" else all_of(policy.layers)
    return (*names, "log_std") if policy.kind is Gaussian else names


def loss_cotangent(here: LinearisedMlp, batch: Batch):
    """The derivative of `losses.score_function_loss` in the distribution's parameters."""
    return here.distribution.score(batch.actions).scaled(-batch.weights * batch.advantages)


class LossHessian(NamedTuple):
    """The Hessian of each task's score-function loss at one point, as a product."""

    here: LinearisedMlp
    deltas: list[Tensor]
    curvature: Curvature
    """Of the loss in the distribution's parameters, sample by sample."""

    @classmethod
    def of(cls, here: LinearisedMlp, deltas: list[Tensor], batch: Batch) -> LossHessian:
        """`deltas` are those of `here.vjp(loss_cotangent(here, batch))`."""
        factor = -batch.weights * batch.advantages
        return cls(here, deltas, here.distribution.score_curvature(batch.actions, factor))

    def __call__(self, tangent: Params) -> Params:
        """H_i tangent for each task, [K, ...]; `tangent` may hold more than the policy has."""
        dtype = self.here.inputs[0].dtype
        v = {name: x.to(dtype) for name, x in tangent.items()}
        moved, hidden_dot = self.here.jvp(v)
        product = self.here.vjp_dot(v, hidden_dot, self.deltas, self.curvature.times(moved))
        return {name: x.to(tangent[name].dtype) for name, x in product.items()}

    def to(self, dtype: torch.dtype) -> LossHessian:
        curvature = each(lambda x: x.to(dtype), self.curvature)
        return LossHessian(self.here.to(dtype), [x.to(dtype) for x in self.deltas], curvature)


class LinearisedStep(NamedTuple):
    """theta' = theta - rate D g(theta), and its derivative in theta and in a learned D.

    That is I - rate D H in theta, and -rate g in D, which itself passes unchanged. H is symmetric,
    so one product serves both directions. Without it (first order) H alone is left out: the
    derivative is the identity in theta, and still -rate g in D. A context is then the same for all
    meta-parameters but its own step size.
    """

    params: Params
    gradient: Params
    sizes: StepSizes
    hessian: LossHessian | None

    def forward(self, tangent: Params) -> Params:
        """The derivative times `tangent`, shared or [K, ...]."""
        after = tangent
        if self.hessian is not None:
            after = descend(after, self.sizes.times(self.hessian(tangent)), self.sizes.rate)
        by_size = {name: self.gradient[name] * tangent[SIZE + name] for name in self.sizes.learned}
        return descend(after, by_size, self.sizes.rate)

    def transposed(self, cotangent: Params) -> Params:
        """The derivative, transposed, times `cotangent` [K, ...].

        The cotangent of D may be missing: it is nothing before the last step has been met.
        """
        before, rate = cotangent, self.sizes.rate
        if self.hessian is not None:
            moved = self.sizes.times(cotangent)
            still = {
                name: torch.zeros_like(x) for name, x in cotangent.items() if name not in moved
            }
            before = descend(before, self.hessian({**still, **moved}), rate)
        by_size = {
            SIZE + name: cotangent.get(SIZE + name, 0.0)
            - rate * self.gradient[name] * cotangent[name]
            for name in self.sizes.learned
        }
        return {**before, **by_size}

    def to(self, dtype: torch.dtype) -> LinearisedStep:
        if self.hessian is None:
            return self
        return self._replace(hessian=self.hessian.to(dtype))
