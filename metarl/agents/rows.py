"""The rows of the catalogue: inner rules, outer rules, and agents with settings of their own.

A new rule is one file under `inner/` or `outer/` and one row here. Importing this imports no torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from metarl.agents.inner.belief import BeliefConfig
from metarl.agents.inner.directions import DirectionsConfig
from metarl.agents.inner.learned_optimizer import LearnedOptimizerConfig
from metarl.agents.inner.lslr import LslrConfig
from metarl.agents.inner.lstm import MetaLstmConfig
from metarl.agents.inner.mapping import MappingConfig
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.inner.prototypes import PrototypesConfig
from metarl.agents.inner.replayed_trial import ReplayedTrialConfig
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.inner.training import TrainingConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.adam import AdamConfig
from metarl.agents.outer.belief_ppo import BeliefPpoConfig
from metarl.agents.outer.none import NoUpdateConfig
from metarl.agents.outer.ppo import PpoConfig
from metarl.agents.outer.reptile import ReptileConfig
from metarl.agents.outer.sac import SacConfig
from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.outer.vpg import VpgConfig
from metarl.config.settings import (
    AdvantageConfig,
    InnerSettings,
    NormalisationConfig,
    OuterSettings,
    PolicyConfig,
    Source,
)


class Inner(NamedTuple):
    """An inner rule: its settings for each source that it serves."""

    summary: str
    episodes: InnerSettings | None = None
    examples: InnerSettings | None = None
    parts: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it
    """Other settings that an agent on episodes has by it: policy, normalisation."""


class Row(NamedTuple):
    """An agent with settings of its own."""

    summary: str
    inner: InnerSettings
    outer: OuterSettings
    source: Source = "episodes"
    parts: dict[str, Any] = {}  # noqa: RUF012
    """Other settings: policy, advantages, normalisation."""
    observes_task: bool = False
    """Whether the numbers of its task are part of its observations."""
    agent: str = ""
    """`module:class` of an agent other than the inner rule's."""
    unserved: tuple[str, ...] = ()
    """Settings that this agent has no counterpart of, so that they stay as they are."""
    unserved_why: str = ""
    """Reason."""


_REWARDS = NormalisationConfig(rewards=True)
"""Normalisation for agents that have rewards as an input."""
_VALUED = AdvantageConfig(gae_lambda=0.95)
"""Advantages for agents that learn a value function."""

INNER = {
    "maml": Inner(
        "MAML: gradient steps on each task (arXiv:1703.03400)",
        SgdConfig(),
        SgdConfig(lr=0.01, extra_step_scale=1.0),
    ),
    "fomaml": Inner(
        "first-order MAML: the inner step's derivative left out (arXiv:1703.03400)",
        SgdConfig(first_order=True),
        SgdConfig(first_order=True, lr=0.01, extra_step_scale=1.0),
    ),
    "anil": Inner(
        "ANIL: inner steps adapt the last layer alone (arXiv:1909.09157)",
        SgdConfig(adapted="head"),
        SgdConfig(adapted="head", lr=0.01, extra_step_scale=1.0),
    ),
    "meta-sgd": Inner(
        "Meta-SGD: a learned step size for every parameter (arXiv:1707.09835)",
        SgdConfig(learn_lr=True),
        # Sizes learned for one step are too large for a second of that size.
        SgdConfig(learn_lr=True, lr=0.01, extra_step_scale=0.05),
    ),
    "lslr": Inner(
        "LSLR: a learned step size for every layer and every step (arXiv:1810.09502)",
        LslrConfig(),
        LslrConfig(lr=0.01, extra_step_scale=0.5),
    ),
    "cavia": Inner(
        "CAVIA: inner steps adapt context inputs alone (arXiv:1810.03642)",
        SgdConfig(lr=1.0, adapted="context"),
        parts={"policy": PolicyConfig(context=10)},
    ),
    "lomaml": Inner(
        "LOMAML: a recurrent network makes the inner steps of gradients (arXiv:1606.04474)",
        LearnedOptimizerConfig(),
        LearnedOptimizerConfig(lr=0.01, extra_step_scale=0.1),
    ),
    "meta-lstm": Inner(
        "Meta-LSTM: parameters are an LSTM's cell, its gates learned (Ravi, Larochelle 2017)",
        MetaLstmConfig(),
        MetaLstmConfig(lr=0.01, extra_step_scale=1.0),
    ),
    "gbml": Inner(
        "GBML: the direction is predicted from gradients and samples",
        DirectionsConfig(),
        DirectionsConfig(lr=0.01),
    ),
    "mapping": Inner(
        "model-based: a set encoder and a hypernetwork map samples to parameters",
        MappingConfig(deltas="head"),
        MappingConfig(),
        {"normalisation": _REWARDS},
    ),
    "joint": Inner(
        "control: all tasks at once, adapted by gradient steps at evaluation only",
        SgdConfig(steps=0),
    ),
    "protonet": Inner(
        "prototypical networks: nearest class mean in a learned space (arXiv:1703.05175)",
        examples=PrototypesConfig(),
    ),
}
"""Inner rules that go with several outer rules."""

