"""The flags that a help offers: each can be given, and what it leaves out can't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.agents import catalogue
from metarl.config.files import flatten, overlay
from metarl.config.settings import AnyConfig, EnvConfig, FewShotConfig, FewShotEnvConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import with_agent, with_env
from metarl.experiments.offered import offered
from metarl.experiments.presets import blank, preset
from metarl.types import EnvSpec, FewShotSpec

EPISODES = EnvSpec("problem", Box(0, 1, (27,)), Box(-1, 1, (2,)), 5, image=(3, 3, 3))
IMAGES = FewShotSpec("problem", (1, 8, 8), 5, True)
PARTNERS = {
    "inner.adapted=context": {"policy.context": 10},
    "policy.context": {"inner.adapted": "context", "inner.learn_lr": False},
    "inner.multi_step": {"inner.steps": 5},
    "inner.multi_step_half_life": {"inner.steps": 5, "inner.multi_step": 0.5},
    "inner.dice_lambda": {"inner.estimator": "dice"},
    "inner.rank": {"inner.deltas": "low-rank"},
    "inner.layers": {"inner.cell": "transformer"},
    "inner.heads": {"inner.cell": "transformer"},
    "inner.window": {"inner.cell": "transformer"},
    "advantages.baseline_ridge": {"inner.baseline": "linear"},
    "outer.optimizer=adam": {"outer.lr": 0.001},
    "outer.serial=True": {"outer.lr": 0.1},
    "network.batch_norm": {"network.kind": "conv"},
    "network.strides": {"network.kind": "conv"},
    "network.kind=mlp": {"network.batch_norm": False, "network.strides": False},
}
"""Settings that another one has to go with, as their help or the error says."""
NUMBERS = (0.001, 0.1, 0.25, 0.5, 2, 3, 0, 1)


ANOTHER_AGENT = {
    "policy.context": {"inner.adapted": ["head"]},
    "inner.rank": {"inner.deltas": ["head"]},
}
"""Partners that an agent's help does not count on, since it is by them what its name says."""


def values(hint: Any, value: Any) -> Iterator[Any]:
    """Yields other values of a setting."""
    if get_origin(hint) is Literal:
        yield from (x for x in get_args(hint) if x != value)
    elif hint is bool:
        yield not value
    elif get_origin(hint) is Annotated:
        kind = get_args(hint)[0]
        yield from (
            kind(x) for x in NUMBERS if kind(x) == x != value and kind(x) in get_args(hint)[1]
        )


def refusal(config: AnyConfig, changes: dict[str, Any]) -> str:
    """Returns the error of building the agent with these settings changed; empty if it builds."""
    settings: dict[str, Any] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        settings.setdefault(section, {})[name] = value
    try:
        agent = overlay(config.agent, settings, "test")
        catalogue.check(agent)
        # Networks of examples, and Stable-Baselines3, look at settings when they are built.
        if isinstance(config, FewShotConfig) or agent.name == "sb3-ppo":
            spec = IMAGES if isinstance(config, FewShotConfig) else EPISODES
            catalogue.build(spec, agent, np.random.default_rng(0), torch.device("cpu"))
    except UserError as error:
        return str(error)
    return ""


CASES = [
    *(("episodes", name) for name in catalogue.names("episodes")),
    *(("examples", name) for name in catalogue.names("examples")),
]


@pytest.mark.parametrize(("source", "name"), CASES)
def test_what_an_agents_help_offers_is_accepted_and_the_rest_is_not(source: Any, name: str):
    if source == "episodes":
        config = with_agent(blank("maml-trpo", EnvConfig.name), name)
    else:
        config = with_env(blank("maml", FewShotEnvConfig.name), "digits")
        assert isinstance(config, FewShotConfig)
        config = with_agent(preset("digits-maml"), name) if name != "from-scratch" else (
            preset("digits-from-scratch")
        )  # fmt: skip
    shown = offered(config)
    assert not refusal(config, {})
    for key, hint, value in flatten(config.agent):
        narrowed = shown.get(f"agent.{key}", hint)
        refused = {}
        for other in values(hint, value):
            partners = PARTNERS.get(f"{key}={other}", PARTNERS.get(key, {}))
            known = {k: v for k, _, v in flatten(config.agent)}
            if any(known.get(k) in of for k, of in ANOTHER_AGENT.get(key, {}).items()):
                partners = {}
            more = {k: v for k, v in partners.items() if k in known}
            said = refusal(config, {**more, key: other})
            refused[other] = said and refusal(config, {key: other})
        if narrowed is None:
            assert all(refused.values()), f"{key} is left out, and accepted: {refused}"
        elif refused:
            assert not all(refused.values()), f"{key} is offered, and refused: {refused}"
        if get_origin(narrowed) is Literal:
            assert all((x in get_args(narrowed)) is not bool(refused[x]) for x in refused), key


@pytest.mark.parametrize("name", ["point-goal", "ml10", "ml1:push-v3"])
def test_the_settings_of_metaworld_are_offered_where_it_is_played(name: str):
    shown = offered(with_env(preset("point-goal"), name))
    hidden = {key for key, narrowed in shown.items() if narrowed is None}
    assert ("env.metaworld.engine" in hidden) is not envs.has_metaworld(name)
