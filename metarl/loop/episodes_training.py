"""Training by reinforcement: sample tasks, collect, adapt, meta-update."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.settings import Config, EnvConfig
from metarl.device import cores, workers_of
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import DivergedError, EnvFaultError, UserError
from metarl.loop.training import TrainingLoop, to_the_end
from metarl.runs import directory
from metarl.runs.errors_log import faults_logged
from metarl.runs.progress import Progress, short
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import (
    Agent,
    BatchedEnv,
    Classes,
    EnvSpec,
    Metrics,
    TaskDistribution,
    Trajectories,
)

MAX_RESAMPLED = 10
"""Diverged attempts at one meta-iteration after which the run gives up."""


def train(config: Config, preset_name: str, distribution: TaskDistribution | None = None) -> Path:
    """Meta-trains, or continues what `config.run_dir` holds. Returns the run's folder.

    Args:
        config: the whole experiment.
        preset_name: what the progress is headed with.
        distribution: the tasks that `config.env` names; where it is left out, the catalogue's.

    Raises:
        UserError: where the folder cannot be used, or holds a run with other settings.
    """
    if distribution is None:
        distribution = envs.configured(config.env)
    if agents.told(config.agent):
        distribution = TaskConditioned(distribution)
    if isinstance(distribution, Classes):  # before there is a folder: some numbers cannot be spread
        distribution.sample(config.sampling.tasks, np.random.default_rng(0))
    run = directory.create(config.run_dir)
    again = f" --env {config.env.name}" if envs.is_own(config.env.name) else ""
    with directory.Lock(run), faults_logged(run, config.env.name):
        _check_named(config.env, distribution.spec)
        return to_the_end(
            config, run, lambda: Trainer(config, run, preset_name, distribution), again
        )


def _check_named(env: EnvConfig, spec: EnvSpec) -> None:
    """The run's config is what evaluation takes the tasks from, so it must name those given."""
    other = not envs.is_own(env.name) and env.name != spec.name
    if other or env.horizon != spec.horizon:
        raise UserError(
            f"config.env is {env.name!r} with horizon {env.horizon}, the tasks given are of "
            f"{spec.name} with horizon {spec.horizon}; set config.env to "
            f"metarl.EnvConfig('package.module:attribute', {spec.horizon})"
        )


