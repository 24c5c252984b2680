"""Compares learners over seeds and tasks: `metarl.compare`, and the figures behind its table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from metarl.comparison import statistics, tables
from metarl.comparison.learners import Field, Learner, read
from metarl.comparison.statistics import Draw, Interval, Paired, Profile
from metarl.errors import UserError
from metarl.runs.comparison import aligned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
KIND = "metarl comparison"
MOST_PAIRS = 15
"""Pairs in the table; of more learners each is compared with the best alone."""


class Standing(NamedTuple):
    """Figures of one learner."""

    learner: Learner
    mean: Interval
    iqm: Interval
    profile: Profile


class Pair(NamedTuple):
    """Figures of two learners on the same tasks."""

    first: str
    second: str
    paired: Paired
    improvement: Interval
    """Probability that a run of the first is better than one of the second in a task."""
    holm_seeds: float
    """`paired.p_seeds`, for as many tests as there are pairs."""
    holm_tasks: float
    """`paired.p_tasks`, for as many tests as there are pairs."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Learners compared after one adaptation step."""

    field: Field
    standings: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    """Each two learners, in the order given; empty where their tasks differ."""
    draw: Draw
    """Units that a bootstrap sample draws; see `metarl.comparison.statistics`."""

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Returns the tables and the notes for a terminal."""
        parts = [tables.title(self), aligned(*tables.learners(self))]
        if self.pairs:
            parts.append(aligned(*tables.pairs(self)))
        return "\n\n".join([*parts, "\n".join(self.notes())])

    def figure(self) -> Figure:
        """Returns the picture: intervals, performance profiles, probabilities of improvement."""
        from metarl.comparison.picture import comparison_figure  # imports matplotlib

        return comparison_figure(self)

    def json(self) -> str:
        """Returns all figures and scores as JSON; null is a number that is not known."""
        return json.dumps(_finite(self._document()), allow_nan=False) + "\n"

    def drawn(self) -> Draw:
        """Returns what the samples draw: tasks alone where no learner has two seeds."""
        several = any(len(one.learner.seeds) > 1 for one in self.standings)
        return self.draw if several or self.draw != "both" else "tasks"

    def notes(self) -> list[str]:
        """Returns the lines that say how far the figures reach."""
        return tables.notes(self)

    def shown_pairs(self) -> list[Pair]:
        """Returns the pairs of the table: all, or of many learners those with the best."""
        if len(self.pairs) <= MOST_PAIRS:
            return list(self.pairs)
        sign = -1 if self.field.measure.lower_is_better else 1
        best = max(self.standings, key=lambda one: sign * one.iqm.estimate).learner.label
        return [pair for pair in self.pairs if best in (pair.first, pair.second)]

    def _document(self) -> dict[str, Any]:
        field, adaptation = self.field, self.field.learners[0].seeds[0].adaptation
        thresholds = self.standings[0].profile.thresholds
        return {
            "format": FORMAT,
            "kind": KIND,
            "env": adaptation.env,
            "split": adaptation.split,
            "measure": field.measure.name,
            "lower_is_better": field.measure.lower_is_better,
            "step": field.step,
            "same_tasks": field.same_tasks,
            "draw": self.drawn(),
            "resamples": statistics.RESAMPLES,
            "thresholds": thresholds.tolist(),
            "learners": [_of_learner(one, field.step) for one in self.standings],
            "pairs": [_of_pair(pair) for pair in self.pairs],
            "notes": self.notes(),
        }


def compare(
    runs: Sequence[Path | str],
    labels: Sequence[str] = (),
    steps: int | Literal["last"] = "last",
    success: bool = False,
    name: str = "",
    draw: Draw = "both",
) -> Comparison:
    """Compares the evaluations of runs, or of folders of seeds, on held-out tasks.

    Args:
        runs: a run or a folder of seeds for each learner.
        labels: a name for each; empty: the shortest distinct ends of the paths.
        steps: adaptation step after which they are compared; `last`: the last that all have.
        success: whether to compare success rates in the place of returns.
        name: name of the evaluation to read; empty: that on held-out tasks.
        draw: what the intervals draw: see `metarl.comparison.statistics`.

    Raises:
        UserError: for a run without the evaluation, and for runs that cannot be compared.
    """
    if isinstance(runs, str | Path):
        raise UserError(f"runs is {str(runs)!r}; give a list of folders")
    field = read([Path(run).expanduser() for run in runs], labels, steps, success, name)
    scores = [learner.scores for learner in field.learners]
    thresholds = statistics.thresholds_of(*scores)
    standings = tuple(_standing(learner, thresholds, draw) for learner in field.learners)
    return Comparison(field, standings, _all_pairs(field, draw) if field.same_tasks else (), draw)


def _standing(learner: Learner, thresholds: np.ndarray, draw: Draw) -> Standing:
    return Standing(
        learner,
        statistics.estimated(statistics.mean, learner.scores, draw=draw),
        statistics.estimated(statistics.iqm, learner.scores, draw=draw),
        statistics.performance_profile(learner.scores, thresholds, draw),
    )


def _all_pairs(field: Field, draw: Draw) -> tuple[Pair, ...]:
    """Returns the figures of each two learners."""
    sign = -1 if field.measure.lower_is_better else 1
    chosen = list(combinations(field.learners, 2))
    paired = [statistics.paired_difference(a.scores, b.scores, draw) for a, b in chosen]
    improved = [
        statistics.estimated(
            statistics.probability_of_improvement, sign * a.scores, sign * b.scores, draw=draw
        )
        for a, b in chosen
    ]
    seeds, tasks = (
        statistics.holm(np.array([getattr(found, name) for found in paired], float))
        for name in ("p_seeds", "p_tasks")
    )
    return tuple(
        Pair(a.label, b.label, paired[i], improved[i], float(seeds[i]), float(tasks[i]))
        for i, (a, b) in enumerate(chosen)
    )


def _of_learner(one: Standing, step: int) -> dict[str, Any]:
    learner = one.learner
    return {
        "label": learner.label,
        "agent": learner.agent,
        "runs": [str(seed.run) for seed in learner.seeds],
        "iterations": [seed.adaptation.made_from.get("iteration") for seed in learner.seeds],
        "used": learner.used[step],
        "scores": learner.scores.tolist(),
        "mean": one.mean._asdict(),
        "iqm": one.iqm._asdict(),
        "profile": {name: getattr(one.profile, name).tolist() for name in ("share", "low", "high")},
    }


def _of_pair(pair: Pair) -> dict[str, Any]:
    paired = pair.paired
    return {
        "first": pair.first,
        "second": pair.second,
        "difference": paired.difference._asdict(),
        "p_seeds": paired.p_seeds,
        "p_tasks": paired.p_tasks,
        "smallest_p_seeds": paired.smallest_p_seeds,
        "holm_seeds": pair.holm_seeds,
        "holm_tasks": pair.holm_tasks,
        "improvement": pair.improvement._asdict(),
    }


def _finite(value: Any) -> Any:
    """Returns a document with null in the place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
