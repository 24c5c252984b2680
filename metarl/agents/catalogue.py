"""The agents by name: an inner rule, an outer rule and the settings they start from.

Importing this imports no torch, so that a command line can be read before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metarl.config import AgentConfig, SgdConfig, TrpoConfig
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.types import Agent, EnvSpec


class Entry(NamedTuple):
    """One row of the table of agents."""

    summary: str
    config: AgentConfig
    """Complete settings; their classes are the rules whose keys a file or flag may set."""


AGENTS = {
    "maml-trpo": Entry(
        "MAML: policy-gradient steps inside, a trust-region step outside (arXiv:1703.03400)",
        AgentConfig(name="maml-trpo", inner=SgdConfig(), outer=TrpoConfig()),
    ),
}


def names() -> tuple[str, ...]:
    return tuple(AGENTS)


def default(name: str) -> AgentConfig:
    """The settings that an agent starts from.

    Raises:
        UserError: for a name that is not in the catalogue.
    """
    if name not in AGENTS:
        raise UserError(f"{name!r} is no agent{nearest(name, AGENTS)}")
    return AGENTS[name].config


def build(
    spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
) -> Agent:
    """The agent that `config` describes, before its first update."""
    from metarl.agents.gradient_agent import GradientAgent  # torch: once an agent is built

    return GradientAgent(spec, config, rng, device)
