"""The training loop, once for all sources: rounds, meta-update, log, checkpoint, resume."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch

from metarl import keys, memory
from metarl.agents import catalogue as agents
from metarl.callbacks.callback import Callback, Start
from metarl.callbacks.group import Callbacks, checked
from metarl.callbacks.tensorboard import TensorBoard
from metarl.checking.before_training import check_before_training
from metarl.config import own_code
from metarl.config.checks import check_continues
from metarl.config.files import dump
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.device import torch_device, use_threads, workers_of
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.data import checked_data
from metarl.limits import within_the_machine
from metarl.loop import saved_state, stalls
from metarl.loop.kept_replay import NoReplay, check_disk, replay_of
from metarl.loop.saved_state import SavedState
from metarl.loop.skipped import Skipped
from metarl.runs import checkpoint, data, directory, environment, files, inputs
from metarl.runs.errors_log import faults_logged
from metarl.runs.metrics import MetricsLog, count
from metarl.runs.progress import Progress
from metarl.sampling.main_script import end_if_importing
from metarl.signals import held
from metarl.sources.episodes import EpisodeSource
from metarl.sources.examples import ExampleSource
from metarl.sources.source import Source
from metarl.text import say
from metarl.threads import threads
from metarl.types import Classes, FewShotTasks, MetaLearner, Metrics, Params, TaskDistribution

SCORED = 20
"""Iterations whose mean outcome is a checkpoint's score."""

Tasks: TypeAlias = "TaskDistribution | FewShotTasks"


