"""Multilayer perceptron (MLP) and MLP policy, as functions of their parameters.

A parameter is either shared by all tasks (`weight [out, in]`) or adapted (`[K, out, in]`);
observations are `[..., N, obs_dim]` or `[K, ..., N, obs_dim]`. The same code handles both and vmap.
Where observations begin with an image, a torso of convolutions comes before (`torso.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.equations.box_gaussian import BoxGaussian
from metarl.equations.distributions import ActionDistribution
from metarl.equations.gaussian import Gaussian
from metarl.networks.families import action_family
from metarl.networks.torso import Torso, torso_of
from metarl.types import EnvSpec, Params


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns x W^T + b, with W [out, in] shared or [K, out, in] for each leading row of x."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if x.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    inner = [1] * (x.dim() - 3)
    rows = weight.view(weight.shape[0], *inner, *weight.shape[1:])
    return x @ rows.mT + bias.view(bias.shape[0], *inner, 1, -1)


class Mlp:
    """Layers `sizes[0]` -> ... -> `sizes[-1]`, with `activation` between them.

    Parameters are `PREFIX0.weight`, `PREFIX0.bias`, ..., in a dict that may hold others too. With
    a `torso`, which has parameters of its own, the first layer reads features in place of pixels.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        init: str,
        prefix: str = "layer",
        torso: Torso | None = None,
    ):
        """`sizes[0]` is the width of the inputs, pixels included."""
        self.torso, self.inputs = torso, sizes[0]
        first = sizes[0] if torso is None else torso.width(sizes[0])
        self.sizes, self.activation, self.prefix = (first, *sizes[1:]), activation, prefix
        self.weights_by = init
        self.layers = len(self.sizes) - 1

    @property
    def widest(self) -> int:
        """Most numbers that a layer reads or gives for one input."""
        return max(*self.sizes, self.torso.widest if self.torso else 0)

    def init(self, rng: np.random.Generator) -> Params:
        """Draws xavier or orthogonal weights, with zero biases and no task axis."""
        params: Params = {}
        for name, fan_in, fan_out in self._shapes():
            params[f"{name}.weight"] = initial_weight(rng, fan_out, fan_in, self.weights_by)
            params[f"{name}.bias"] = torch.zeros(fan_out)
        return params

    def _shapes(self) -> Iterator[tuple[str, int, int]]:
        """Yields the name of each layer, the numbers that a unit or a filter reads, and units."""
        if self.torso:
            for name, plan in zip(self.torso.names, self.torso.convolutions, strict=True):
                yield name, plan.patch, plan.after[0]
        for i, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            yield f"{self.prefix}{i}", fan_in, fan_out

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Returns [..., N, sizes[-1]] at x [..., N, inputs]; `params` may hold more."""
        if self.torso:
            x = self.torso(params, x, self.activation)
        for i in range(self.layers):
            x = linear(x, params[f"{self.prefix}{i}.weight"], params[f"{self.prefix}{i}.bias"])
            x = activated(x, self.activation) if i < self.layers - 1 else x
        return x


def activated(x: Tensor, activation: str) -> Tensor:
    return x.relu() if activation == "relu" else x.tanh()


class MlpPolicy:
    """Maps observations to action distributions: Gaussian on Box, else categorical."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig):
        self.config = config
        self.kind: Any
        self.options, self.kind = action_family(spec, config)
        self.std = config.std if issubclass(self.kind, Gaussian) else "none"
        """Origin of the deviation: the parameter log_std ("shared") or the last layer ("state")."""
        self.noise_dim = sum(self.options) or spec.act_dim
        """Width of the noise that one action is sampled with, and of `encoded` actions."""
        outputs = self.noise_dim * (2 if self.std == "state" else 1)
        sizes = (spec.obs_dim + config.context, *config.hidden, outputs)
        self.network = Mlp(sizes, config.activation, config.init, torso=torso_of(spec, config))
        self.sizes, self.layers = self.network.sizes, self.network.layers

    def init(self, rng: np.random.Generator) -> Params:
        """Draws weights by `config.init`; biases are zero, log_std = log(init_std). No task axis.

        A task's context is not included: see `begin`.
        """
        log_std = torch.full((self.noise_dim,), math.log(self.config.init_std))
        if self.std == "state":
            return self._init_with_deviation(rng, log_std)
        params = self.network.init(rng)
        return {**params, "log_std": log_std} if self.std == "shared" else params

    def _init_with_deviation(self, rng: np.random.Generator, log_std: Tensor) -> Params:
        """Draws the weights of the mean as for a shared deviation. Those of the deviation are zero
        and their biases `log_std`, so that it is the same at every observation."""
        sizes = (self.network.inputs, *self.sizes[1:-1], self.noise_dim)
        mean = Mlp(sizes, self.config.activation, self.config.init, torso=self.network.torso)
        params, last = mean.init(rng), f"layer{self.layers - 1}"
        weight = params[f"{last}.weight"]
        params[f"{last}.weight"] = torch.cat([weight, torch.zeros_like(weight)])
        params[f"{last}.bias"] = torch.cat([params[f"{last}.bias"], log_std])
        return params

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, without a task axis."""
        return {name: tuple(x.shape) for name, x in self.init(np.random.default_rng(0)).items()}

    def begin(self, params: Params) -> Params:
        """Returns a task's initial parameters: `params` and a context [config.context] of zeros.

        It is linear, so it also maps tangents of meta-parameters.
        """
        if not self.config.context:
            return params
        return {**params, "context": params["layer0.weight"].new_zeros(self.config.context)}

    def __call__(self, params: Params, obs: Tensor) -> ActionDistribution:
        """Returns the action distribution at obs [..., N, obs_dim]."""
        return self.distribution(params, self.network(params, self.inputs(params, obs)))

    def inputs(self, params: Params, obs: Tensor) -> Tensor:
        """Returns the first layer's inputs: obs [..., N, obs_dim] and the task's context."""
        if not self.config.context:
            return obs
        context = over_samples(params["context"], obs)
        return torch.cat([obs, context.expand(*obs.shape[:-1], -1)], -1)

    def encoded(self, actions: Tensor) -> Tensor:
        """Returns actions [..., act_dim] as a network reads them, [..., noise_dim]: choices
        one-hot, numbers unchanged, or in units of the box if the policy is scaled to it."""
        if issubclass(self.kind, BoxGaussian):
            return self.kind.in_units(actions)
        if not self.options:
            return actions
        choices = zip(actions.unbind(-1), self.options, strict=True)
        return torch.cat([F.one_hot(index.long(), n) for index, n in choices], -1)

    def distribution(self, params: Params, output: Tensor) -> ActionDistribution:
        """Returns the distribution for the last layer's output, [..., N, sizes[-1]]."""
        if self.std == "none":
            return self.kind(output)
        if self.std == "state":
            mean, log_std = output.chunk(2, -1)
        else:
            mean, log_std = output, over_samples(params["log_std"], output)
        return self.kind(mean, log_std.clamp(*self.config.log_stds))


