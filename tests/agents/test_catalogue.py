"""The table of agents."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.agents import catalogue
from metarl.errors import UserError
from metarl.types import EnvSpec

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_the_catalogue():
    assert catalogue.table() in README.read_text(encoding="utf-8")


def test_an_agent_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'mamltrpo' is no agent.*maml-trpo"):
        catalogue.default("mamltrpo")


@pytest.mark.parametrize("name", ["rl2", "reptile-ppo"])
def test_a_context_that_nothing_moves_is_refused(name):
    config = catalogue.default(name)
    config = replace(config, policy=replace(config.policy, context=3))
    spec = EnvSpec("problem", Box(-1, 1, (2,)), Box(-1, 1, (2,)), 5)
    with pytest.raises(UserError, match=r"does not move agent\.policy\.context, which is 3"):
        catalogue.build(spec, config, np.random.default_rng(0), torch.device("cpu"))
