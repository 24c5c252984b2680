"""Measures how sampling and updates scale with the number of workers, and predicts many cores.

A point is one case with N workers and N threads. It is a process of its own, limited to N cores,
that runs the real parts of training. All points of a case are open at once and take their
iterations by turns, after one to warm up, because single timings are noisy. The script prints

* the sampling (env steps/s) and the time of an update: the median, the range in brackets, and how
  many times as fast as with the fewest workers;
* serial: the share of a round in which only the parent works, which is the time of the round minus
  that of the slowest worker;
* between: the share of sampling between rounds, above all the adaptation, which threads divide;
* uneven: the time of the slowest worker over the mean of all workers;
* what the model in scaling_model.py predicts.

The results are written to scaling.json and scaling.png.

    python scripts/bench_scaling.py --out scaling
    python scripts/bench_scaling.py --only cartpole 50us --workers 1 2 4 --repeats 5 --out scaling
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from poles import burden_of
from scaling_model import Measured
from scaling_table import MANY, predict, show
from training_parts import POLES, names

from metarl.threads import cores

CASES = ("halfcheetah-vel-maml2017", "ml10-maml-trpo", *POLES)
ML10_HORIZON = 100
"""Shorter episodes than in the preset, so that a turn takes seconds."""


class Point:
    """A process that takes an iteration when it is asked to."""

    def __init__(self, case: str, workers: int, args: argparse.Namespace, burden: int):
        sizes = {
            "tasks": args.tasks,
            "episodes": args.episodes,
            "horizon": args.horizon,
        }
        flags = [f"--{name}={n}" for name, n in sizes.items() if n is not None]
        script = Path(__file__).with_name("scaling_point.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), case, f"--workers={workers}", f"--burden={burden}",
             f"--device={args.device}", *flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.name = f"{case} with {workers} workers"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}")
        return line

    def ready(self) -> None:
        self._answer()

    def turn(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return json.loads(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(case: str, args: argparse.Namespace) -> list[Measured]:
    """Takes turns until `repeats` or the limit is reached; a point for each number of workers."""
    burden = burden_of(50.0) if case == "50us" else 0
    horizon = args.horizon or (ML10_HORIZON if case == "ml10-maml-trpo" else None)
    sized = argparse.Namespace(**{**vars(args), "horizon": horizon})
    points: dict[int, Point] = {}
    turns: dict[int, list[dict[str, Any]]] = {count: [] for count in args.workers}
    try:
        for count in args.workers:
            points[count] = Point(case, count, sized, burden)
        for point in points.values():
            point.ready()
        started = time.perf_counter()
        for turn in range(-1, args.repeats):
            for count, point in points.items():
                found = point.turn()
                if turn >= 0:
                    turns[count].append(found)
            if turn >= 0 and time.perf_counter() - started > args.limit_s:
                break
    finally:
        for point in points.values():
            point.close()
    return [measured(count, found) for count, found in turns.items()]


def measured(workers: int, turns: Sequence[dict[str, Any]]) -> Measured:
    lists = ("env_steps", "sampling_s", "update_s", "rounds_s", "slowest_s", "mean_s")
    return Measured(workers, turns[-1]["units"], *([x[name] for x in turns] for name in lists))


def machine() -> dict[str, Any]:
    """Describes what decides the figures, without the machine's name."""
    count, siblings = cores().count, set()
    for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"):
        siblings.add(path.read_text())
    return {"cores": count, "physical": len(siblings) or None, "torch": torch.__version__}


def run(args: argparse.Namespace) -> dict[str, list[Measured]]:
    """Measures, prints and plots; returns the points of each case."""
    about, found = machine(), {}
    print(
        f"{about['cores']} cores ({about['physical']} with hyperthreads counted once), "
        f"torch {about['torch']}, at most {args.repeats} turns"
    )
    for case in args.only:
        found[case] = measure(case, args)
        show(case, found[case])
        predict(found[case])
        if args.out is not None:
            write(args.out, about, found)
    return found


def write(folder: Path, about: dict[str, Any], found: dict[str, list[Measured]]) -> None:
    """Writes all times and the picture of what was measured so far."""
    from scaling_plot import scaling_figure  # imports matplotlib

    from metarl.runs.plot_style import save

    folder.mkdir(parents=True, exist_ok=True)
    cases = {case: [asdict(x) for x in points] for case, points in found.items()}
    text = json.dumps({"machine": about, "cases": cases}, indent=1)
    (folder / "scaling.json").write_text(text + "\n", encoding="utf-8")
    save(folder / "scaling.png", scaling_figure(found, MANY))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    most = cores().count
    powers = [2**n for n in range(most.bit_length()) if 2**n < most]
    parser.add_argument(
        "--only", nargs="+", default=CASES, choices=names(), metavar="CASE",
        help=f"presets, cartpole or 50us (default: {' '.join(CASES)})",
    )  # fmt: skip
    parser.add_argument(
        "--workers", nargs="+", type=int, default=[*powers, most], help="(default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument(
        "--limit-s", type=float, default=600.0,
        help="no further turn of a case after this time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for scaling.json and scaling.png")
    parser.add_argument("--tasks", type=int, help="K (default: that of the preset)")
    parser.add_argument("--episodes", type=int, help="E (default: that of the preset)")
    parser.add_argument(
        "--horizon", type=int, help="steps of an episode (default: that of the preset; ml10: 100)"
    )
    parser.add_argument("--device", default="cpu", help="of updates (default: %(default)s)")
    args = parser.parse_args(argv)
    args.workers = sorted(args.workers)
    if args.workers[0] < 1 or args.workers[-1] > most:
        parser.error(f"--workers {args.workers}: this process may use 1 to {most} cores")
    return args


if __name__ == "__main__":
    run(parse())