def select_tasks(params: Params, rows: slice | int) -> Params:
    """Selects rows of adapted parameters (one task: without K); keeps shared ones whole."""
    return {name: x[rows] if is_adapted(name, x) else x for name, x in params.items()}


def concat_tasks(parts: Sequence[Params]) -> Params:
    """Inverts `select_tasks`, for consecutive tasks' parameters in order."""
    return {
        name: torch.cat([part[name] for part in parts]) if is_adapted(name, x) else x
        for name, x in parts[0].items()
    }


def added(parts: Sequence[Params]) -> Params:
    """Returns the sums of the parts' tensors, in order."""
    return {name: reduce(add, [part[name] for part in parts]) for name in parts[0]}


def expand_to_tasks(params: Params, names: Sequence[str], num_tasks: int) -> Params:
    """Expands some parameters to [K, ...], so that each task has its own gradient.

    Parameters that require no gradient are detached.
    """
    own = {
        name: params[name]
        if is_adapted(name, params[name])
        else params[name].expand(num_tasks, *params[name].shape)
        for name in names
    }
    return {n: x if x.requires_grad else x.detach().requires_grad_() for n, x in own.items()}


def is_adapted(name: str, x: Tensor) -> bool:
    """Returns whether a parameter has a leading K; without it weights are 2-D, others 1-D."""
    return x.dim() > (2 if name.endswith("weight") else 1)


def over_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Broadcasts adapted x [K, n] over samples [K, ..., n]; returns shared x [n] unchanged."""
    if x.dim() == 1:
        return x
    return x.view(x.shape[0], *[1] * (samples.dim() - 2), -1)


def initial_weight(rng: np.random.Generator, rows: int, columns: int, init: str) -> Tensor:
    """Draws a float32 matrix by `init`, "xavier" or "orthogonal"."""
    if init == "orthogonal":
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return torch.from_numpy(q if rows >= columns else q.T).float()
    bound = math.sqrt(6.0 / (rows + columns))  # Glorot and Bengio 2010, Eq. 16
    return torch.from_numpy(rng.uniform(-bound, bound, (rows, columns))).float()
