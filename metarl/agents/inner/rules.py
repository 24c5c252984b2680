"""The learned rules by their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from metarl.agents.inner.directions import Directions
from metarl.agents.inner.learned_optimizer import LearnedOptimizer
from metarl.agents.inner.lstm import MetaLstm
from metarl.agents.inner.mapping import ParameterMapping
from metarl.agents.inner.rule import Rule
from metarl.config.settings import (
    DirectionsConfig,
    LearnedConfig,
    LearnedOptimizerConfig,
    MappingConfig,
    MetaLstmConfig,
)
from metarl.networks.coordinates import Coordinates
from metarl.types import Params


def shortened(
    config: LearnedConfig, moved: Sequence[str], before: Params, after: Params, index: int
) -> Params:
    """What a rule made of `before`. Where step `index` is beyond those of training the `moved` go
    `extra_step_scale` of their way; a mapping's all of it, since it says where to go."""
    if isinstance(config, MappingConfig) or index < config.steps:
        return after
    part = config.extra_step_scale
    short = {name: torch.lerp(before[name], after[name], part) for name in moved}
    return {**after, **short}


def rule_of(
    config: LearnedConfig, shapes: Mapping[str, Sequence[int]], layers: int, sample_dim: int
) -> Rule:
    """The rule that moves all parameters of those `shapes`, in a network of so many `layers`;
    of a mapping to the last layer, those of it alone."""
    match config:
        case LearnedOptimizerConfig():
            return LearnedOptimizer(config, Coordinates(shapes))
        case MetaLstmConfig():
            return MetaLstm(config, Coordinates(shapes))
        case DirectionsConfig():
            return Directions(config, shapes, sample_dim)
        case MappingConfig():
            if config.deltas == "head":
                last = f"layer{layers - 1}."
                shapes = {name: x for name, x in shapes.items() if name.startswith(last)}
            return ParameterMapping(config, shapes, sample_dim)
