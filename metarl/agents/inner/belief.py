"""Inner rule of VariBAD: a recurrent encoder forms a belief about the task; no parameter moves."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.config.ranges import Count, Natural
from metarl.config.settings import InnerSettings


@dataclass(frozen=True)
class BeliefConfig(InnerSettings):
    """Inner rule of VariBAD: to form a belief about the task from the steps of a trial."""

    family = "belief"
    agents = {"episodes": "metarl.agents.varibad:VariBad"}  # noqa: RUF012
    learns_values = True
    plays_trials = True

    size: Count = 128
    """Units of the encoder's hidden state, a GRU."""
    latent: Count = 5
    """Dimensions of the belief, a Gaussian with a mean and a variance of each."""
    obs_embedding: Count = 32
    """Units that encoder and decoder read an observation by."""
    action_embedding: Count = 16
    reward_embedding: Count = 16
    decoder: tuple[Count, ...] = (64, 32)
    """Hidden layers of the decoder, which predicts rewards from a sample of the belief."""
    steps: Natural = 1
    """Episodes of a trial but the last one."""
