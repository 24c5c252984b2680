"""Products in bfloat16 that a processor gets wrong are seen before the first update."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.agents.derivatives import half_precision
from metarl.agents.outer.trpo import Trpo
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import AgentConfig
from metarl.experiments.presets import preset
from metarl.types import EnvSpec

SIZES = (3, 8, 2)
CPU = torch.device("cpu")
ONE = np.float32(1.0)
SPEC = EnvSpec("probe", Box(-ONE, ONE, (3,)), Box(-ONE, ONE, (2,)), 5)


@pytest.fixture(autouse=True)
def _compared_anew():
    half_precision._largest_error.cache_clear()
    yield
    half_precision._largest_error.cache_clear()


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch):
    """Batched products of bfloat16 that leave out the last rows, as with a thread too few."""
    bmm = torch.bmm

    def broken(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found = bmm(x, y)
        if x.dtype == torch.bfloat16:
            found[:, found.shape[1] // 2 :] = 0.0
        return found

    monkeypatch.setattr(torch, "bmm", broken)


def test_right_products_are_used():
    assert half_precision.usable(torch.bfloat16, CPU, SIZES) == torch.bfloat16
    assert half_precision.note(torch.bfloat16, CPU, SIZES) == ""


def test_wrong_products_are_made_in_float32_and_it_is_said(wrong, monkeypatch):
    assert half_precision.usable(torch.bfloat16, CPU, SIZES) == torch.float32
    assert half_precision.usable(torch.float64, CPU, SIZES) == torch.float64
    said = half_precision.note(torch.bfloat16, CPU, SIZES)
    assert "wrong here (a fault of torch or of this processor): the update uses float32" in said
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    assert "OMP_DYNAMIC is on" in half_precision.note(torch.bfloat16, CPU, SIZES)


def test_a_product_of_no_number_is_wrong(monkeypatch):
    monkeypatch.setattr(torch, "bmm", lambda x, y: (x @ y) * torch.nan)
    assert half_precision.usable(torch.bfloat16, CPU, SIZES) == torch.float32


def learner(**outer) -> PolicyGradientAgent:
    config = preset("point-goal").agent
    assert isinstance(config, AgentConfig)
    config = replace(config, outer=replace(config.outer, **outer))
    return PolicyGradientAgent(SPEC, config, np.random.default_rng(0), CPU)


def test_the_agent_says_it(wrong):
    (said,) = learner(product_dtype="bfloat16").notes
    assert "bfloat16 are wrong here" in said


def test_an_update_does_not_use_them(wrong, monkeypatch):
    agent, used = learner(product_dtype="bfloat16"), []

    class Data:
        policy, query = agent.policy, Namespace(obs=torch.zeros(1))

        def linearised(self, meta, thinned, dtype):
            used.append(dtype)
            raise StopIteration

    with pytest.raises(StopIteration):
        Trpo.direction.__wrapped__(agent.outer, Data(), agent.meta, None)
    assert used == [torch.float32]


def test_there_is_nothing_to_say_otherwise():
    assert learner(product_dtype="float32").notes == ()
