"""The training loop: sample tasks, collect, adapt, meta-update, log, checkpoint."""

from __future__ import annotations

import time
import warnings
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config import Config, EnvConfig
from metarl.config_checks import check_continues
from metarl.config_files import dump
from metarl.config_files import keys as keys_of
from metarl.device import cores, torch_device, workers_of
from metarl.envs import catalogue as envs
from metarl.envs.told import Told
from metarl.errors import UserError
from metarl.experiment import run_config
from metarl.runs import checkpoint, directory, environment, files
from metarl.runs.errors_log import faults_logged
from metarl.runs.metrics import MetricsLog
from metarl.runs.progress import Progress, short
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import (
    Agent,
    BatchedEnv,
    Classes,
    DivergedError,
    EnvFaultError,
    EnvSpec,
    Metrics,
    Params,
    TaskDistribution,
    Trajectories,
)

SCORED = 20
"""Iterations whose mean return after adaptation is a checkpoint's score."""

MAX_SKIPPED = 5
"""Updates in a row without a finite result after which the run gives up."""

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
        distribution = Told(distribution)
    if isinstance(distribution, Classes):  # before there is a folder: some numbers cannot be spread
        distribution.sample(config.sampling.tasks, np.random.default_rng(0))
    run = directory.create(config.run_dir)
    with directory.Lock(run), faults_logged(run, config.env.name):
        _check_named(config.env, distribution.spec)
        if run.config.exists() and checkpoint.saved(run.checkpoints):
            check_continues(config, run_config(run.root), run.root)
        trainer = Trainer(config, run, preset_name, distribution)
        if trainer.iteration >= config.iterations:
            print(f"{run.root} is done: it has {trainer.iteration} iterations")
            return run.root
        files.replace_text(run.config, dump(config))
        trainer.run_to_the_end()
    again = f" --env {config.env.name}" if envs.is_own(config.env.name) else ""
    print(f"done; next: python -m metarl.evaluate {run.root}{again}")
    return run.root


def _check_named(env: EnvConfig, spec: EnvSpec) -> None:
    """The run's config is what evaluation takes the tasks from, so it must name those given."""
    other = not envs.is_own(env.name) and env.name != spec.name
    if other or env.horizon != spec.horizon:
        raise UserError(
            f"config.env is {env.name!r} with horizon {env.horizon}, the tasks given are of "
            f"{spec.name} with horizon {spec.horizon}; set config.env to "
            f"metarl.EnvConfig('package.module:attribute', {spec.horizon})"
        )


class Snapshot(NamedTuple):
    """A run after a complete iteration."""

    iteration: int
    weights: Params
    state: dict[str, Any]


