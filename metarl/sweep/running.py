"""Runs the trials of a sweep, each in a process of its own, and continues a sweep that stopped."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from metarl import threads
from metarl.comparison.learners import evaluation_of
from metarl.config.files import dump
from metarl.config.settings import AnyConfig
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.runs import directory, metrics, places
from metarl.runs.directory import RunDirectory
from metarl.runs.files import open_own, replace_text
from metarl.sweep.parameters import Parameter, changed, settings
from metarl.sweep.study import Study
from metarl.sweep.trial import SPLIT, place
from metarl.text import say

POLL = 0.2
"""Time between two looks at the trials, s."""
PARTS = 10
"""Parts of a training whose mean outcomes the pruner sees."""
STARTS = 5
"""Share of a training, one part in this many, in which no trial is pruned."""
HOPELESS = 5
"""Trials that may fail before one succeeds."""
PATIENCE = 60.0
"""Longest that stopped trials may take to save their last iteration, s."""
MOST_LOG = 1 << 16
"""Bytes of a log that are searched for the error."""


@dataclass(frozen=True)
class Plan:
    """The trials that a sweep asks for."""

    root: Path
    config: AnyConfig
    parameters: tuple[Parameter, ...]
    trials: int
    jobs: int
    select_on: Literal["validation", "train"]
    env: str | None = None
    """Code of a user's own tasks that the command line named."""
    agent: str | None = None
    """Code of a user's own agent that the command line named."""

    def folder(self, number: int) -> Path:
        """Returns the folder of a trial's run."""
        return self.root / f"trial{number}"


class Running(NamedTuple):
    """A trial that runs."""

    trial: Any
    process: subprocess.Popen[bytes]
    folder: Path
    reported: set[int]
    """Parts of the training that the pruner has seen."""


def run(plan: Plan, study: Study) -> None:
    """Runs trials until there are as many as the plan asks for.

    Raises:
        UserError: where the first few trials all fail.
    """
    waiting, running = study.interrupted(), list[Running]()
    for trial in waiting:
        say(f"trial {trial.number} is continued")
    try:
        while True:
            while len(running) < plan.jobs:
                trial = waiting.pop(0) if waiting else _asked(plan, study)
                if trial is None:
                    break
                if (begun := _begun(plan, study, trial)) is not None:
                    running.append(begun)
            if not running:
                return
            time.sleep(POLL)
            for one in list(running):
                if one.process.poll() is not None:
                    running.remove(one)
                    _end(plan, study, one)
                elif _is_hopeless(plan, one):
                    running.remove(one)
                    _stop([one])
                    study.prune(one.trial)
                    say(f"trial {one.trial.number} is pruned: worse than the median so far")
    finally:
        _stop(running)


def _asked(plan: Plan, study: Study) -> Any:
    """Returns a new trial; None if there are enough."""
    return study.ask(plan.jobs) if len(study.trials) < plan.trials else None


def _begun(plan: Plan, study: Study, trial: Any) -> Running | None:
    """Starts a trial; one whose settings cannot be combined fails at once."""
    try:
        values = study.values(trial)
        config = changed(plan.config, values)
    except UserError as error:
        _fail(study, trial, str(error))
        return None
    folder = plan.folder(trial.number)
    run = RunDirectory(folder)
    places.check(plan.root, [folder], [plan.root / "logs" / f"trial{trial.number}.log"])
    folder.mkdir(exist_ok=True)
    _wait_for(run)
    if run.config.exists():  # of a trial that was stopped, or of a study that is gone
        if settings(run_config(folder)) != settings(config):
            raise UserError(
                f"{folder} is there already, with other settings than trial {trial.number} has\n"
                "move it away, or give another folder with --run-dir"
            )
    else:
        asked: Any = replace(config, run_dir=str(folder))
        replace_text(run.config, dump(asked))
    told = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
    say(f"trial {trial.number}: {told}")
    seen = {step // _every(plan) for step in study.reported(trial)}
    return Running(trial, _process(plan, trial.number), folder, seen)


def _wait_for(run: RunDirectory) -> None:
    """Waits until the trial's process of a sweep that was killed has saved its last iteration.

    Raises:
        UserError: where another process keeps the folder.
    """
    deadline = time.monotonic() + PATIENCE
    while run.lock.exists():
        try:
            with directory.locked(run):
                return
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)


