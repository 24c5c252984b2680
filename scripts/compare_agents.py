"""Compares twenty agents on HalfCheetah goal velocity, with the same budget of environment steps.

    python scripts/compare_agents.py                      # table and plot of the committed runs
    python scripts/compare_agents.py --commands | bash    # train and evaluate your own, hours
    python scripts/compare_agents.py runs/agents          # table and plot of these

The budget is 19.2M steps, which are 60 iterations of MAML-TRPO. All agents are evaluated on the
same held-out tasks. The table is made from each run's config, metrics and evaluation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.runs import plot_style as look
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.metrics import read

RUNS = Path("results/halfcheetah-vel-agents")
OWN = Path("runs/agents")
PRESET = "halfcheetah-vel-maml2017"
PPO = "--agent.outer.lr 3e-3 --agent.outer.epochs 10"
"""The defaults of PPO outside. ProMP's own take 300 shorter steps of Adam here, which gain less."""
SETTINGS = {
    "maml-trpo": f"{PRESET} --iterations 60",
    "maml-ppo": f"{PRESET} --agent maml-ppo --iterations 60",
    "promp": f"{PRESET} --agent promp --iterations 60 {PPO}",
    "e-maml": f"{PRESET} --agent e-maml --iterations 60",
    "dice-maml": f"{PRESET} --agent dice-maml --iterations 60",
    "fomaml-trpo": f"{PRESET} --agent fomaml-trpo --iterations 60",
    "anil-trpo": f"{PRESET} --agent anil-trpo --iterations 60",
    "meta-sgd-trpo": f"{PRESET} --agent meta-sgd-trpo --iterations 60",
    "cavia-trpo": f"{PRESET} --agent cavia-trpo --iterations 60",
    "lomaml": f"{PRESET} --agent lomaml --iterations 60",
    "meta-lstm": f"{PRESET} --agent meta-lstm --iterations 60",
    "gbml": f"{PRESET} --agent gbml --iterations 60",
    "mapping": f"{PRESET} --agent mapping --iterations 60",
    "reptile-ppo": f"{PRESET}-reptile-ppo",
    "rl2": f"{PRESET}-rl2",
    "joint-trpo": f"{PRESET} --agent joint-trpo --iterations 120",
    "joint-ppo": f"{PRESET} --agent joint-ppo --iterations 120",
    "oracle-trpo": f"{PRESET} --agent oracle-trpo --iterations 120",
    "random": f"{PRESET} --agent random --iterations 1",
    "sb3-ppo": f"{PRESET} --agent sb3-ppo --iterations 1",
}
"""Arguments of `metarl train` by agent. The last two learn nothing from training."""
JOINT = ("joint-trpo", "joint-ppo")
ORACLE = "oracle-trpo"
KIN = tuple(SETTINGS)[:9]
LEARNED = ("maml-trpo", "lomaml", "meta-lstm", "gbml", "mapping")
OTHERS = ("reptile-ppo", "rl2", *JOINT, "random", "sb3-ppo")
COLORS = (
    look.BLUE, look.VERMILION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY, look.INK, "#8C564B",
    look.GREY,
)  # fmt: skip
MARKERS = "osD^vP*X<"


class Run(NamedTuple):
    name: str
    env_steps: float
    """Environment steps of meta-training."""
    found: Adaptation

    @property
    def by_task(self) -> np.ndarray:
        """Mean returns [tasks, steps + 1]."""
        return self.found.outcome.values.mean(-1)


def runs_in(folder: Path) -> dict[str, Run]:
    """The runs that are there, by agent.

    Raises:
        SystemExit: where there is none, or their tasks differ.
    """
    found = {}
    for name in SETTINGS:
        run = folder / name
        if (evaluation := run / "evaluation" / "adaptation.json").exists():
            rows = read(run / "metrics.jsonl")
            found[name] = Run(name, float(rows[-1]["env_steps"]), read_json(evaluation))
    if not found:
        raise SystemExit(f"{folder} holds no evaluated run; --commands prints what makes them")
    first = next(iter(found.values()))
    for run in found.values():
        asked = [(x.found.env, x.found.tasks, x.found.steps) for x in (run, first)]
        if asked[0] != asked[1]:
            raise SystemExit(
                f"{run.name} and {first.name} were evaluated on other tasks or for other steps"
            )
    return found


