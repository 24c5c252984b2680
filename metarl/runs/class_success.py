"""Success rates by class of tasks, and their file success.json.

Meta-World's test classes differ greatly in difficulty, so a benchmark's single figure says little:
a learner that solves one easy class and nothing else has 20% on ML10. So each class gets a figure,
together with the figure that metaworld's own evaluation would report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from metarl.runs.adaptation import Adaptation, Outcome, numbers
from metarl.runs.bounds import MOST_CLASSES
from metarl.runs.comparison import Kind, aligned, interval
from metarl.runs.files import encoded
from metarl.runs.statistics import interval95, resampled_means
from metarl.types import Task

FORMAT = 1
PROTOCOL = "metaworld"
"""`made_from.protocol` of an evaluation by metaworld's own protocol."""
META_BATCH = 20
"""Environments that metaworld's evaluation plays in parallel, divided among the classes."""
ALL_CLASSES = "all classes"
NOTE = (
    "official: metaworld's own count, over the first episodes of a class to end; "
    "it favours goals that are solved fast"
)


SINGLE = "no interval for a class with a single goal, nor over classes with such a one"


class Rates(NamedTuple):
    """Shares of solved episodes, in [0, 1], after each adaptation step."""

    mean: np.ndarray  # [S] over goals; for all classes, the mean of the classes
    ci95: np.ndarray  # [S, 2] of the mean: low, high; NaN where a class has a single goal
    official: np.ndarray | None  # [S] metaworld's count; None where the horizon was not stored


class Solved(NamedTuple):
    """Success rates of one learner."""

    classes: Mapping[str, Rates]
    overall: Rates
    episodes: int  # per goal and adaptation step


@dataclass(frozen=True, eq=False)
class ClassSuccess:
    """Success rates of an evaluation, by class."""

    adaptation: Adaptation
    goals: Mapping[str, int]
    """Class -> number of its goals, in the order of the tasks."""
    solved: Solved
    controls: Mapping[str, Solved]
    others: Mapping[str, Solved]

    @property
    def points(self) -> tuple[int, ...]:
        """Indices of the first and the last step: before and after adaptation."""
        last = len(self.adaptation.steps) - 1
        return (0, last) if last else (0,)


def class_success(adaptation: Adaptation) -> ClassSuccess | None:
    """Returns success by class; None if a task has no class or `solved_at` was not stored.

    Only evaluations by metaworld's protocol have an official count.
    """
    places = _places(adaptation.tasks)
    official = adaptation.made_from.get("protocol") == PROTOCOL
    horizon = adaptation.horizon if official else None
    if not places or adaptation.outcome.solved_at is None:
        return None

    def found(outcomes: Mapping[str, Outcome]) -> dict[str, Solved]:
        return {
            name: _solved(outcome.solved_at, places, horizon)
            for name, outcome in outcomes.items()
            if outcome.solved_at is not None
        }

    return ClassSuccess(
        adaptation,
        {name: len(rows) for name, rows in places.items()},
        _solved(adaptation.outcome.solved_at, places, horizon),
        found(adaptation.controls),
        found(adaptation.others),
    )


