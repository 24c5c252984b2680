"""Derivatives of an MLP policy at fixed parameters and observations.

A Gauss-Newton product through an adaptation needs J v, J^T c and the derivative of J^T c along v,
many times at the same point. Autograd would recompute or copy the activations for each. Here they
are computed once and kept; each derivative then costs only the matrix products of the R-operator
(Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from metarl.equations.distributions import ActionDistribution, Curvature
from metarl.equations.gaussian import Gaussian
from metarl.networks.mlp import MlpPolicy, linear, over_samples
from metarl.types import Params

PIECES, SMALL_PRODUCT = 8, 128 * 128
"""Parts of the samples of a product on a GPU, and the numbers of results that are few there."""


class Logits(NamedTuple):
    """Derivative of logits, which are the last layer's z."""

    family: Callable[[Tensor], ActionDistribution]

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, z: Tensor) -> Logits:
        return cls(policy.kind)

    def jvp(self, z_dot: Tensor, tangent: Params) -> ActionDistribution:
        return self.family(z_dot)

    def vjp(self, cotangent: ActionDistribution) -> tuple[Tensor, Params]:
        return cotangent[0], {}


class SharedStd(NamedTuple):
    """Derivative of a Gaussian by its mean, the last layer's z, and by the parameter log_std."""

    moves: Tensor
    """Derivative of the distribution's log_std by the parameter: 0 beyond a bound, else 1."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, z: Tensor) -> SharedStd:
        return cls(_within(params["log_std"], policy))

    def jvp(self, z_dot: Tensor, tangent: Params) -> Gaussian:
        return Gaussian(z_dot, over_samples(tangent["log_std"] * self.moves, z_dot))

    def vjp(self, cotangent: ActionDistribution) -> tuple[Tensor, Params]:
        return cotangent[0], {"log_std": cotangent[1].sum(1) * self.moves}


class StateStd(NamedTuple):
    """Derivative of a Gaussian by the last layer's z: its mean, then its log_std."""

    moves: Tensor
    """Derivative of the distribution's log_std by z, [K, N, act_dim]: 0 beyond a bound, else 1."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, z: Tensor) -> StateStd:
        return cls(_within(z.chunk(2, -1)[1], policy))

    def jvp(self, z_dot: Tensor, tangent: Params) -> Gaussian:
        mean_dot, log_std_dot = z_dot.chunk(2, -1)
        return Gaussian(mean_dot, log_std_dot * self.moves)

    def vjp(self, cotangent: ActionDistribution) -> tuple[Tensor, Params]:
        return torch.cat([cotangent[0], cotangent[1] * self.moves], -1), {}


def _within(log_std: Tensor, policy: MlpPolicy) -> Tensor:
    """Returns 1 where log_std is within its bounds, and 0 elsewhere."""
    least, most = policy.config.log_stds
    return ((log_std >= least) & (log_std <= most)).to(log_std.dtype)


Output: TypeAlias = Logits | SharedStd | StateStd
"""`jvp` returns the distribution's derivative for that of z and of the parameters. `vjp` returns
the cotangent of z, [K, N, ...], and the gradient of log_std [K, act_dim] where it is a parameter.
"""
OUTPUTS = {"none": Logits, "shared": SharedStd, "state": StateStd}


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
    output: Output
    """Derivative of the distribution by the last layer's z."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, obs: Tensor) -> LinearisedMlp:
        """Evaluates `policy` once, and keeps what its derivatives need."""
        relu = policy.config.activation == "relu"
        weights = [params[f"layer{i}.weight"] for i in range(policy.layers)]
        *inputs, z = policy.network.trace(params, policy.inputs(params, obs))
        slopes = [(h > 0).to(h.dtype) if relu else 1.0 - h.square() for h in inputs[1:]]
        output = OUTPUTS[policy.std].at(policy, params, z)
        distribution = policy.distribution(params, z)
        return cls(relu, policy.config.context, weights, inputs, slopes, distribution, output)

    def jvp(self, tangent: Params) -> tuple[ActionDistribution, list[Tensor]]:
        """Returns the derivatives of the distribution and of the hidden layers along `tangent`."""
        hidden_dot: list[Tensor] = []
        for i, (x, weight) in enumerate(zip(self.inputs, self.weights, strict=True)):
            z_dot = linear(x, tangent[f"layer{i}.weight"], tangent[f"layer{i}.bias"])
            if i > 0:
                z_dot = add_product(z_dot, hidden_dot[-1], weight.mT)
            elif self.context:
                columns = weight[..., -self.context :]
                z_dot = z_dot + _row_product(tangent["context"], columns.mT)
            if i < len(self.slopes):
                hidden_dot.append(z_dot.mul_(self.slopes[i]))
        return self.output.jvp(z_dot, tangent), hidden_dot

    def vjp(self, cotangent: ActionDistribution) -> tuple[Params, list[Tensor]]:
        """Returns J^T cotangent as gradients [K, ...], and the cotangent of each layer's z."""
        delta, of_std = self.output.vjp(cotangent)
        deltas = [delta]
        for i in range(len(self.slopes), 0, -1):
            deltas.append(torch.matmul(deltas[-1], self.weights[i]).mul_(self.slopes[i - 1]))
        deltas.reverse()
        return {**self.gradients(deltas), **of_std}, deltas

    def gradients(self, deltas: list[Tensor]) -> Params:
        """Returns the layers' gradients [K, ...] for the cotangents of each layer's z."""
        gradients: Params = {}
        for i, (delta, x) in enumerate(zip(deltas, self.inputs, strict=True)):
            gradients[f"layer{i}.weight"] = over_samples_product(delta, x)
            gradients[f"layer{i}.bias"] = delta.sum(1)
        if self.context:
            columns = self.weights[0][..., -self.context :]
            gradients["context"] = _row_product(gradients["layer0.bias"], columns).squeeze(1)
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
    bends: list[Tensor]
    """Factors of the hidden layers' derivatives in those of `deltas`; none for relu."""

    @classmethod
    def of(cls, here: LinearisedMlp, deltas: list[Tensor], curvature: Curvature) -> LossHessian:
        """Keeps what is alike in all products."""
        if here.relu:
            return cls(here, deltas, curvature, [])
        # tanh'' z_dot = -2 h h_dot. Deltas hold tanh', hence the division; saturated, both are zero
        layers = zip(deltas, here.inputs[1:], here.slopes, strict=False)
        bends = [-2.0 * h / slope.clamp(min=1e-12) * delta for delta, h, slope in layers]
        return cls(here, deltas, curvature, bends)

    def __call__(self, tangent: Params) -> Params:
        """Returns H_i tangent for each task, [K, ...]: the derivative of its gradient along
        `tangent`, which may hold more than the policy's parameters."""
        here, deltas = self.here, self.deltas
        v = {name: x.to(deltas[0].dtype) for name, x in tangent.items()}
        distribution_dot, hidden_dot = here.jvp(v)
        delta_dot, of_std = here.output.vjp(self.curvature.times(distribution_dot))
        deltas_dot = [delta_dot]
        for i in range(len(here.slopes), 0, -1):
            delta_dot = torch.matmul(deltas_dot[-1], here.weights[i])
            delta_dot = add_product(delta_dot, deltas[i], v[f"layer{i}.weight"])
            delta_dot.mul_(here.slopes[i - 1])
            if self.bends:
                delta_dot.addcmul_(self.bends[i - 1], hidden_dot[i - 1])
            deltas_dot.append(delta_dot)
        deltas_dot.reverse()
        product = {**here.gradients(deltas_dot), **of_std}
        for i in range(1, len(here.weights)):
            weight = product[f"layer{i}.weight"]
            product[f"layer{i}.weight"] = over_samples_product(deltas[i], hidden_dot[i - 1], weight)
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