def table(runs: dict[str, Run]) -> str:
    """Markdown: mean return (standard error over tasks) after each step, best last figure first.

    The last column is paired: the difference on each task from the better of joint training.
    """
    joint = [runs[name] for name in JOINT if name in runs]
    best = max(joint, key=lambda run: run.by_task[:, -1].mean()) if joint else None
    steps = next(iter(runs.values())).found.steps
    lines = [
        "| agent | trained on | " + " | ".join(map(str, steps)) + " | minus joint training |",
        "|---" * (len(steps) + 3) + "|",
    ]
    for run in sorted(runs.values(), key=lambda run: -run.by_task[:, -1].mean()):
        cells = [_figure(x) for x in run.by_task.T]
        paired = ""
        if best is not None and run is not best:
            paired = _figure(run.by_task[:, -1] - best.by_task[:, -1], "+")
        trained = "" if run.name in ("random", "sb3-ppo") else f"{run.env_steps / 1e6:.1f}M"
        lines.append(f"| {run.name} | {trained} | {' | '.join(cells)} | {paired} |")
    return "\n".join(lines)


def _figure(values: np.ndarray, sign: str = "") -> str:
    return f"{values.mean():{sign}.1f} ({values.std(ddof=1) / len(values) ** 0.5:.1f})"


def picture(runs: dict[str, Run]) -> Figure:
    """Returns against the environment steps that one task was asked for."""
    first = next(iter(runs.values())).found
    title = (
        f"{look.titled(first.env)}: {len(first.tasks)} {first.split} tasks, "
        f"{first.outcome.values.shape[-1]} episodes at each point, one training seed"
    )
    with look.titled_figure(20.0, 5.6, title) as figure:
        panels = figure.subplots(1, 3, sharey=True)
        families = (
            (KIN, "MAML and its kin"),
            (LEARNED, "learned inner rules, beside MAML"),
            (OTHERS, "Reptile, RL2 and controls"),
        )
        for axes, (names, title) in zip(panels, families, strict=True):
            _curves(axes, runs, names)
            axes.set_title(title)
        panels[0].set_ylabel("mean undiscounted return")
    return figure


def _curves(axes: Axes, runs: dict[str, Run], names: tuple[str, ...]) -> None:
    for name, color, marker in zip(names, COLORS, MARKERS, strict=False):
        if name in runs:
            run = runs[name]
            at = run.found.outcome.env_steps or run.found.env_steps
            mean, error = run.by_task.mean(0), run.by_task.std(0, ddof=1) / len(run.by_task) ** 0.5
            line = "--" if name in (*JOINT, "random", "sb3-ppo") else "-"
            axes.errorbar(
                at, mean, error, label=name, color=color, marker=marker, ls=line, capsize=2
            )
    if ORACLE in runs:
        axes.axhline(
            runs[ORACLE].by_task[:, 0].mean(),
            color=look.GREY,
            ls=":",
            label="oracle, told the task",
        )
    # The square root leaves room for RL2, whose steps are single episodes.
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ticks = (0, 200, 600, 4_000, 8_000, 12_000)
    axes.set_xticks(ticks, [f"{x / 1000:g}k" if x >= 1000 else str(x) for x in ticks])
    axes.set_xlim(0, 12_500)
    axes.set_xlabel("environment steps used in one task")
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
        for name, settings in SETTINGS.items():
            run = OWN / name
            print(f"metarl train {settings} --run-dir {run}")
            print(f"metarl evaluate {run}")
        return
    runs = runs_in(args.folder)
    print(table(runs))
    missing = [name for name in SETTINGS if name not in runs]
    if missing:
        print(f"\nnot there: {', '.join(missing)}")
    look.save(args.folder / "agents.png", picture(runs))
    print(f"\npicture  {args.folder / 'agents.png'}")


if __name__ == "__main__":
    main()
