"""Compares where a policy acts: in the workers, or on the device with a message at each step.

It plays rounds of half-cheetahs with MLP policies of growing width, before and after adaptation,
by turns. `--act-on auto` takes the device from the width on at which a GPU is faster here.

    python scripts/bench_acting.py
    python scripts/bench_acting.py --hidden 64 512 --device cpu
"""

from __future__ import annotations

import metarl  # noqa: F401  # isort: skip  before torch, as the doors do: how its threads wait

import argparse
import time
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import Any, get_args

import numpy as np

from metarl.agents import catalogue as agents
from metarl.config.settings import PolicyConfig
from metarl.device import torch_device, use_threads
from metarl.envs import catalogue as envs
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Place, Sampler, weights
from metarl.threads import cores
from metarl.types import Workers

PLACES = get_args(Place)


def main() -> None:
    args = parse()
    device, count = torch_device(args.device), use_threads("auto").count
    distribution = envs.make(args.env, args.steps)
    shape, workers = (args.tasks, args.episodes), Workers(args.workers)
    print(f"{args.env}, {shape[0]} x {shape[1]} x {args.steps}, {args.workers} workers, {count} "
          f"torch threads, policy in numpy on the workers or on {device}")  # fmt: skip
    print("hidden           weights   workers    device   (1,000 env steps/s)    device/workers")
    samplers = {place: Sampler(distribution, *shape, workers, place) for place in PLACES}
    with closing(samplers["workers"]), closing(samplers["device"]):
        tasks = distribution.sample(args.tasks, np.random.default_rng(0))
        for sampler in samplers.values():
            sampler.set_tasks(tasks)
        for width in args.hidden:
            policy = PolicyConfig(hidden=(width, width))
            config = replace(agents.default("maml-trpo"), policy=policy)
            agent = agents.build(distribution.spec, config, np.random.default_rng(0), device)
            rates = measured(samplers, agent, args)
            ratio = median(
                there / here for here, there in zip(*(rates[x] for x in PLACES), strict=True)
            )
            here, there = (1e-3 * median(rates[place]) for place in PLACES)
            number = weights(config, distribution.spec)
            print(f"{width:>5} x {width:<5} {number:>11,} {here:>9.1f} {there:>9.1f} "
                  f"{ratio:>35.2f}", flush=True)  # fmt: skip


def measured(
    samplers: dict[str, Sampler], agent: Any, args: argparse.Namespace
) -> dict[str, list[float]]:
    """Returns environment steps per second of each place by turns, after one turn to warm up."""
    kind, width = agent.noise
    draws = RoundDraws((args.tasks, args.episodes), kind, width, (1,), args.steps)
    first = samplers["workers"].play(agent, agent.begin(), 0, draws, agent.device)
    state = agent.adapt(agent.begin(), first)
    found: dict[str, list[float]] = {place: [] for place in samplers}
    for turn in range(-1, args.repeats):
        for place, sampler in samplers.items():
            started = time.perf_counter()
            played = sampler.play(agent, state, 1, draws, agent.device)
            steps = int(played.mask.sum())
            if turn >= 0:
                found[place].append(steps / (time.perf_counter() - started))
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", default="half-cheetah-vel:maml2017", help="(default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=40, help="K (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="E (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=cores().count)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[64, 256, 512, 1024, 2048],
        help="units of each of two layers",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
