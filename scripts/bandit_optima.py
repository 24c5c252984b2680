"""Prints mean returns of the Gittins index and of Thompson sampling on Bernoulli bandits.

Each arm pays 1 with a probability drawn from U(0, 1). Without arguments the bandits are drawn
anew. With folders of evaluated runs, the policies play the held-out bandits of each run, and the
table has the run's own return beside theirs:

    python scripts/bandit_optima.py --arms 5 --pulls 10 --bandits 1000
    python scripts/bandit_optima.py runs/bandit-5x10-rl2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote

import numpy as np

from metarl.envs.arrays.bandit_optima import gittins, informed, play, thompson
from metarl.runs.adaptation import read_json

REPEATS = 50
"""Times that an index policy plays each of a run's bandits."""


def beside(run: Path) -> None:
    """What a run and the index policies got on its bandits, before any adaptation step."""
    evaluation = run / "evaluation" / "adaptation.json"
    if not evaluation.exists():
        raise SystemExit(f"{run} has no evaluation: metarl evaluate {quote(str(run))}")
    found = read_json(evaluation)
    if "probabilities" not in found.tasks[0]:
        raise SystemExit(f"{run} is of {found.env}, which is no bandit")
    probabilities = np.array([task["probabilities"] for task in found.tasks])
    assert found.horizon is not None
    every = np.repeat(probabilities, REPEATS, axis=0)
    own = found.outcome.values[:, 0].mean(-1)
    error = own.std(ddof=1) / len(own) ** 0.5
    print(f"{run.name}: {own.mean():.3f} ({error:.3f}) on {len(own)} bandits")
    for name, policy in (("Gittins index", gittins(found.horizon)), ("Thompson", thompson)):
        other = play(policy, every, found.horizon, np.random.default_rng(1)).mean
        print(f"  {name:<14}{other:8.3f}  the run got {100 * own.mean() / other:.1f}% of it")


def main() -> None:
    args = parse()
    if args.runs:
        for run in args.runs:
            beside(run)
        return
    print(f"{args.bandits} bandits, seed {args.seed}; mean return and its standard error")
    print(f"{'k':>4}{'n':>6}{'Gittins index':>20}{'Thompson':>20}{'best arm known':>20}")
    for horizon in args.pulls:
        index = gittins(horizon)
        for arms in args.arms:
            probabilities = np.random.default_rng(args.seed).random((args.bandits, arms))
            cells = []
            for policy in (index, thompson, informed(probabilities)):
                rng = np.random.default_rng([args.seed, 1])
                found = play(policy, probabilities, horizon, rng)
                cells.append(f"{found.mean:.3f} ({found.stderr:.3f})")
            print(f"{arms:>4}{horizon:>6}" + "".join(f"{cell:>20}" for cell in cells))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="folders of evaluated runs")
    parser.add_argument("--arms", type=int, nargs="+", default=[5, 10], help="(default: 5 10)")
    parser.add_argument("--pulls", type=int, nargs="+", default=[10, 100], help="(default: 10 100)")
    parser.add_argument(
        "--bandits", type=int, default=100_000, help="drawn bandits (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