@within_the_machine()
def train(
    config: AnyConfig,
    preset_name: str,
    tasks: Tasks | None = None,
    named: str | None = None,
    named_agent: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Meta-trains, or continues the run in `config.run_dir`. Returns the run's folder.

    `tasks` are those of `config.env`. If left out they are made, a user's own if the command line
    `named` their code, as `named_agent` that of an agent. `preset_name` heads the progress.
    `callbacks` watch the run; TensorBoard's files are written in any case.

    Raises:
        UserError: where the folder cannot be used, or holds a run with other settings or data.
    """
    end_if_importing()
    agents.check_task_batch(config)
    agents.check_trials(config)
    callbacks = checked(callbacks)
    if not any(isinstance(one, TensorBoard) for one in callbacks):
        callbacks = (TensorBoard(), *callbacks)
    told = Callbacks(callbacks, config.run_dir)
    use_threads(config.threads)
    found = checked_data(config) if isinstance(config, FewShotConfig) else None
    made = envs.configured(config.env, named) if tasks is None else tasks
    if not envs.is_own(config.env.name):  # before there is a folder
        _check_size(config, made)
    source = source_of(config, made, torch_device(config.device))
    run = directory.create(config.run_dir)
    with directory.locked(run), faults_logged(run, config.env.name):
        if tasks is not None:
            check_named(config, tasks.spec)  # makes an environment, whose faults are logged
        if envs.is_own(config.env.name):  # asking for its spec may fail, which is logged
            _check_size(config, made)
        begun = any(run.checkpoints.iterdir())
        if begun or run.metrics.exists():
            _check_settings(config, run)
        rng = keys.generator(config.seed, keys.Purpose.INIT)
        group = config.task_batch if isinstance(config, Config) else 0
        agent = agents.build(source.spec, config.agent, rng, source.device, named_agent, group)
        training = Training(config, run, preset_name, source, agent, replay_of(config, run, agent))
        if begun:
            training.resume()
        if found is not None:
            data.write(run, found)
        if isinstance(config, FewShotConfig):
            inputs.write(run, inputs.of(made))
        if training.iteration >= config.iterations:
            say(f"{run.root} is done: it has {training.iteration} iterations")
            return run.root
        if isinstance(config, Config) and envs.is_own(config.env.name):
            check_before_training(cast(TaskDistribution, made), config, workers_of(config))
        files.replace_text(run.config, dump(config))
        training.run_to_the_end(told)
        say(f"done; next: {_evaluation(config, run)}")
        return run.root


def _check_size(config: AnyConfig, tasks: Any) -> None:
    """Checks that the run fits in the memory and its replay on the disk."""
    workers = workers_of(config).count if isinstance(config, Config) else 0
    here = torch_device(config.device).type == "cpu" and not envs.is_own(config.env.name)
    memory.check(memory.of_training(config, tasks.spec, workers, kept=here))
    check_disk(config, tasks.spec)


def _check_settings(config: AnyConfig, run: directory.RunDirectory) -> None:
    """Raises a UserError where a run that was begun has other settings, or has lost its weights."""
    checkpoint.clean(run.checkpoints)
    stored = run_config(run.root) if run.config.exists() else config
    if checkpoint.saved(run.checkpoints):
        check_continues(config, stored, run.root)
    elif (rows := count(run.metrics)) > stored.checkpoint_every:
        raise UserError(
            f"{run.root} has metrics of {rows} iterations and no checkpoint to continue from\n"
            "a new run would overwrite them: start it with --run-dir in another folder"
        )


def _evaluation(config: AnyConfig, run: directory.RunDirectory) -> str:
    """Returns the command that evaluates a run."""
    if own_code.is_given(config.env.name):
        return f"metarl.evaluate({str(run.root)!r}, tasks)"
    again = f" --env {config.env.name}" if envs.is_own(config.env.name) else ""
    again += f" --agent {config.agent.name}" if own_code.is_place(config.agent.name) else ""
    return f"metarl evaluate {quote(str(run.root))}{again}"


def source_of(config: AnyConfig, tasks: Any, device: torch.device) -> Source:
    """Returns the source of the meta-batches that a run learns from."""
    if isinstance(config, FewShotConfig):
        return ExampleSource(config, tasks, device)
    if agents.observes_task(config.agent):
        tasks = TaskConditioned(tasks)
    distribution: TaskDistribution = tasks
    if isinstance(tasks, Classes):  # before there is a folder: some numbers cannot be spread
        distribution.sample(config.sampling.tasks, np.random.default_rng(0))
    return EpisodeSource(config, distribution, device)


def check_named(config: AnyConfig, spec: Any) -> None:
    """Raises a UserError where `config.env` does not name the tasks that are given.

    Evaluation takes the tasks from the run's config.
    """
    env = config.env
    if isinstance(config, Config):
        other = env.name != spec.name and not envs.is_own(env.name)
        if other or config.env.horizon != spec.horizon:
            raise UserError(
                f"config.env is {env.name!r} with horizon {config.env.horizon}, the tasks given "
                f"are of {spec.name} with horizon {spec.horizon}; set config.env to "
                f"metarl.EnvConfig('package.module:attribute', {spec.horizon})"
            )
    elif families.is_one(env.name) and env.name != spec.name:
        raise UserError(
            f"config.env is {env.name!r}, and the tasks given are {spec.name}; set config.env to "
            "metarl.FewShotEnvConfig('package.module:attribute')"
        )


def _tell_end(callbacks: Callbacks, kind: type[BaseException] | None, *rest: object) -> None:
    """Tells callbacks how training ended: by this kind of exception, or by none."""
    del rest
    if kind is None:
        callbacks.end("stopped" if callbacks.stop else "done")
    else:
        callbacks.end("interrupted" if kind is KeyboardInterrupt else "failed")


class Snapshot(NamedTuple):
    """A run after a complete iteration."""

    iteration: int
    weights: Params
    state: SavedState


@dataclass(eq=False)
class Training:
    """One run in one process. What it does at iteration n depends on config and n alone."""

    config: AnyConfig
    run: directory.RunDirectory
    name: str
    source: Source
    agent: MetaLearner
    replay: NoReplay = field(default_factory=NoReplay)
    """Trials that the agent learns from again, if it does."""
    iteration: int = 0
    saved: int = 0
    """Iteration of the newest checkpoint."""
    wall_s: float = 0.0
    skipped: Skipped = field(init=False)
    facts: stalls.Facts = stalls.Facts()  # noqa: RUF009  # nobody can change it
    """Facts of the last iteration that its metrics lack."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=SCORED))
    """Scores after adaptation; their mean says which checkpoint is the best."""

    def __post_init__(self) -> None:
        self.skipped = Skipped(self.config)

    def resume(self) -> None:
        """Takes up the newest checkpoint, if one was saved.

        Raises:
            UserError: where all checkpoints are corrupt.
        """
        found = checkpoint.load_latest(
            self.run.checkpoints, self.source.device, checkpoint.room_for(self.agent)
        )
        if found is None:
            return
        state = saved_state.read(found.state, self.source.counters, found.path)
        found.load_into(self.agent, envs.meant_before(self.config.env.name))
        self.replay.restore(found, state)
        self.iteration = self.saved = found.iteration
        self.recent.extend(state.recent)
        self.wall_s, self.skipped.in_a_row = state.wall_s, state.skipped_in_a_row
        self.source.counters |= state.counters

    def run_to_the_end(self, callbacks: Callbacks | None = None) -> None:
        """Iterates until the config's number is reached; saves whatever ends it."""
        config, callbacks = self.config, callbacks or Callbacks()
        self._record_environment()
        self.replay.remove_unsaved()
        with ExitStack() as stack:
            log, progress = MetricsLog(self.run, self.iteration), Progress()
            title = f"{self.name}: {config.agent.name} on {config.env.name}, kept in"
            progress.note(f"{title} {self.run.root}")
            facts = self.source.open(stack, progress.note)
            for note in getattr(self.agent, "notes", ()):
                progress.note(note)
            stack.callback(progress.close)
            used = next(iter(self.source.counters.values()))  # environment steps, or tasks
            progress.start(config.iterations, self.iteration, used, facts)
            stack.push(partial(_tell_end, callbacks))  # later than the signals' block
            # A signal ends an iteration, or waits: no complete one is lost.
            stops = stack.enter_context(held("saving the last iteration"))
            complete, told = self._snapshot(), stalls.Stalls(progress.note)
            begun = self.iteration
            start = Start(self.run.root, config, begun)
            try:
                stops.interruptible(partial(callbacks.start, start))
                while self.iteration < config.iterations and not callbacks.stop:
                    row = stops.interruptible(self._iterate)
                    log.append(row)
                    complete = self._snapshot()
                    stops.interruptible(
                        partial(callbacks.iteration, row, self.agent, complete.weights)
                    )
                    stops.interruptible(partial(progress.update, self.iteration, row))
                    if self.iteration % config.checkpoint_every == 0:
                        self._save(complete)
                        stops.interruptible(partial(self._tell_saved, callbacks))
                    self.skipped.check(self.iteration, row, self.facts, progress.note)
                    told.after(row, self.facts)
                if callbacks.stop:
                    progress.note(f"ended after iteration {self.iteration}: {callbacks.stop}")
                told.end(self.iteration - begun)
                if self.saved != self.iteration:
                    self._save(complete)
                    stops.interruptible(partial(self._tell_saved, callbacks))
            finally:
                self._save(complete)

    def _tell_saved(self, callbacks: Callbacks) -> None:
        callbacks.checkpoint(self.saved, self.run.checkpoints / f"{self.saved:06d}")

    def _iterate(self) -> Metrics:
        """Takes the meta-updates of one iteration; returns its line of metrics.jsonl."""
        source, started, updating = self.source, time.perf_counter(), 0.0
        before, source.recent = self.agent.state_dict(), tuple(self.recent)
        steps = self.agent.steps  # an agent may adapt more steps after its update
        kept, found = [], []
        for update in range(source.updates):
            rounds = source.collect(self.agent, self.iteration, update)
            if rounds.curve is not None:
                kept.append(rounds)
            drawn = time.perf_counter()
            key = (self.iteration, update) if update else (self.iteration,)
            rng = keys.generator(self.config.seed, keys.Purpose.THINNING, *key)
            found.append(self.agent.meta_update(rounds.state, rounds.query, rng))
            updating += time.perf_counter() - drawn
        spent = time.perf_counter() - started
        names = dict.fromkeys(name for metrics in found for name in metrics)
        row = {name: float(np.mean([x[name] for x in found if name in x])) for name in names}
        self.iteration += 1
        self.wall_s += spent
        self.skipped.count(row)
        outcomes = source.outcomes(kept)
        self.recent.append(source.score(outcomes, steps))
        self.facts = stalls.Facts.of(self.config, source, kept, before, self.agent.state_dict())
        return {
            "iteration": self.iteration,
            "wall_s": self.wall_s,
            **source.counters,
            **outcomes,
            **row,
            "time/sampling_s": spent - updating,
            "time/update_s": updating,
        }

    def _record_environment(self) -> None:
        """Writes where the run runs; on resuming elsewhere, warns of what is different there."""
        torch, source = threads(self.config.threads)
        used = {"workers": self.source.workers, "torch": torch, "from": source}
        if isinstance(self.source, EpisodeSource):
            used["act_on"] = self.source.act_on
            if self.source.config.sampler == "ray":
                used["sampler"] = "ray"
        now = environment.describe(str(self.source.device), used)
        for change in environment.record(self.run.environment, now, self.iteration + 1):
            warnings.warn(f"since this run began: {change}", stacklevel=2)

    def _snapshot(self) -> Snapshot:
        state = SavedState(
            list(self.recent),
            self.wall_s,
            self.skipped.in_a_row,
            dict(self.source.counters),
            self.replay.state(),
        )
        return Snapshot(self.iteration, self.agent.state_dict(), state)

    def _save(self, complete: Snapshot) -> None:
        """Saves a checkpoint of a complete iteration, unless it has one."""
        if complete.iteration == self.saved:
            return
        recent = complete.state.recent
        checkpoint.save(
            self.run.checkpoints,
            complete.iteration,
            complete.weights,
            complete.state.stored(),
            score=sum(recent) / len(recent),
        )
        self.saved = complete.iteration
        self.replay.remove_unsaved()
