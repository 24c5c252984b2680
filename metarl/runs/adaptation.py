"""adaptation.json: how an agent adapted to held-out tasks, beside its controls."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl.errors import UserError
from metarl.runs.files import replace_text
from metarl.runs.statistics import Summary, summarise
from metarl.types import Task

FORMAT = 1
READ_FROM = {np.int64: "i", np.float64: "ifO", np.bool_: "b"}
"""Kinds of what JSON holds for each type; an object is null among floats."""


class Outcome(NamedTuple):
    """What one learner got: K tasks, S = steps + 1 points of adaptation, E episodes at each."""

    returns: np.ndarray  # [K, S, E] undiscounted
    success: np.ndarray | None = None  # [K, S, E] bool; None where undefined
    env_steps: tuple[float, ...] | None = None
    """[S] environment steps that one task has used by then; None: as many as the run's own."""
    solved_at: np.ndarray | None = None
    """[K, S, E] int, the step, from 1, that first solved the episode, 0 where none did; None where
    it was not kept."""

    def summary(self) -> Summary:
        """Figures of the returns over tasks."""
        return summarise(self.returns)

    def success_summary(self) -> Summary | None:
        """Figures of the success rate over tasks, in [0, 1]."""
        return None if self.success is None else summarise(self.success)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """One evaluation."""

    env: str
    agent: str
    split: str
    steps: tuple[int, ...]  # [S] adaptation steps done: 0, 1, ...
    env_steps: tuple[float, ...]  # [S] environment steps that one task has used by then
    tasks: tuple[Task, ...]  # [K]
    outcome: Outcome
    controls: Mapping[str, Outcome] = field(default_factory=dict)
    """Other learners on the same tasks, e.g. "random initialisation"."""
    others: Mapping[str, Outcome] = field(default_factory=dict)
    """Other runs on the same tasks, by name."""
    made_from: Mapping[str, Any] = field(default_factory=dict)
    """The iteration of the weights, which checkpoint was asked for, the seed, the horizon."""

    @property
    def horizon(self) -> int | None:
        """Steps after which an episode was truncated; None where that was not kept."""
        return self.made_from.get("horizon")

    @property
    def by_mode(self) -> bool:
        """Whether these are episodes of the policy's likeliest actions, from which none learned."""
        return bool(self.made_from.get("mode_episodes"))

    def __post_init__(self) -> None:
        if len(self.env_steps) != len(self.steps):
            raise ValueError(f"env_steps has {len(self.env_steps)} values, not {len(self.steps)}")
        horizon = self.horizon
        if horizon is not None and (not isinstance(horizon, int) or horizon < 1):
            raise ValueError(f"made_from.horizon is {horizon!r}, no positive whole number")
        shape = len(self.tasks), len(self.steps)
        _check("", self.outcome, shape, horizon)
        for section in ("controls", "others"):
            for name, outcome in getattr(self, section).items():
                _check(f"{section}.{name}.", outcome, shape, horizon)


def _check(place: str, outcome: Outcome, expected: tuple[int, int], horizon: int | None) -> None:
    _check_shapes(place, outcome, expected)
    if (solved_at := outcome.solved_at) is None:
        return
    if solved_at.min() < 0 or (horizon is not None and solved_at.max() > horizon):
        raise ValueError(
            f"{place}solved_at holds steps from {solved_at.min()} to {solved_at.max()}, "
            f"outside 0 to {horizon or 'the horizon'}"
        )
    if outcome.success is None or (outcome.success != (solved_at > 0)).any():
        raise ValueError(f"{place}solved_at and {place}success disagree on what was solved")


def _check_shapes(place: str, outcome: Outcome, expected: tuple[int, int]) -> None:
    shape = outcome.returns.shape
    if len(shape) != 3 or shape[:2] != expected or shape[2] == 0:
        raise ValueError(
            f"{place}returns has shape {shape}, not {expected[0]} tasks x {expected[1]} steps "
            "x episodes"
        )
    for name, values in (("success", outcome.success), ("solved_at", outcome.solved_at)):
        if values is not None and values.shape != shape:
            raise ValueError(
                f"{place}{name} has shape {values.shape}, not that of returns, {shape}"
            )


def write_json(path: Path, adaptation: Adaptation) -> None:
    document = {
        "format": FORMAT,
        "env": adaptation.env,
        "agent": adaptation.agent,
        "split": adaptation.split,
        "steps": list(adaptation.steps),
        "env_steps": list(adaptation.env_steps),
        "tasks": [dict(task) for task in adaptation.tasks],
        **_stored(adaptation.outcome),
        "controls": {name: _stored(outcome) for name, outcome in adaptation.controls.items()},
        "others": {name: _stored(outcome) for name, outcome in adaptation.others.items()},
        "made_from": dict(adaptation.made_from),
    }
    replace_text(path, json.dumps(document, allow_nan=False) + "\n")


