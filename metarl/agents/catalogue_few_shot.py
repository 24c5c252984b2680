"""The learners of supervised tasks by name, as `catalogue` has the agents.

Importing this imports no torch, so that a command line can be read before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from metarl.config.settings import (
    LEARNED,
    AdamConfig,
    DescentConfig,
    DirectionsConfig,
    LearnedOptimizerConfig,
    MappingConfig,
    MetaLstmConfig,
    NoUpdateConfig,
    PrototypesConfig,
    ReptileConfig,
    SgdConfig,
    unheeded_by_rule,
)
from metarl.config.settings_few_shot import LearnerConfig
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.types import FewShotSpec, Learner


class Entry(NamedTuple):
    """One row of the table of learners."""

    summary: str
    config: LearnerConfig
    """Complete settings; their classes are the rules whose keys a file or flag may set."""


_SGD = SgdConfig(lr=0.01, extra_step_scale=1.0)
"""The published size of a step, as far in every step."""


LEARNERS = {
    name: Entry(summary, LearnerConfig(name, inner, outer))
    for name, summary, inner, outer in (
        (
            "maml",
            "MAML: gradient steps inside, Adam outside (arXiv:1703.03400)",
            _SGD,
            AdamConfig(),
        ),
        (
            "fomaml",
            "first-order MAML: the inner step's derivative left out",
            replace(_SGD, first_order=True),
            AdamConfig(),
        ),
        (
            "anil",
            "ANIL: inner steps move the last layer alone (arXiv:1909.09157)",
            replace(_SGD, moved="head"),
            AdamConfig(),
        ),
        (
            "meta-sgd",
            "Meta-SGD: a learned step size for every parameter (arXiv:1707.09835)",
            # Sizes learned for one step are too large for a second of that size.
            replace(_SGD, learn_lr=True, extra_step_scale=0.05),
            AdamConfig(),
        ),
        (
            "reptile",
            "Reptile: towards where plain training of each task led (arXiv:1803.02999)",
            DescentConfig(),
            ReptileConfig(),
        ),
        (
            "lomaml",
            "LOMAML: a recurrent network makes the inner steps of gradients (arXiv:1606.04474)",
            LearnedOptimizerConfig(lr=0.01, extra_step_scale=0.1),
            AdamConfig(),
        ),
        (
            "meta-lstm",
            "Meta-LSTM: parameters are an LSTM's cell, its gates learned (Ravi, Larochelle 2017)",
            MetaLstmConfig(lr=0.01, extra_step_scale=1.0),
            AdamConfig(),
        ),
        (
            "gbml",
            "GBML: the direction is predicted from gradients and samples",
            DirectionsConfig(lr=0.01),
            AdamConfig(),
        ),
        (
            "mapping",
            "model-based: a set encoder and a hypernetwork map samples to parameters",
            MappingConfig(),
            AdamConfig(),
        ),
        (
            "protonet",
            "prototypical networks: nearest class mean in a learned space (arXiv:1703.05175)",
            PrototypesConfig(),
            AdamConfig(),
        ),
        (
            "from-scratch",
            "control: each task by Adam from initial parameters, never meta-trained",
            DescentConfig(lr=0.01, optimizer="adam"),
            NoUpdateConfig(),
        ),
    )
}


def names() -> tuple[str, ...]:
    return tuple(LEARNERS)


def default(name: str) -> LearnerConfig:
    """The settings that a learner starts from.

    Raises:
        UserError: for a name that is not in the catalogue.
    """
    if name not in LEARNERS:
        raise UserError(f"{name!r} is no learner of supervised tasks{nearest(name, LEARNERS)}")
    return LEARNERS[name].config


def table() -> str:
    """The learners as the README shows them."""
    rows = [f"| `{name}` | {entry.summary} |" for name, entry in LEARNERS.items()]
    return "\n".join(["| `--agent` | few-shot learner |", "|---|---|", *rows])


def without_effect(config: LearnerConfig) -> dict[str, str]:
    """Settings otherwise than by default that this learner would not heed, and why."""
    inner, found = config.inner, {}
    if isinstance(inner, SgdConfig):
        if inner.estimator != SgdConfig.estimator:
            found["agent.inner.estimator"] = "it is for policies; a loss has its own derivatives"
        if inner.moved == "context":
            found["agent.inner.moved"] = "a supervised network has no context inputs"
        if not inner.steps:
            found["agent.inner.steps"] = "it adapts, or it is no meta-learner"
    if isinstance(inner, LEARNED):
        found |= unheeded_by_rule(inner)
    if isinstance(inner, MappingConfig) and inner.steps != MappingConfig.steps:
        found["agent.inner.steps"] = "a second step on the same examples changes nothing"
    return found


def build(
    spec: FewShotSpec, config: LearnerConfig, rng: np.random.Generator, device: torch.device
) -> Learner:
    """The learner that `config` describes, before its first update.

    Raises:
        UserError: where it does not serve the tasks, or its settings not each other.
    """
    if unused := without_effect(config):
        raise UserError(
            f"agent {config.name!r} makes no use of {' and '.join(unused)}: "
            f"{next(iter(unused.values()))}\n  leave it out, or take another --agent"
        )
    # torch: once a learner is built
    match config.inner:
        case PrototypesConfig():
            from metarl.agents.prototypes import Prototypes

            return Prototypes(spec, config, rng, device)
        case DescentConfig():
            from metarl.agents.few_shot_reptile import FewShotReptile

            return FewShotReptile(spec, config, rng, device)
    from metarl.agents.few_shot import FewShotLearner

    return FewShotLearner(spec, config, rng, device)
