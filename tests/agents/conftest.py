"""A small meta-batch with known random numbers, in any precision and action space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.agents.batch import Batch
from metarl.config import PolicyConfig
from metarl.equations.returns import standardize
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec, Params

TASKS, SAMPLES, OBS, ACTIONS = 3, 40, 4, 2
OPTIONS = {"discrete": [5], "multidiscrete": [5, 3]}
SPACES = {
    "box": Box(-1, 1, (ACTIONS,)),
    "discrete": Discrete(5),
    "multidiscrete": MultiDiscrete([5, 3]),
}


class Problem:
    """A policy, parameters, and batches of K tasks with some padding."""

    def __init__(self, space: str, activation: Any, dtype: torch.dtype = torch.float64):
        spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[space], 10)
        config = PolicyConfig(hidden=(8, 7), activation=activation, init_std=0.8)
        self.policy = MlpPolicy(spec, config)
        self.options = OPTIONS.get(space)
        self.generator = torch.Generator().manual_seed(3)
        self.dtype = dtype
        start = self.policy.init(np.random.default_rng(0))
        self.params: Params = {
            name: x.to(dtype) + 0.1 * self.normal(*x.shape) for name, x in start.items()
        }

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=self.dtype)

    def batch(self) -> Batch:
        obs = self.normal(TASKS, SAMPLES, OBS)
        if self.options:
            draws = [
                torch.randint(n, obs.shape[:2], generator=self.generator) for n in self.options
            ]
            actions = torch.stack(draws, -1)
        else:
            actions = self.normal(TASKS, SAMPLES, ACTIONS)
        mask = torch.rand(TASKS, SAMPLES, generator=self.generator) < 0.9
        weights = mask.to(self.dtype) / mask.sum(1, keepdim=True)
        advantages = standardize(self.normal(TASKS, SAMPLES), weights)
        return Batch(obs, actions, advantages, weights)

    def tangent(self) -> Params:
        return {name: self.normal(*x.shape) for name, x in self.params.items()}


@pytest.fixture(params=["box-tanh", "box-relu", "discrete-tanh", "multidiscrete-tanh"])
def problem(request: pytest.FixtureRequest) -> Problem:
    space, activation = request.param.split("-")
    return Problem(space, activation)


@pytest.fixture
def make_problem() -> type[Problem]:
    return Problem
