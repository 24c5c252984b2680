"""PPO on trials begins where the workers' policy, in numpy, had acted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.envs import catalogue as envs
from metarl.sampling.rounds import adaptation_rounds
from metarl.sampling.sampler import Sampler
from metarl.types import Workers

CPU = torch.device("cpu")
TASKS, EPISODES, HORIZON = 4, 2, 6
CELLS = {
    "gru": ("rl2", {"cell": "gru", "size": 8}),
    "lstm": ("rl2", {"cell": "lstm", "size": 8}),
    "transformer": ("rl2", {"cell": "transformer", "size": 8, "heads": 2}),
    "belief": ("varibad", {"size": 8}),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_first_minibatch_finds_the_policy_that_acted(cell):
    """Each probability ratio is one, up to a rounding that a clip of 1e-4 would show; after a step
    it is not. In the second update, so that statistics normalise inputs and rewards."""
    name, inner = CELLS[cell]
    config = catalogue.default(name)
    config = replace(
        config,
        inner=replace(config.inner, steps=2, **inner),
        outer=replace(config.outer, clip=1e-4, epochs=1, minibatches=2),
        normalisation=replace(config.normalisation, observations=True, rewards=True),
    )
    distribution = envs.make("point-goal", HORIZON)
    agent: Any = catalogue.build(distribution.spec, config, np.random.default_rng(0), CPU)
    rule = agent.outer if name == "rl2" else agent.outer.ppo
    found, gradient = [], rule.gradient

    def noted(*asked: Any) -> Any:
        result = gradient(*asked)
        found.append(result[1])
        return result

    rule.gradient = noted
    with closing(Sampler(distribution, TASKS, EPISODES, Workers(0))) as sampler:
        for seed in range(2):
            tasks = distribution.sample(TASKS, np.random.default_rng(seed))
            asked = (distribution.spec, tasks, EPISODES, agent.steps, (seed,), CPU)
            state, rounds = adaptation_rounds(agent, sampler, *asked)
            agent.meta_update(state, rounds[-1], np.random.default_rng(seed))
    _, _, first, second = found
    assert float(first.clipped) == 0.0
    assert abs(float(first.kl)) < 1e-9
    assert float(second.clipped) > 0.5