class Trainer(TrainingLoop):
    """Reinforcement learning: episodes, adaptation, a meta-update."""

    agent: Agent

    def __init__(
        self,
        config: Config,
        run: directory.RunDirectory,
        name: str,
        distribution: TaskDistribution,
    ):
        self.config, self.distribution = config, distribution
        self.crew = workers_of(config)
        self.workers = self.crew.count
        super().__init__(config, run, name, {"env_steps": 0, "resampled": 0})

    def _build(self) -> Agent:
        return build_agent(self.config, self.distribution, self.device)

    def _open(self, stack: ExitStack, progress: Progress) -> str:
        sampling = self.config.sampling
        for owner in (self.distribution, self.agent):
            for note in getattr(owner, "notes", ()):
                progress.note(note)
        self.env = self.distribution.open(sampling.tasks, sampling.episodes, self.crew)
        stack.callback(self.env.close)
        speed = short(self._trial(self.env))
        return (
            f"{_crew(self.workers)}, {cores()} torch threads on {self.device}, "
            f"{sampling.tasks * sampling.episodes} simulations at {speed} steps/s"
        )

    def _trial(self, env: BatchedEnv) -> float:
        """A few steps without a policy: environment steps per second.

        Raises:
            EnvFaultError: where a reset depends on what was played before.
        """
        spec, sampling = self.distribution.spec, self.config.sampling
        rng = keys.generator(self.config.seed, keys.Purpose.TRIAL)
        tasks = self.distribution.sample(sampling.tasks, rng)
        env.set_tasks(tasks)
        shape = (sampling.tasks, sampling.episodes)
        seeds = keys.seeds(*shape, self.config.seed, keys.Purpose.TRIAL)
        first = env.reset(seeds)
        still = np.zeros((*shape, spec.act_dim), spec.action_space.dtype)
        steps = min(20, spec.horizon)
        started = time.perf_counter()
        alive, played = np.ones(shape, bool), 0
        for _ in range(steps):
            played += int(alive.sum())
            step = env.step(still)
            alive &= ~(step.terminated | step.truncated)
        seconds = time.perf_counter() - started
        differs = (env.reset(seeds) != first).any(axis=-1)
        if spec.deterministic and differs.any():
            k, e = np.argwhere(differs)[0].tolist()
            raise EnvFaultError(
                spec.name, tasks[k], e, 0, "reset",
                "after an episode the same seed starts another one: reset(seed=...) must draw all "
                "chance from the environment's own np_random (or give deterministic=False)",
            )  # fmt: skip
        return played / seconds

    def _iterate(self, progress: Progress) -> Metrics:
        """One meta-iteration, drawn anew as often as a simulation diverges."""
        started = time.perf_counter()
        for attempt in range(MAX_RESAMPLED):
            try:
                state, rounds = self._sample(attempt)
                break
            except DivergedError as error:
                self.state["resampled"] += 1
                progress.note(f"iteration {self.iteration + 1} drawn anew: {error}")
            except UserError as error:
                error.args = (f"iteration {self.iteration + 1}: {error}",)
                raise
        else:
            raise UserError(
                f"iteration {self.iteration + 1}: {MAX_RESAMPLED} draws in a row diverged; "
                "lower the learning rates or the policy's deviation"
            )
        sampled = time.perf_counter()
        rng = keys.generator(self.config.seed, keys.Purpose.THINNING, self.iteration)
        update = self.agent.meta_update(state, rounds[-1], rng)
        updated = time.perf_counter()
        self.iteration += 1
        self.state["env_steps"] += sum(int(x.mask.sum()) for x in rounds)
        self.state["wall_s"] += updated - started
        self.state["skipped_in_a_row"] += 1
        if not update["skipped"]:
            self.state["skipped_in_a_row"] = 0
        outcome = outcomes(rounds, self.distribution.spec.has_success)
        self.recent.append(outcome[f"return/step{len(rounds) - 1}"])
        return {
            "iteration": self.iteration,
            "env_steps": self.state["env_steps"],
            "wall_s": self.state["wall_s"],
            **outcome,
            **update,
            "resampled": self.state["resampled"],
            "time/sampling_s": sampled - started,
            "time/update_s": updated - sampled,
        }

    def _sample(self, attempt: int) -> tuple[Any, list[Trajectories]]:
        """Episodes before and after each adaptation step, on fresh tasks."""
        config, sampling = self.config, self.config.sampling
        rng = keys.generator(config.seed, keys.Purpose.TASKS, self.iteration, attempt)
        tasks = self.distribution.sample(sampling.tasks, rng, "train", sampling.task_draw)
        return adaptation_rounds(
            self.agent,
            self.env,
            self.distribution.spec,
            tasks,
            sampling.episodes,
            self.agent.steps,
            (config.seed, self.iteration, attempt),
            self.device,
        )


def _crew(count: int) -> str:
    """Threads, where a simulator has its own."""
    return f"{count} worker{'s' if count > 1 else ''} or threads" if count else "no workers"


def build_agent(
    config: Config,
    distribution: TaskDistribution,
    device: torch.device,
    rng: np.random.Generator | None = None,
) -> Agent:
    """The agent before its first update; `rng` draws other initial weights than the run's."""
    rng = rng or keys.generator(config.seed, keys.Purpose.INIT)
    return agents.build(distribution.spec, config.agent, rng, device)


def outcomes(rounds: list[Trajectories], has_success: bool) -> Metrics:
    """Mean return, and success rate where it is defined, before adaptation and after each step."""
    found: Metrics = {}
    for step, trajectories in enumerate(rounds):
        found[f"return/step{step}"] = float(returns_of(trajectories).mean())
    if has_success:
        for step, trajectories in enumerate(rounds):
            found[f"success/step{step}"] = float(trajectories.success.float().mean())
    return found
