"""Whole rounds in the workers: any number of them gives the same bytes, also when some die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from family import workers_alive
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.acting.units import Units
from metarl.agents import catalogue as agents
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import PolicyConfig
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import DivergedError, EnvFaultError, UnstableError, UserError
from metarl.sampling import draws as round_draws
from metarl.sampling import round_processes
from metarl.sampling.draws import RoundDraws
from metarl.sampling.losses import WorkerWarning
from metarl.sampling.play import POLICY, first_of
from metarl.sampling.processes import balanced
from metarl.sampling.rounds import adaptation_rounds
from metarl.sampling.rows import DIVERGED, RowError
from metarl.sampling.sampler import Sampler, acts_in_numpy
from metarl.sampling.shards import Shards
from metarl.types import EnvSpec, Trajectories, Workers

CPU = torch.device("cpu")
K, E = 3, 6


def agent_of(spec: EnvSpec, name: str, seed: int = 0, **changes: Any) -> Any:
    config = replace(agents.default(name), **changes)
    return agents.build(spec, config, np.random.default_rng(seed), CPU)


def played(
    distribution: Any, agent: Any, workers: Workers, act_on: Any = "workers", tasks: int = K
) -> list[Trajectories]:
    """Two meta-batches of other tasks, each with the agent's rounds and two more."""
    with closing(Sampler(distribution, tasks, E, workers, act_on)) as sampler:
        return played_in(sampler, distribution, agent, tasks)


def played_in(
    sampler: Sampler, distribution: Any, agent: Any, tasks: int = K
) -> list[Trajectories]:
    found = []
    for index in range(2):
        chosen = distribution.sample(tasks, np.random.default_rng(index))
        key, spec = (3, index), distribution.spec
        found += adaptation_rounds(agent, sampler, spec, chosen, E, 2, key, CPU)[1]
    return found


def content(rounds: list[Trajectories]) -> bytes:
    """Every number in some rounds."""
    tensors = [x for one in rounds for x in (*one[:8], *one.behaviour)]
    return b"".join(x.contiguous().numpy().tobytes() for x in tensors)


def test_units_are_whole_shares_of_a_task():
    assert Units.all(40, 20).size == 2
    assert Units.all(20, 10).size == 1
    assert Units.all(3, 7).size == 1
    for tasks, episodes in ((40, 20), (20, 10), (1, 1), (7, 12), (100, 3)):
        units = Units.all(tasks, episodes)
        assert len(units) * units.size == tasks * episodes
        for count in (1, 2, 3, 5):
            shares = units.divided(count)
            assert [x.stop for x in shares[:-1]] == [x.start for x in shares[1:]]
            assert sum(map(len, shares)) == len(units)


def test_groups_hold_their_units_and_no_other_task():
    for tasks, episodes, size in ((40, 20, 20), (20, 10, 10), (3, 40, 20), (2, 37, 37), (2, 97, 1)):
        units = Units.all(tasks, episodes)
        assert units.groups().size == size
        for part in units.divided(5):
            groups = part.groups()
            assert groups.rows.start <= part.rows.start <= part.rows.stop <= groups.rows.stop
            assert groups.tasks == part.tasks
            assert groups.start == part.rows.start // size


@pytest.mark.parametrize("start", range(7))
@pytest.mark.parametrize("length", [1, 2, 3, 4, 8, 13])
def test_blocks_cover_the_units_task_by_task(start, length):
    """Each unit is in one block, at the place of its task."""
    units = Units(8, 6, 2, start, start + length)  # three units a task
    places = []
    for block in units.blocks():
        assert (block.tasks.stop - block.tasks.start) * block.of_task == len(
            range(block.units.start, block.units.stop)
        )
        for unit in range(block.units.start, block.units.stop):
            task = block.tasks.start + (unit - block.units.start) // block.of_task
            places.append((unit, task))
    assert places == list(enumerate(units.task_of_each()))
    assert all(a.units.stop == b.units.start for a, b in pairwise(units.blocks()))