OUTER = {
    "trpo": ("a trust-region step outside (arXiv:1502.05477)", TrpoConfig()),
    "ppo": ("PPO outside: several epochs on each meta-batch (arXiv:1707.06347)", PpoConfig()),
    "adam": ("Adam outside, on the loss of the query (arXiv:1412.6980)", AdamConfig()),
    "vpg": ("the plain policy gradient outside, by Adam (arXiv:1703.03400)", VpgConfig()),
}
"""Outer rules that go with several inner rules; the first of a source is its usual one."""

NAMED = {
    "promp": Row(
        "ProMP: the low-variance curvature surrogate, and a KL penalty (arXiv:1810.06784)",
        SgdConfig(),
        PpoConfig(lr=1e-3, epochs=5, clip=0.3, inner_ratio=True, inner_kl=5e-4),  # as published
    ),
    "e-maml": Row(
        "E-MAML: exploration credited for the rewards after adaptation (arXiv:1803.01118)",
        SgdConfig(),
        PpoConfig(exploration=True),
    ),
    "dice-maml": Row(
        "MAML through the Loaded DiCE estimator (arXiv:1802.05098, 1909.10549)",
        # Ratios of long histories are noise, and so are longer steps by them.
        SgdConfig(estimator="dice", dice_lambda=0.5),
        PpoConfig(lr=1e-3, target_kl=0.02),
    ),
    "reptile-ppo": Row(
        "Reptile: PPO on each task, then towards where it led (arXiv:1803.02999)",
        PpoStepsConfig(steps=2),
        ReptileConfig(),
        parts={"advantages": _VALUED},
    ),
    "rl2": Row(
        "RL2: a recurrent policy that remembers a task's episodes (arXiv:1611.02779)",
        TrialConfig(),
        TrialPpoConfig(),
        parts={"advantages": _VALUED, "normalisation": _REWARDS},
    ),
    "rl2-sac": Row(
        "recurrent SAC: RL2's trials, learned off-policy from a replay (arXiv:2110.05038)",
        ReplayedTrialConfig(),
        SacConfig(),
        parts={
            "policy": PolicyConfig(hidden=(128, 128), std="state", scale_to_box=True),
            "normalisation": _REWARDS,
        },
        unserved=("policy.std", "policy.scale_to_box", "advantages.gae_lambda"),
        unserved_why="SAC's policy is a Gaussian squashed into the box, and has no traces",
    ),
    "varibad": Row(
        "VariBAD: a policy that reads a learned belief about the task (arXiv:1910.08348)",
        BeliefConfig(),
        BeliefPpoConfig(),
        parts={
            "policy": PolicyConfig(hidden=(128, 128), activation="tanh"),
            "advantages": _VALUED,
            "normalisation": NormalisationConfig(observations=True),
        },
    ),
    "oracle-trpo": Row(
        "control: TRPO on all tasks at once, which observes the numbers of its task",
        SgdConfig(steps=0),
        TrpoConfig(),
        observes_task=True,
    ),
    "random": Row(
        "control: initial parameters, never meta-trained, adapted by policy-gradient steps",
        SgdConfig(),
        NoUpdateConfig(),
    ),
    "sb3-ppo": Row(
        "control: Stable-Baselines3's PPO from scratch on each task",
        PpoStepsConfig(lr=3e-4, epochs=10),
        NoUpdateConfig(),
        parts={
            "policy": PolicyConfig(hidden=(64, 64), activation="tanh", init="orthogonal"),
            "advantages": _VALUED,
        },
        agent="metarl.agents.sb3:Sb3Ppo",
        unserved=(
            "inner.baseline",
            "policy.init",
            "policy.min_std",
            "policy.max_std",
            "policy.std",
            "policy.context",
            "normalisation.observations",
            "normalisation.rewards",
            "normalisation.clip",
        ),
        unserved_why="Stable-Baselines3's PPO has other settings",
    ),
    "reptile": Row(
        "Reptile: towards where plain training of each task led (arXiv:1803.02999)",
        TrainingConfig(),
        ReptileConfig(),
        "examples",
    ),
    "from-scratch": Row(
        "control: each task by Adam from initial parameters, never meta-trained",
        TrainingConfig(lr=0.01, optimizer="adam"),
        NoUpdateConfig(),
        "examples",
    ),
}
"""Agents by one name."""