def _process(plan: Plan, number: int) -> subprocess.Popen[bytes]:
    """Starts the process of a trial; what it says goes to a log."""
    command = [sys.executable, "-m", "metarl.sweep.trial"]
    command += [str(plan.folder(number)), plan.select_on]
    for flag, code in (("--env", plan.env), ("--agent", plan.agent)):
        command += [flag, code] if code else []
    environment = {**os.environ, "TERM": "dumb"}
    if plan.jobs > 1 and plan.config.threads == "auto" and threads.VARIABLE not in os.environ:
        environment[threads.VARIABLE] = str(max(1, threads.cores().count // plan.jobs))
    log = open_own(_log(plan, number), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    finally:
        os.close(log)


def _log(plan: Plan, number: int) -> Path:
    folder = plan.root / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"trial{number}.log"


def _end(plan: Plan, study: Study, one: Running) -> None:
    """Tells the study how a trial ended."""
    if one.process.returncode:
        _fail(study, one.trial, _error(_log(plan, one.trial.number)))
        return
    try:
        value = value_of(one.folder)
    except UserError as error:
        _fail(study, one.trial, str(error))
        return
    study.tell(one.trial, value)
    best = study.complete()[0]
    star = " (best)" if best.number == one.trial.number else f"; best {best.value:.4g}"
    say(f"trial {one.trial.number} has {value:.4g}{star}")


def value_of(folder: Path) -> float:
    """Returns a trial's value: the mean over validation tasks after the last adaptation step.

    Raises:
        UserError: where it is not finite, or there is none.
    """
    if not place(folder).is_file():
        raise UserError(f"{folder} has no evaluation")
    found = evaluation_of(folder, SPLIT)
    value = float(found.outcome.values[:, -1].mean())
    if not math.isfinite(value):
        raise UserError(f"its {found.measure.name} after adaptation is not finite")
    return value


def _fail(study: Study, trial: Any, why: str) -> None:
    """Marks a trial as failed.

    Raises:
        UserError: where all of the first few have failed.
    """
    why = " ".join(why.split())
    study.fail(trial, why)
    say(f"trial {trial.number} failed: {why[:300]}")
    if len(study.finished()) >= HOPELESS and not study.complete():
        raise UserError(
            f"the first {len(study.finished())} trials all failed, the last with: {why[:200]}\n"
            "try other ranges, in another folder with --run-dir"
        )


def _error(log: Path) -> str:
    """Returns the error in a trial's log, or its last line."""
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_LOG))
        lines = file.read().decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or [line for line in lines if line.strip()] or ["it was killed"])[-1]


def _is_hopeless(plan: Plan, one: Running) -> bool:
    """Reports new parts of a trial's training; returns whether the pruner ends it."""
    path = RunDirectory(one.folder).metrics
    every = _every(plan)
    if not path.exists() or metrics.count(path) < every * (len(one.reported) + 1):
        return False
    outcomes = _outcomes(list(metrics.each(path)))
    for part in range(1, len(outcomes) // every + 1):
        if part not in one.reported:
            one.reported.add(part)
            mean = float(np.mean(outcomes[(part - 1) * every : part * every]))
            if math.isfinite(mean):
                one.trial.report(mean, part * every)
    return one.trial.should_prune()


def _every(plan: Plan) -> int:
    """Returns the iterations of a part of the training."""
    return max(1, plan.config.iterations // PARTS)


def _outcomes(rows: Sequence[metrics.Row]) -> list[float]:
    """Returns the outcomes of training after adaptation, one for each iteration."""
    columns = metrics.columns(rows)
    for name in ("return", "accuracy", "loss"):
        if found := metrics.by_step(columns, name):
            return found[-1].tolist()
    return []


def _stop(running: Sequence[Running]) -> None:
    """Ends trials, which save their last iterations, and waits for them."""
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for one in running:
        try:
            one.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
