"""The tables of bench_scaling.py: what was measured, and what the model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from scaling_model import (
    Measured,
    SamplingModel,
    ThreadedModel,
    sampling_model,
    speedup,
    update_model,
)

MANY = (16, 64, 1_000, 10_000)
"""Numbers of cores to predict."""


def show(case: str, points: Sequence[Measured]) -> None:
    """Prints the measured points, and beside them what the model gives there."""
    sampling, update, first = sampling_model(points), update_model(points), points[0]
    print(f"\n{case}: {first.units} units, {len(first.update_s)} turns")
    print(
        f"{'workers':>7}{'1,000 env steps/s':>25}{'times':>7}{'model':>7}"
        f"{'update (s)':>21}{'times':>7}{'model':>7}{'serial':>8}{'between':>9}{'uneven':>8}"
    )
    for x in points:
        rates = [1e-3 * n / s for n, s in zip(x.env_steps, x.sampling_s, strict=True)]
        serial, between = (f"{x.serial:.1%}", f"{x.between:.1%}") if x.known else ("-", "-")
        uneven = f"{x.uneven:.2f}" if x.known else "-"
        print(
            f"{x.workers:>7}{_range(rates, ',.1f'):>25}"
            f"{median(speedup(first.sampling_s, x.sampling_s)):>7.2f}"
            f"{sampling.seconds(first.workers) / sampling.seconds(x.workers):>7.2f}"
            f"{_range(x.update_s, '.2f'):>21}"
            f"{median(speedup(first.update_s, x.update_s)):>7.2f}"
            f"{update.seconds(first.workers) / update.seconds(x.workers):>7.2f}"
            f"{serial:>8}{between:>9}{uneven:>8}",
            flush=True,
        )


def predict(points: Sequence[Measured]) -> None:
    """Prints how many times as fast as with the most workers measured other numbers would be."""
    sampling, update, last = sampling_model(points), update_model(points), points[-1]
    how = "measured" if last.known else "fitted"
    print(
        f"model: serial {1e3 * sampling.serial_s:.1f} ms of all rounds ({how}), held "
        f"{1e3 * sampling.between.held_s:.0f} ms between rounds, held {1e3 * update.held_s:.0f} ms "
        f"of an update\ntimes as fast as {last.workers} workers:"
    )
    print(f"{'cores':>7}{'same batch: sampling':>22}{'update':>9}{'batch x':>10}{'sampling':>10}"
          f"{'update':>9}")  # fmt: skip
    for count in MANY:
        larger = max(1.0, count / last.workers)
        print(
            f"{count:>7,}{gain(sampling, last.workers, count):>22.1f}"
            f"{gain(update, last.workers, count):>9.1f}{larger:>10.1f}"
            f"{gain(sampling, last.workers, count, larger):>10.1f}"
            f"{gain(update, last.workers, count, larger):>9.1f}"
        )


def gain(
    model: SamplingModel | ThreadedModel, workers: int, count: int, batches: float = 1.0
) -> float:
    """Returns tasks per second of `count` workers over those of `workers`, whose batch is smaller
    by the factor `batches`."""
    return batches * model.seconds(workers) / model.seconds(count, batches)


def _range(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"
