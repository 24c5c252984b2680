"""Prints known optima and bounds of the task distributions that are arrays.

Without arguments the table has all of them. With folders of evaluated runs it has each run's own
mean returns beside those that a known policy gets on the run's held-out tasks:

    python scripts/array_optima.py
    python scripts/array_optima.py --tasks 200 --seed 3
    python scripts/array_optima.py runs/grid-navigation-rl2

Bandits have a script of their own, bandit_optima.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from metarl.envs import catalogue
from metarl.envs.arrays import memory_optima, point_optima, tabular_optima
from metarl.envs.arrays.grid_optima import bayes_optimum
from metarl.envs.arrays.key_to_door import KeyToDoor
from metarl.envs.arrays.scripted import play
from metarl.runs.adaptation import read_json
from metarl.types import Task

Figures = dict[str, list[float]]
"""Mean return of each episode of a trial, by the name of a policy."""
PRIOR = {"grid-navigation", "t-maze:passive", "t-maze:active", "key-to-door"}
"""Tasks whose figures are expectations over all tasks and chance, not of the given tasks."""
EPISODES = {"grid-navigation": 4, "sparse-point": 2, "tabular-mdp": 10}
"""Episodes of a trial in the table; one elsewhere."""


def optima(name: str, horizon: int, tasks: Sequence[Task], episodes: int, seed: int) -> Figures:
    """Returns the figures of a distribution's known policies."""
    match name:
        case "grid-navigation":
            optimum = bayes_optimum(episodes, horizon)
            return {"Bayes-optimal": optimum.returns.tolist()}
        case "wind":
            told = point_optima.told_wind(np.array([task["wind"] for task in tasks]), horizon)
            return {"Bayes-optimal": [float(told.mean())] * episodes}
        case "t-maze:passive" | "t-maze:active":
            best = memory_optima.t_maze_best
            return {"with memory": [best()], "without": [best(memory=False)]}
        case "key-to-door":
            length = KeyToDoor(name, "", horizon).length
            best = memory_optima.key_to_door_best
            return {"with memory": [best(length)], "without": [best(length, memory=False)]}
        case "point-goal":
            goals = np.array([task["goal"] for task in tasks])
            return {"told the goal": [float(point_optima.told_goal(goals, horizon).mean())]}
        case "sparse-point" | "sparse-point:dense":
            return _half_circle(name, horizon, tasks, episodes)
        case "tabular-mdp":
            return _mdps(horizon, tasks, episodes, seed)
    raise SystemExit(f"no optimum of {name} is known here")


def _half_circle(name: str, horizon: int, tasks: Sequence[Task], episodes: int) -> Figures:
    angles = np.array([task["angle"] for task in tasks])
    dense = name.endswith("dense")
    told = [float(point_optima.told_angle(angles, horizon, dense).mean())]
    if dense:
        return {"told the goal": told}
    swept = play(catalogue.make(name, horizon), point_optima.Sweeper(), tasks, 1, episodes)
    return {"told the goal": told, "sweep": swept.mean((1, 2)).tolist()}


def _mdps(horizon: int, tasks: Sequence[Task], episodes: int, seed: int) -> Figures:
    rng = np.random.default_rng(seed)
    return {
        "told the MDP": [float(tabular_optima.told(tasks, horizon).mean())],
        "posterior greedy": tabular_optima.learned(tasks, horizon, episodes, "greedy", rng)
        .mean(1)
        .tolist(),
        "PSRL": tabular_optima.learned(tasks, horizon, episodes, "psrl", rng).mean(1).tolist(),
    }


def beside(run: Path, seed: int) -> None:
    """Prints a run's mean returns by episode, and those of known policies on its tasks."""
    evaluation = run / "evaluation" / "adaptation.json"
    if not evaluation.exists():
        raise SystemExit(f"{run} has no evaluation: metarl evaluate {quote(str(run))}")
    found = read_json(evaluation)
    assert found.horizon is not None
    own = found.outcome.values.mean(axis=-1)  # [tasks, steps]
    error = own.sum(axis=1).std(ddof=1) / len(own) ** 0.5
    figures = optima(found.env, found.horizon, found.tasks, own.shape[1], seed)
    print(f"{run.name}, {found.env}: {len(own)} tasks")
    print(_line(found.agent, own.mean(axis=0).tolist()) + f" ({error:.2f})")
    for name, each in figures.items():
        print(_line(name, each))


def _line(name: str, each: Sequence[float]) -> str:
    shown = " ".join(f"{value:8.3f}" for value in each)
    return f"  {name:<18}{shown}" + (f"   sum {sum(each):8.3f}" if len(each) > 1 else "")


def main() -> None:
    args = parse()
    for run in args.runs:
        beside(run, args.seed)
    for name in [] if args.runs else [n for n in catalogue.names() if _is_array(n)]:
        horizon = catalogue.default_horizon(name)
        rng = np.random.default_rng(args.seed)
        tasks = catalogue.make(name, horizon).sample(args.tasks, rng, "test", "stratified")
        of = "all tasks" if name in PRIOR else f"{args.tasks} held-out tasks"
        print(f"{name}, {horizon} steps: {of}")
        for policy, each in optima(name, horizon, tasks, EPISODES.get(name, 1), args.seed).items():
            print(_line(policy, each))


def _is_array(name: str) -> bool:
    entry = catalogue.FAMILIES[name.partition(":")[0]]
    return entry.module.startswith("metarl.envs.arrays.") and not name.startswith("bandit")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="folders of evaluated runs")
    parser.add_argument(
        "--tasks", type=int, default=2000, help="held-out tasks (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
