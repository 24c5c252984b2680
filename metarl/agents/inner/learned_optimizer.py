"""Inner rule LOMAML: a recurrent network, the same for every coordinate, makes the steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.agents.inner.rule import MEMORY, RULE, Seen
from metarl.config.settings import LearnedOptimizerConfig
from metarl.equations.gates import log_and_sign, lstm_cell
from metarl.networks.coordinates import Coordinates
from metarl.networks.mlp import initial_weight
from metarl.types import Params

CELL, OUT, ALPHA = f"{RULE}cell", f"{RULE}out", f"{RULE}alpha"
STATES = f"{MEMORY}hidden", f"{MEMORY}cell"
TINY = 1e-20
"""Keeps a gradient of zero from a derivative without bound."""
OUTPUTS = 2
"""A gain and a shift."""


class LearnedOptimizer:
    """phi^(k+1) = phi^(k) - alpha O_theta(grad L(phi^(k))), O an LSTM on each coordinate.

    As in arXiv:1606.04474, section 2.1, it reads the gradient's log-magnitude and sign, its state
    is carried from step to step, and its weights are shared over coordinates. What it says is a
    gain and a shift, O(g) = g (1 + gain) + rms(g) shift, both zero before training, so that it
    begins as gradient descent; the gradient's own size, over a task's coordinates, keeps a shift
    from being far more than the policy bears. A `linear` O is a multiple of g, 1 at first.
    """

    gradients = True

    def __init__(self, config: LearnedOptimizerConfig, coordinates: Coordinates):
        self.config, self.coordinates = config, coordinates
        self.moved = tuple(coordinates.shapes)

    def init(self, rng: np.random.Generator) -> Params:
        config, params = self.config, {}
        if config.learn_lr:
            params[ALPHA] = torch.full((len(self.coordinates.counts),), config.lr)
        if config.cell == "linear":
            return {**params, OUT: torch.ones(1)}
        weight = initial_weight(rng, 4 * config.size, 2 + config.size, "xavier")
        params[f"{CELL}.weight"] = torch.from_numpy(weight).float()
        bias = torch.zeros(4, config.size)
        bias[1] = 1.0  # of the forget gate: to remember
        params[f"{CELL}.bias"] = bias.flatten()
        params[f"{OUT}.weight"] = torch.zeros(OUTPUTS, config.size)
        params[f"{OUT}.bias"] = torch.zeros(OUTPUTS)
        return params

    def move(self, params: Params, seen: Seen, index: int) -> Params:
        num_tasks = len(seen.loss)
        gradient = self.coordinates.row(seen.gradient, num_tasks)
        before = self.coordinates.row(params, num_tasks)
        update, memory = self.update(params, gradient)
        alpha: float | Tensor = self.config.lr
        if self.config.learn_lr:
            alpha = self.coordinates.each(params[ALPHA])
        return {**self.coordinates.params(before - alpha * update), **memory}

    def update(self, params: Params, gradient: Tensor) -> tuple[Tensor, Params]:
        """O(gradient) [K, P], and what it remembers."""
        if self.config.cell == "linear":
            return params[OUT] * gradient, {}
        x = log_and_sign(gradient)
        nothing = gradient.new_zeros(*gradient.shape, self.config.size)
        hidden, cell = (params.get(name, nothing) for name in STATES)
        hidden, cell = lstm_cell(x, hidden, cell, params[f"{CELL}.weight"], params[f"{CELL}.bias"])
        said = torch.nn.functional.linear(hidden, params[f"{OUT}.weight"], params[f"{OUT}.bias"])
        gain, shift = said.unbind(-1)
        size = (gradient.square().mean(-1, keepdim=True) + TINY).sqrt()
        return gradient * (1.0 + gain) + size * shift, dict(
            zip(STATES, (hidden, cell), strict=True)
        )
