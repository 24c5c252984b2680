"""Episodes of reinforcement as the source of meta-batches: played before and after adaptation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.device import workers_of
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import DivergedError, UnstableError, UserError
from metarl.runs import class_success
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.measures import RETURN
from metarl.runs.progress import short
from metarl.runs.watch import Unwatched, Watch
from metarl.sampling.collect import returns_of
from metarl.sampling.draws import RoundDraws
from metarl.sampling.idle import Idle
from metarl.sampling.rounds import adaptation_rounds, greedy_rounds
from metarl.sampling.sampler import Place, Sampler, check_place, place_to_act
from metarl.sources import facts
from metarl.sources.source import Note, Rounds
from metarl.text import say
from metarl.threads import threads
from metarl.types import (
    Agent,
    Classes,
    EnvSpec,
    Metrics,
    Progress,
    Task,
    TaskDistribution,
    Trajectories,
    takes_progress,
)

MAX_RESAMPLED = 10
"""Diverged draws of one meta-iteration after which the run gives up."""
CPU = torch.device("cpu")
TRIAL_STEPS = 20
"""Steps of the episodes that measure speed before training."""
CLASS_TASKS_AT_ONCE = 20
"""Goals of class benchmarks that are played together, as in a meta-batch of training."""


class EpisodeSource:
    """Tasks to learn from in training, played in K x E environments."""

    updates = 1
    recent: Sequence[float] = ()

    def __init__(self, config: Config, distribution: TaskDistribution, device: torch.device):
        self.config, self.distribution, self.device = config, distribution, device
        self.counters: dict[str, Any] = {"env_steps": 0, "resampled": 0}
        self.executor = workers_of(config)
        self.workers = self.executor.count
        if self.executor.cluster is not None:  # before there is a folder
            check_place(self.act_on, self.executor)

    @property
    def spec(self) -> EnvSpec:
        return self.distribution.spec

    @cached_property
    def act_on(self) -> Place:
        """Place where the policy acts in episodes."""
        return place_to_act(self.config.act_on, self.config.agent, self.spec, self.device)

    def open(self, stack: ExitStack, note: Note) -> str:
        """Opens the environments, and plays a few steps in them."""
        sampling, self.note = self.config.sampling, note
        for line in getattr(self.distribution, "notes", ()):
            note(line)
        self.env = Sampler(
            self.distribution, sampling.tasks, sampling.episodes, self.executor, self.act_on
        )
        stack.callback(self.env.close)
        count = self.workers
        who = f"{count} worker{'s' if count > 1 else ''}" if count else "no workers"
        if self.env.shards is not None:
            who = self.env.shards.who or who
        return (
            f"{who}, {threads(self.config.threads)} on {self.device}, policy on the {self.act_on}, "
            f"{sampling.tasks * sampling.episodes} simulations at {short(self._trial())} steps/s"
        )

    def _trial(self) -> float:
        """Returns the environment steps per second of short episodes without a policy."""
        spec, sampling = self.spec, self.config.sampling
        shape = (sampling.tasks, sampling.episodes)
        rng = keys.generator(self.config.seed, keys.Purpose.TRIAL)
        self.env.set_tasks(self.distribution.sample(sampling.tasks, rng))
        steps = min(TRIAL_STEPS, spec.horizon)
        key = self.config.seed, keys.Phase.TRIAL
        draws = RoundDraws(shape, "zero", 1, key, steps)
        started = time.perf_counter()
        played = self.env.play(Idle(spec), None, 0, draws, CPU)
        seconds = time.perf_counter() - started
        return int(played.mask.sum()) / seconds

    def collect(self, agent: Agent, iteration: int, update: int) -> Rounds:
        """Plays fresh tasks; draws them anew as often as a simulation diverges."""
        config, sampling = self.config, self.config.sampling
        for attempt in range(MAX_RESAMPLED):
            rng = keys.generator(config.seed, keys.Purpose.TASKS, iteration, attempt)
            tasks = self.distribution.sample(
                sampling.tasks, rng, "train", sampling.task_draw, **self._curriculum(iteration)
            )
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

    def _curriculum(self, iteration: int) -> dict[str, Progress]:
        if not takes_progress(self.distribution):
            return {}
        return {"progress": Progress(iteration, self.config.iterations, tuple(self.recent))}

    def outcomes(self, rounds: Sequence[Rounds]) -> Metrics:
        """Returns mean returns, and success rates where success is defined."""
        (only,) = rounds
        found = {f"return/step{n}": float(returns_of(x).mean()) for n, x in enumerate(only.curve)}
        if self.spec.has_success:
            for step, trajectories in enumerate(only.curve):
                found[f"success/step{step}"] = float(trajectories.success.float().mean())
        return found

    def sameness(self, rounds: Sequence[Rounds]) -> str:
        return facts.sameness([episodes for one in rounds for episodes in one.curve])

    def sizes(self, rounds: Sequence[Rounds]) -> dict[str, float]:
        played = [episodes for one in rounds for episodes in one.curve]
        return facts.largest(
            {"rewards": [x.rewards for x in played], "observations": [x.obs for x in played]}
        )

    def score(self, outcomes: Metrics, steps: int) -> float:
        return outcomes[f"return/step{steps}"]


def _opened(
    distribution: TaskDistribution,
    num_tasks: int,
    options: EvaluateOptions,
    act_on: Place,
    stack: ExitStack,
) -> tuple[Sampler, Sampler | None]:
    """Opens environments to adapt in, and others where likeliest actions are reported."""
    workers, found = workers_of(options), []
    for episodes in (options.episodes, options.mode_episodes):
        if episodes:
            found.append(Sampler(distribution, num_tasks, episodes, workers, act_on))
            stack.callback(found[-1].close)
    return found[0], found[1] if len(found) > 1 else None


class HeldOutEpisodes(NamedTuple):
    """Held-out tasks, and the environments that they are played in."""

    distribution: TaskDistribution
    tasks: Sequence[Task]
    at_once: int
    """Tasks that are played together."""
    env: Sampler
    greedy_env: Sampler | None
    """For episodes of the policy's likeliest actions, where those are reported."""
    options: EvaluateOptions
    device: torch.device
    act_on: Place
    stack: ExitStack
    """Closes the environments."""
    told: list[HeldOutEpisodes]
    """At most one: these tasks with their numbers observed, opened for the first oracle."""
    measure = RETURN
    used = ()

    @classmethod
    def open(
        cls,
        distribution: TaskDistribution,
        options: EvaluateOptions,
        device: torch.device,
        stack: ExitStack,
        act_on: Place = "workers",
    ) -> HeldOutEpisodes:
        """Opens environments, until `stack` closes, for tasks that depend on the seed and their
        number alone."""
        for note in getattr(distribution, "notes", ()):
            say(note)
        if options.own_tasks:
            tasks = options.own_tasks
        elif isinstance(distribution, Classes):
            tasks = distribution.held_out(options.tasks, options.split)
        else:
            rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
            tasks = distribution.sample(options.tasks, rng, options.split)
        at_once = len(tasks)
        if isinstance(distribution, Classes):
            at_once = min(at_once, CLASS_TASKS_AT_ONCE)
        env, greedy_env = _opened(distribution, at_once, options, act_on, stack)
        return cls(
            distribution, tasks, at_once, env, greedy_env, options, device, act_on, stack, []
        )

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
        if not self.told:  # once for all oracles
            told = TaskConditioned(self.distribution)
            env, greedy = _opened(told, self.at_once, self.options, self.act_on, self.stack)
            self.told.append(self._replace(distribution=told, env=env, greedy_env=greedy))
        return self.told[0]

    def adapt(self, agent: Agent, name: str, watch: Watch | None = None) -> Outcome:
        """Returns returns and success [K, S, E], and what a task has used at each point."""
        options, num_tasks = self.options, len(self.tasks)
        steps = f"{options.steps} step{'s' if options.steps != 1 else ''}"
        say(f"{name}: {steps} on {num_tasks} task{'s' if num_tasks != 1 else ''} ...")
        returns, solved_at, used = [], [], np.zeros(options.steps)
        watch = watch or Unwatched()
        with watch.adapting(name, num_tasks, options.steps + 1):
            for start in range(0, num_tasks, self.at_once):
                end = min(start + self.at_once, num_tasks)
                learned, shown = self._named_rounds(agent, name, start, end, watch)
                own = slice(0, end - start)
                returns.append(np.stack([returns_of(x)[own].cpu().numpy() for x in shown], axis=1))
                solved_at.append(np.stack([x.solved_at[own].cpu().numpy() for x in shown], axis=1))
                # A trial goes through one episode a step; the others beside it are other trials.
                share = getattr(agent, "episodes_per_step", options.episodes) / options.episodes
                used += [share * float(x.mask[own].sum()) for x in learned]
        env_steps = tuple(np.concatenate([[0.0], np.cumsum(used / num_tasks)]).tolist())
        at = np.concatenate(solved_at) if self.spec.has_success else None
        return Outcome(np.concatenate(returns), None if at is None else at > 0, env_steps, at)

    def _named_rounds(
        self, agent: Agent, name: str, start: int, end: int, watch: Watch
    ) -> tuple[Sequence[Trajectories], Sequence[Trajectories]]:
        """Returns `_rounds`; errors name the learner."""
        try:
            return self._rounds(agent, start, lambda index: watch.round(start, end, index + 1))
        except DivergedError as error:
            raise UnstableError(f"{name}: {error}; another --seed draws other episodes") from error
        except UserError as error:
            error.args = (f"{name}: {error}",)
            raise

    def _rounds(
        self, agent: Agent, start: int, after: Callable[[int], object]
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
                self.device, after,
            )  # fmt: skip
            return rounds[:-1], rounds
        return greedy_rounds(
            agent, self.env, self.greedy_env, self.spec, tasks, options.episodes,
            options.mode_episodes, options.steps, key, (options.seed, keys.Phase.MODE, start),
            self.device, after,
        )  # fmt: skip

    def shown(self, agent: Agent, found: Adaptation, title: str) -> dict[str, bytes]:
        """Draws and prints the success of each class, where tasks are of classes."""
        if (success := class_success.class_success(found)) is None:
            return {}
        from metarl.runs.class_success_plot import success_figure  # imports matplotlib
        from metarl.runs.plot_style import png

        say("\n" + class_success.text_table(success))
        return {
            "success.json": class_success.as_json(success),
            "success.png": png(success_figure(success)),
        }
