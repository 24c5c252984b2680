"""Meta-World's two engines side by side: steps from the same states, and whole episodes.

Prints the rows of a Markdown table. Without --episodes: the largest absolute differences of one
step, for which both engines start from the same state, under actions in double precision (in
single precision the reference computes parts of its rewards in it too). With it: how many goals
of ml1:CLASS metaworld's scripted policy solves in either engine.

    python tests/own/metaworld_parity.py --states 1000
    python tests/own/metaworld_parity.py --episodes 50 push-v3 reach-v3
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import mujoco
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from metarl.config.settings import MetaWorldConfig
from metarl.envs.metaworld.classes import CLASSES
from metarl.envs.metaworld.distribution import MetaWorld, benchmark
from metarl.envs.metaworld.goals import goals_of
from metarl.envs.metaworld.rules.catalogue import RULES
from metarl.envs.metaworld.simulations import ClassModel, Simulations
from metarl.envs.metaworld.snapshots import WHOLE, reference, set_goal, snapshot
from metarl.errors import nearest
from metarl.types import Task, Workers

Engine = Literal["batched", "reference"]
TERMS = ("near_object", "grasp_reward", "in_place_reward", "obj_to_target")
ARM = 9
"""Coordinates of arm and fingers; the objects' follow."""
BELOW = np.array([0.0, 0.0, 0.03])
"""Offset below the hand, m, of a point that counts as near it."""
AT_ONCE = 10
"""Goals played side by side: an environment of the reference takes 25 MB."""


def goals(name: str, number: int, seed: int = 0) -> np.ndarray:
    """Random vectors of `number` tasks, as the benchmark's own constructor draws them."""
    env, before = reference(name), np.random.get_state()  # noqa: NPY002
    env._freeze_rand_vec = False
    np.random.seed(seed)  # noqa: NPY002
    found = []
    for _ in range(number):
        env.reset()
        found.append(np.array(env._last_rand_vec))
    np.random.set_state(before)  # noqa: NPY002
    env.close()
    return np.stack(found)


