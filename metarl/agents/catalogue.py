"""The agents by name: an inner rule, an outer rule and the settings they start from.

Importing this imports no torch, so that a command line can be read before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metarl.config.settings import (
    LEARNED,
    AdvantageConfig,
    AgentConfig,
    DirectionsConfig,
    LearnedConfig,
    LearnedOptimizerConfig,
    MappingConfig,
    MetaLstmConfig,
    NormalisationConfig,
    NoUpdateConfig,
    PolicyConfig,
    PpoConfig,
    PpoStepsConfig,
    ReptileConfig,
    SgdConfig,
    TrialConfig,
    TrialPpoConfig,
    TrpoConfig,
    unheeded_by_rule,
)
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
    told: bool = False
    """Whether it observes the numbers of its task: no learner, but what to hope for."""


def _entry(
    name: str,
    summary: str,
    inner: SgdConfig | LearnedConfig | PpoStepsConfig | TrialConfig,
    outer: TrpoConfig | PpoConfig | ReptileConfig | TrialPpoConfig | NoUpdateConfig,
    policy: PolicyConfig | None = None,
    advantages: AdvantageConfig | None = None,
    normalisation: NormalisationConfig | None = None,
    told: bool = False,
) -> Entry:
    parts = (
        policy or PolicyConfig(),
        advantages or AdvantageConfig(),
        normalisation or NormalisationConfig(),
    )
    return Entry(summary, AgentConfig(name, inner, outer, *parts), told)


_VALUED = AdvantageConfig(gae_lambda=0.95)
"""Of agents that learn a value function."""

AGENTS = {
    entry.config.name: entry
    for entry in (
        _entry(
            "maml-trpo",
            "MAML: policy-gradient steps inside, a trust-region step outside (arXiv:1703.03400)",
            SgdConfig(),
            TrpoConfig(),
        ),
        _entry(
            "maml-ppo",
            "MAML with PPO outside: several epochs on each meta-batch",
            SgdConfig(),
            PpoConfig(),
        ),
        _entry(
            "promp",
            "ProMP: the low-variance curvature surrogate, and a KL penalty (arXiv:1810.06784)",
            SgdConfig(),
            PpoConfig(inner_ratio=True, inner_kl=5e-4),
        ),
        _entry(
            "e-maml",
            "E-MAML: exploration credited for what comes after adaptation (arXiv:1803.01118)",
            SgdConfig(),
            PpoConfig(exploration=True),
        ),
        _entry(
            "dice-maml",
            "MAML through the DiCE estimator (arXiv:1802.05098)",
            SgdConfig(estimator="dice"),
            PpoConfig(lr=3e-3, epochs=1),  # after it the gradient no longer fits these episodes
        ),
        _entry(
            "fomaml-trpo",
            "first-order MAML: the inner step's derivative left out (arXiv:1703.03400)",
            SgdConfig(first_order=True),
            TrpoConfig(),
        ),
        _entry(
            "anil-trpo",
            "ANIL: inner steps move the last layer alone (arXiv:1909.09157)",
            SgdConfig(moved="head"),
            TrpoConfig(),
        ),
        _entry(
            "meta-sgd-trpo",
            "Meta-SGD: a learned step size for every parameter (arXiv:1707.09835)",
            SgdConfig(learn_lr=True),
            TrpoConfig(),
        ),
        _entry(
            "cavia-trpo",
            "CAVIA: inner steps move context inputs alone (arXiv:1810.03642)",
            SgdConfig(lr=1.0, moved="context"),
            TrpoConfig(),
            PolicyConfig(context=10),
        ),
        _entry(
            "lomaml",
            "LOMAML: a recurrent network makes the inner steps of gradients (arXiv:1606.04474)",
            LearnedOptimizerConfig(),
            TrpoConfig(),
        ),
        _entry(
            "meta-lstm",
            "Meta-LSTM: parameters are an LSTM's cell, its gates learned (Ravi, Larochelle 2017)",
            MetaLstmConfig(),
            TrpoConfig(),
        ),
        _entry(
            "gbml",
            "GBML: the direction is predicted from gradients and samples",
            DirectionsConfig(),
            TrpoConfig(),
        ),
        _entry(
            "mapping",
            "model-based: a set encoder and a hypernetwork map samples to parameters",
            MappingConfig(deltas="head"),
            TrpoConfig(),
            normalisation=NormalisationConfig(rewards=True),  # an input here
        ),
        *(
            _entry(
                f"{name}-ppo", f"`{name}` with PPO outside", inner, PpoConfig(), None, None, units
            )
            for name, inner, units in (
                ("lomaml", LearnedOptimizerConfig(), None),
                ("meta-lstm", MetaLstmConfig(), None),
                ("gbml", DirectionsConfig(), None),
                ("mapping", MappingConfig(deltas="head"), NormalisationConfig(rewards=True)),
            )
        ),
        _entry(
            "reptile-ppo",
            "Reptile: PPO on each task, then towards where it led (arXiv:1803.02999)",
            PpoStepsConfig(steps=2),
            ReptileConfig(),
            advantages=_VALUED,
        ),
        _entry(
            "rl2",
            "RL2: a recurrent policy that remembers a task's episodes (arXiv:1611.02779)",
            TrialConfig(),
            TrialPpoConfig(),
            advantages=_VALUED,
            normalisation=NormalisationConfig(rewards=True),  # an input here
        ),
        _entry(
            "joint-trpo",
            "control: TRPO on all tasks at once, adapted at evaluation only",
            SgdConfig(steps=0),
            TrpoConfig(),
        ),
        _entry(
            "joint-ppo",
            "control: PPO on all tasks at once, adapted at evaluation only",
            SgdConfig(steps=0),
            PpoConfig(),
        ),
        _entry(
            "oracle-trpo",
            "control: TRPO on all tasks at once, told the numbers of its task",
            SgdConfig(steps=0),
            TrpoConfig(),
            told=True,
        ),
        _entry(
            "random",
            "control: initial parameters, never meta-trained, adapted by policy-gradient steps",
            SgdConfig(),
            NoUpdateConfig(),
        ),
        _entry(
            "sb3-ppo",
            "control: Stable-Baselines3's PPO from scratch on each task",
            PpoStepsConfig(lr=3e-4, epochs=10),
            NoUpdateConfig(),
            PolicyConfig(hidden=(64, 64), activation="tanh", init="orthogonal"),
            _VALUED,
        ),
    )
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


def table() -> str:
    """The agents as the README shows them."""
    rows = [f"| `{name}` | {entry.summary} |" for name, entry in AGENTS.items()]
    return "\n".join(["| `--agent` | what it is |", "|---|---|", *rows])


def told(config: AgentConfig) -> bool:
    """Whether the agent observes the numbers of its task."""
    return config.name in AGENTS and AGENTS[config.name].told


def without_effect(config: AgentConfig) -> dict[str, str]:
    """Settings otherwise than by default that this agent would not heed, and why."""
    inner, outer = config.inner, config.outer
    found = {}
    if isinstance(inner, LEARNED):
        found = unheeded_by_rule(inner)
        if config.policy.context:
            found["agent.policy.context"] = "no inner step moves it alone"
        no_gradient = isinstance(inner, MappingConfig)
        if no_gradient and isinstance(outer, PpoConfig) and outer.inner_ratio:
            found["agent.outer.inner_ratio"] = "it takes no inner gradient"
        return found
    if not isinstance(inner, SgdConfig):
        if config.policy.context:
            found["agent.policy.context"] = "no inner step moves it alone"
        if config.advantages.baseline_ridge != AdvantageConfig.baseline_ridge:
            found["agent.advantages.baseline_ridge"] = "it learns a value function"
        return found
    learns = inner.steps > 0 and not isinstance(outer, NoUpdateConfig)
    if inner.first_order and not learns:
        found["agent.inner.first_order"] = "nothing is learned through an inner step"
    elif inner.first_order and inner.estimator == "dice":
        found["agent.inner.first_order"] = "without its second order DiCE is the score function"
    if inner.learn_lr and not learns:
        found["agent.inner.learn_lr"] = "nothing is learned through an inner step"
    if isinstance(outer, PpoConfig) and not learns:
        ways = {
            "agent.inner.estimator": inner.estimator == "dice",
            "agent.outer.inner_kl": outer.inner_kl > 0,
            "agent.outer.inner_ratio": outer.inner_ratio,
            "agent.outer.exploration": outer.exploration,
        }
        found |= {key: "it does not adapt in training" for key, asked in ways.items() if asked}
    return found


def build(
    spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
) -> Agent:
    """The agent that `config` describes, before its first update.

    Raises:
        UserError: where its rules do not serve the space, or not each other.
    """
    if unused := without_effect(config):
        raise UserError(
            f"agent {config.name!r} makes no use of {' and '.join(unused)}: "
            f"{next(iter(unused.values()))}\n  leave it out, or take another --agent"
        )
    # torch: once an agent is built
    if config.name == "sb3-ppo":
        from metarl.agents.sb3 import Sb3Ppo

        return Sb3Ppo(spec, config, rng, device)
    match config.inner, config.outer:
        case TrialConfig(), TrialPpoConfig():
            from metarl.agents.rl2 import Rl2

            return Rl2(spec, config, rng, device)
        case PpoStepsConfig(), ReptileConfig():
            from metarl.agents.reptile import Reptile

            return Reptile(spec, config, rng, device)
        case inner, PpoConfig() if isinstance(inner, (SgdConfig, *LEARNED)):
            from metarl.agents.surrogate_agent import SurrogateAgent

            return SurrogateAgent(spec, config, rng, device)
        case inner, TrpoConfig() | NoUpdateConfig() if isinstance(inner, (SgdConfig, *LEARNED)):
            from metarl.agents.gradient_agent import GradientAgent

            return GradientAgent(spec, config, rng, device)
    raise UserError(f"agent {config.name!r} has rules that do not go together")
