"""Derivatives of an MLP policy at fixed parameters and observations.

A Gauss-Newton product through an adaptation needs J v, J^T c and the derivative of J^T c along v,
many times at the same point. Autograd would recompute or copy the activations for each. Here they
are computed once and kept; each derivative then costs only the matrix products of the R-operator
(Pearlmutter 1994).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from metarl.equations.distributions import ActionDistribution, Curvature, each
from metarl.equations.gaussian import Gaussian
from metarl.networks.mlp import MlpPolicy, activated, linear, over_samples
from metarl.types import Params


class LinearisedMlp(NamedTuple):
    """The value and the derivatives of policy(params, obs) for K tasks.

    Obs are [K, N, obs_dim]. Parameters and tangents are shared or have a leading K; gradients
    always have a leading K. Tangents and cotangents of the distribution are distributions of the
    same family, [K, N, ...].
    """

    relu: bool
    context: int
    weights: list[Tensor]
    inputs: list[Tensor]
    """Inputs of each layer, [K, N, ...]."""
    slopes: list[Tensor]
    """Derivative of each hidden layer's activation, [K, N, ...]."""
    distribution: ActionDistribution
    std_moves: Tensor | None
    """Derivative of the distribution's log_std by the parameter: 0 at the floor, else 1."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, obs: Tensor) -> LinearisedMlp:
        """Evaluates `policy` once, and keeps what its derivatives need."""
        relu = policy.config.activation == "relu"
        weights = [params[f"layer{i}.weight"] for i in range(policy.layers)]
        inputs, slopes = [policy.inputs(params, obs)], []
        for i in range(policy.layers - 1):
            z = linear(inputs[-1], weights[i], params[f"layer{i}.bias"])
            h = activated(z, policy.config.activation)
            inputs.append(h)
            slopes.append((h > 0).to(h.dtype) if relu else 1.0 - h.square())
        z = linear(inputs[-1], weights[-1], params[f"layer{policy.layers - 1}.bias"])
        moves = None
        if "log_std" in params:
            moves = (params["log_std"] > math.log(policy.config.min_std)).to(obs.dtype)
        distribution = policy.distribution(params, z)
        return cls(relu, policy.config.context, weights, inputs, slopes, distribution, moves)

    def jvp(self, tangent: Params) -> tuple[ActionDistribution, list[Tensor]]:
        """Returns the derivatives of the distribution and of the hidden layers along `tangent`."""
        hidden_dot: list[Tensor] = []
        for i, (x, weight) in enumerate(zip(self.inputs, self.weights, strict=True)):
            z_dot = linear(x, tangent[f"layer{i}.weight"], tangent[f"layer{i}.bias"])
            if i > 0:
                z_dot = _add_product(z_dot, hidden_dot[-1], weight.mT)
            elif self.context:
                columns = weight[..., -self.context :]
                z_dot = z_dot + _row_product(tangent["context"], columns.mT)
            if i < len(self.slopes):
                hidden_dot.append(z_dot.mul_(self.slopes[i]))
        if self.std_moves is None:
            return each(lambda _: z_dot, self.distribution), hidden_dot  # logits are its only part
        return Gaussian(z_dot, over_samples(tangent["log_std"] * self.std_moves, z_dot)), hidden_dot

    def vjp(self, cotangent: ActionDistribution) -> tuple[Params, list[Tensor]]:
        """Returns J^T cotangent as gradients [K, ...], and the cotangent of each layer's z."""
        deltas = [cotangent[0]]
        for i in range(len(self.slopes), 0, -1):
            deltas.append(torch.matmul(deltas[-1], self.weights[i]).mul_(self.slopes[i - 1]))
        deltas.reverse()
        return self.gradients(deltas, cotangent), deltas

    def gradients(self, deltas: list[Tensor], cotangent: ActionDistribution) -> Params:
        """Returns the gradients [K, ...] for the cotangents of each layer's z and of log_std."""
        gradients: Params = {}
        for i, (delta, x) in enumerate(zip(deltas, self.inputs, strict=True)):
            gradients[f"layer{i}.weight"] = torch.bmm(delta.mT, x)
            gradients[f"layer{i}.bias"] = delta.sum(1)
        if self.context:
            columns = self.weights[0][..., -self.context :]
            gradients["context"] = _row_product(gradients["layer0.bias"], columns).squeeze(1)
        if self.std_moves is not None:
            gradients["log_std"] = cotangent[1].sum(1) * self.std_moves
        return gradients


class LossHessian(NamedTuple):
    """The Hessian of each task's loss at one point, as a product.

    The loss is a sum over samples, each a function of the policy's distribution there.
    """

    here: LinearisedMlp
    deltas: list[Tensor]
    """Derivatives of the loss by each layer's z, which `LinearisedMlp.vjp` returns."""
    curvature: Curvature
    """Second derivative of each sample's loss by the parameters of its distribution."""

    def __call__(self, tangent: Params) -> Params:
        """Returns H_i tangent for each task, [K, ...]: the derivative of its gradient along
        `tangent`, which may hold more than the policy's parameters."""
        here, deltas = self.here, self.deltas
        v = {name: x.to(deltas[0].dtype) for name, x in tangent.items()}
        distribution_dot, hidden_dot = here.jvp(v)
        cotangent_dot = self.curvature.times(distribution_dot)
        deltas_dot = [cotangent_dot[0]]
        for i in range(len(here.slopes), 0, -1):
            delta_dot = torch.matmul(deltas_dot[-1], here.weights[i])
            delta_dot = _add_product(delta_dot, deltas[i], v[f"layer{i}.weight"])
            delta_dot.mul_(here.slopes[i - 1])
            if not here.relu:  # tanh'' z_dot = -2 h h_dot; deltas hold tanh', hence the division
                slope = here.slopes[i - 1].clamp(min=1e-12)  # saturated: both factors are zero
                bend = -2.0 * here.inputs[i] * hidden_dot[i - 1] / slope
                delta_dot.addcmul_(deltas[i - 1], bend)
            deltas_dot.append(delta_dot)
        deltas_dot.reverse()
        product = here.gradients(deltas_dot, cotangent_dot)
        for i in range(1, len(here.weights)):
            product[f"layer{i}.weight"].baddbmm_(deltas[i].mT, hidden_dot[i - 1])
        if here.context:
            self._add_by_context(product, v)
        return {name: x.to(tangent[name].dtype) for name, x in product.items()}

    def _add_by_context(self, product: Params, v: Params) -> None:
        """Adds the terms between the context and its columns of the first layer's weights."""
        columns, delta = slice(-self.here.context, None), self.deltas[0].sum(1)
        column_dot = v["layer0.weight"][..., columns]
        product["context"] += _row_product(delta, column_dot).squeeze(1)
        product["layer0.weight"][..., columns] += delta[..., None] * v["context"].unsqueeze(-2)

    def to(self, dtype: torch.dtype) -> LossHessian:
        """Returns a copy that computes in another precision."""
        return tree_map_only(Tensor, lambda x: x.to(dtype), self)


def _row_product(row: Tensor, matrix: Tensor) -> Tensor:
    """row @ matrix, [1, out], or [K, 1, out] if either argument has a task axis."""
    return torch.matmul(row.unsqueeze(-2), matrix)


def _add_product(total: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Adds x @ matrix to `total` in place; `matrix` is shared or has a leading K."""
    if matrix.dim() == 2:
        total.view(-1, total.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), matrix)
        return total
    return total.baddbmm_(x, matrix)