class Trainer:
    """One run in one process. What it does at iteration n depends on config and n alone."""

    def __init__(
        self,
        config: Config,
        run: directory.RunDirectory,
        name: str,
        distribution: TaskDistribution,
    ):
        self.config, self.run, self.name = config, run, name
        self.distribution = distribution
        self.device = torch_device(config.device)
        self.workers = workers_of(config)
        torch.set_num_threads(cores())
        self.agent = build_agent(config, self.distribution, self.device)
        self.iteration = self.saved = 0
        self.state: dict[str, Any] = {
            "env_steps": 0,
            "wall_s": 0.0,
            "resampled": 0,
            "skipped_in_a_row": 0,
        }
        self.recent: deque[float] = deque(maxlen=SCORED)
        """Returns after adaptation; their mean says which checkpoint is the best."""
        self._resume()

    def _resume(self) -> None:
        checkpoint.clean(self.run.checkpoints)
        found = checkpoint.load_latest(self.run.checkpoints, self.device)
        if found is None:
            return
        try:
            self.agent.load_state_dict(found.tensors)
        except ValueError as error:
            raise UserError(f"{found.path}: {error}") from None
        self.iteration, self.state = found.iteration, {**self.state, **found.state}
        self.saved = found.iteration
        self.recent.extend(self.state.pop("recent"))

    def run_to_the_end(self) -> None:
        config, sampling = self.config, self.config.sampling
        self._record_environment()
        with ExitStack() as stack:
            log, progress = MetricsLog(self.run, self.iteration), Progress()
            stack.callback(log.close)
            title = f"{self.name}: {config.agent.name} on {config.env.name}, kept in"
            progress.note(f"{title} {self.run.root}")
            for owner in (self.distribution, self.agent):
                for note in getattr(owner, "notes", ()):
                    progress.note(note)
            env = self.distribution.open(sampling.tasks, sampling.episodes, self.workers)
            stack.callback(env.close)
            speed = short(self._trial(env))
            stack.callback(progress.close)
            progress.start(
                "",
                config.iterations,
                done=self.iteration,
                env_steps=self.state["env_steps"],
                facts=f"{_crew(self.workers.count)}, {cores()} torch threads on "
                f"{self.device}, {sampling.tasks * sampling.episodes} simulations at "
                f"{speed} steps/s",
            )
            complete = self._snapshot()
            try:
                while self.iteration < config.iterations:
                    row = self._iterate(env, progress)
                    log.append(row)
                    complete = self._snapshot()
                    progress.update(self.iteration, row)
                    if self.iteration % config.checkpoint_every == 0:
                        self._save(complete)
                    self._check_skipped(row, progress)
            finally:  # also where a user or a scheduler stops it: no complete iteration is lost
                self._save(complete)

    def _record_environment(self) -> None:
        """Where the run runs; on resuming elsewhere, what is different there."""
        threads = {"workers": self.workers.count, "torch": cores()}
        now = environment.describe(str(self.device), threads)
        if self.run.environment.exists():
            before = environment.read(self.run.environment)
            for change in environment.changed_versions(before, now):
                warnings.warn(f"since this run began: {change}", stacklevel=2)
        environment.write(self.run.environment, now)

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

    def _snapshot(self) -> Snapshot:
        state = {**self.state, "recent": list(self.recent)}
        return Snapshot(self.iteration, self.agent.state_dict(), state)

    def _save(self, complete: Snapshot) -> None:
        """A checkpoint of a complete iteration, unless it has one."""
        if complete.iteration == self.saved:
            return
        recent = complete.state["recent"]
        score = sum(recent) / len(recent)
        checkpoint.save(
            self.run.checkpoints, complete.iteration, complete.weights, complete.state, score
        )
        self.saved = complete.iteration

    def _iterate(self, env: BatchedEnv, progress: Progress) -> Metrics:
        """One meta-iteration, drawn anew as often as a simulation diverges."""
        started = time.perf_counter()
        for attempt in range(MAX_RESAMPLED):
            try:
                state, rounds = self._sample(env, attempt)
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

    def _check_skipped(self, row: Metrics, progress: Progress) -> None:
        """An agent leaves itself as it is where its update is not finite, and says so."""
        if not row["skipped"]:
            return
        progress.note(f"iteration {self.iteration} skipped: a loss, gradient or KL was not finite")
        if self.state["skipped_in_a_row"] < MAX_SKIPPED:
            return
        steps = [
            f"--agent.{key.replace('_', '-')}"
            for key in ("inner.lr", "outer.lr", "outer.max_kl")
            if key in keys_of(self.config.agent)
        ]
        raise UserError(
            f"iteration {self.iteration}: {self.state['skipped_in_a_row']} updates in a row were "
            f"not finite\nlikely causes: steps too large ({', '.join(steps)}), or observations or "
            "rewards of very large size\n(--agent.normalisation.observations, "
            "--agent.normalisation.rewards)"
        )

    def _sample(self, env: BatchedEnv, attempt: int) -> tuple[Any, list[Trajectories]]:
        """Episodes before and after each adaptation step, on fresh tasks."""
        config, sampling = self.config, self.config.sampling
        rng = keys.generator(config.seed, keys.Purpose.TASKS, self.iteration, attempt)
        tasks = self.distribution.sample(sampling.tasks, rng, "train", sampling.task_draw)
        return adaptation_rounds(
            self.agent,
            env,
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