def _stored(outcome: Outcome) -> dict[str, Any]:
    stored = {
        "returns": _numbers(outcome.returns),
        "success": None if outcome.success is None else outcome.success.tolist(),
        "solved_at": None if outcome.solved_at is None else outcome.solved_at.tolist(),
        "summary": _figures(outcome.summary()),
    }
    if outcome.env_steps is not None:
        stored["env_steps"] = list(outcome.env_steps)
    if (success := outcome.success_summary()) is not None:
        stored["success_summary"] = _figures(success)
    return stored


def _figures(summary: Summary) -> dict[str, Any]:
    return {name: _numbers(values) for name, values in summary._asdict().items()}


def _numbers(values: np.ndarray) -> list[Any]:
    """Nested lists; null for what is not finite, which JSON has no word for."""
    return [
        _numbers(value) if value.ndim else (float(value) if math.isfinite(value) else None)
        for value in np.asarray(values, np.float64)
    ]


def read_json(path: Path) -> Adaptation:
    """Reads and checks; summaries are computed anew, from the returns.

    Raises:
        UserError: with the file and the key that is wrong.
    """
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("it holds no JSON object")
        return _adaptation(document)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _adaptation(document: dict[str, Any]) -> Adaptation:
    if (version := _get(document, "format", int)) != FORMAT:
        raise ValueError(f"format is {version}; this metarl reads {FORMAT}")
    tasks = _get(document, "tasks", list)
    if not all(isinstance(task, dict) for task in tasks):
        raise ValueError("tasks holds something that is no object")
    return Adaptation(
        env=_get(document, "env", str),
        agent=_get(document, "agent", str),
        split=_get(document, "split", str),
        steps=tuple(int(step) for step in _array(document, "steps", "", np.int64)),
        env_steps=_counts(document, "env_steps"),
        tasks=tuple(tasks),
        outcome=_outcome(document, ""),
        controls=_outcomes(document, "controls"),
        others=_outcomes(document, "others"),
        made_from=_get(document, "made_from", dict),
    )


def _outcomes(document: dict[str, Any], section: str) -> dict[str, Outcome]:
    found = _get(document, section, dict)
    return {
        name: _outcome(_get(found, name, dict, f"{section}."), f"{section}.{name}.")
        for name in found
    }


def _outcome(document: dict[str, Any], place: str) -> Outcome:
    returns = _array(document, "returns", place, np.float64)
    success, solved_at = (
        None if document.get(key) is None else _array(document, key, place, dtype)
        for key, dtype in (("success", np.bool_), ("solved_at", np.int64))
    )
    own_steps = _counts(document, "env_steps") if place and "env_steps" in document else None
    return Outcome(returns, success, own_steps, solved_at)


def _array(document: dict[str, Any], key: str, place: str, dtype: type[np.generic]) -> np.ndarray:
    values = _get(document, key, list, place)
    try:
        array = np.array(values)
        if array.dtype.kind not in READ_FROM[dtype]:
            raise TypeError(f"it holds {array.dtype}")
        return array.astype(dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}{key} is no array of {dtype.__name__}: {error}") from error


def _counts(document: dict[str, Any], key: str) -> tuple[float, ...]:
    """As they are stored: whole numbers stay whole."""
    _array(document, key, "", np.float64)
    return tuple(document[key])


def _get(document: dict[str, Any], key: str, kind: type, place: str = "") -> Any:
    if key not in document:
        raise ValueError(f"{place}{key} is missing")
    if not isinstance(document[key], kind):
        found = json.dumps(document[key])[:40]
        raise ValueError(f"{place}{key} is {found}, not of type {kind.__name__}")
    return document[key]


def write_csv(path: Path, adaptation: Adaptation) -> None:
    """A line per episode of every learner: learner, task, step, episode, return, success,
    env_steps."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["learner", "task", "step", "episode", "return", "success", "env_steps"])
    learners = {adaptation.agent: adaptation.outcome, **adaptation.others, **adaptation.controls}
    for learner, outcome in learners.items():
        env_steps, success = outcome.env_steps or adaptation.env_steps, outcome.success
        for (task, point, episode), value in np.ndenumerate(outcome.returns):
            solved = "" if success is None else int(success[task, point, episode])
            at = adaptation.steps[point], episode
            writer.writerow([learner, task, *at, float(value), solved, env_steps[point]])
    replace_text(path, text.getvalue())