FAMILIES = {
    "half-cheetah-vel:maml2017": ("maml-trpo", 5),
    "half-cheetah-vel:varibad": ("reptile-ppo", 5),
    "ant-dir": ("meta-sgd-trpo", 5),
    "point-goal": ("cavia-trpo", 30),
    "bandit:5": ("rl2", 10),
    "tabular-mdp": ("maml-ppo", 10),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_number_of_workers_changes_no_byte(name):
    agent_name, horizon = FAMILIES[name]
    distribution = envs.make(name, horizon)
    agent = agent_of(distribution.spec, agent_name)
    expected = content(played(distribution, agent, Workers(0)))
    for count in (1, 2, 3, 4):
        assert content(played(distribution, agent, Workers(count))) == expected, count


@pytest.mark.parametrize("cell", ["gru", "lstm", "transformer"])
def test_a_memory_goes_on_whatever_process_plays(strange_envs, cell):
    spec = strange_envs.walk.spec
    usual = agents.default("rl2")
    agent = agent_of(spec, "rl2", inner=replace(usual.inner, cell=cell, size=16))
    expected = played(strange_envs.walk, agent, Workers(0))
    assert expected[1].mask.sum() < expected[1].mask.numel(), "some episodes end early"
    for count in (1, 2, 4):
        assert content(played(strange_envs.walk, agent, Workers(count))) == content(expected)


def test_an_oracle_and_a_wide_network_are_the_same_for_any_number(strange_envs):
    """Products of several sizes, at which a library may choose another kernel."""
    told = TaskConditioned(strange_envs.walk)
    for hidden in ((), (3,), (64, 64), (257, 33)):
        policy = PolicyConfig(hidden=hidden, activation="tanh", std="state")
        agent = agent_of(told.spec, "maml-trpo", policy=policy)
        expected = content(played(told, agent, Workers(0), tasks=5))
        for count in (1, 3):
            assert content(played(told, agent, Workers(count), tasks=5)) == expected, hidden


@pytest.mark.slow
def test_meta_world_is_the_same_for_any_number():
    distribution = envs.make("ml10", 8)
    agent = agent_of(distribution.spec, "maml-trpo")
    expected = content(played(distribution, agent, Workers(0), tasks=10))
    for count in (2, 3, 4):
        assert content(played(distribution, agent, Workers(count), tasks=10)) == expected, count


SPACES = [
    (Box(-1, 1, (2,)), {}),
    (Box(np.array([1.0, -5.0], "f4"), np.array([2.0, 5.0], "f4")), {"scale_to_box": True}),
    (Box(-1, 1, (2,)), {"std": "state", "min_std": 0.5}),
    (Box(-1, 1, (2,)), {"std": "state", "init_std": 0.8, "max_std": 0.9}),
    (Discrete(4), {}),
    (MultiDiscrete([3, 2, 5]), {}),
]


LAYERED: dict[str, Any] = {"cell": "gru", "embeddings": (4, 3, 2), "head": (5, 4)}
"""Settings of RL2 with embeddings of its inputs and layers after the memory."""
CELLS: dict[str, dict[str, Any]] = {
    "none": {},
    "gru": {"cell": "gru"},
    "lstm": {"cell": "lstm"},
    "layered": LAYERED,
    "transformer": {"cell": "transformer", "size": 8, "heads": 2, "window": 27, "steps": 2},
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("space", "settings"), SPACES)
def test_the_policy_in_numpy_is_the_one_in_torch(space, settings, cell):
    """Actions and distributions of several steps, for shared and for adapted parameters."""
    spec = EnvSpec("any", Box(-np.inf, np.inf, (3,)), space, 9)
    policy = PolicyConfig(hidden=(8, 5), activation="tanh", **settings)
    inner = CELLS[cell]
    name = "rl2" if inner else "cavia-trpo"
    changes: dict[str, Any] = {"policy": replace(policy, context=0 if inner else 2)}
    if inner:
        changes["inner"] = replace(agents.default("rl2").inner, **{"size": 6, **inner})
    usual = agents.default(name).normalisation
    changes["normalisation"] = replace(usual, observations=True, rewards=True, clip=1.5)
    agent = agent_of(spec, name, **changes)
    rng = np.random.default_rng(1)
    state = agent.load_state_dict(disturbed(agent.state_dict(), rng)) or agent.begin()
    if not inner:  # each task its own parameters
        own = {n: torch.stack([x + 0.1 * k for k in range(K)]) for n, x in state.params.items()}
        state = state._replace(params=own)
    units = Units.all(K, E).groups()
    ready = agent.acting(state).of(units).ready(units)
    actor = agent.actor(state, slice(0, E))
    kind, width = agent.noise
    rewards = None
    for step in range(4):
        obs = rng.standard_normal((K, E, 3)).astype("f4")
        drawn = (
            rng.gumbel(size=(K, E, width)) if kind == "gumbel" else rng.normal(size=(K, E, width))
        )
        noise = drawn.astype("f4")
        wanted, distribution = actor(torch.from_numpy(obs), rewards, torch.from_numpy(noise))
        grid = (len(units), units.size)
        earlier = np.zeros(grid, "f4") if rewards is None else rewards.numpy().reshape(grid)
        found, outputs = ready(obs.reshape(*grid, 3), earlier, noise.reshape(*grid, -1))
        torch.testing.assert_close(
            torch.from_numpy(found).view(wanted.shape), wanted, rtol=1e-4, atol=1e-5
        )
        whole = torch.from_numpy(outputs.copy()).view(K, 1, E, -1)
        for ours, theirs in zip(agent.behaviour(state, whole), distribution, strict=True):
            same = theirs.expand(K, E, theirs.shape[-1])
            torch.testing.assert_close(ours.expand(K, 1, E, -1)[:, 0], same, rtol=1e-4, atol=1e-5)
        rewards = torch.from_numpy(rng.standard_normal((K, E)).astype("f4") + step)


def disturbed(
    weights: dict[str, torch.Tensor], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Weights with no zeros, and statistics as after many samples."""
    moved = {
        name: x + torch.as_tensor(0.3 * rng.standard_normal(tuple(x.shape))).to(x)
        for name, x in weights.items()
    }
    counts = {name: torch.full_like(x, 50.0) for name, x in weights.items() if "count" in name}
    squares = {name: 20.0 + x.abs() for name, x in moved.items() if name.endswith(".m2")}
    return {**moved, **squares, **counts}


@pytest.mark.parametrize("agent_name", ["maml-trpo", "rl2"])
def test_rounds_in_the_workers_are_those_step_by_step(strange_envs, agent_name):
    """The other route: the policy in torch, each step awaited. Only rounding differs."""
    agent = agent_of(strange_envs.walk.spec, agent_name)
    here = played(strange_envs.walk, agent, Workers(2), "device")
    there = played(strange_envs.walk, agent, Workers(2))
    first = len(here) // 2
    for ours, theirs in ((there[0], here[0]), (there[first], here[first])):
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.equal(ours.terminated, theirs.terminated)
        assert torch.equal(ours.truncated, theirs.truncated)
        for name in ("obs", "actions", "rewards"):
            kept = ours.mask if name == "rewards" else ours.mask[..., None]
            pair = (torch.where(kept, getattr(x, name), 0.0) for x in (ours, theirs))
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.final_obs, theirs.final_obs, rtol=1e-4, atol=1e-4)


def test_nothing_is_left_of_longer_episodes_before():
    """Rounds share their memory; behind the end of an episode all numbers are zero."""
    distribution = envs.make("point-goal", 40)
    agent = agent_of(distribution.spec, "maml-trpo")
    for one in played(distribution, agent, Workers(2)):
        for values in (one.obs, one.actions, one.rewards[..., None]):
            assert not values[~one.mask].any()


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_worker_is_replaced_and_its_round_played_again(strange_envs, tmp_path, how):
    agent = agent_of(strange_envs.walk.spec, "maml-trpo")
    expected = content(played(strange_envs.walk, agent, Workers(0)))
    reason = "was killed by SIGKILL" if how == "dies" else "hung for more than 4 s"
    with pytest.warns(WorkerWarning, match=f"{reason}.*task .*episode .*step [34];"):
        found = played(strange_envs.once(tmp_path, how), agent, Workers(2, timeout_s=4.0))
    assert (tmp_path / "was here").exists()
    assert content(found) == expected
    assert not workers_alive()


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_workers_killed_at_random_moments_change_nothing(times):
    distribution = envs.make("half-cheetah-vel:maml2017", 100)
    agent = agent_of(distribution.spec, "maml-trpo")
    expected = content(played(distribution, agent, Workers(0)))
    killed, over = [], threading.Event()
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))

    def kill() -> None:
        while len(killed) < times and not over.wait(rng.uniform(0.02, 0.4)):
            alive = [child for child in workers_alive() if child.pid not in killed]
            if len(alive) == 2:
                victim = alive[rng.integers(2)]
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)

    killer = threading.Thread(target=kill, daemon=True)
    workers = Workers(2, max_failures=10**6)
    with (
        warnings.catch_warnings(record=True) as caught,
        closing(Sampler(distribution, K, E, workers)) as sampler,
    ):
        warnings.simplefilter("always")
        killer.start()
        deadline = time.monotonic() + 120.0
        while len(killed) < times and time.monotonic() < deadline:
            assert content(played_in(sampler, distribution, agent)) == expected
    over.set()
    killer.join()
    assert len(killed) == times
    assert any("SIGKILL" in str(one.message) for one in caught)
    assert not workers_alive()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_earliest_fault_is_told_whoever_meets_it(strange_envs, count):
    """Task, episode and step are the same for any number of workers."""
    distribution = strange_envs.faulty("nan reward", at=3)
    agent = agent_of(distribution.spec, "maml-trpo")
    with pytest.raises(EnvFaultError) as caught:
        played(distribution, agent, Workers(count))
    place = caught.value.episode, caught.value.step
    with pytest.raises(EnvFaultError) as expected:
        played(distribution, agent, Workers(1), "device")
    assert place[1] == expected.value.step == 3
    assert caught.value.task in [dict(x) for x in distribution.sample(K, np.random.default_rng(0))]
    assert "reward is nan" in str(caught.value)


class Wild:
    """Acts far beyond what a simulation stands, from the third step on in one episode."""

    def __init__(self, agent: Any, value: float):
        self._agent, self._value = agent, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def acting(self, state: Any) -> Any:
        acting = self._agent.acting(state)
        last = acting.layers[-1]
        return acting._replace(
            layers=(*acting.layers[:-1], last._replace(bias=last.bias + self._value))
        )


@pytest.mark.parametrize("count", [0, 2])
def test_a_policy_that_is_not_finite_is_told(count):
    distribution = envs.make("point-goal", 10)
    agent = Wild(agent_of(distribution.spec, "maml-trpo"), float("nan"))
    with pytest.raises(UnstableError, match=r"after 0 adaptation steps .*outer step size"):
        played(distribution, agent, Workers(count))


@pytest.mark.parametrize("count", [0, 2])
def test_a_divergence_names_task_episode_and_step(count, monkeypatch):
    """A simulation diverges in one task: wherever it is played, its place is the same."""
    distribution = Diverging(envs.make("half-cheetah-vel:maml2017", 10))
    agent = agent_of(distribution.spec, "maml-trpo")
    with pytest.raises(DivergedError) as caught:
        played(distribution, agent, Workers(count))
    assert caught.value.task == distribution.sample(K, np.random.default_rng(0))[1]
    assert (caught.value.episode, caught.value.step) == (4, 2)


class Diverging:
    """HalfCheetah whose episode 4 of the second task becomes unstable at step 2."""

    def __init__(self, inner: Any):
        self.inner, self.spec = inner, inner.spec

    def sample(self, num: int, rng: Any, split: str = "train", draw: str = "random") -> Any:
        return [{"velocity": 0.1 + 0.5 * i} for i in range(num)]

    def open(self, num_tasks: int, episodes: int, workers: Workers) -> Any:
        return DivergingEnv(self.inner.open(num_tasks, episodes, workers))

    def describe(self, task: Any) -> str:
        return str(task)


class DivergingEnv:
    def __init__(self, env: Any):
        self.env, self.seeds = env, np.zeros(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        from metarl import keys

        place = 3, keys.Purpose.RESET, 0, 0, 1, 4
        self.where = np.argwhere(seeds == keys.seed(*place))
        self.t = 0
        return self.env.reset(seeds)

    def step(self, actions: np.ndarray) -> Any:
        self.t += 1
        if self.t == 2 and len(self.where):
            task, episode = self.where[0]
            self.env.batch.qpos[task * self.env.shape[1] + episode] = 1e12
        return self.env.step(actions)


def test_workers_import_no_torch(tmp_path):
    """They need neither its seconds nor its memory; their imports are written to a file."""
    source = tmp_path / "spy.py"
    source.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import gymnasium\n"
        "import numpy as np\n"
        "from metarl import Uniform, gym_tasks\n"
        "class Spy(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (1,))\n"
        "    action_space = gymnasium.spaces.Box(-1, 1, (1,))\n"
        "    def __init__(self, place=0.0): self.t = 0\n"
        "    def reset(self, *, seed=None, options=None): return np.zeros(1, 'f4'), {}\n"
        "    def step(self, action):\n"
        f"        Path({str(tmp_path / 'seen')!r}).write_text(str('torch' in sys.modules))\n"
        "        return np.zeros(1, 'f4'), 0.0, False, False, {}\n"
        "tasks = gym_tasks(Spy, {'place': Uniform(0, 1)}, horizon=3, sparse=True)\n"
    )
    place = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [
            sys.executable, "-m", "metarl.train", "halfcheetah-vel-quick",
            "--agent", "rl2", "--env", "spy:tasks",
            "--iterations", "1", "--workers", "1", "--sampling.tasks", "2",
            "--sampling.episodes", "2", "--run-dir", str(tmp_path / "run"),
        ],
        check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": place}, capture_output=True,
        timeout=120,
    )  # fmt: skip
    assert (tmp_path / "seen").read_text() == "False"


class Locked:
    """A distribution that holds a lock, which no other process can have."""

    def __init__(self, inner: Any):
        self.spec, self.sample, self.open = inner.spec, inner.sample, inner.open
        self.lock = threading.Lock()


def test_tasks_that_cannot_travel_are_played_here():
    """A BatchedEnv may hold what no other process can have; results are the same."""
    inner = envs.make("point-goal", 5)
    agent = agent_of(inner.spec, "maml-trpo")
    expected, distribution = content(played(inner, agent, Workers(2))), Locked(inner)
    with pytest.warns(UserWarning, match="cannot be sent to worker processes.*plays alone"):
        assert content(played(distribution, agent, Workers(2))) == expected
    inner.travels = False  # pyright: ignore[reportAttributeAccessIssue]
    with closing(Sampler(inner, K, E, Workers(2))) as sampler:
        assert not workers_alive()
        assert content(played_in(sampler, inner, agent)) == expected


def test_a_gymnasium_environment_that_cannot_travel_names_the_way_out(strange_envs):
    lock = threading.Lock()
    distribution = strange_envs.gym_tasks(
        strange_envs.Walk, strange_envs.SLOPE, horizon=5, apply=lambda env, task: lock
    )
    with pytest.raises(UserError, match=r"cannot be sent to worker processes.*\n.*--workers 0"):
        Sampler(distribution, K, E, Workers(2))


def test_slow_workers_get_fewer_units():
    """By hand: the first half took three times as long, so two thirds of it are half the work."""
    busy = np.array([3.0, 1.0])
    assert balanced([0, 10, 20], busy) == [0, 7, 20]
    assert balanced([0, 10, 20], busy, 0.3) == [0, 9, 20]
    assert balanced([0, 10, 20], np.array([1.0, 1.02])) == [0, 10, 20]
    assert balanced([0, 10, 20], np.array([1.0, 0.0])) == [0, 10, 20]
    assert balanced([0, 1, 2, 3], np.array([9.0, 1.0, 1.0])) == [0, 1, 2, 3]


def test_a_new_division_of_the_episodes_changes_no_byte(monkeypatch):
    """As where one worker was much slower than the other."""
    distribution = envs.make("half-cheetah-vel:maml2017", 5)
    agent = agent_of(distribution.spec, "maml-trpo")
    expected = content(played(distribution, agent, Workers(0)))
    monkeypatch.setattr(round_processes, "balanced", lambda edges, busy, gain: [0, 5, edges[-1]])
    with closing(Sampler(distribution, K, E, Workers(2))) as sampler:
        assert content(played_in(sampler, distribution, agent)) == expected
        shards: Any = sampler.shards
        assert [len(units) for units in shards._player._units] == [5, K * E - 5]


class Late:
    """A policy whose numbers are not finite from the eighth step on."""

    def __init__(self, acting: Any):
        self.acting, self.output_dim = acting, acting.output_dim

    def of(self, units: Units) -> Late:
        return Late(self.acting.of(units))

    def ready(self, units: Units) -> Any:
        inner, steps = self.acting.ready(units), iter(range(99))

        def act(*seen: Any) -> Any:
            actions, outputs = inner(*seen)
            return actions, outputs if next(steps) < 7 else np.full_like(outputs, np.nan)

        return act


def test_nothing_is_left_of_a_round_that_failed():
    """Its numbers, some of them not finite, lie behind the end of the next, shorter round."""
    distribution = envs.make("point-goal", 12)
    agent = agent_of(distribution.spec, "maml-trpo")
    fine, behaviour = agent.acting(agent.begin()), partial(agent.behaviour, agent.begin())

    def played_for(shards: Shards, steps: int, acting: Any = fine) -> Trajectories:
        draws = RoundDraws((K, E), "normal", agent.noise[1], (1,), steps)
        return shards.play(acting, behaviour, draws, CPU)

    with closing(Shards(distribution, K, E, Workers(0))) as shards:
        shards.set_tasks(distribution.sample(K, np.random.default_rng(0)))
        expected = played_for(shards, 3)
        with pytest.raises(FloatingPointError):
            played_for(shards, 12, Late(fine))
        assert content([played_for(shards, 3)]) == content([expected])
        record = shards._player.record.of_width(fine.output_dim)
        for values in (record.obs, record.actions, record.outputs, record.rewards):
            assert not values[3:].any()


def test_a_worker_lost_before_its_first_tasks_is_replaced():
    distribution = envs.make("half-cheetah-vel:maml2017", 5)
    agent = agent_of(distribution.spec, "maml-trpo")
    expected = content(played(distribution, agent, Workers(0)))
    with closing(Sampler(distribution, K, E, Workers(2))) as sampler:
        os.kill(workers_alive()[0].pid, signal.SIGKILL)
        with pytest.warns(WorkerWarning, match="SIGKILL"):
            found = played_in(sampler, distribution, agent)
    assert content(found) == expected


def test_a_round_before_its_tasks_is_refused():
    distribution = envs.make("point-goal", 5)
    agent = agent_of(distribution.spec, "maml-trpo")
    with closing(Sampler(distribution, K, E, Workers(1))) as sampler:
        draws = RoundDraws((K, E), "normal", agent.noise[1], (1,), 5)
        with pytest.raises(ValueError, match="a round before `set_tasks`"):
            sampler.play(agent, agent.begin(), 0, draws, CPU)


def test_a_class_that_acts_otherwise_than_the_one_it_inherits_from_acts_itself():
    class Own(PolicyGradientAgent):
        def act(self, state: Any, obs: Any, noise: Any) -> Any:
            actions, distribution = super().act(state, obs, noise)
            return torch.full_like(actions, 0.25), distribution

    distribution = envs.make("point-goal", 5)
    rng = np.random.default_rng(0)
    agent = Own(distribution.spec, agents.default("maml-trpo"), rng, CPU)
    assert not acts_in_numpy(agent)
    assert acts_in_numpy(agent_of(distribution.spec, "maml-trpo"))
    for one in played(distribution, agent, Workers(1)):
        assert (one.actions == 0.25)[one.mask].all()


def test_noise_is_the_same_in_blocks_of_any_size(monkeypatch):
    draws = RoundDraws((2, 3), "normal", 2, (5,), 40)
    places = [(0, 1), (1, 2)]
    whole = draws.noise(places)
    expected = np.stack([whole.at(t).copy() for t in range(40)])
    monkeypatch.setattr(round_draws, "NUMBERS", 4 * 7)
    parts = draws.noise(places)
    np.testing.assert_array_equal(np.stack([parts.at(t).copy() for t in range(40)]), expected)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="a file system holds it elsewhere")
def test_rounds_are_not_written_to_a_file_system():
    """A container may have 64 MB of /dev/shm, and who fills it is killed without a word."""
    distribution = envs.make("point-goal", 5)
    with closing(Shards(distribution, K, E, Workers(2))) as shards:
        player: Any = shards._player
        descriptor = player._shared._arena.fd
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:metarl")


def test_of_several_faults_the_one_is_told_that_one_process_would_meet_first():
    """In a step first the policy acts for all rows, then all are stepped, then all are checked."""
    policy, diverged = RowError(POLICY, "", "", 50, 9), RowError(DIVERGED, "", "", 60, 9)
    value, later = RowError("observation", "", "", 3, 9), RowError(DIVERGED, "", "", 1, 10)
    assert first_of([later, value, diverged, policy]) is policy
    assert first_of([later, value, diverged]) is diverged
    assert first_of([later, value]) is value


def test_one_call_for_many_rows_may_take_as_long_as_they_all(strange_envs):
    """An oracle's environments are stepped by one call in a worker; metarl's own are fast."""
    for distribution, patience_s in (
        (TaskConditioned(strange_envs.walk), 2.0 * K * E / 2),
        (envs.make("point-goal", 5), 2.0),
    ):
        with closing(Shards(distribution, K, E, Workers(2, timeout_s=2.0))) as shards:
            player: Any = shards._player
            assert player._settings.timeout_s == patience_s
