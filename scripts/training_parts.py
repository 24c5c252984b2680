"""The parts of training, one iteration at a time, for the benchmarks of scaling and of the GPU."""

from __future__ import annotations

import metarl  # noqa: F401  # isort: skip  before torch, as the doors do: how its threads wait

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from poles import UnfallingPole

from metarl import keys
from metarl.acting.units import Units
from metarl.agents import catalogue as agents
from metarl.config.settings import Config
from metarl.device import torch_device, use_threads
from metarl.envs import catalogue as envs
from metarl.envs.gym.parameters import Uniform
from metarl.envs.gym.tasks import gym_tasks
from metarl.experiments.presets import PRESETS, preset
from metarl.loop.training import source_of
from metarl.sampling.sampler import Sampler
from metarl.sources.episodes import EpisodeSource
from metarl.types import Trajectories

POLES = ("cartpole", "50us")
"""Cases that are no preset: CartPole, and an environment whose step takes about 50 us."""


@dataclass(frozen=True)
class Iteration:
    """Times of one iteration of training."""

    env_steps: int
    sampling_s: float
    """Time of all rounds and of the adaptation between them, as `time/sampling_s` of a run."""
    update_s: float
    rounds_s: float
    """Time of the rounds alone; zero where the policy acts in the parent, step by step."""
    slowest_s: float
    """Time that the slowest worker of each round worked."""
    mean_s: float
    """Time that workers worked in the rounds, on average."""
    units: int
    """Shares of a round that cannot be divided further."""


def config_of(case: str) -> Config:
    """Returns the settings of a preset, or of one of the poles."""
    if case in POLES:
        config = Config(agent=agents.default("maml-trpo"))
        env, sampling = replace(config.env, horizon=100), replace(config.sampling, episodes=10)
        return replace(config, env=env, sampling=sampling)
    config = preset(case)
    assert isinstance(config, Config), case
    return config


def sized(config: Config, args: argparse.Namespace) -> Config:
    """Returns the settings with the sizes that the command line names."""
    given = {"tasks": args.tasks, "episodes": args.episodes}
    sampling = replace(config.sampling, **{k: n for k, n in given.items() if n is not None})
    horizon = config.env.horizon if args.horizon is None else args.horizon
    return replace(config, env=replace(config.env, horizon=horizon), sampling=sampling)


def tasks_of(case: str, config: Config, burden: int) -> Any:
    """Returns the task distribution; `burden` makes the steps of `50us` longer (poles.py)."""
    if case not in POLES:
        return envs.configured(config.env)
    make = partial(UnfallingPole, burden if case == "50us" else 0)
    parameters = {"gravity": Uniform(5.0, 15.0)}
    return gym_tasks(make, parameters, horizon=config.env.horizon, name=case)


class Iterations:
    """Training without a log and without checkpoints. Each call takes one iteration."""

    def __init__(self, config: Config, tasks: Any, stack: ExitStack):
        use_threads(config.threads)
        source = source_of(config, tasks, torch_device(config.device))
        assert isinstance(source, EpisodeSource)
        rng = keys.generator(config.seed, keys.Purpose.INIT)
        self.agent = agents.build(source.spec, config.agent, rng, source.device)
        self.config, self.source, self.number = config, source, 0
        self.units = len(Units.all(config.sampling.tasks, config.sampling.episodes))
        self.rounds: list[tuple[float, list[float]]] = []
        """Time of each round of the iteration, and of each worker in it."""
        source.open(stack, lambda line: None)
        self._note_rounds(source.env)

    def __call__(self) -> Iteration:
        source, before = self.source, self.source.counters["env_steps"]
        rng = keys.generator(self.config.seed, keys.Purpose.THINNING, self.number)
        started = time.perf_counter()
        found = source.collect(self.agent, self.number, 0)
        self._finish()
        played = time.perf_counter()
        self.agent.meta_update(found.state, found.query, rng)
        self._finish()
        updated = time.perf_counter()
        self.number += 1
        rounds, self.rounds = self.rounds, []
        return Iteration(
            source.counters["env_steps"] - before,
            played - started,
            updated - played,
            sum(seconds for seconds, _ in rounds),
            sum(max(busy) for _, busy in rounds),
            sum(sum(busy) / len(busy) for _, busy in rounds),
            self.units,
        )

    def _note_rounds(self, env: Sampler) -> None:
        """Keeps the times of each round that `env` plays; it reports only the last one's."""
        if (shards := env.shards) is None:
            return
        play = env.play

        def noted(*args: Any, **named: Any) -> Trajectories:
            found = play(*args, **named)
            self.rounds.append((shards.round_s, list(shards.busy_s)))
            return found

        env.play = noted

    def _finish(self) -> None:
        """Waits for the GPU, so that its work counts where it was asked for."""
        if self.source.device.type == "cuda":
            torch.cuda.synchronize()


def names() -> list[str]:
    """Returns the cases that learn from episodes."""
    return [*(n for n in PRESETS if isinstance(PRESETS[n].config, Config)), *POLES]
