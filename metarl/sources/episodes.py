"""Episodes of reinforcement as the source of meta-batches: played before and after adaptation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.device import workers_of
from metarl.envs.task_conditioned import TaskConditioned
from metarl.equations.gaussian import Gaussian
from metarl.errors import DivergedError, UnstableError, UserError
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.class_success import class_success, text_table, write_success
from metarl.runs.directory import Evaluation
from metarl.runs.measures import RETURN
from metarl.runs.progress import short
from metarl.sampling.collect import Draws, Noise, collect, memoryless, returns_of
from metarl.sampling.rounds import adaptation_rounds, greedy_rounds
from metarl.sources.source import Note, Rounds
from metarl.threads import threads
from metarl.types import (
    Agent,
    BatchedEnv,
    Classes,
    EnvSpec,
    Metrics,
    Task,
    TaskDistribution,
    Trajectories,
)

MAX_RESAMPLED = 10
"""Diverged draws of one meta-iteration after which the run gives up."""
TRIAL_STEPS = 20
"""Steps of the episodes that measure speed before training."""
CLASS_TASKS_AT_ONCE = 20
"""Goals of class benchmarks that are played together, as in a meta-batch of training."""


class EpisodeSource:
    """Tasks to learn from in training, played in K x E environments."""

    updates = 1

    def __init__(self, config: Config, distribution: TaskDistribution, device: torch.device):
        self.config, self.distribution, self.device = config, distribution, device
        self.counters: dict[str, Any] = {"env_steps": 0, "resampled": 0}
        self.executor = workers_of(config)
        self.workers = self.executor.count

    @property
    def spec(self) -> EnvSpec:
        return self.distribution.spec

    def open(self, stack: ExitStack, note: Note) -> str:
        """Opens the environments, and plays a few steps in them."""
        sampling, self.note = self.config.sampling, note
        for line in getattr(self.distribution, "notes", ()):
            note(line)
        self.env = self.distribution.open(sampling.tasks, sampling.episodes, self.executor)
        stack.callback(self.env.close)
        count = self.workers
        plural = "s" if count > 1 else ""
        who = f"{count} worker{plural} or thread{plural}" if count else "no workers"
        return (
            f"{who}, {threads(self.config.threads)} on {self.device}, "
            f"{sampling.tasks * sampling.episodes} simulations at {short(self._trial())} steps/s"
        )

    def _trial(self) -> float:
        """Returns the environment steps per second of short episodes without a policy."""
        spec, sampling = self.spec, self.config.sampling
        shape = (sampling.tasks, sampling.episodes)
        rng = keys.generator(self.config.seed, keys.Purpose.TRIAL)
        tasks = self.distribution.sample(sampling.tasks, rng)
        self.env.set_tasks(tasks)
        seeds = keys.seeds(*shape, self.config.seed, keys.Purpose.RESET, keys.Phase.TRIAL)
        actions = torch.from_numpy(np.zeros((*shape, spec.act_dim), spec.action_space.dtype))
        act = memoryless(lambda obs, noise: (actions[:, : obs.shape[1]], Gaussian(noise, noise)))
        steps = min(TRIAL_STEPS, spec.horizon)
        draws = Draws(seeds, Noise(steps, lambda s: torch.zeros(s, *shape, 1)), steps)
        started = time.perf_counter()
        played = collect(self.env, act, draws, spec, torch.device("cpu"), tasks)
        seconds = time.perf_counter() - started
        return int(played.mask.sum()) / seconds

    def collect(self, agent: Agent, iteration: int, update: int) -> Rounds:
        """Plays fresh tasks; draws them anew as often as a simulation diverges."""
        config, sampling = self.config, self.config.sampling
        for attempt in range(MAX_RESAMPLED):
            rng = keys.generator(config.seed, keys.Purpose.TASKS, iteration, attempt)
            tasks = self.distribution.sample(sampling.tasks, rng, "train", sampling.task_draw)
            key = (config.seed, iteration, attempt)
            try:
                state, rounds = adaptation_rounds(
                    agent, self.env, self.spec, tasks, sampling.episodes, agent.steps, key,
                    self.device,
                )  # fmt: skip
            except DivergedError as error:
                self.counters["resampled"] += 1
                self.note(f"iteration {iteration + 1} drawn anew: {error}")
                continue
            except UserError as error:
                error.args = (f"iteration {iteration + 1}: {error}",)
                raise
            self.counters["env_steps"] += sum(int(x.mask.sum()) for x in rounds)
            return Rounds(state, rounds[-1], rounds)
        raise UserError(
            f"iteration {iteration + 1}: {MAX_RESAMPLED} draws in a row diverged; "
            "lower the learning rates or the policy's deviation"
        )

    def outcomes(self, rounds: Sequence[Rounds]) -> Metrics:
        """Returns mean returns, and success rates where success is defined."""
        (only,) = rounds
        found = {f"return/step{n}": float(returns_of(x).mean()) for n, x in enumerate(only.curve)}
        if self.spec.has_success:
            for step, trajectories in enumerate(only.curve):
                found[f"success/step{step}"] = float(trajectories.success.float().mean())
        return found

    def score(self, outcomes: Metrics, steps: int) -> float:
        return outcomes[f"return/step{steps}"]


class HeldOutEpisodes(NamedTuple):
    """Held-out tasks, and the environments that they are played in."""

    distribution: TaskDistribution
    tasks: Sequence[Task]
    at_once: int
    """Tasks that are played together."""
    env: BatchedEnv
    greedy_env: BatchedEnv | None
    """For episodes of the policy's likeliest actions, where those are reported."""
    options: EvaluateOptions
    device: torch.device
    measure = RETURN
    used = ()

    @classmethod
    def open(
        cls,
        distribution: TaskDistribution,
        options: EvaluateOptions,
        device: torch.device,
        stack: ExitStack,
    ) -> HeldOutEpisodes:
        """Opens environments, until `stack` closes, for tasks that depend on the seed and their
        number alone."""
        for note in getattr(distribution, "notes", ()):
            print(note)
        if isinstance(distribution, Classes):
            tasks = distribution.held_out(options.tasks, options.split)
            at_once = min(len(tasks), CLASS_TASKS_AT_ONCE)
        else:
            rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
            tasks = distribution.sample(options.tasks, rng, options.split)
            at_once = len(tasks)
        workers = workers_of(options)
        env, greedy_env = distribution.open(at_once, options.episodes, workers), None
        stack.callback(env.close)
        if options.mode_episodes:
            greedy_env = distribution.open(at_once, options.mode_episodes, workers)
            stack.callback(greedy_env.close)
        return cls(distribution, tasks, at_once, env, greedy_env, options, device)

    @property
    def spec(self) -> EnvSpec:
        return self.distribution.spec

    @property
    def made_from(self) -> Mapping[str, Any]:
        return {"horizon": self.spec.horizon, "mode_episodes": self.options.mode_episodes}

    def seen_by(self, observes_task: bool) -> HeldOutEpisodes:
        """Returns the same tasks, for an oracle with their numbers in the observations."""
        if not observes_task:
            return self
        told, options = TaskConditioned(self.distribution), self.options
        env = told.around(self.env, self.at_once, options.episodes)
        greedy = self.greedy_env and told.around(
            self.greedy_env, self.at_once, options.mode_episodes
        )
        return self._replace(distribution=told, env=env, greedy_env=greedy)

    def adapt(self, agent: Agent, name: str) -> Outcome:
        """Returns returns and success [K, S, E], and what a task has used at each point."""
        options, num_tasks = self.options, len(self.tasks)
        steps = f"{options.steps} step{'s' if options.steps != 1 else ''}"
        print(f"{name}: {steps} on {num_tasks} tasks ...", flush=True)
        returns, solved_at, used = [], [], np.zeros(options.steps)
        for start in range(0, num_tasks, self.at_once):
            try:
                learned, shown = self._rounds(agent, start)
            except DivergedError as error:
                raise UnstableError(
                    f"{name}: {error}; another --seed draws other episodes"
                ) from error
            except UserError as error:
                error.args = (f"{name}: {error}",)
                raise
            done = min(start + self.at_once, num_tasks)
            own = slice(0, done - start)
            returns.append(np.stack([returns_of(x)[own].cpu().numpy() for x in shown], axis=1))
            solved_at.append(np.stack([x.solved_at[own].cpu().numpy() for x in shown], axis=1))
            # A trial goes through one episode a step; the others beside it are other trials.
            share = getattr(agent, "episodes_per_step", options.episodes) / options.episodes
            used += [share * float(x.mask[own].sum()) for x in learned]
            if self.at_once < num_tasks:
                print(f"{name}: {done} of {num_tasks} tasks", flush=True)
        env_steps = tuple(np.concatenate([[0.0], np.cumsum(used / num_tasks)]).tolist())
        at = np.concatenate(solved_at) if self.spec.has_success else None
        return Outcome(np.concatenate(returns), None if at is None else at > 0, env_steps, at)

    def _rounds(
        self, agent: Agent, start: int
    ) -> tuple[Sequence[Trajectories], Sequence[Trajectories]]:
        """Returns the rounds that tasks from `start` on learn from, and those that are reported.

        Environments are opened for a fixed number of tasks, so the last few are played beside
        others whose episodes are left out.
        """
        options = self.options
        tasks = self.tasks[start : start + self.at_once]
        tasks = [*tasks, *self.tasks[: self.at_once - len(tasks)]]
        key = (options.seed, keys.Purpose.EVALUATION)
        if self.at_once < len(self.tasks):
            key = (options.seed, keys.Phase.EVALUATION, start)
        if self.greedy_env is None:
            _, rounds = adaptation_rounds(
                agent, self.env, self.spec, tasks, options.episodes, options.steps, key,
                self.device,
            )  # fmt: skip
            return rounds[:-1], rounds
        return greedy_rounds(
            agent, self.env, self.greedy_env, self.spec, tasks, options.episodes,
            options.mode_episodes, options.steps, key, (options.seed, keys.Phase.MODE, start),
            self.device,
        )  # fmt: skip

    def pictures(
        self, agent: Agent, found: Adaptation, files: Evaluation, title: str
    ) -> list[Path]:
        """Writes the success of each class, where tasks are of classes."""
        if (success := class_success(found)) is None:
            return []
        from metarl.runs.class_success_plot import success_figure  # imports matplotlib
        from metarl.runs.plot_style import save

        write_success(files.success_json, success)
        save(files.success_png, success_figure(success))
        print("\n" + text_table(success))
        return [files.success_png]