def over_samples_product(
    delta: Tensor, x: Tensor, total: Tensor | None = None, pieces: int | None = None
) -> Tensor:
    """Returns delta^T x for each task, [K, out, in], from [K, N, out] and [K, N, in]; adds it to
    `total` in place where it is given.

    A GPU has more multiprocessors than such a product has blocks of results. There the samples are
    divided into `pieces`, whose products are added.
    """
    if pieces is None:
        small = delta.shape[-1] * x.shape[-1] <= SMALL_PRODUCT
        pieces = PIECES if delta.is_cuda and small and delta.shape[1] % PIECES == 0 else 1
    if pieces == 1:
        return torch.bmm(delta.mT, x) if total is None else total.baddbmm_(delta.mT, x)
    left, right = (y.unflatten(1, (pieces, -1)).flatten(0, 1) for y in (delta, x))
    found = torch.bmm(left.mT, right).unflatten(0, (-1, pieces)).sum(1)
    return found if total is None else total.add_(found)


def _row_product(row: Tensor, matrix: Tensor) -> Tensor:
    """row @ matrix, [1, out], or [K, 1, out] if either argument has a task axis."""
    return torch.matmul(row.unsqueeze(-2), matrix)


def add_product(total: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Adds x @ matrix to `total` in place; `matrix` is shared or has a leading K."""
    if matrix.dim() == 2:
        total.view(-1, total.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), matrix)
        return total
    return total.baddbmm_(x, matrix)
