"""The table of agents."""

from pathlib import Path

import pytest

from metarl.agents import catalogue
from metarl.errors import UserError

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_the_catalogue():
    assert catalogue.table() in README.read_text(encoding="utf-8")


def test_an_agent_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'mamltrpo' is no agent.*maml-trpo"):
        catalogue.default("mamltrpo")
