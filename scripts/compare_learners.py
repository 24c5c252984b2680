"""Compares the agents on supervised tasks: sinusoids, digits and glyphs.

    python scripts/compare_learners.py                      # tables and plot of the committed runs
    python scripts/compare_learners.py --commands | bash    # train and evaluate your own
    python scripts/compare_learners.py runs/learners        # tables and plot of these

All agents are evaluated on the same 600 held-out tasks. The tables are made from each run's
metrics and evaluation.
"""

from __future__ import annotations

import argparse
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from metarl.agents import catalogue
from metarl.experiments.presets import PRESETS
from metarl.runs import plot_style as look
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.metrics import read

RUNS = Path("results/few-shot")
OWN = Path("runs/learners")
GLYPHS = (0, 1, 3, 5, 10)
SHOWN = {
    "sinusoid": (0, 1, 2, 5, 10),
    "digits": (0, 1, 2, 5),
    "glyphs-5way-1shot": GLYPHS,
    "glyphs-5way-5shot": GLYPHS,
    "glyphs-20way-1shot": GLYPHS,
}
"""Adaptation steps in each table."""
TITLES = {
    "sinusoid": "sinusoids, ten examples of each",
    "digits": "unseen digits, five examples of each of five",
    "glyphs-5way-1shot": "characters of unseen scripts, one example of each of five",
    "glyphs-5way-5shot": "characters of unseen scripts, five examples of each of five",
    "glyphs-20way-1shot": "characters of unseen scripts, one example of each of twenty",
}
COLORS = (
    look.BLUE, look.SKY, look.GREEN, look.PURPLE, look.ORANGE, look.VERMILION, look.INK, "#8C564B",
    "#BCBD22", "#E377C2", look.GREY,
)  # fmt: skip
MARKERS = "os^vD*P<>Xhp"
"""One more than there are colors, so that a pair repeats only after all combinations."""


class Run(NamedTuple):
    name: str
    found: Adaptation
    tasks: int
    """Learned from."""
    seconds: float
    """Seconds of training."""

    @property
    def by_task(self) -> np.ndarray:
        """Errors or accuracies [tasks, steps + 1]."""
        return self.found.outcome.values.mean(-1)


def runs_in(folder: Path, family: str) -> dict[str, Run]:
    """The evaluated runs on tasks of a family, by learner."""
    found = {}
    for name in catalogue.names("examples"):
        run = folder / f"{family}-{name}"
        if (evaluation := run / "evaluation" / "adaptation.json").exists():
            last = read(run / "metrics.jsonl")[-1]
            adaptation = read_json(evaluation)
            found[name] = Run(name, adaptation, int(last["tasks"]), float(last["wall_s"]))
    if len({str((run.found.tasks, run.found.env_steps)) for run in found.values()}) > 1:
        raise SystemExit(
            f"{folder}: the runs on {family} were evaluated on different tasks, or with other shots"
        )
    return found


def table(family: str, runs: dict[str, Run]) -> str:
    """Markdown: mean (standard error over tasks) after each step, in the catalogue's order."""
    steps = SHOWN[family]
    lines = [
        "| learner | tasks learned from | training | " + " | ".join(map(str, steps)) + " |",
        "|---" * (len(steps) + 3) + "|",
    ]
    for run in runs.values():
        cells = [_figure(run.by_task[:, step], family) for step in steps]
        trained = "| " if run.name == "from-scratch" else f"{run.tasks:,} | {run.seconds:.0f} s"
        lines.append(f"| {run.name} | {trained} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(values: np.ndarray, family: str) -> str:
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    if not np.isfinite(mean) or mean > 1e3:
        return "diverged"
    if family != "sinusoid":
        return f"{100 * mean:.1f}% ({100 * error:.1f})"
    return f"{mean:.3f} ({error:.3f})"


def picture(families: dict[str, dict[str, Run]]) -> Figure:
    title = "600 tasks never seen; bars are standard errors"
    with look.titled_figure(7.5 * len(families), 5.6, title) as figure:
        panels = figure.subplots(1, len(families), squeeze=False)[0]
        for axes, (family, runs) in zip(panels, families.items(), strict=True):
            _curves(axes, family, runs)
    return figure


def _curves(axes: Axes, family: str, runs: dict[str, Run]) -> None:
    looks = dict(zip(catalogue.names("examples"), zip(cycle(COLORS), cycle(MARKERS)), strict=False))
    for name, run in runs.items():
        values, (color, marker) = run.by_task, looks[name]
        error = values.std(0, ddof=1) / len(values) ** 0.5
        line = "--" if name == "from-scratch" else "-"
        axes.errorbar(
            run.found.steps, values.mean(0), error, label=name, color=color, marker=marker,
            ls=line, capsize=2,
        )  # fmt: skip
    axes.set_title(TITLES[family])
    axes.set_xlabel("adaptation steps")
    if family == "sinusoid":
        axes.set_yscale("log")
        axes.set_ylim(0.015, 20.0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_ylabel("mean-squared error")
    else:
        axes.set_ylim(0.0, 1.0)
        axes.set_ylabel("accuracy")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=RUNS, help="runs (default: %(default)s)"
    )
    parser.add_argument(
        "--commands", action="store_true", help="print the commands that train and evaluate"
    )
    args = parser.parse_args()
    if args.commands:
        for name in PRESETS:
            if name.startswith(tuple(f"{family}-" for family in SHOWN)):
                print(f"metarl train {name} --run-dir {OWN / name}")
                print(f"metarl evaluate {OWN / name}")
        return
    families = {family: runs_in(args.folder, family) for family in SHOWN}
    families = {family: runs for family, runs in families.items() if runs}
    if not families:
        raise SystemExit(f"{args.folder} holds no evaluated run; --commands prints what makes them")
    for family, runs in families.items():
        print(f"{TITLES[family]}\n\n{table(family, runs)}\n")
    look.save(args.folder / "learners.png", picture(families))
    print(f"picture  {args.folder / 'learners.png'}")


if __name__ == "__main__":
    main()
