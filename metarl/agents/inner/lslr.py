"""Inner rule LSLR: gradient descent by step sizes learned for each layer and each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl.agents.inner.rule import RULE, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count, NonNegative, Positive, UnitInterval
from metarl.config.settings import AgentConfig, AnyAgentConfig

if TYPE_CHECKING:
    import numpy as np

    from metarl.types import Params

SIZES = f"{RULE}sizes."
"""Prefix of the learned step sizes' names, before the name of the parameter they are for."""


@dataclass(frozen=True)
class LslrConfig(RuleSettings):
    """Inner rule: gradient steps with a learned size for each layer and each step (MAML++)."""

    lr: Positive = 0.1
    """Every step size at first."""
    steps: Count = 1
    """Inner steps in training."""
    first_order: bool = False
    """Ignore how the inner gradients depend on the meta-parameters."""
    multi_step: UnitInterval = 0.0
    """Share of the meta-objective that the query's losses after earlier steps have at first, on
    examples (multi-step loss); 0: the loss after the last step alone counts."""
    multi_step_half_life: NonNegative = 1000.0
    """Meta-updates after which that share is half as large; 0: it stays."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` go this share of the last one's way."""

    @property
    def learns_lr(self) -> bool:
        return True

    def build(self, network: NetworkShape) -> Lslr:
        return Lslr(self, network)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = super().without_effect(agent)
        if self.first_order and not agent.outer.learns:
            found["agent.inner.first_order"] = "nothing is learned through an inner step"
        if self.multi_step and isinstance(agent, AgentConfig):
            found["agent.inner.multi_step"] = "the last step's policies alone collect a query"
        elif self.multi_step and self.steps == 1:
            found["agent.inner.multi_step"] = "there is no earlier step"
        if self.multi_step_half_life != LslrConfig.multi_step_half_life and not self.multi_step:
            found["agent.inner.multi_step_half_life"] = "agent.inner.multi_step is 0"
        return found


class Lslr(InnerRule):
    """theta_l' = theta_l - alpha_(l,j) grad_l L, alpha learned for every layer l and step j.

    arXiv:1810.09502, section 4, "Learning per-layer per-step learning rates": weights and biases
    of a layer have a size each. With `multi_step` the meta-objective is a weighted sum of the
    query's losses after every step, whose earlier terms fade ("Multi-step loss optimization").
    """

    def __init__(self, config: LslrConfig, network: NetworkShape):
        self.config, self.steps = config, config.steps
        self.first_order, self.adapted = config.first_order, tuple(network.shapes)
        self.counts_updates = config.multi_step > 0 and config.multi_step_half_life > 0

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        """Returns the step sizes, [steps] for each parameter."""
        return {SIZES + n: params[n].new_full((self.steps,), self.config.lr) for n in self.adapted}

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        step = min(index, self.steps - 1)
        after = {
            name: given.params[name] - params[SIZES + name][step] * gradient
            for name, gradient in given.gradient.items()
        }
        return self.shortened(given.params, after, index, self.config.extra_step_scale)

    def query_weights(self, updates: int) -> tuple[float, ...]:
        """Returns equal weights of all earlier steps, and the rest for the last."""
        share, half_life = self.config.multi_step, self.config.multi_step_half_life
        if half_life:
            share *= 0.5 ** (updates / half_life)
        earlier = self.steps - 1
        return (*[share / max(1, earlier)] * earlier, 1.0 - share)
