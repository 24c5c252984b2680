"""Tables and notes of a comparison, for a terminal and for a report's page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from metarl.comparison.statistics import Draw, Interval
from metarl.runs.comparison import interval

if TYPE_CHECKING:
    from metarl.comparison.comparing import Comparison

FEW_SEEDS = 10
"""Seeds below which intervals are notably too narrow; docs/compare.md has the numbers."""
Table: TypeAlias = tuple[list[str], list[list[str]]]
"""Headings, and rows of as many cells."""
DRAWN: dict[Draw, str] = {
    "both": "Intervals draw seeds and tasks: another time, with other seeds and other tasks.",
    "seeds": "Intervals draw seeds alone: other seeds in these tasks.",
    "tasks": "Intervals draw tasks alone: these agents in other tasks.",
    "stratified": "Intervals draw seeds anew for each task, as rliable does; they are too narrow "
    "where a seed's tasks share one training.",
}


def title(comparison: Comparison) -> str:
    """Returns the line above the tables."""
    field, adaptation = comparison.field, comparison.field.learners[0].seeds[0].adaptation
    better = "lower" if field.measure.lower_is_better else "higher"
    return (
        f"{adaptation.env}, {adaptation.split} tasks: {field.measure.name} after {field.steps} "
        f"({better} is better)"
    )


def learners(comparison: Comparison) -> Table:
    """Returns a row for each learner, with its mean and interquartile mean."""
    field, standings = comparison.field, comparison.standings
    digits = field.measure.digits(np.array([one.iqm.estimate for one in standings]))
    rows = []
    for one in standings:
        seeds, tasks = one.learner.scores.shape
        used = f"{one.learner.used[field.step]:,.0f}"
        row = [one.learner.label, str(seeds), str(tasks), used]
        rows.append(
            [*row, *_cells(comparison, one.mean, digits), *_cells(comparison, one.iqm, digits)]
        )
    used = standings[0].learner.seeds[0].adaptation.measure.used
    return ["learner", "seeds", "tasks", used, "mean", "95% interval", "iqm", "95% interval"], rows


def pairs(comparison: Comparison) -> Table:
    """Returns a row for each pair that `Comparison.shown_pairs` has; at least one."""
    shown = comparison.shown_pairs()
    gaps = np.array([pair.paired.difference.estimate for pair in shown])
    digits = comparison.field.measure.digits(gaps)
    rows = []
    for pair in shown:
        improvement = pair.improvement
        rows.append(
            [
                f"{pair.first} - {pair.second}",
                *_cells(comparison, pair.paired.difference, digits),
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


def notes(comparison: Comparison) -> list[str]:
    """Returns the lines that say how far the figures reach."""
    found = [*_of_seeds(comparison), *_of_tests(comparison)]
    counts = [len(one.learner.seeds) for one in comparison.standings]
    if comparison.drawn() in ("seeds", "stratified") and max(counts) == 1:
        return [*found, "There are no intervals: they would draw seeds, and there is one each."]
    return [*found, DRAWN[comparison.drawn()]]


def _of_seeds(comparison: Comparison) -> list[str]:
    counts = {one.learner.label: len(one.learner.seeds) for one in comparison.standings}
    single = [label for label, count in counts.items() if count == 1]
    if len(single) == len(counts):
        return [
            "One seed each: these figures compare trained agents and are no ranking of learners.",
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
    if (fewest := min(counts.values())) < FEW_SEEDS and comparison.drawn() != "tasks":
        found.append(
            f"{fewest} seeds are few, so 95% intervals are too narrow; docs/compare.md says by how "
            "much."
        )
    return found


def _of_tests(comparison: Comparison) -> list[str]:
    if len(comparison.standings) < 2:
        return []
    if not comparison.field.same_tasks:
        return [
            "The learners were evaluated on different tasks, so nothing is paired: evaluate them "
            "with the same --seed and --tasks."
        ]
    found = []
    if len(comparison.pairs) > 1:
        found.append(f"p-values are for {len(comparison.pairs)} tests at once (Holm).")
    if len(shown := comparison.shown_pairs()) < len(comparison.pairs):
        found.append(
            f"The table has the {len(shown)} pairs with the best; compare.json has all of them."
        )
    smallest = [pair.paired.smallest_p_seeds for pair in comparison.pairs]
    if (least := max((p for p in smallest if not math.isnan(p)), default=0.0)) > 0.05:
        found.append(f"With so few seeds p (seeds) cannot be below {least:.2g}.")
    return found


def _cells(comparison: Comparison, found: Interval, digits: int) -> list[str]:
    """Returns an estimate and its interval as text."""
    measure = comparison.field.measure
    ends = interval(np.array(found[1:]), "%" if measure.share else "", digits)
    return [measure.text(found.estimate, digits), ends]


def _p(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
