"""One point of bench_scaling.py: a process of its own, limited to as many cores as workers.

It takes an iteration for each line that it reads, and prints its times as a line of JSON. It can
also be run by hand:

    yes | head -3 | python scripts/scaling_point.py halfcheetah-vel-maml2017 --workers 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace


def main() -> None:
    args = parse()
    limit_cores(args.workers)
    serve(args)


def limit_cores(count: int) -> None:
    """Keeps this process and its children on `count` of its cores, where the system can do so."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def serve(args: argparse.Namespace) -> None:
    # After the limit: torch and BLAS count the cores when they are loaded. Workers import this
    # file and need none of it.
    from training_parts import Iterations, config_of, sized, tasks_of

    answers, sys.stdout = sys.stdout, sys.stderr
    config = sized(config_of(args.case), args)
    config = replace(config, workers=args.workers, threads=args.workers, device=args.device)
    with ExitStack() as stack:
        iterate = Iterations(config, tasks_of(args.case, config, args.burden), stack)
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(asdict(iterate())), file=answers, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", help="a preset, cartpole or 50us")
    parser.add_argument("--workers", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--tasks", type=int, help="K")
    parser.add_argument("--episodes", type=int, help="E")
    parser.add_argument("--horizon", type=int, help="steps of an episode")
    parser.add_argument("--device", default="cpu", help="of the updates (default: %(default)s)")
    parser.add_argument(
        "--burden", type=int, default=0, help="rounds of arithmetic in a step of 50us"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
