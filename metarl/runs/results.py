"""Results of a run as plain rows, and as pandas frames on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.runs import directory, metrics
from metarl.runs.adaptation import Adaptation, Outcome, read_json
from metarl.runs.class_success import Solved, class_success
from metarl.runs.evaluations import evaluations_of
from metarl.runs.plain import plain
from metarl.runs.publish import seen
from metarl.text import shown

Row = dict[str, Any]
KINDS = ("run", "control", "rival")
"""Kinds of learners: the run, one without its training, another run on the same tasks."""
MOST_VALUES = 50_000_000
"""Values of a run's metrics that are held at once."""


class Table(list[Row]):
    """Rows, each a dict of plain values by the names of columns."""

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in order."""
        return list(dict.fromkeys(name for row in self for name in row))

    def column(self, name: str) -> list[Any]:
        """Returns a column; None in rows that lack it.

        Raises:
            UserError: for a name that no row has.
        """
        if name not in self.columns:
            raise UserError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        return [row.get(name) for row in self]

    def frame(self) -> Any:
        """Returns the rows as a pandas.DataFrame.

        Raises:
            UserError: where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError(
                f'frame() needs pandas: {error}\ninstall it with `pip install "metarl[pandas]"`'
            ) from error
        return pandas.DataFrame(list(self), columns=self.columns)


@dataclass(frozen=True)
class Results:
    """Results of a run: its training, and one evaluation, where there is one.

    Each table is made when it is first used; without an evaluation its tables are empty.
    """

    run: Path
    """Folder of the run."""
    evaluation: Adaptation | None = None
    """The evaluation as arrays [task, step, episode]."""
    folder: Path | None = None
    """Folder of the evaluation's files; None without an evaluation."""

    @cached_property
    def training(self) -> Table:
        """One row for each iteration, as metrics.jsonl has it; NaN where a value was not finite."""
        path = directory.RunDirectory(self.run).metrics
        table, values = Table(), 0
        for row in metrics.each(path) if path.exists() else ():
            values += len(row)
            if values > MOST_VALUES:
                raise UserError(f"{path} holds more than {MOST_VALUES:,} values; no run has")
            table.append(dict(row))
        return table

    @cached_property
    def adaptation(self) -> Table:
        """One row for each learner, task, adaptation step and episode.

        Columns: `learner`, `kind` ("run", "control", "rival"), `split`, `task` (its number from 0),
        `task.NAME` for each parameter of the task, `step`, `env_steps` (or `examples`) that a task
        has used by then, `episode`, `return` (or the other measure), `success` and `solved_at`
        where they are defined. Supervised tasks have one `episode`.
        """
        return Table(
            row
            for kind, name, outcome in self._learners()
            for row in _episodes(self._found, kind, name, outcome)
        )

    @cached_property
    def summary(self) -> Table:
        """One row for each learner and adaptation step: statistics over tasks.

        Columns: `learner`, `kind`, `split`, `measure`, `step`, `env_steps` (or `examples`),
        `mean`, `stderr`, `iqm`, `low`, `high` (the 95% interval of the mean), and `success`, the
        mean rate, where it is defined. None where a figure is not finite.
        """
        return Table(
            row
            for kind, name, outcome in self._learners()
            for row in _figures(self._found, kind, name, outcome)
        )

    @cached_property
    def classes(self) -> Table:
        """One row for each learner, class of tasks and adaptation step; empty without classes.

        Columns: `learner`, `kind`, `class`, `goals`, `step`, `success`, `low`, `high`, and
        `official`, metaworld's own count, where the evaluation followed its protocol.
        """
        found = None if self.evaluation is None else class_success(self.evaluation)
        if found is None:
            return Table()
        learners = [("run", self._found.agent, found.solved)]
        learners += [("control", name, solved) for name, solved in found.controls.items()]
        learners += [("rival", name, solved) for name, solved in found.others.items()]
        return Table(
            row
            for kind, name, solved in learners
            for row in _rates(kind, name, solved, found.goals)
        )

    @property
    def home(self) -> Path:
        """Folder for what belongs to the evaluation: the run's, or where the run is only read that
        of the evaluation's files."""
        inside = self.folder is None or self.run.resolve() in self.folder.resolve().parents
        return self.run if inside else self.folder or self.run

    @property
    def _found(self) -> Adaptation:
        assert self.evaluation is not None
        return self.evaluation

    def _learners(self) -> Iterator[tuple[str, str, Outcome]]:
        """Yields kind, name and outcome of each learner, the run first."""
        if (found := self.evaluation) is None:
            return
        yield "run", found.agent, found.outcome
        for kind, outcomes in (("control", found.controls), ("rival", found.others)):
            for name, outcome in outcomes.items():
                yield kind, name, outcome

    def __repr__(self) -> str:
        if (found := self.evaluation) is None:
            return f"Results({str(self.run)!r}: {len(self.training)} iterations, no evaluation)"
        mean = found.outcome.summary().mean
        return (
            f"Results({str(self.run)!r}: {len(self.training)} iterations; {found.agent} on "
            f"{len(found.tasks)} {found.split} tasks, {found.measure.name} {mean[0]:.4g} before "
            f"and {mean[-1]:.4g} after {found.steps[-1]} steps)"
        )


