"""An agent that makes two choices at a time, whole: collect, adapt, meta-update."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete

from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import AgentConfig, PolicyConfig
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, StepResult

SPEC = EnvSpec("locks", Box(-1, 1, (1,)), MultiDiscrete([4, 3]), 5)
TASKS = [{"left": 3, "right": right} for right in range(3)]
CPU = torch.device("cpu")


class Locks:
    """Two dials for each task; a step's reward is how many are set right."""

    def set_tasks(self, tasks: Any) -> None:
        self.key = np.array([[task["left"], task["right"]] for task in tasks])[:, None]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.t = 0
        return np.ones((*seeds.shape, 1), np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        self.t += 1
        rewards = (actions == self.key).sum(-1).astype(np.float32)
        no = np.zeros(rewards.shape, bool)
        obs = np.ones((*rewards.shape, 1), np.float32)
        return StepResult(obs, rewards, no, no | (self.t == SPEC.horizon), no)

    def close(self) -> None: ...


def test_it_learns_to_open_every_lock_after_one_step():
    """10 of 10 is the most; without adaptation no policy has more than 6.7 in all three tasks."""
    config = AgentConfig(
        name="maml-trpo",
        policy=PolicyConfig(hidden=(8,)),
        inner=SgdConfig(lr=0.5),
        outer=TrpoConfig(max_kl=0.02),
    )
    agent = PolicyGradientAgent(SPEC, config, np.random.default_rng(0), CPU)
    env, returns = Locks(), []
    for iteration in range(12):
        state, (_, query) = adaptation_rounds(agent, env, SPEC, TASKS, 20, 1, (0, iteration), CPU)
        returns.append(float(returns_of(query).mean(1).min()))
        metrics = agent.meta_update(state, query, np.random.default_rng(iteration))
        assert metrics["line_search/accepted"] == 1.0
        assert 0.0 < metrics["kl"] <= 0.02
    assert returns[0] < 5.0
    assert returns[-1] > 8.0
