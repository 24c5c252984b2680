"""Inner rule Meta-LSTM: a task's parameters are the cell of an LSTM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl.agents.inner.rule import MEMORY, RULE, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count, Natural, Positive, Shrinking
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.equations import gates as cells
    from metarl.networks import coordinates, mlp
    from metarl.types import Params
else:
    torch, cells = lazy("torch"), lazy("metarl.equations.gates")
    coordinates, mlp = lazy("metarl.networks.coordinates"), lazy("metarl.networks.mlp")

READ, GATES, BEFORE = f"{RULE}read", f"{RULE}gates", f"{MEMORY}gates"
INPUTS = 7
"""Width of the gates' inputs: gradient and loss (log-magnitude, sign), parameter, old gates."""


@dataclass(frozen=True)
class MetaLstmConfig(RuleSettings):
    """Inner rule: the parameters are an LSTM's cell with learned gates (Meta-LSTM)."""

    lr: Shrinking = 0.1
    """Initial input gate, which multiplies the gradient."""
    forget: Shrinking = 0.9999
    """Initial forget gate, which multiplies the parameter."""
    steps: Count = 1
    """Adaptation steps in training."""
    hidden: Natural = 20
    """Units between the gates' inputs and the gates; 0: the published, linear gates."""
    first_order: bool = False
    """Ignore how the gates' inputs, gradients and losses, depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """Factor that shortens steps beyond `steps` at evaluation."""

    @property
    def learns_lr(self) -> bool:
        return True

    def build(self, network: NetworkShape) -> MetaLstm:
        return MetaLstm(self, coordinates.Coordinates(network.shapes))


class MetaLstm(InnerRule):
    """theta_t = f_t theta_(t-1) - i_t grad L_t, Ravi and Larochelle 2017, Eq. 2 and section 3.2.

    The gates i and f read the gradient, the loss, the parameter and the previous gates. All
    coordinates share them, and the cell's start is meta-learned. Before training i is `config.lr`
    and f is `config.forget`. Deviations: a layer of `config.hidden` units before the gates, both
    gates read both previous gates, and derivatives go through the gates' inputs (`first_order`
    omits those, as published).
    """

    reads = frozenset({"gradient", "loss"})

    def __init__(self, config: MetaLstmConfig, coordinates: coordinates.Coordinates):
        self.config, self.coordinates = config, coordinates
        self.adapted, self.steps = tuple(coordinates.shapes), config.steps
        self.first_order = config.first_order

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        params, hidden = {}, self.config.hidden
        if hidden:
            params[f"{READ}.weight"] = mlp.initial_weight(rng, hidden, INPUTS, "xavier")
            params[f"{READ}.bias"] = torch.zeros(hidden)
        params[f"{GATES}.weight"] = torch.zeros(2, hidden or INPUTS)
        start = [math.log(p / (1.0 - p)) for p in (self.config.lr, self.config.forget)]
        params[f"{GATES}.bias"] = torch.tensor(start)
        return params

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        assert given.loss is not None
        gradient = self.coordinates.row(given.gradient)
        before = self.coordinates.row(given.params)
        loss = given.loss[:, None].expand_as(gradient)
        gates = params.get(BEFORE, gradient.new_zeros(*gradient.shape, 2))
        inputs = [cells.log_and_sign(gradient), cells.log_and_sign(loss), before[..., None], gates]
        read, linear = torch.cat(inputs, -1), torch.nn.functional.linear
        if self.config.hidden:
            read = linear(read, params[f"{READ}.weight"], params[f"{READ}.bias"]).tanh()
        gates = linear(read, params[f"{GATES}.weight"], params[f"{GATES}.bias"]).sigmoid()
        enter, forget = gates.unbind(-1)
        after = {**self.coordinates.params(forget * before - enter * gradient), BEFORE: gates}
        return self.shortened(given.params, after, index, self.config.extra_step_scale)
