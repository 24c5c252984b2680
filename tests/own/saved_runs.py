"""Runs on disk without training: the config, and a checkpoint of an agent's first weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue
from metarl.config import own_code
from metarl.config.files import dump
from metarl.config.settings import (
    Config,
    EnvConfig,
    FewShotConfig,
    FewShotEnvConfig,
    NetworkConfig,
    OwnAgentConfig,
    SamplingConfig,
)
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.runs import checkpoint, directory, inputs
from metarl.types import Workers

CPU = torch.device("cpu")
HORIZON, EPISODES = 6, 4


class OneTask(gymnasium.Env):
    """An ordinary environment that plays one task of a distribution."""

    def __init__(self, tasks: Any, task: Any):
        self.observation_space = tasks.spec.observation_space
        self.action_space = tasks.spec.action_space
        self._env = tasks.open(1, 1, Workers())
        self._env.set_tasks([task])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._env.reset(np.full((1, 1), seed or 0, np.uint64))[0, 0], {}

    def step(self, action: Any) -> Any:
        obs, rewards, *ends, _ = self._env.step(np.asarray(action).reshape(1, 1, -1))
        return obs[0, 0], float(rewards[0, 0]), *(bool(x[0, 0]) for x in ends), {}


def saved(
    folder: Path,
    name: str,
    tasks: Any = None,
    env: EnvConfig | None = None,
    normalised: bool = False,
    inner: Mapping[str, Any] | None = None,
    **policy: Any,
) -> Path:
    """Returns the folder of a run of the agent called `name`, by default on point-goal. The name
    may be the place of an agent of a user's own."""
    if own_code.is_place(name):
        mine: Any = OwnAgentConfig(name=name)
        return _saved(folder, mine, tasks, env)
    agent = catalogue.default(name)
    agent = replace(agent, policy=replace(agent.policy, **{"hidden": (6,), **policy}))
    agent = replace(agent, inner=replace(agent.inner, **(inner or {})))
    if normalised:
        agent = replace(agent, normalisation=replace(agent.normalisation, observations=True))
    return _saved(folder, agent, tasks, env)


def _saved(folder: Path, agent: Any, tasks: Any, env: EnvConfig | None) -> Path:
    config = Config(
        env=env or EnvConfig("point-goal", HORIZON),
        sampling=SamplingConfig(3, EPISODES),
        agent=agent,
        device="cpu",
        run_dir=str(folder),
    )
    tasks = envs.configured(config.env) if tasks is None else tasks
    seen = TaskConditioned(tasks) if catalogue.observes_task(agent) else tasks
    return _written(folder, config, seen.spec)


def saved_examples(folder: Path, name: str, env: FewShotEnvConfig, tasks: Any = None) -> Path:
    """Returns the folder of a few-shot run."""
    agent = replace(catalogue.default(name, "examples"), network=NetworkConfig(hidden=(8,)))
    config = FewShotConfig(env=env, agent=agent, device="cpu", run_dir=str(folder))
    tasks = envs.configured(config.env) if tasks is None else tasks
    _written(folder, config, tasks.spec)
    inputs.write(directory.RunDirectory(folder), inputs.of(tasks))
    return folder


def _written(folder: Path, config: Any, spec: Any) -> Path:
    run = directory.create(folder)
    run.config.write_text(dump(config))
    run.environment.write_text("{}")
    rng = keys.generator(0, keys.Purpose.INIT)
    agent = catalogue.build(spec, config.agent, rng, CPU, config.agent.name)
    checkpoint.save(run.checkpoints, 1, agent.state_dict(), {}, 0.0)
    return folder
