"""Inner rule Meta-LSTM: a task's parameters are the cell of an LSTM."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import linear

from metarl.agents.inner.rule import MEMORY, RULE, Seen
from metarl.config.settings import MetaLstmConfig
from metarl.equations.gates import log_and_sign
from metarl.networks.coordinates import Coordinates
from metarl.networks.mlp import initial_weight
from metarl.types import Params

READ, GATES, BEFORE = f"{RULE}read", f"{RULE}gates", f"{MEMORY}gates"
SEEN = 7
"""Gradient and loss as log-magnitude and sign, the parameter, both gates of the step before."""


class MetaLstm:
    """theta_t = f_t theta_(t-1) - i_t grad L_t, Ravi and Larochelle 2017, Eq. 2 and section 3.2.

    The gates i and f read the gradient, the loss, the parameter and the gates before, and are
    shared over coordinates; the cell's start is meta-learned. Before training i is `config.lr` and
    f `config.forget` everywhere. Deviations: a layer of `config.hidden` units before the gates,
    both gates read both gates before, and derivatives go through what the gates see (`first_order`
    leaves those out, as published).
    """

    gradients = True

    def __init__(self, config: MetaLstmConfig, coordinates: Coordinates):
        self.config, self.coordinates = config, coordinates
        self.moved = tuple(coordinates.shapes)

    def init(self, rng: np.random.Generator) -> Params:
        params, hidden = {}, self.config.hidden
        if hidden:
            weight = initial_weight(rng, hidden, SEEN, "xavier")
            params[f"{READ}.weight"] = torch.from_numpy(weight).float()
            params[f"{READ}.bias"] = torch.zeros(hidden)
        params[f"{GATES}.weight"] = torch.zeros(2, hidden or SEEN)
        start = [math.log(p / (1.0 - p)) for p in (self.config.lr, self.config.forget)]
        params[f"{GATES}.bias"] = torch.tensor(start)
        return params

    def move(self, params: Params, seen: Seen, index: int) -> Params:
        num_tasks = len(seen.loss)
        gradient = self.coordinates.row(seen.gradient, num_tasks)
        before = self.coordinates.row(params, num_tasks)
        loss = seen.loss[:, None].expand_as(gradient)
        gates = params.get(BEFORE, gradient.new_zeros(*gradient.shape, 2))
        read = torch.cat([log_and_sign(gradient), log_and_sign(loss), before[..., None], gates], -1)
        if self.config.hidden:
            read = linear(read, params[f"{READ}.weight"], params[f"{READ}.bias"]).tanh()
        gates = linear(read, params[f"{GATES}.weight"], params[f"{GATES}.bias"]).sigmoid()
        enter, forget = gates.unbind(-1)
        return {**self.coordinates.params(forget * before - enter * gradient), BEFORE: gates}