def worst_differences(
    name: str, states: int = 200, tasks: int = 4, displaced: int = 3
) -> dict[str, float]:
    """Steps both engines from `states` states that the scripted policy and noise visit.

    A third of the episodes follow the policy alone, a third noise alone, the rest both by turns.
    From each of them follow `displaced` more, with arm and objects where no policy brings them.
    Returns the largest absolute differences of obs, reward and the info's terms, and how often
    `success` differed; `successes` is how many of the states had it.
    """
    both, policy = Both(name), ENV_POLICY_MAP[name]()
    env, rng = both.env, np.random.default_rng(0)
    for number, goal in enumerate(goals(name, tasks)):
        obs, solved_for, due = both.begin(goal), 0, -(-states // tasks)
        while due:
            if env.curr_path_length == env.max_path_length or solved_for > 5:
                obs, solved_for = both.reset(), 0
            scripted = number % 3 == 0 or (number % 3 == 1 and rng.random() < 0.7)
            action = rng.uniform(-1, 1, 4)
            if scripted:
                wanted = policy.get_action(np.concatenate([obs[:-3], env._get_pos_goal()]))
                action = 0.95 * np.clip(wanted, -1, 1) + 0.05 * action
            # Of float32, as a policy's, but given as float64.
            action = np.asarray(np.float32(action), np.float64)
            if env.curr_path_length % _every(number):
                obs, _, _, _, info = env.step(action)
            else:
                # Not at first: bin-picking's reference takes a constant from the first step.
                for _ in range(displaced if env.curr_path_length else 0):
                    both.compare_displaced(action, rng)
                obs, info = both.compare(action)
                due -= 1
            solved_for = solved_for + 1 if info["success"] else 0
    env.close()
    return both.worst


def _every(number: int) -> int:
    """How often a state is compared, so that whole episodes are covered."""
    return (5, 3, 7)[number % 3]


class Both:
    """The reference, and one batched simulation that is put where the reference is."""

    def __init__(self, name: str):
        self.env, self._source = reference(name), reference(name)
        model = ClassModel(name, self.env.model_name, RULES[name])
        self._simulation = Simulations(model, 1)
        self._free = model.model.jnt_type[ARM] == mujoco.mjtJoint.mjJNT_FREE
        self.worst: dict[str, float] = dict.fromkeys(("obs", "reward", *TERMS), 0.0)
        self.worst |= {"success": 0, "successes": 0, "states": 0, "first_obs": 0.0}

    def begin(self, goal: np.ndarray) -> np.ndarray:
        """The first observation of a task; the snapshot is another environment's."""
        set_goal(self.env, goal)
        set_goal(self._source, goal)
        self._simulation.set_tasks([snapshot(self._source)])
        return self.reset()

    def reset(self) -> np.ndarray:
        obs, _ = self.env.reset()
        self._widen("first_obs", obs, self._simulation.reset()[0])
        return obs

    def compare(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """A step of both from where the reference is: its observation and info."""
        mujoco.mj_getState(self.env.model, self.env.data, self._simulation._states[0], WHOLE)
        self._simulation._before[0] = self.env._prev_obs
        found, terms = self._simulation.step(action[None])
        obs, reward, _, _, info = self.env.step(action)
        self._widen("obs", obs, found[0])
        self._widen("reward", reward, terms.reward[0])
        for term in TERMS:
            self._widen(term, info[term], getattr(terms, term)[0])
        self.worst["success"] += bool(info["success"]) != bool(terms.success[0])
        self.worst["successes"] += bool(info["success"])
        self.worst["states"] += 1
        return obs, info

    def compare_displaced(self, action: np.ndarray, rng: np.random.Generator) -> None:
        """A step of both from a state like the reference's, but displaced; it then goes back."""
        env, state = self.env, np.empty(len(self._simulation._states[0]))
        mujoco.mj_getState(env.model, env.data, state, WHOLE)
        steps, before = env.curr_path_length, env._prev_obs
        qpos = env.data.qpos
        qpos[:ARM] += rng.normal(size=ARM) * rng.choice([0.0, 0.02, 0.1])
        mujoco.mj_forward(env.model, env.data)
        if self._free and rng.random() < 0.5:
            places = (env.tcp_center, env.get_endeff_pos() - BELOW, env._get_pos_goal())
            qpos[ARM : ARM + 3] = places[rng.integers(len(places))]
        qpos[ARM:] += rng.normal(size=env.model.nq - ARM) * rng.choice([0.002, 0.01, 0.05])
        mujoco.mj_forward(env.model, env.data)
        self.compare(action)
        mujoco.mj_setState(env.model, env.data, state, WHOLE)
        mujoco.mj_forward(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, state, WHOLE)
        env.curr_path_length, env._prev_obs = steps, before

    def _widen(self, key: str, expected: Any, found: Any) -> None:
        difference = np.abs(np.asarray(expected) - found).max()
        self.worst[key] = float(np.maximum(self.worst[key], difference))  # nan stays nan


class Played(NamedTuple):
    """Episodes of the scripted policy, one a goal."""

    solved_at: np.ndarray  # [G] first step solved, from 1; 0 where none was
    returns: np.ndarray  # [G] until then


def episodes(name: str, number: int, engine: Engine, horizon: int = 500) -> Played:
    """The scripted policy on the first `number` goals that ml1:`name` trains on."""
    distribution = benchmark(f"ml1:{name}", name, horizon, MetaWorldConfig(engine))
    tasks = distribution.held_out(number, "train")
    parts = [tasks[start : start + AT_ONCE] for start in range(0, number, AT_ONCE)]
    played = [_played(distribution, part) for part in parts]
    return Played(*(np.concatenate(field) for field in zip(*played, strict=True)))


def _played(distribution: MetaWorld, tasks: Sequence[Task]) -> Played:
    env = distribution.open(len(tasks), 1, Workers(0))
    env.set_tasks(tasks)
    obs = env.reset(np.zeros((len(tasks), 1), np.uint64))[:, 0]
    policy, shown = ENV_POLICY_MAP[tasks[0]["class"]](), _shown_goals(distribution, tasks)
    solved_at, returns = np.zeros(len(tasks), int), np.zeros(len(tasks))
    for step in range(1, distribution.spec.horizon + 1):
        seen = np.concatenate([obs[:, :-3], shown], axis=1)
        actions = np.stack([policy.get_action(row) for row in seen])
        found = env.step(actions[:, None].astype(np.float32))
        obs, going = found.obs[:, 0], solved_at == 0
        returns += going * found.rewards[:, 0]
        solved_at[going & found.success[:, 0]] = step
        if solved_at.all():
            break
    env.close()
    return Played(solved_at, returns)


def _shown_goals(distribution: MetaWorld, tasks: Sequence[Task]) -> np.ndarray:
    """Returns the goals that scripted policies read at the end of an observation, [G, 3]."""
    name, found = tasks[0]["class"], []
    env, rand_vecs = reference(name), goals_of(distribution.splits.train)[name].rand_vecs
    for task in tasks:
        set_goal(env, rand_vecs[task["goal"]])
        env.reset()
        found.append(np.array(env._get_pos_goal()))
    env.close()
    return np.stack(found)


def table_of_steps(classes: Sequence[str], states: int) -> Iterator[str]:
    """Lines of the table of single steps, and the worst of all of them."""
    yield "| class | obs | reward | its terms | first obs | success differs | solved | states |"
    yield "|---|---|---|---|---|---|---|---|"
    rows = []
    for name in classes:
        worst = worst_differences(name, states)
        differences = [worst["obs"], worst["reward"], max(worst[term] for term in TERMS)]
        rows.append((*differences, worst["first_obs"]))
        counts = [int(worst[key]) for key in ("success", "successes", "states")]
        yield _row(name, *(f"{value:.1e}" for value in rows[-1]), *counts)
    yield _row("worst", *(f"{value:.1e}" for value in np.max(rows, axis=0)), "", "", "")


def table_of_episodes(classes: Sequence[str], number: int) -> Iterator[str]:
    """Lines of the table of whole episodes."""
    yield "| class | goals | solved, reference | solved, batched | other step or return |"
    yield "|---|---|---|---|---|"
    for name in classes:
        ours, theirs = (episodes(name, number, engine) for engine in ("batched", "reference"))
        rates = [f"{np.mean(played.solved_at > 0):.0%}" for played in (theirs, ours)]
        differ = ours.solved_at != theirs.solved_at
        differ |= ~np.isclose(ours.returns, theirs.returns, rtol=1e-5)
        yield _row(name, number, *rates, int(differ.sum()))


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("classes", nargs="*", default=CLASSES, metavar="CLASS", help="all without")
    parser.add_argument("--states", type=int, default=200, help="of single steps, for each class")
    parser.add_argument("--episodes", type=int, default=0, help="goals of each class, at most 50")
    args = parser.parse_args()
    for name in args.classes:
        if name not in CLASSES:
            parser.error(f"{name!r} is no Meta-World task{nearest(name, CLASSES)}")
    warnings.filterwarnings("ignore", "Constant")  # the scripted policies' own
    tables = (
        table_of_episodes(args.classes, args.episodes)
        if args.episodes
        else table_of_steps(args.classes, args.states)
    )
    for line in tables:
        print(line, flush=True)


if __name__ == "__main__":
    main()
