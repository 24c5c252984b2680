"""Reads and writes adaptation.json, the results of an evaluation on held-out tasks."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from metarl import found
from metarl.config.ranges import MOST_WHOLE
from metarl.config.yaml_text import LONGEST
from metarl.errors import UserError
from metarl.runs import bounds
from metarl.runs.files import encoded, replace_bytes
from metarl.runs.measures import MEASURES, RETURN, Measure
from metarl.runs.plain import plain
from metarl.runs.statistics import Summary, summarise
from metarl.text import printable, shown
from metarl.types import Task

FORMAT = 1
READ_FROM: dict[type, set[type]] = {
    np.int64: {int},
    np.float64: {int, float, type(None)},
    np.bool_: {bool},
}
"""Types in JSON that each type of array is read from; null is a number that was not finite."""
LARGEST = 1e150
"""Largest size of a number whose square is finite."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Results of one learner in K tasks after 0 .. S - 1 adaptation steps, E episodes each.

    Few-shot tasks have no episodes: E is 1, and the value is measured on the task's whole query.
    """

    values: np.ndarray  # [K, S, E] undiscounted returns, or another measure
    success: np.ndarray | None = None  # [K, S, E] bool; None where undefined
    env_steps: tuple[float, ...] | None = None
    """Environment steps, or examples, used in one task so far, [S]; None: as many as the run."""
    solved_at: np.ndarray | None = None
    """First solved step of each episode, from 1, or 0 for none: [K, S, E] int; None where it was
    not stored."""

    def summary(self) -> Summary:
        """Returns statistics of the values over tasks; NaN at a step with a value not finite."""
        return self._summary  # the table, the picture and the report each ask for it

    def success_summary(self) -> Summary | None:
        """Returns statistics of the success rate over tasks, in [0, 1]."""
        return self._success_summary

    @cached_property
    def _summary(self) -> Summary:
        return summarise(np.where(np.isfinite(self.values), self.values, np.nan))

    @cached_property
    def _success_summary(self) -> Summary | None:
        return None if self.success is None else summarise(self.success)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Results of one evaluation."""

    env: str
    agent: str
    split: str
    steps: tuple[int, ...]  # [S] adaptation steps done: 0, 1, ...
    env_steps: tuple[float, ...]
    """Environment steps, or examples, used in one task so far, [S]."""
    tasks: tuple[Task, ...]  # [K]
    outcome: Outcome
    controls: Mapping[str, Outcome] = field(default_factory=dict)
    """Other learners on the same tasks, e.g. "random initialisation"."""
    others: Mapping[str, Outcome] = field(default_factory=dict)
    """Other runs on the same tasks, by name."""
    made_from: Mapping[str, Any] = field(default_factory=dict)
    """Origin: the iteration of the weights, the checkpoint option, the seed, the horizon ..."""
    measure: Measure = RETURN
    """The measure of all learners' values."""

    @property
    def horizon(self) -> int | None:
        """Steps after which an episode was truncated; None where it was not stored."""
        return self.made_from.get("horizon")

    @property
    def learned(self) -> str:
        """Name of the distribution that the agent learned from, if it is another than `env`."""
        return str(self.made_from.get("learned", ""))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines about tasks that training would never draw."""
        return tuple(self.made_from.get("remarks", ()))

    @property
    def by_mode(self) -> bool:
        """Whether the episodes use the policy's mode; adaptation then learns from others."""
        return bool(self.made_from.get("mode_episodes"))

    def __post_init__(self) -> None:
        if not self.steps or not self.tasks:
            raise ValueError("tasks or steps is empty")
        if self.steps != tuple(range(len(self.steps))):
            raise ValueError(f"steps is {shown(list(self.steps))}, not 0, 1, 2, ...")
        learners = 1 + len(self.controls) + len(self.others)
        episodes = self.outcome.values.shape[-1]
        bounds.check(len(self.tasks), len(self.steps), episodes, learners, 1)
        horizon = self.horizon
        whole = isinstance(horizon, int) and not isinstance(horizon, bool)
        if horizon is not None and not (whole and 1 <= horizon <= MOST_WHOLE):
            raise ValueError(f"made_from.horizon is {shown(horizon)}, no positive whole number")
        self._check("", replace(self.outcome, env_steps=self.env_steps))
        for section in ("controls", "others"):
            for name, outcome in getattr(self, section).items():
                self._check(f"{section}.{name}.", outcome)

    def _check(self, place: str, outcome: Outcome) -> None:
        """Raises a ValueError for values that contradict the tasks, the steps or the measure."""
        measure, shape = self.measure, outcome.values.shape
        expected, episodes = (len(self.tasks), len(self.steps)), measure.of_episodes
        if shape[:-1] != expected or not (shape[-1] if episodes else shape[-1] == 1):
            raise ValueError(
                f"{place}{measure.key} has shape {shape}, not {expected[0]} tasks x {expected[1]} "
                f"steps x {'episodes' if episodes else 1}"
            )
        used = expected[1] if outcome.env_steps is None else len(outcome.env_steps)
        if used != expected[1]:
            raise ValueError(f"{place}{measure.used_key} has {used} values, not {expected[1]}")
        for name, values in (("success", outcome.success), ("solved_at", outcome.solved_at)):
            if values is not None and values.shape != shape:
                raise ValueError(
                    f"{place}{name} has shape {values.shape}, not that of returns, {shape}"
                )
        _check_range(place, outcome.values, measure)
        if (solved_at := outcome.solved_at) is None:
            return
        horizon = self.horizon
        if solved_at.min() < 0 or (horizon is not None and solved_at.max() > horizon):
            raise ValueError(
                f"{place}solved_at holds steps from {solved_at.min()} to {solved_at.max()}, "
                f"outside 0 to {horizon or 'the horizon'}"
            )
        if outcome.success is None or (outcome.success != (solved_at > 0)).any():
            raise ValueError(f"{place}solved_at and {place}success disagree on what was solved")


