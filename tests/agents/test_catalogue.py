"""The table of agents."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from catalogue_rows import table
from gymnasium.spaces import Box

from metarl.agents import catalogue
from metarl.errors import UserError
from metarl.types import EnvSpec

LEARNED = ("lomaml", "meta-lstm", "gbml", "mapping")
CHOOSING = Path(__file__).parents[2] / "docs" / "choosing.md"


def test_the_documents_show_the_catalogue():
    assert table() in CHOOSING.read_text(encoding="utf-8")


def test_an_agent_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'mamltrpo' is no agent.*maml-trpo"):
        catalogue.default("mamltrpo")


@pytest.mark.parametrize(
    ("name", "part", "settings"),
    [
        ("rl2", "policy", {"context": 3}),
        ("reptile-ppo", "policy", {"context": 3}),
        *((f"{rule}-trpo", "policy", {"context": 3}) for rule in LEARNED),
        ("mapping-ppo", "outer", {"inner_ratio": True}),
        ("reptile-ppo", "advantages", {"baseline_ridge": 1.0}),
        ("joint-trpo", "inner", {"first_order": True}),
        ("dice-maml", "inner", {"first_order": True}),
        ("random", "inner", {"learn_lr": True}),
        ("joint-ppo", "inner", {"estimator": "dice"}),
        ("maml-ppo", "inner", {"dice_lambda": 0.5}),
        ("joint-ppo", "outer", {"inner_kl": 0.1}),
        ("joint-ppo", "outer", {"inner_ratio": True}),
        ("joint-ppo", "outer", {"exploration": True}),
    ],
)
def test_what_would_have_no_effect_is_refused(name, part, settings):
    config = catalogue.default(name)
    config = replace(config, **{part: replace(getattr(config, part), **settings)})
    spec = EnvSpec("problem", Box(-1, 1, (2,)), Box(-1, 1, (2,)), 5)
    (key,) = settings
    with pytest.raises(UserError, match=rf"no use of agent\.{part}\.{key}") as caught:
        catalogue.build(spec, config, np.random.default_rng(0), torch.device("cpu"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", catalogue.names("episodes"))
def test_all_defaults_have_effect(name):
    config = catalogue.default(name)
    assert config.inner.without_effect(config) == config.outer.without_effect(config) == {}
