"""The training loop: iterate, log, checkpoint, resume; what an iteration does is a subclass's."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarl.config.checks import check_continues
from metarl.config.files import dump
from metarl.config.files import keys as keys_of
from metarl.config.settings import Config
from metarl.config.settings_few_shot import FewShotConfig
from metarl.device import cores, torch_device
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.runs import checkpoint, directory, environment, files
from metarl.runs.metrics import MetricsLog
from metarl.runs.progress import Progress
from metarl.types import Agent, Learner, Metrics, Params

SCORED = 20
"""Iterations whose mean outcome is a checkpoint's score."""

MAX_SKIPPED = 5
"""Updates in a row without a finite result after which the run gives up."""


USED = ("env_steps", "tasks")
"""Counters of what was learned from so far, of which a run has one."""


class Snapshot(NamedTuple):
    """A run after a complete iteration."""

    iteration: int
    weights: Params
    state: dict[str, Any]


class TrainingLoop(ABC):
    """One run in one process. What it does at iteration n depends on config and n alone."""

    agent: Agent | Learner
    workers: int = 0
    """Processes or threads beside this one, for the record."""

    def __init__(
        self,
        config: Config | FewShotConfig,
        run: directory.RunDirectory,
        name: str,
        counters: dict[str, Any],
    ):
        """`counters`: of what is used up besides, as a run without an iteration has it."""
        self.run, self.name, self.settings = run, name, config
        self.device = torch_device(config.device)
        torch.set_num_threads(cores())
        self.agent = self._build()
        self.iteration = self.saved = 0
        self.state: dict[str, Any] = {**counters, "wall_s": 0.0, "skipped_in_a_row": 0}
        self.recent: deque[float] = deque(maxlen=SCORED)
        """Outcomes after adaptation, the more the better; their mean says which checkpoint is the
        best."""
        self._resume()

    @abstractmethod
    def _build(self) -> Agent | Learner:
        """The agent before its first update."""

    @abstractmethod
    def _open(self, stack: ExitStack, progress: Progress) -> str:
        """Makes ready what the iterations need, until `stack` is left; says a line of facts."""

    @abstractmethod
    def _iterate(self, progress: Progress) -> Metrics:
        """One iteration; counts in `state`, adds to `recent`, gives its line of metrics.jsonl."""

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
        config = self.settings
        self._record_environment()
        with ExitStack() as stack:
            log, progress = MetricsLog(self.run, self.iteration), Progress()
            stack.callback(log.close)
            title = f"{self.name}: {config.agent.name} on {config.env.name}, kept in"
            progress.note(f"{title} {self.run.root}")
            facts = self._open(stack, progress)
            stack.callback(progress.close)
            used = {name: self.state[name] for name in USED if name in self.state}
            progress.start("", config.iterations, done=self.iteration, facts=facts, **used)
            complete = self._snapshot()
            try:
                while self.iteration < config.iterations:
                    row = self._iterate(progress)
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
        threads = {"workers": self.workers, "torch": cores()}
        now = environment.describe(str(self.device), threads)
        if self.run.environment.exists():
            before = environment.read(self.run.environment)
            for change in environment.changed_versions(before, now):
                warnings.warn(f"since this run began: {change}", stacklevel=2)
        environment.write(self.run.environment, now)

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

    def _check_skipped(self, row: Metrics, progress: Progress) -> None:
        """An agent leaves itself as it is where its update is not finite, and says so."""
        if not row["skipped"]:
            return
        part = "" if row["skipped"] == 1.0 else f"{row['skipped']:.1%} of "
        progress.note(
            f"{part}iteration {self.iteration} skipped: a loss, gradient or KL was not finite"
        )
        if self.state["skipped_in_a_row"] < MAX_SKIPPED:
            return
        steps = self._flags("inner.lr", "outer.lr", "outer.max_kl")
        large = "inputs or targets of very large size"
        if sizes := self._flags("normalisation.observations", "normalisation.rewards"):
            large = f"observations or rewards of very large size\n({sizes})"
        raise UserError(
            f"iteration {self.iteration}: {self.state['skipped_in_a_row']} updates in a row were "
            f"not finite\nlikely causes: steps too large ({steps}), or {large}"
        )

    def _flags(self, *settings: str) -> str:
        """Those of an agent's settings that this run's has."""
        known = keys_of(self.settings.agent)
        return ", ".join(f"--agent.{key.replace('_', '-')}" for key in settings if key in known)


def to_the_end(
    config: Config | FewShotConfig,
    run: directory.RunDirectory,
    make: Callable[[], TrainingLoop],
    again: str = "",
) -> Path:
    """Trains, or continues what the locked `run` holds. Returns its folder.

    Args:
        make: the loop, once it is sure that the settings are those of the run.
        again: flags that the run's evaluation needs besides.

    Raises:
        UserError: where the folder holds a run with other settings.
    """
    if run.config.exists() and checkpoint.saved(run.checkpoints):
        check_continues(config, run_config(run.root), run.root)
    loop = make()
    if loop.iteration >= config.iterations:
        print(f"{run.root} is done: it has {loop.iteration} iterations")
        return run.root
    files.replace_text(run.config, dump(config))
    loop.run_to_the_end()
    print(f"done; next: python -m metarl.evaluate {run.root}{again}")
    return run.root
