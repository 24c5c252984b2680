"""Charts and tables of a comparison: adaptation curves, profiles, interquartile means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from metarl.comparison import statistics, tables
from metarl.comparison.comparing import Comparison
from metarl.comparison.learners import Learner
from metarl.comparison.statistics import Interval
from metarl.reporting import ticks
from metarl.reporting.adaptation_charts import scale_of
from metarl.reporting.svg import Chart, Line, figure

RESAMPLES = 1000
"""Bootstrap samples for each point of an adaptation curve."""
MOST_POINTS = 12
"""Adaptation steps of a curve that have intervals; of more, evenly spaced ones."""
MOST_BANDS = 6
"""Learners up to which profiles have bands, which would hide one another."""


class Compared(NamedTuple):
    """A comparison, ready for the page."""

    title: str
    charts: list[Markup]
    headings: list[str]
    rows: list[list[str]]
    pair_headings: list[str]
    pairs: list[list[str]]
    notes: list[str]
    facts: list[tuple[str, str]]


def compared(comparison: Comparison, styles: Mapping[str, str]) -> Compared:
    """Draws a comparison.

    Args:
        styles: label of a learner -> classes of its lines.
    """
    field = comparison.field
    measure, learners = field.measure, field.learners
    best = (min if measure.lower_is_better else max)(
        comparison.standings, key=lambda one: one.iqm.estimate
    )
    digits = measure.digits(np.array([one.iqm.estimate for one in comparison.standings]))
    facts = [(f"{measure.name} (iqm) after {field.steps}", measure.text(best.iqm.estimate, digits))]
    if len(learners) > 1:
        facts.append(("best iqm", best.learner.label))
    charts = [*_adaptation(comparison, styles), *_profiles(comparison, styles)]
    return Compared(
        f"{measure.name} after {field.steps}, {best.learner.scores.shape[1]} tasks "
        f"({'lower' if measure.lower_is_better else 'higher'} is better)",
        [figure(chart) for chart in charts],
        *tables.learners(comparison),
        *(tables.pairs(comparison) if comparison.pairs else ([], [])),
        comparison.notes(),
        facts,
    )


def _adaptation(comparison: Comparison, styles: Mapping[str, str]) -> list[Chart]:
    measure = comparison.field.learners[0].seeds[0].adaptation.measure
    by_steps, by_use = [], []
    for learner in comparison.field.learners:
        scores = _by_step(learner)  # [N, K, S]
        shown = np.unique(
            np.linspace(0, scores.shape[-1] - 1, min(scores.shape[-1], MOST_POINTS)).astype(int)
        )
        found = np.array([_estimated(scores[..., step]) for step in shown])
        used = np.array(learner.used)[shown]
        line = Line(shown.astype(float), *_parts(found, styles[learner.label]))
        by_steps.append(line)
        by_use.append(line._replace(x=used))
    name, scale = measure.name.capitalize(), scale_of(measure)
    steps = "adaptation steps"
    charts = [Chart(f"{name} by {steps}", steps, by_steps, "", scale, whole_x=True)]
    if measure.of_episodes:
        where = "environment steps used in one task"
        title = f"{name} by environment steps"
        charts.append(Chart(title, where, by_use, "", scale, ticks.counts, True))
    return charts


def _parts(found: np.ndarray, look: str) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
    """Returns the parts of a line after its x, from estimates with their ends [S, 3]."""
    mean, low, high = found.T
    return mean, look, low, high


def _by_step(learner: Learner) -> np.ndarray:
    steps = min(len(seed.adaptation.steps) for seed in learner.seeds)
    with np.errstate(all="ignore"):
        return np.stack(
            [seed.adaptation.outcome.values[:, :steps].mean(axis=-1) for seed in learner.seeds]
        )


def _estimated(scores: np.ndarray) -> Interval:
    """Returns the mean over seeds and tasks [N, K] with its interval."""
    if not np.isfinite(scores).all():
        return Interval(*[float("nan")] * 3)
    return statistics.estimated(statistics.mean, scores, resamples=RESAMPLES)


def _profiles(comparison: Comparison, styles: Mapping[str, str]) -> list[Chart]:
    lines = []
    for one in comparison.standings:
        at, share, low, high = one.profile
        bands = (low, high) if len(comparison.standings) <= MOST_BANDS else (None, None)
        lines.append(Line(at, share, styles[one.learner.label], *bands))
    measure = comparison.field.measure
    where = f"threshold of the {measure.name}"
    texts = ticks.shares if measure.share else ticks.numbers
    unit = "share of scores above a threshold"
    return [Chart("Performance profile", where, lines, unit, "share", texts)]
