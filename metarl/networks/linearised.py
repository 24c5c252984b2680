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
from metarl.networks.mlp import Mlp, MlpPolicy, activated, linear, over_samples
from metarl.networks.torso import Flattened, Patches, arrangements
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


Way: TypeAlias = Patches | Flattened | None
"""Arrangement of a layer's outputs as samples of the next; None: they are its samples."""


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

    A convolution is a layer whose samples are patches (`torso.Patches`), of which an image has
    several: N below then counts patches.

    Obs are [K, N, obs_dim]. Parameters and tangents are shared or have a leading K; gradients
    always have a leading K. Tangents and cotangents of the distribution are distributions of the
    same family, [K, N, ...].
    """

    relu: bool
    context: int
    names: tuple[str, ...]
    """Layers, in order: convolutions, if there are any, then those of the MLP."""
    ways: tuple[Way, ...]
    """Arrangement of each hidden layer's outputs as inputs of the next."""
    weights: list[Tensor]
    inputs: list[Tensor]
    """Inputs of each layer, [K, N, ...]."""
    hidden: list[Tensor]
    """Outputs of each hidden layer, [K, N, ...]; without an arrangement they are `inputs`."""
    slopes: list[Tensor]
    """Derivative of each hidden layer's activation, [K, N, ...]."""
    distribution: ActionDistribution
    output: Output
    """Derivative of the distribution by the last layer's z."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, obs: Tensor) -> LinearisedMlp:
        """Evaluates `policy` once, and keeps what its derivatives need."""
        relu, network = policy.config.activation == "relu", policy.network
        names, ways = layer_names(network), arrangements_of(network)
        weights = [params[f"{name}.weight"] for name in names]
        x = policy.inputs(params, obs)
        rest = x[..., network.torso.pixels :] if network.torso else x
        inputs = [ways[0].of_pixels(x) if isinstance(ways[0], Patches) else x]
        hidden: list[Tensor] = []
        for name, weight, way in zip(names[:-1], weights, ways[1:], strict=False):
            z = linear(inputs[-1], weight, params[f"{name}.bias"])
            hidden.append(activated(z, policy.config.activation))
            inputs.append(arranged(hidden[-1], way, rest))
        z = linear(inputs[-1], weights[-1], params[f"{names[-1]}.bias"])
        slopes = [(h > 0).to(h.dtype) if relu else 1.0 - h.square() for h in hidden]
        output = OUTPUTS[policy.std].at(policy, params, z)
        distribution = policy.distribution(params, z)
        context = policy.config.context
        return cls(
            relu, context, names, ways[1:], weights, inputs, hidden, slopes, distribution, output
        )

    @property
    def first(self) -> int:
        """Index of the MLP's first layer, which reads the context."""
        return next((i + 1 for i, way in enumerate(self.ways) if isinstance(way, Flattened)), 0)

    def jvp(self, tangent: Params) -> tuple[ActionDistribution, list[Tensor]]:
        """Returns the derivatives of the distribution and of the hidden layers along `tangent`."""
        hidden_dot: list[Tensor] = []
        layers = zip(self.names, self.inputs, self.weights, strict=True)
        for i, (name, x, weight) in enumerate(layers):
            z_dot = linear(x, tangent[f"{name}.weight"], tangent[f"{name}.bias"])
            if i > 0:
                fed = arranged(hidden_dot[-1], self.ways[i - 1])
                z_dot = add_product(z_dot, fed, self.fed_by_hidden(i, weight).mT)
            if i == self.first and self.context:
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
            back = torch.matmul(deltas[-1], self.fed_by_hidden(i, self.weights[i]))
            deltas.append(self.disarranged(i, back).mul_(self.slopes[i - 1]))
        deltas.reverse()
        return {**self.gradients(deltas), **of_std}, deltas

    def fed_by_hidden(self, i: int, weight: Tensor) -> Tensor:
        """Returns the columns of layer i's weight that read the hidden layer before."""
        way = self.ways[i - 1]
        return weight[..., : way.features] if isinstance(way, Flattened) else weight

    def disarranged(self, i: int, x: Tensor) -> Tensor:
        """Returns the transpose of the arrangement before layer i times x [K, N, ...]."""
        way = self.ways[i - 1]
        return x if way is None else way.transposed(x)

    def gradients(self, deltas: list[Tensor]) -> Params:
        """Returns the layers' gradients [K, ...] for the cotangents of each layer's z."""
        gradients: Params = {}
        for name, delta, x in zip(self.names, deltas, self.inputs, strict=True):
            gradients[f"{name}.weight"] = over_samples_product(delta, x)
            gradients[f"{name}.bias"] = delta.sum(1)
        if self.context:
            columns = self.weights[self.first][..., -self.context :]
            gradients["context"] = _row_product(gradients["layer0.bias"], columns).squeeze(1)
        return gradients


def layer_names(network: Mlp) -> tuple[str, ...]:
    """Returns the names of a network's layers, those of its torso first."""
    own = tuple(f"{network.prefix}{i}" for i in range(network.layers))
    return (*network.torso.names, *own) if network.torso else own


def arrangements_of(network: Mlp) -> tuple[Way, ...]:
    """Returns how the inputs of each layer of a network come about."""
    plain: tuple[Way, ...] = (None,) * network.layers
    return (*arrangements(network.torso), *plain[1:]) if network.torso else plain


def arranged(h: Tensor, way: Way, rest: Tensor | None = None) -> Tensor:
    """Returns the next layer's inputs [K, N, ...] of a hidden layer's outputs; behind the last
    convolution the numbers `rest` [K, N, n] that are no pixels follow, where they are given."""
    if way is None:
        return h
    found = way.of_samples(h)
    return found if rest is None or isinstance(way, Patches) else torch.cat([found, rest], -1)


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
        layers = zip(deltas, here.hidden, here.slopes, strict=False)
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
            delta_dot = torch.matmul(deltas_dot[-1], here.fed_by_hidden(i, here.weights[i]))
            turned = here.fed_by_hidden(i, v[f"{here.names[i]}.weight"])
            delta_dot = here.disarranged(i, add_product(delta_dot, deltas[i], turned))
            delta_dot.mul_(here.slopes[i - 1])
            if self.bends:
                delta_dot.addcmul_(self.bends[i - 1], hidden_dot[i - 1])
            deltas_dot.append(delta_dot)
        deltas_dot.reverse()
        product = {**here.gradients(deltas_dot), **of_std}
        for i in range(1, len(here.weights)):
            columns = here.fed_by_hidden(i, product[f"{here.names[i]}.weight"])
            over_samples_product(deltas[i], arranged(hidden_dot[i - 1], here.ways[i - 1]), columns)
        if here.context:
            self._add_by_context(product, v)
        return {name: x.to(tangent[name].dtype) for name, x in product.items()}

    def _add_by_context(self, product: Params, v: Params) -> None:
        """Adds the terms between the context and its columns of the first layer's weights."""
        columns, delta = slice(-self.here.context, None), self.deltas[self.here.first].sum(1)
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