def _places(tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """Returns the indices of each class's tasks; empty if a task has no class."""
    places: dict[str, list[int]] = {}
    for k, task in enumerate(tasks):
        if not isinstance(name := task.get("class"), str):
            return {}
        places.setdefault(name, []).append(k)
    if len(places) > MOST_CLASSES:  # a picture and a table have no room for them
        return {}
    return {name: np.array(rows) for name, rows in places.items()}


def _solved(solved_at: np.ndarray, places: Mapping[str, np.ndarray], horizon: int | None) -> Solved:
    """Computes the rates of one learner; bootstrap samples draw goals within each class."""
    rng = np.random.default_rng(0)
    side_by_side = max(1, META_BATCH // len(places))
    classes, resampled = {}, []
    single = any(len(rows) < 2 for rows in places.values())
    for name, rows in places.items():
        by_goal = (solved_at[rows] > 0).mean(axis=-1)  # [G, S]
        resampled.append(resampled_means(by_goal, rng))
        official = (
            None if horizon is None else official_count(solved_at[rows], horizon, side_by_side)
        )
        ends = _interval(resampled[-1], len(rows) < 2)
        classes[name] = Rates(by_goal.mean(axis=0), ends, official)
    every = [rates.official for rates in classes.values() if rates.official is not None]
    mean = np.mean([rates.mean for rates in classes.values()], axis=0)
    official = np.mean(every, axis=0) if every else None
    overall = Rates(mean, _interval(np.mean(resampled, axis=0), single), official)
    return Solved(classes, overall, solved_at.shape[-1])


def _interval(estimates: np.ndarray, single: bool) -> np.ndarray:
    """Returns the interval of bootstrap estimates; NaN for a single goal, which says nothing of
    others."""
    ends = interval95(estimates)
    return np.full_like(ends, np.nan) if single else ends


def official_count(solved_at: np.ndarray, horizon: int, side_by_side: int) -> np.ndarray:
    """Success rate by `metaworld.evaluation.metalearning_evaluation` in a class, [G, S, E] -> [S].

    It plays `side_by_side` goals in parallel. Each environment ends an episode when it is solved
    and begins the next. The first E episodes of the class to end are counted. Failed episodes last
    the whole horizon, so goals solved fast replace slow ones: one goal of four that is solved at
    once gives 100%. E episodes a goal suffice, as one environment ends at most E of the first E.

    Metaworld draws at random which goals are played together; here they are neighbours. Remaining
    goals make a smaller last round.
    """
    rounds = range(0, len(solved_at), side_by_side)
    points = np.moveaxis(solved_at, 1, 0)
    return np.mean(
        [[_counted(point[i : i + side_by_side], horizon) for point in points] for i in rounds],
        axis=0,
    )


def _counted(solved_at: np.ndarray, horizon: int) -> float:
    """Returns the share solved of the first E episodes to end, from [environments, E]."""
    ends = np.cumsum(np.where(solved_at > 0, solved_at, horizon), axis=-1)
    # A stable sort counts the lower environment first where episodes end at the same step.
    first = np.argsort(ends, axis=None, kind="stable")[: solved_at.shape[-1]]
    return float((solved_at.flat[first] > 0).mean())


def as_json(success: ClassSuccess) -> bytes:
    """Returns the contents of success.json.

    Keys: `format` (1), `env`, `agent`, `split`, `steps` ([0, 1, ...]), `goals` (class -> number).
    The run's results: `episodes` (per goal and step), `classes` (class -> rates), `overall`
    (rates). Rates are shares of episodes in [0, 1], one per step: `mean`, `ci95` ([low, high] of
    the mean, null where a class has a single goal) and `official` (metaworld's count; null where
    the horizon is not known).
    `controls` and `others`: name -> `episodes`, `classes`, `overall`.
    """
    document = {
        "format": FORMAT,
        "env": success.adaptation.env,
        "agent": success.adaptation.agent,
        "split": success.adaptation.split,
        "steps": list(success.adaptation.steps),
        "goals": dict(success.goals),
        **_stored(success.solved),
        "controls": {name: _stored(solved) for name, solved in success.controls.items()},
        "others": {name: _stored(solved) for name, solved in success.others.items()},
    }
    return encoded(json.dumps(document, allow_nan=False) + "\n")


def _stored(solved: Solved) -> dict[str, Any]:
    return {
        "episodes": solved.episodes,
        "classes": {name: _figures(rates) for name, rates in solved.classes.items()},
        "overall": _figures(solved.overall),
    }


def _figures(rates: Rates) -> dict[str, Any]:
    return {
        name: None if values is None else numbers(values)
        for name, values in rates._asdict().items()
    }


def table(success: ClassSuccess) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows: one per class, then one of all classes for each learner."""
    when = ["before", "after"][: len(success.points)]
    known = success.solved.overall.official is not None
    official = [f"official {name}" for name in when] if known else []
    headings = ["class", "goals", *when, "95% within classes", *official]
    rows = [
        [name, str(success.goals[name]), *_cells(rates, success.points)]
        for name, rates in success.solved.classes.items()
    ]
    goals = str(sum(success.goals.values()))
    learners = {ALL_CLASSES: success.solved}
    for kind, solved in ((Kind.OTHER, success.others), (Kind.CONTROL, success.controls)):
        learners |= {f"{ALL_CLASSES}, {name} ({kind.value})": each for name, each in solved.items()}
    rows += [
        [name, goals, *_cells(solved.overall, success.points)] for name, solved in learners.items()
    ]
    return headings, rows


def moment(step: int) -> str:
    """Returns an adaptation step in words, as "before adaptation" or "after 1 step"."""
    return f"after {step} step{'s' if step > 1 else ''}" if step else "before adaptation"


def _cells(rates: Rates, points: Sequence[int]) -> list[str]:
    official = rates.official
    return [
        *(f"{rates.mean[i]:.1%}" for i in points),
        interval(rates.ci95[points[-1]], "%"),
        *(() if official is None else (f"{official[i]:.1%}" for i in points)),
    ]


def text_table(success: ClassSuccess) -> str:
    """Returns the table for a terminal or a log file."""
    notes = [] if success.solved.overall.official is None else [NOTE]
    if 1 in success.goals.values():
        notes.append(SINGLE)
    return "\n".join([aligned(*table(success)), *notes])
