"""Inner rule: a gradient step on the score-function loss, and its derivatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.config import SgdConfig
from metarl.equations.distributions import Curvature, each
from metarl.networks.linearised import LinearisedMlp
from metarl.networks.mlp import MlpPolicy
from metarl.types import Params


class Sgd:
    """theta_i' = theta - lr grad L_i(theta), arXiv:1703.03400, Eq. 1, for K tasks at once."""

    def __init__(self, policy: MlpPolicy, config: SgdConfig):
        self.policy, self.config = policy, config

    def lr(self, index: int) -> float:
        """The step size of the adaptation step `index` (0 is the first)."""
        trained = index < self.config.steps
        return self.config.lr * (1.0 if trained else self.config.extra_step_scale)

    def step(self, params: Params, batch: Batch, index: int) -> Params:
        """Parameters [K, ...] after one step from `params`, shared or [K, ...]."""
        here = LinearisedMlp(self.policy, params, batch.obs)
        gradient, _ = here.vjp(_loss_cotangent(here, batch))
        return descend(params, gradient, self.lr(index))

    def linearise(self, params: Params, batch: Batch, index: int) -> LinearisedStep:
        """The step with its derivatives."""
        here = LinearisedMlp(self.policy, params, batch.obs)
        gradient, deltas = here.vjp(_loss_cotangent(here, batch))
        lr = self.lr(index)
        after = descend(params, gradient, lr)
        if self.config.first_order:
            return LinearisedStep(after, None, lr)
        factor = -batch.weights * batch.advantages
        curvature = here.distribution.score_curvature(batch.actions, factor)
        return LinearisedStep(after, LossHessian(here, deltas, curvature), lr)


def descend(params: Params, gradient: Params, lr: float) -> Params:
    """params - lr gradient; shared parameters take one task's gradient [K, ...] each."""
    return {name: params[name] - lr * gradient[name] for name in params}


def _loss_cotangent(here: LinearisedMlp, batch: Batch):
    """The derivative of `losses.score_function_loss` in the distribution's parameters."""
    return here.distribution.score(batch.actions).scaled(-batch.weights * batch.advantages)


class LossHessian(NamedTuple):
    """The Hessian of each task's score-function loss at one point, as a product."""

    here: LinearisedMlp
    deltas: list[Tensor]
    curvature: Curvature
    """Of the loss in the distribution's parameters, sample by sample."""

    def __call__(self, tangent: Params) -> Params:
        """H_i tangent for each task, [K, ...]."""
        dtype = self.here.inputs[0].dtype
        v = {name: x.to(dtype) for name, x in tangent.items()}
        moved, hidden_dot = self.here.jvp(v)
        product = self.here.vjp_dot(v, hidden_dot, self.deltas, self.curvature.times(moved))
        return {name: product[name].to(x.dtype) for name, x in tangent.items()}

    def to(self, dtype: torch.dtype) -> LossHessian:
        curvature = each(lambda x: x.to(dtype), self.curvature)
        return LossHessian(self.here.to(dtype), [x.to(dtype) for x in self.deltas], curvature)


class LinearisedStep(NamedTuple):
    """theta' and the derivative I - lr H of theta -> theta'. H is symmetric, so one product
    serves both directions; without a Hessian (first order) the derivative is the identity."""

    params: Params
    hessian: LossHessian | None
    lr: float

    def derivative(self, tangent: Params) -> Params:
        """(I - lr H_i) tangent for each task, [K, ...]; `tangent` shared or [K, ...]."""
        if self.hessian is None:
            return tangent
        return descend(tangent, self.hessian(tangent), self.lr)

    def to(self, dtype: torch.dtype) -> LinearisedStep:
        if self.hessian is None:
            return self
        return self._replace(hessian=self.hessian.to(dtype))
