"""Environment steps of an agent in place of a preset's own: in as many iterations, or as many."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from metarl.config.settings import AnyConfig, Config, OwnAgentConfig
from metarl.errors import UserError

MATCH = "--match-budget"


def share(config: AnyConfig, usual: Any) -> Fraction:
    """Returns the environment steps of an iteration, as a share of those with the agent `usual`.

    An iteration plays a round of episodes before each inner step and one after the last, so joint
    training plays half as many as MAML with one step.
    """
    agents = config.agent, usual
    if not isinstance(config, Config) or any(isinstance(x, OwnAgentConfig) for x in agents):
        return Fraction(1)
    own, theirs = (x.inner.training_steps + 1 for x in agents)
    return Fraction(own, theirs) if config.agent.outer.learns else Fraction(1)


def matched(config: AnyConfig, usual: Any) -> AnyConfig:
    """Returns the config with iterations for as many environment steps as the agent `usual` plays.

    Raises:
        UserError: where it learns from examples, of which an iteration has as many for all agents,
            and for an agent of a user's own.
    """
    if not isinstance(config, Config):
        raise UserError(
            f"{MATCH} is for agents that play episodes; on {config.env.name!r} every agent learns "
            "from as many tasks an iteration"
        )
    if isinstance(config.agent, OwnAgentConfig):
        raise UserError(
            f"{MATCH} does not know the rounds of an agent of your own, {config.agent.name!r}; "
            "give --iterations"
        )
    return replace(config, iterations=max(1, round(config.iterations / share(config, usual))))


def note(config: AnyConfig, usual: Any) -> str | None:
    """Returns a line that tells of another number of environment steps than that of `usual`."""
    part = share(config, usual)
    if part == 1:
        return None
    how_many = f"{part} of" if part < 1 else f"{part} times"
    fewest = matched(config, usual).iterations
    return (
        f"{config.agent.name} plays {how_many} the environment steps of the preset's {usual.name} "
        f"in {_iterations(config.iterations)}"
        + (f"; {MATCH} makes that {_iterations(fewest)}" if fewest != config.iterations else "")
    )


def _iterations(number: int) -> str:
    return f"{number} iteration{'s' if number != 1 else ''}"
