"""Measures rounds on actors of Ray beside rounds on worker processes, two of each, by turns.

    python scripts/bench_ray.py [PRESET] [--rounds N]

Prints a round's time, the part of it that is not the slowest player's own, and the proportional set
size of an actor (a page that several processes share counts in parts).
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.settings import Config
from metarl.device import use_threads
from metarl.envs import catalogue as envs
from metarl.experiments.presets import preset
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Sampler
from metarl.types import Cluster, Workers

PLAYERS = {"workers": Workers(2), "actors": Workers(cluster=Cluster("", 2))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", nargs="?", default="halfcheetah-vel-maml2017")
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    use_threads("auto")
    config = preset(asked.preset)
    if not isinstance(config, Config):
        parser.error("only presets that learn from episodes are played")
    tasks = envs.configured(config.env)
    rng = keys.generator(1, keys.Purpose.INIT)
    agent: Any = agents.build(tasks.spec, config.agent, rng, torch.device("cpu"), None)
    kind, width = agent.noise
    shape = config.sampling.tasks, config.sampling.episodes
    samplers = {name: Sampler(tasks, *shape, workers) for name, workers in PLAYERS.items()}
    drawn = tasks.sample(shape[0], np.random.default_rng(0))
    whole: dict[str, list[float]] = {name: [] for name in samplers}
    serial: dict[str, list[float]] = {name: [] for name in samplers}
    for sampler in samplers.values():
        sampler.set_tasks(drawn)
    for index in range(asked.rounds + 1):
        draws = RoundDraws(shape, kind, width, (1, 0, 0, index), tasks.spec.horizon)
        for name, sampler in samplers.items():
            sampler.play(agent, agent.begin(), 0, draws, torch.device("cpu"))
            shards = sampler.shards
            if index and shards is not None:  # the first round starts what is slow to start
                whole[name].append(shards.round_s)
                serial[name].append(shards.round_s - max(shards.busy_s))
    for name in samplers:
        print(
            f"{name}: a round {median(whole[name]):.3f} s, "
            f"of them beside the slowest player {1000 * median(serial[name]):.0f} ms"
        )
    ratios = [a / b for a, b in zip(whole["actors"], whole["workers"], strict=True)]
    print(f"actors / workers, by pairs: {median(ratios):.3f}")
    sizes = [
        one.memory_full_info().pss / 1e6
        for one in psutil.process_iter()
        if one.cmdline()[:1] and one.cmdline()[0].startswith("ray::RayActor")
    ]
    print(f"an actor's proportional set size: {max(sizes):.0f} MB")
    for sampler in samplers.values():
        sampler.close()


if __name__ == "__main__":
    main()