def _check_range(place: str, values: np.ndarray, measure: Measure) -> None:
    """Raises a ValueError for values out of range; NaN passes, as a learner may diverge."""
    if (measure.lower_is_better or measure.share) and (values < 0).any():
        raise ValueError(f"{place}{measure.key} holds {np.nanmin(values)}, no {measure.name}")
    if measure.share and (values > 1).any():
        raise ValueError(f"{place}{measure.key} holds {np.nanmax(values)}, no share of one")


def aside(split: str, learned: str, remarks: Sequence[str] = ()) -> list[str]:
    """Returns lines that say in what tasks differ from held-out ones; none where they do not.

    Args:
        learned: name of the distribution that the agent learned from, if it is another.
        remarks: about tasks that training would never draw.
    """
    found = [f"out of distribution: learned on {learned}"] if learned else []
    if split == "own":
        found.append("own tasks, not held-out ones")
    return [*found, *remarks]


def write_json(path: Path, adaptation: Adaptation) -> None:
    """Writes adaptation.json alone; an evaluation publishes all of its files together."""
    replace_bytes(path, as_json(adaptation))


def as_json(adaptation: Adaptation) -> bytes:
    """Returns the contents of adaptation.json."""
    measure = adaptation.measure

    def stored(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        return {name: _stored(outcome, measure) for name, outcome in outcomes.items()}

    document = {
        "format": FORMAT,
        "env": adaptation.env,
        "agent": adaptation.agent,
        "split": adaptation.split,
        **({} if measure == RETURN else {"measure": measure.name}),
        "steps": list(adaptation.steps),
        measure.used_key: list(adaptation.env_steps),
        "tasks": [plain(task) for task in adaptation.tasks],
        **_stored(adaptation.outcome, measure),
        "controls": stored(adaptation.controls),
        "others": stored(adaptation.others),
        "made_from": dict(adaptation.made_from),
    }
    content = encoded(json.dumps(document, allow_nan=False) + "\n")
    if len(content) > bounds.MOST_BYTES or found.count(content) > bounds.MOST_VALUES:
        raise UserError(
            f"adaptation.json would have more than the {bounds.MOST_VALUES:,} values or "
            f"{bounds.MOST_BYTES:,} bytes that can be read\nevaluate fewer tasks at once"
        )
    return content


def described(tasks: Sequence[Task]) -> int:
    """Returns the number of values that describe the tasks; raises as `plain`."""
    return found.count(json.dumps([plain(task) for task in tasks]).encode())


def _stored(outcome: Outcome, measure: Measure) -> dict[str, Any]:
    stored: dict[str, Any] = {measure.key: numbers(outcome.values)}
    if measure.of_episodes:
        stored["success"] = None if outcome.success is None else outcome.success.tolist()
        stored["solved_at"] = None if outcome.solved_at is None else outcome.solved_at.tolist()
    stored["summary"] = _figures(outcome.summary())
    if outcome.env_steps is not None:
        stored[measure.used_key] = list(outcome.env_steps)
    if (success := outcome.success_summary()) is not None:
        stored["success_summary"] = _figures(success)
    return stored


def _figures(summary: Summary) -> dict[str, Any]:
    return {name: numbers(values) for name, values in summary._asdict().items()}


def numbers(values: np.ndarray) -> list[Any]:
    """Returns an array as nested lists, with null for values that are not finite."""
    numbers = values.astype(np.float64).astype(object)
    numbers[~np.isfinite(values)] = None
    return numbers.tolist()


def read_json(path: Path) -> Adaptation:
    """Reads and checks an adaptation.json; summaries are computed anew from the values.

    Raises:
        UserError: names the file and the wrong key.
    """
    try:
        return _adaptation(found.json_object(path, bounds.MOST_BYTES, bounds.MOST_VALUES))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        message = str(error)
        raise UserError(message if str(path) in message else f"{path}: {message}") from error


def _adaptation(document: dict[str, Any]) -> Adaptation:
    if (version := _get(document, "format", int)) != FORMAT:
        raise ValueError(f"format is {shown(version)}; this metarl reads {FORMAT}")
    tasks = _get(document, "tasks", list)
    if not all(isinstance(task, dict) for task in tasks):
        raise ValueError("tasks holds something that is no object")
    measure = _measure(document)
    return Adaptation(
        env=_name(document, "env"),
        agent=_name(document, "agent"),
        split=_name(document, "split"),
        steps=tuple(_array(document, "steps", "", np.int64, 1).tolist()),
        env_steps=_counts(document, measure.used_key, ""),
        tasks=tuple(tasks),
        outcome=_outcome(document, "", measure),
        controls=_outcomes(document, "controls", measure),
        others=_outcomes(document, "others", measure),
        made_from=_made_from(document),
        measure=measure,
    )


def _name(document: dict[str, Any], key: str) -> str:
    return _text(_get(document, key, str), key)


def _text(name: str, what: str) -> str:
    """Returns a name without characters that cannot be shown."""
    if len(name) > LONGEST:
        raise ValueError(f"{what} has a name of {len(name):,} characters; the most is {LONGEST}")
    return printable(name)


def _made_from(document: dict[str, Any]) -> dict[str, Any]:
    made_from = _get(document, "made_from", dict)
    for key in ("iteration", "mode_episodes"):
        value = made_from.get(key)
        if value is not None and not (type(value) is int and 0 <= value <= MOST_WHOLE):
            raise ValueError(f"made_from.{key} is {shown(value)}, no whole number")
    if "learned" in made_from:
        made_from["learned"] = _name(made_from, "learned")
    if "remarks" in made_from:
        lines = _get(made_from, "remarks", list, "made_from.")
        if not all(isinstance(line, str) for line in lines):
            raise ValueError("made_from.remarks holds something that is no text")
        made_from["remarks"] = [_text(line, "made_from.remarks") for line in lines]
    return made_from


def _measure(document: dict[str, Any]) -> Measure:
    """Returns the document's measure; files without one hold returns."""
    if "measure" not in document:
        return RETURN
    if (name := _get(document, "measure", str)) not in MEASURES:
        raise ValueError(f"measure is {name!r}; this metarl reads {', '.join(MEASURES)}")
    return MEASURES[name]


def _outcomes(document: dict[str, Any], section: str, measure: Measure) -> dict[str, Outcome]:
    of_all = _get(document, section, dict)
    return {
        _text(name, section): _outcome(
            _get(of_all, name, dict, f"{section}."), f"{section}.{name}.", measure
        )
        for name in of_all
    }


def _outcome(document: dict[str, Any], place: str, measure: Measure) -> Outcome:
    values = _array(document, measure.key, place, np.float64, 3)
    success, solved_at = (
        None if document.get(key) is None else _array(document, key, place, dtype, 3)
        for key, dtype in (("success", np.bool_), ("solved_at", np.int64))
    )
    used = measure.used_key
    own_steps = _counts(document, used, place) if place and used in document else None
    return Outcome(values, success, own_steps, solved_at)


def _array(
    document: dict[str, Any], key: str, place: str, dtype: type[np.generic], axes: int
) -> np.ndarray:
    """Returns nested lists as an array; NaN for null and for what is too large to compute with."""
    flat, shape = _get(document, key, list, place), ()
    for _ in range(axes - 1):
        lengths = {len(x) if isinstance(x, list) else -1 for x in flat}
        if len(lengths) != 1 or -1 in lengths:
            raise ValueError(f"{place}{key} is no array of {axes} axes, or a ragged one")
        shape = (*shape, len(flat) // math.prod(shape))
        flat = list(chain.from_iterable(flat))
    strange = set(map(type, flat)) - READ_FROM[dtype]
    # Looked at first: numpy makes much of little, such as rows of the longest of many texts.
    if strange or not flat:
        what = min(kind.__name__ for kind in strange) if strange else "nothing"
        raise ValueError(f"{place}{key} is no array of {dtype.__name__}: it holds {what}")
    try:
        array = np.array(flat, dtype).reshape(*shape, -1)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{place}{key} is no array of {dtype.__name__}: {error}") from None
    return np.where(np.abs(array) < LARGEST, array, np.nan) if dtype is np.float64 else array


def _counts(document: dict[str, Any], key: str, place: str) -> tuple[float, ...]:
    """Returns numbers as stored, so that whole numbers stay int."""
    numbers = _array(document, key, place, np.float64, 1)
    if not (numbers >= 0).all() or not (numbers <= MOST_WHOLE).all():
        raise ValueError(f"{place}{key} holds {numbers.min():g} to {numbers.max():g}, no counts")
    return tuple(document[key])


def _get(document: dict[str, Any], key: str, kind: type, place: str = "") -> Any:
    if key not in document:
        raise ValueError(f"{place}{key} is missing")
    value = document[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{place}{key} is {shown(value)}, not of type {kind.__name__}")
    return value


def as_csv(adaptation: Adaptation) -> bytes:
    """Returns the contents of adaptation.csv.

    It has a line per episode of every learner: learner, task, step, episode, return, success,
    env_steps. For few-shot tasks it has a line per task and step: learner, task, step, the
    measure, examples.
    """
    text, measure = io.StringIO(), adaptation.measure
    columns = ["learner", "task", "step", "episode", measure.column, "success", measure.used_key]
    if not measure.of_episodes:
        columns = [column for column in columns if column not in ("episode", "success")]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    learners = {adaptation.agent: adaptation.outcome, **adaptation.others, **adaptation.controls}
    for learner, outcome in learners.items():
        used, success = outcome.env_steps or adaptation.env_steps, outcome.success
        for (task, point, episode), value in np.ndenumerate(outcome.values):
            line = {
                "learner": learner,
                "task": task,
                "step": adaptation.steps[point],
                "episode": episode,
                measure.column: float(value),
                "success": "" if success is None else int(success[task, point, episode]),
                measure.used_key: used[point],
            }
            writer.writerow(line)
    return encoded(text.getvalue())
