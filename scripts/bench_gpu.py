"""Measures everything that needs a GPU, in one command of less than six minutes.

It also runs on the CPU, which takes longer; `--small` then shows that it works. There are four
sections, each in a process of its own with a time limit, so that a failure ends only its section:

* update: the exact meta-update at three sizes (gpu_update.py);
* iterations: sampling and update of an iteration of some presets, and from them the time of the
  whole run, without checkpoints;
* tests: the tests that are marked `cuda`;
* scaling: from two workers to all cores, by the code of bench_scaling.py. Updates are on the CPU.

With `--out FOLDER` each section writes a JSON file there.

    python scripts/bench_gpu.py --out gpu
    python scripts/bench_gpu.py --small --device cpu --only update iterations
"""

from __future__ import annotations

import metarl  # noqa: F401  # isort: skip  before torch, as the doors do: how its threads wait

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import bench_scaling
import torch
from gpu_update import report

from metarl.device import torch_device
from metarl.experiments.presets import preset
from metarl.threads import cores

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"update": 60.0, "iterations": 105.0, "tests": 75.0, "scaling": 115.0}
"""Longest time of each section in seconds; together less than six minutes."""
PRESETS = (
    "halfcheetah-vel-maml2017",
    "ml10-maml-trpo",
    "halfcheetah-vel-maml2017-rl2",
    "halfcheetah-vel-promp",
    "halfcheetah-vel-maml2017-reptile-ppo",
)
START_S = 8.0
"""Time that a process may need until it measures."""


def update(args: argparse.Namespace) -> Iterator[Any]:
    seconds = 1.0 if args.small else args.limit_s - START_S
    yield from report(torch_device(args.device), args.small, seconds)


def iterations(args: argparse.Namespace) -> Iterator[Any]:
    """Takes iterations of each preset until its share of the time is used up."""
    device = torch_device(args.device).type
    print(
        f"{'iteration of':<38}{'env steps/s':>12}{'sampling (s)':>14}{'update (s)':>12}"
        f"{'measured':>10}{'whole run (min)':>17}"
    )
    names = ("tasks", "episodes", "horizon")
    sizes = dict(zip(names, (10, 2, 5) if args.small else (None, None, None), strict=True))
    sized = argparse.Namespace(**{**sizes, "device": device})
    started, share = time.perf_counter(), (args.limit_s - 2 * START_S) / len(args.presets)
    for number, name in enumerate(args.presets, 1):
        point = bench_scaling.Point(name, cores().count, sized, 0)
        try:
            point.ready()
            point.turn()  # warms up
            turns = [point.turn()]
            while not args.small and time.perf_counter() - started < number * share:
                turns.append(point.turn())
        finally:
            point.close()
        sampling, updating = (median(x[key] for x in turns) for key in ("sampling_s", "update_s"))
        count = preset(name).iterations
        print(
            f"{name:<38}{median(x['env_steps'] for x in turns) / sampling:>12,.0f}"
            f"{sampling:>14.3f}{updating:>12.3f}{len(turns):>10}"
            f"{count * (sampling + updating) / 60:>11.1f} ({count})",
            flush=True,
        )
        yield {"preset": name, "iterations": count, "turns": turns}


def tests(args: argparse.Namespace) -> Iterator[Any]:
    """Runs the tests marked `cuda`, in the files that have some; the others load slowly."""
    del args
    marked = [
        str(x) for x in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.cuda" in x.read_text()
    ]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider"]
    command += ["--numprocesses", str(min(4, cores().count)), *marked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout.splitlines() or done.stderr.splitlines()
    for line in (x for x in said if x.startswith(("FAILED", "ERROR", "E  "))):
        print(line)
    print(f"tests marked cuda: {said[-1]}")
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n")
        raise SystemExit(done.returncode)
    yield {"tests marked cuda": said[-1]}


def scaling(args: argparse.Namespace) -> Iterator[Any]:
    """Compares two workers, or one if there are only two cores, with all cores."""
    most, share = cores().count, str((args.limit_s - START_S) / 2 - START_S)
    argv = ["--workers", *map(str, sorted({2 if most > 2 else 1, most})), "--limit-s", share]
    argv += ["--only", *bench_scaling.CASES[:2]]
    if args.small:
        argv += "--only cartpole --tasks 4 --episodes 2 --horizon 5 --repeats 1".split()
    if args.out is not None:
        argv += ["--out", str(args.out)]
    bench_scaling.run(bench_scaling.parse(argv))
    yield from ()  # it has written its own files


SECTIONS = {"update": update, "iterations": iterations, "tests": tests, "scaling": scaling}


def section(name: str, args: argparse.Namespace) -> bool:
    """Runs a section in a process group of its own; returns whether it ended well and in time."""
    limit = args.limit_s or LIMITS[name]
    print(f"\n== {name}, at most {limit:.0f} s", flush=True)
    command = [sys.executable, str(Path(__file__)), "--section", name, f"--limit-s={limit}"]
    command += ["--device", args.device, "--presets", *args.presets]
    command += ["--small"] if args.small else []
    command += ["--out", str(args.out)] if args.out is not None else []
    started = time.perf_counter()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit)
        ended = "" if code == 0 else f" with exit code {code}"
    except subprocess.TimeoutExpired:
        ended = " by its time limit"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    print(f"== {name} ended{ended} after {time.perf_counter() - started:.0f} s", flush=True)
    return not ended


def main() -> None:
    args = parse()
    if args.section is not None:
        rows = []
        for row in SECTIONS[args.section](args):  # written at once: a limit may end the section
            rows.append(row)
            if args.out is not None:
                args.out.mkdir(parents=True, exist_ok=True)
                text = json.dumps(rows, indent=1)
                (args.out / f"{args.section}.json").write_text(text + "\n", encoding="utf-8")
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{name}, {cores().count} cores, torch {torch.__version__}")
    ended_well = [section(name, args) for name in args.only]
    if not all(ended_well):
        raise SystemExit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=tuple(SECTIONS), help="sections to run"
    )
    parser.add_argument("--out", type=Path, help="folder for JSON files")
    parser.add_argument("--small", action="store_true", help="sizes too small to measure anything")
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    parser.add_argument(
        "--limit-s", type=float, default=0.0, help="of each section, in place of its own limit"
    )
    parser.add_argument("--presets", nargs="+", default=PRESETS, help="for the iterations")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
