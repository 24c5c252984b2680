"""Inner rule LOMAML: a recurrent network, shared by all coordinates, computes the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metarl.agents.inner.rule import MEMORY, RULE, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count, Positive
from metarl.config.settings import AnyAgentConfig
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.equations import gates
    from metarl.networks import coordinates, mlp
    from metarl.types import Params
else:
    torch, gates = lazy("torch"), lazy("metarl.equations.gates")
    coordinates, mlp = lazy("metarl.networks.coordinates"), lazy("metarl.networks.mlp")

CELL, OUT, ALPHA = f"{RULE}cell", f"{RULE}out", f"{RULE}alpha"
STATES = f"{MEMORY}hidden", f"{MEMORY}cell"
TINY = 1e-20
"""Term under a square root that keeps its derivative finite at zero gradient."""
OUTPUTS = 2
"""Outputs for each coordinate: a gain and a shift."""


@dataclass(frozen=True)
class LearnedOptimizerConfig(RuleSettings):
    """Inner rule: a recurrent network turns each coordinate's gradient into a step (LOMAML)."""

    lr: Positive = 0.1
    """Step size alpha."""
    steps: Count = 1
    """Adaptation steps in training."""
    cell: Literal["lstm", "linear"] = "lstm"
    """`linear` is a learned multiple of the gradient, initially 1: gradient descent."""
    size: Count = 8
    """Hidden units for each coordinate."""
    learn_lr: bool = True
    """Meta-learn alpha, one for each layer's weights and biases."""
    learn_start: bool = True
    """Meta-learn the initial parameters too; otherwise they stay as drawn."""
    first_order: bool = False
    """Ignore how the network's input gradients depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """Factor that shortens steps beyond `steps` at evaluation."""

    @property
    def learns_lr(self) -> bool:
        return self.learn_lr

    def build(self, network: NetworkShape) -> LearnedOptimizer:
        return LearnedOptimizer(self, coordinates.Coordinates(network.shapes))

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = super().without_effect(agent)
        if self.cell == "linear" and self.size != LearnedOptimizerConfig.size:
            found["agent.inner.size"] = "a linear cell has no hidden units"
        return found


class LearnedOptimizer(InnerRule):
    """phi^(k+1) = phi^(k) - alpha O_theta(grad L(phi^(k))), O an LSTM on each coordinate.

    As in arXiv:1606.04474, section 2.1, O reads the gradient's log-magnitude and sign, carries its
    state from step to step, and shares its weights over coordinates. It outputs a gain and a
    shift, O(g) = g (1 + gain) + rms(g) shift. Both are zero before training, so it begins as
    gradient descent. The rms over a task's coordinates scales the shift, so that it is not too
    large for the policy. A `linear` O is a multiple of g, initially 1.
    """

    def __init__(self, config: LearnedOptimizerConfig, coordinates: coordinates.Coordinates):
        self.config, self.coordinates = config, coordinates
        self.adapted, self.steps = tuple(coordinates.shapes), config.steps
        self.first_order, self.learns_start = config.first_order, config.learn_start

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        config, params = self.config, {}
        if config.learn_lr:
            params[ALPHA] = torch.full((len(self.coordinates.counts),), config.lr)
        if config.cell == "linear":
            return {**params, OUT: torch.ones(1)}
        size = config.size
        params[f"{CELL}.weight"] = mlp.initial_weight(rng, 4 * size, 2 + size, "xavier")
        bias = torch.zeros(4, size)
        bias[1] = 1.0  # forget gate open, so that the cell remembers
        params[f"{CELL}.bias"] = bias.flatten()
        params[f"{OUT}.weight"] = torch.zeros(OUTPUTS, size)
        params[f"{OUT}.bias"] = torch.zeros(OUTPUTS)
        return params

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        gradient = self.coordinates.row(given.gradient)
        before = self.coordinates.row(given.params)
        update, memory = self.update(params, gradient)
        alpha: float | Tensor = self.config.lr
        if self.config.learn_lr:
            alpha = self.coordinates.each(params[ALPHA])
        after = {**self.coordinates.params(before - alpha * update), **memory}
        return self.shortened(given.params, after, index, self.config.extra_step_scale)

    def update(self, params: Params, gradient: Tensor) -> tuple[Tensor, Params]:
        """Returns O(gradient) [K, P] and the new memory."""
        if self.config.cell == "linear":
            return params[OUT] * gradient, {}
        x = gates.log_and_sign(gradient)
        nothing = gradient.new_zeros(*gradient.shape, self.config.size)
        hidden, cell = (params.get(name, nothing) for name in STATES)
        hidden, cell = gates.lstm_cell(
            x, hidden, cell, params[f"{CELL}.weight"], params[f"{CELL}.bias"]
        )
        output = torch.nn.functional.linear(hidden, params[f"{OUT}.weight"], params[f"{OUT}.bias"])
        gain, shift = output.unbind(-1)
        size = (gradient.square().mean(-1, keepdim=True) + TINY).sqrt()
        return gradient * (1.0 + gain) + size * shift, dict(
            zip(STATES, (hidden, cell), strict=True)
        )
