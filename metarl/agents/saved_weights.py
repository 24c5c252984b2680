"""Saved weights, taken back by the agent that they are of."""

from __future__ import annotations

import torch

from metarl.agents.normalisation import normalised
from metarl.types import Params


def checked(state: Params, own: Params, device: torch.device) -> Params:
    """Copies of `state` for an agent whose own are `own`.

    Copies, since what a file was read into may lie at other addresses modulo a cache line, and
    with them a sum's order.

    Raises:
        ValueError: where statistics, names or shapes are not that agent's.
    """
    if normalised(state) != normalised(own):
        raise ValueError(
            f"these weights hold statistics of {normalised(state)}, this agent's of "
            f"{normalised(own)}; agent.normalisation must be as it was when they were saved"
        )
    expected = {name: tuple(x.shape) for name, x in own.items()}
    found = {name: tuple(x.shape) for name, x in state.items()}
    if expected != found:
        raise ValueError(f"these weights are not this agent's: {found}, expected {expected}")
    return {name: state[name].to(device, copy=True) for name in own}
