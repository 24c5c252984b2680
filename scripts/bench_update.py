"""Compares the speed of an agent's update of all tasks at once with that of a loop over tasks.

An update is all that an agent learns in a meta-iteration: it adapts to each support, and then
takes its outer step. The loops are in `update_loops.py`. The two measurements alternate within one
run, so quote the ratios and not the seconds. The cosine is between the two changes of the
meta-parameters. It is 1, except with TRPO's approximations: a part of the query, and half
precision.

    python scripts/bench_update.py                        MAML-TRPO, each approximation on and off
    python scripts/bench_update.py --agents               every agent that has a loop
    python scripts/bench_update.py --agents promp rl2

Some agents have no loop. `random` does not learn from tasks. `sb3-ppo` already trains on one task
after the other. `-vpg` agents take one step on PPO's loss without clipping.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from update_loops import Learner, WholeTasks, looped

from metarl.agents import catalogue as agents
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.outer.vpg import VpgConfig
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.agents.reptile import ReptilePpo
from metarl.agents.rl2 import Rl2
from metarl.config.settings import AgentConfig
from metarl.device import torch_device
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.equations.trust_region import ravel
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Params, Trajectories, Workers

NAMES = [
    name
    for name in agents.names("episodes")
    if agents.default(name).outer.learns and not isinstance(agents.default(name).outer, VpgConfig)
]

SHORTCUTS = {
    f"  {share}, {dtype}": TrpoConfig(query_fraction=fraction, product_dtype=dtype)
    for share, fraction in (("all data", 1.0), ("a tenth of the query", 0.1))
    for dtype in ("float32", "bfloat16")
}
"""Settings of TRPO's products; the first takes no shortcut."""

PATIENCE_S = 300.0
"""After which a slow agent has no further turn."""


def build(spec: EnvSpec, config: AgentConfig, device: torch.device) -> Learner:
    agent = agents.build(spec, config, np.random.default_rng(0), device)
    assert isinstance(agent, PolicyGradientAgent | ReptilePpo | Rl2)
    return agent


def data(name: str, args: argparse.Namespace) -> tuple[Learner, list[Trajectories]]:
    """An agent one update old, and what its next update learns from."""
    config, device = agents.default(name), torch_device(args.device)
    if hasattr(config.outer, "target_kl"):  # the loops take every epoch
        config = replace(config, outer=replace(config.outer, target_kl=0.0))
    policy = replace(config.policy, hidden=(64, 64), activation=args.activation)
    distribution = envs.make("half-cheetah-vel:promp", args.steps)
    if agents.observes_task(config):
        distribution = TaskConditioned(distribution)
    agent = build(distribution.spec, replace(config, policy=policy), device)
    env = distribution.open(args.tasks, args.episodes, Workers(2))
    tasks = distribution.sample(args.tasks, np.random.default_rng(0))

    def rounds(index: int):
        return adaptation_rounds(
            agent, env, agent.spec, tasks, args.episodes, agent.steps, (0, index), device
        )

    state, played = rounds(0)
    agent.meta_update(state, played[-1], np.random.default_rng(0))
    _, played = rounds(1)
    env.close()
    return agent, played


def batched(agent: Learner, rounds: Sequence[Trajectories]) -> Params:
    """The meta-parameters after an update of `agent`, which is put back to where it was."""
    before = agent.state_dict()
    state: Any = agent.begin()
    for support in rounds[:-1]:
        state = agent.adapt(state, support)
    agent.meta_update(state, rounds[-1], WholeTasks(rounds[-1].obs.shape[2]))
    after = agent.meta
    agent.load_state_dict(before)
    return after


def with_outer(agent: Learner, outer: TrpoConfig) -> Learner:
    """The same agent under other settings of its outer rule."""
    other = build(agent.spec, replace(agent.config, outer=outer), agent.device)
    other.load_state_dict(agent.state_dict())
    return other


def by_turns(
    updates: dict[str, Callable[[], Params]], repeats: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each, and the meta-parameters that each comes to."""
    times: dict[str, list[float]] = {name: [] for name in updates}
    found: dict[str, Tensor] = {}
    while len(times[next(iter(times))]) < repeats and sum(map(sum, times.values())) < PATIENCE_S:
        for name, update in updates.items():
            start = time.perf_counter()
            found[name] = ravel(update())
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: median(x) for name, x in times.items()}, found


def compare(name: str, outers: dict[str, TrpoConfig], args: argparse.Namespace) -> None:
    """Prints a row for the agent, and one for each of other settings of its outer rule."""
    agent, rounds = data(name, args)
    contenders = {name: agent, **{n: with_outer(agent, outer) for n, outer in outers.items()}}
    updates = {label: partial(batched, each, rounds) for label, each in contenders.items()}
    loop = partial(looped, agent, rounds)
    seconds, after = by_turns({"loop": loop, **updates}, args.repeats)
    start = ravel(agent.meta)
    for label in contenders:
        cosine = torch.cosine_similarity(after[label] - start, after["loop"] - start, dim=0)
        print(
            f"{label:<36}{seconds[label]:8.2f} s{seconds['loop']:8.2f} s"
            f"{seconds['loop'] / seconds[label]:7.1f}x{float(cosine):10.5f}",
            flush=True,
        )


def main() -> None:
    args = parse()
    print(
        f"{args.tasks} tasks x {args.episodes} episodes x {args.steps} steps, MLP 64-64 "
        f"{args.activation}, {torch.get_num_threads()} torch threads on {args.device}, "
        f"median of at most {args.repeats} turns\n"
        f"{'':<36}{'all tasks':>10}{'loop':>10}{'ratio':>8}{'cosine':>10}"
    )
    if args.agents is None:
        compare("maml-trpo", SHORTCUTS, args)
        return
    for name in args.agents or NAMES:
        trpo = isinstance(agents.default(name).outer, TrpoConfig)
        compare(name, dict(list(SHORTCUTS.items())[:1]) if trpo else {}, args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--agents",
        nargs="*",
        choices=NAMES,
        metavar="AGENT",
        help="these agents, or all that have a loop",
    )
    parser.add_argument("--tasks", type=int, default=40, help="K (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="E (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=100, help="of an episode (default: %(default)s)"
    )
    parser.add_argument("--activation", choices=("relu", "tanh"), default="relu")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