def _episodes(found: Adaptation, kind: str, name: str, outcome: Outcome) -> Iterator[Row]:
    measure, used = found.measure, outcome.env_steps or found.env_steps
    for k, task in enumerate(found.tasks):
        parameters = {f"task.{key}": value for key, value in plain(task).items()}
        for step in found.steps:
            for episode in range(outcome.values.shape[2]):
                row: Row = {"learner": name, "kind": kind, "split": found.split, "task": k}
                row |= parameters
                row |= {"step": step, measure.used_key: used[step], "episode": episode}
                row[measure.column] = float(outcome.values[k, step, episode])
                if outcome.success is not None:
                    row["success"] = bool(outcome.success[k, step, episode])
                if outcome.solved_at is not None:
                    row["solved_at"] = int(outcome.solved_at[k, step, episode])
                yield row


def _figures(found: Adaptation, kind: str, name: str, outcome: Outcome) -> Iterator[Row]:
    summary, success = outcome.summary(), outcome.success_summary()
    measure, used = found.measure, outcome.env_steps or found.env_steps
    for step in found.steps:
        row: Row = {"learner": name, "kind": kind, "split": found.split, "measure": measure.name}
        row |= {"step": step, measure.used_key: used[step]}
        row |= {key: _number(getattr(summary, key)[step]) for key in ("mean", "stderr", "iqm")}
        row["low"], row["high"] = map(_number, summary.ci95[step])
        if success is not None:
            row["success"] = _number(success.mean[step])
        yield row


def _rates(kind: str, name: str, solved: Solved, goals: Mapping[str, int]) -> Iterator[Row]:
    for label, rates in solved.classes.items():
        for step, mean in enumerate(rates.mean):
            row: Row = {"learner": name, "kind": kind, "class": label, "goals": goals[label]}
            row |= {"step": step, "success": _number(mean)}
            row["low"], row["high"] = map(_number, rates.ci95[step])
            if rates.official is not None:
                row["official"] = _number(rates.official[step])
            yield row


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def of_run(run: Path | str, evaluation: str = "test") -> Results:
    """Returns the results in a run's folder; before an evaluation those of its training alone.

    Raises:
        UserError: where there is no run, no evaluation of another name than "test" or "train", or
            its files hold something else.
    """
    found = directory.existing(run)
    there = dict(evaluations_of(found))
    if evaluation in there:
        file = seen(found, evaluation, there[evaluation].adaptation_json)
        return Results(found.root, read_json(file), file.parent)
    if evaluation not in ("test", "train"):
        known = f"; there are {', '.join(there)}" if there else "; it has none"
        raise UserError(f"{found.root} has no evaluation {shown(evaluation)}{known}")
    return Results(found.root)


def of_evaluation(run: Path | str, folder: Path) -> Results:
    """Returns the results of a run with the evaluation whose adaptation.json lies in `folder`."""
    found = read_json(folder / "adaptation.json")
    return Results(directory.RunDirectory(run).root, found, folder)
