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

from metarl.comparison import statistics
from metarl.comparison.learners import Field, Learner, read
from metarl.comparison.statistics import Draw, Interval, Paired, Profile
from metarl.errors import UserError
from metarl.runs.comparison import aligned, interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
KIND = "metarl comparison"
MOST_PAIRS = 15
"""Pairs in the table; of more learners each is compared with the best alone."""
FEW_SEEDS = 10
"""Seeds below which intervals are notably too narrow; docs/compare.md has the numbers."""


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
    """What the intervals draw: see `metarl.comparison.statistics`."""

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Returns the tables and the notes for a terminal."""
        parts = [self._title(), aligned(*self._learners())]
        if self.pairs:
            parts.append(aligned(*self._pairs()))
        return "\n\n".join([*parts, "\n".join(self.notes())])

    def figure(self) -> Figure:
        """Returns the picture: intervals, performance profiles, probabilities of improvement."""
        from metarl.comparison.picture import comparison_figure  # imports matplotlib

        return comparison_figure(self)

    def json(self) -> str:
        """Returns all figures and scores as JSON; null is a number that is not known."""
        return json.dumps(_finite(self._document()), allow_nan=False) + "\n"

    def notes(self) -> list[str]:
        """Returns the lines that say how far the figures reach."""
        return [*self._of_seeds(), *self._of_tests(), _DRAWN[self._drawn()]]

    def _drawn(self) -> Draw:
        """Returns what the samples draw where no learner has two seeds: tasks alone."""
        several = any(len(one.learner.seeds) > 1 for one in self.standings)
        return self.draw if several or self.draw != "both" else "tasks"

    def _of_seeds(self) -> list[str]:
        counts = {one.learner.label: len(one.learner.seeds) for one in self.standings}
        single = [label for label, count in counts.items() if count == 1]
        if len(single) == len(counts):
            return [
                "One seed each: these figures compare trained agents and are no ranking of "
                "learners.",
                "Another seed may turn them round; `metarl train PRESET --seeds 5` trains more.",
            ]
        if single:
            return [
                f"One seed of {', '.join(single)}: nothing is known of its other seeds, so the "
                "figures are no ranking."
            ]
        found = []
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{label} {count}" for label, count in counts.items())
            found.append(f"The numbers of seeds differ ({told}); each learner counts the same.")
        if (fewest := min(counts.values())) < FEW_SEEDS:
            found.append(
                f"{fewest} seeds are few: a 95% interval of so few holds the truth in about 85 to "
                "90 of 100 cases."
            )
        return found

    def _of_tests(self) -> list[str]:
        if len(self.standings) < 2:
            return []
        if not self.field.same_tasks:
            return [
                "The learners were evaluated on different tasks, so nothing is paired: evaluate "
                "them with the same --seed and --tasks."
            ]
        found = []
        smallest = [pair.paired.smallest_p_seeds for pair in self.pairs]
        if len(self.pairs) > 1:
            found.append(f"p-values are for {len(self.pairs)} tests at once (Holm).")
        if (least := max(smallest)) > 0.05:
            found.append(f"With so few seeds p (seeds) can be {least:.2g} at the least.")
        return found

    def _title(self) -> str:
        field, adaptation = self.field, self.field.learners[0].seeds[0].adaptation
        better = "lower" if field.measure.lower_is_better else "higher"
        return (
            f"{adaptation.env}, {adaptation.split} tasks: {field.measure.name} after {field.steps} "
            f"({better} is better)"
        )

    def _learners(self) -> tuple[list[str], list[list[str]]]:
        measure = self.field.measure
        digits = measure.digits(np.array([one.iqm.estimate for one in self.standings]))
        unit = "%" if measure.share else ""
        used = self.standings[0].learner.seeds[0].adaptation.measure.used
        rows = []
        for one in self.standings:
            seeds, tasks = one.learner.scores.shape
            after = one.learner.seeds[0].adaptation.env_steps[self.field.step]
            estimates = (one.mean, one.iqm)
            cells = [
                cell
                for found in estimates
                for cell in (
                    measure.text(found.estimate, digits),
                    interval(np.array(found[1:]), unit, digits),
                )
            ]
            rows.append([one.learner.label, str(seeds), str(tasks), f"{after:,.0f}", *cells])
        headings = ["learner", "seeds", "tasks", used, "mean", "95% interval", "iqm"]
        return [*headings, "95% interval"], rows

    def _pairs(self) -> tuple[list[str], list[list[str]]]:
        measure = self.field.measure
        shown = self.shown_pairs()
        gaps = np.array([pair.paired.difference.estimate for pair in shown])
        digits = measure.digits(gaps)
        unit = "%" if measure.share else ""
        rows = []
        for pair in shown:
            difference, improvement = pair.paired.difference, pair.improvement
            rows.append(
                [
                    f"{pair.first} - {pair.second}",
                    measure.text(difference.estimate, digits),
                    interval(np.array(difference[1:]), unit, digits),
                    _p(pair.holm_seeds),
                    _p(pair.holm_tasks),
                    f"{100 * improvement.estimate:.0f}%",
                    interval(np.array(improvement[1:]), "%", 0),
                ]
            )
        headings = ["pair", "difference", "95% interval", "p (seeds)", "p (tasks)"]
        headings += ["P(better)", "95% interval"]
        if not any(row[3] for row in rows):  # of single seeds
            headings, *rows = ([*row[:3], *row[4:]] for row in (headings, *rows))
        return headings, rows

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
            "draw": self._drawn(),
            "resamples": statistics.RESAMPLES,
            "thresholds": thresholds.tolist(),
            "learners": [_of_learner(one, field.step) for one in self.standings],
            "pairs": [_of_pair(pair) for pair in self.pairs],
            "notes": self.notes(),
        }


_DRAWN: dict[Draw, str] = {
    "both": "Intervals draw seeds and tasks: another time, with other seeds and other tasks.",
    "seeds": "Intervals draw seeds alone: other seeds in these tasks.",
    "tasks": "Intervals draw tasks alone: these agents in other tasks.",
    "stratified": "Intervals draw seeds anew for each task, as rliable does; they are too narrow "
    "where a seed's tasks share one training.",
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


def _p(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _of_learner(one: Standing, step: int) -> dict[str, Any]:
    learner = one.learner
    return {
        "label": learner.label,
        "agent": learner.agent,
        "runs": [str(seed.run) for seed in learner.seeds],
        "iterations": [seed.adaptation.made_from.get("iteration") for seed in learner.seeds],
        "used": learner.seeds[0].adaptation.env_steps[step],
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
