"""Mean returns on Bernoulli bandits of known policies: the Gittins index, Thompson sampling.

What RL2 is measured by: probabilities U(0, 1), k arms, n pulls.
"""

from __future__ import annotations

import argparse

import numpy as np

from metarl.envs.bandit_optima import gittins, informed, play, thompson


def main() -> None:
    args = parse()
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
    parser.add_argument("--arms", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--pulls", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--bandits", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
