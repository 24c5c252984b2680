"""Derivatives of an MLP policy at fixed parameters and observations.

A Gauss-Newton product through an adaptation needs J v, J^T c and the derivative of J^T c along v,
many times at the same point. Autograd would recompute or copy the activations for each. Here they
are computed once and kept; each derivative then costs only the matrix products of the R-operator
(Pearlmutter 1994).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.gaussian import Gaussian
from metarl.networks.mlp import MlpPolicy, activated, linear
from metarl.types import Params


class LinearisedMlp:
    """The value and the derivatives of policy(params, obs) for K tasks.

    Obs are [K, N, obs_dim]. Parameters and tangents are shared or have a leading K; gradients
    always have a leading K. Tangents and cotangents of the distribution are distributions of the
    same family, [K, N, ...].
    """

    def __init__(self, policy: MlpPolicy, params: Params, obs: Tensor):
        self.relu = policy.config.activation == "relu"
        self.context = policy.config.context
        self.weights = [params[f"layer{i}.weight"] for i in range(policy.layers)]
        self.inputs, self.slopes = [policy.inputs(params, obs)], []
        for i, weight in enumerate(self.weights):
            z = linear(self.inputs[-1], weight, params[f"layer{i}.bias"])
            if i < policy.layers - 1:
                h = activated(z, policy.config.activation)
                self.inputs.append(h)
                self.slopes.append((h > 0).to(h.dtype) if self.relu else 1.0 - h.square())
            else:
                self.distribution: ActionDistribution = policy.distribution(params, z)
        if isinstance(self.distribution, Gaussian):  # no gradient where min_std is the floor
            floor = math.log(policy.config.min_std)
            self.std_moves = (params["log_std"] > floor).to(obs.dtype)

    def jvp(self, tangent: Params) -> tuple[ActionDistribution, list[Tensor]]:
        """Returns the derivatives of the distribution and of the hidden layers along `tangent`."""
        hidden_dot: list[Tensor] = []
        z_dot = self.inputs[0]
        for i, weight in enumerate(self.weights):
            z_dot = linear(self.inputs[i], tangent[f"layer{i}.weight"], tangent[f"layer{i}.bias"])
            if i > 0:
                z_dot = _add_product(z_dot, hidden_dot[-1], weight.mT)
            elif self.context:
                columns = weight[..., -self.context :]
                z_dot = z_dot + _row_product(tangent["context"], columns.mT)
            if i < len(self.slopes):
                hidden_dot.append(z_dot.mul_(self.slopes[i]))
        if not isinstance(self.distribution, Gaussian):
            return each(lambda _: z_dot, self.distribution), hidden_dot  # logits are its only part
        log_std_dot = tangent["log_std"] * self.std_moves
        if log_std_dot.dim() == 2:
            log_std_dot = log_std_dot.unsqueeze(1)
        return Gaussian(z_dot, log_std_dot), hidden_dot

    def vjp(self, cotangent: ActionDistribution) -> tuple[Params, list[Tensor]]:
        """Returns J^T cotangent as gradients [K, ...], and the cotangent of each layer's z."""
        deltas = [cotangent[0]]
        for i in range(len(self.slopes), 0, -1):
            deltas.append(torch.matmul(deltas[-1], self.weights[i]).mul_(self.slopes[i - 1]))
        deltas.reverse()
        return self._gradients(deltas, cotangent), deltas

    def vjp_dot(
        self,
        tangent: Params,
        hidden_dot: list[Tensor],
        deltas: list[Tensor],
        cotangent_dot: ActionDistribution,
    ) -> Params:
        """Returns the derivative of `vjp(cotangent)` along `tangent`.

        `hidden_dot` comes from jvp(tangent), `deltas` from vjp(cotangent). `cotangent_dot` is the
        cotangent's own derivative."""
        deltas_dot = [cotangent_dot[0]]
        for i in range(len(self.slopes), 0, -1):
            delta_dot = torch.matmul(deltas_dot[-1], self.weights[i])
            delta_dot = _add_product(delta_dot, deltas[i], tangent[f"layer{i}.weight"])
            delta_dot.mul_(self.slopes[i - 1])
            if not self.relu:  # tanh'' z_dot = -2 h h_dot; deltas hold tanh', hence the division
                slope = self.slopes[i - 1].clamp(min=1e-12)  # saturated: both factors are zero
                bend = -2.0 * self.inputs[i] * hidden_dot[i - 1] / slope
                delta_dot.addcmul_(deltas[i - 1], bend)
            deltas_dot.append(delta_dot)
        deltas_dot.reverse()
        gradients = self._gradients(deltas_dot, cotangent_dot)
        for i in range(1, len(self.weights)):
            gradients[f"layer{i}.weight"].baddbmm_(deltas[i].mT, hidden_dot[i - 1])
        if self.context:
            column_dot = tangent["layer0.weight"][..., -self.context :]
            delta = deltas[0].sum(1)
            gradients["context"] += _row_product(delta, column_dot).squeeze(1)
            outer = delta.unsqueeze(-1) * tangent["context"].unsqueeze(-2)
            gradients["layer0.weight"][..., -self.context :] += outer
        return gradients

    def _gradients(self, deltas: list[Tensor], cotangent: ActionDistribution) -> Params:
        gradients: Params = {}
        for i, (delta, x) in enumerate(zip(deltas, self.inputs, strict=True)):
            gradients[f"layer{i}.weight"] = torch.bmm(delta.mT, x)
            gradients[f"layer{i}.bias"] = delta.sum(1)
        if self.context:
            columns = self.weights[0][..., -self.context :]
            gradients["context"] = _row_product(gradients["layer0.bias"], columns).squeeze(1)
        if isinstance(cotangent, Gaussian):
            gradients["log_std"] = cotangent.log_std.sum(1) * self.std_moves
        return gradients

    def to(self, dtype: torch.dtype) -> LinearisedMlp:
        """Returns a copy of this linearisation in another precision."""
        other = object.__new__(LinearisedMlp)
        other.relu, other.context = self.relu, self.context
        other.weights = [x.to(dtype) for x in self.weights]
        other.inputs = [x.to(dtype) for x in self.inputs]
        other.slopes = [x.to(dtype) for x in self.slopes]
        other.distribution = each(lambda x: x.to(dtype), self.distribution)
        if isinstance(self.distribution, Gaussian):
            other.std_moves = self.std_moves.to(dtype)
        return other


def _row_product(row: Tensor, matrix: Tensor) -> Tensor:
    """row @ matrix, [1, out], or [K, 1, out] if either argument has a task axis."""
    return torch.matmul(row.unsqueeze(-2), matrix)


def _add_product(total: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Adds x @ matrix to `total` in place; `matrix` is shared or has a leading K."""
    if matrix.dim() == 2:
        total.view(-1, total.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), matrix)
        return total
    return total.baddbmm_(x, matrix)
