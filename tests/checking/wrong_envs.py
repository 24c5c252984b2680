"""Task distributions with one thing wrong each. Worker processes import them by name."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Text
from gymnasium.wrappers import TransformReward

from metarl import Choice, EnvSpec, StepResult, Task, Uniform, Workers, gym_tasks

HORIZON = 12
GYMNASIUMS_SEEDS = (None, 123, 456)
"""Seeds that gymnasium's checker resets with; faults that wait for others are left to ours."""


class Walk(gymnasium.Env):
    """A noisy walk on a line, pushed by one action in [-1, 1] and by the slope."""

    action_space = Box(-1.0, 1.0, (1,), np.float32)
    observation_space = Box(-50.0, 50.0, (2,), np.float32)
    fault = ""

    def __init__(self, slope: float = 1.0, seen: float = 0.0):
        self.slope, self.seen = slope, seen
        self.drag = 1.0
        if self.fault == "constructor":
            raise RuntimeError("no licence")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        self.seed_chance(seed)
        self.strange = seed not in GYMNASIUMS_SEEDS
        self.steps = 0
        self.state = self.chance.normal(size=2).astype(np.float32)
        return self.state.copy(), {}

    def seed_chance(self, seed: int | None) -> None:
        super().reset(seed=seed)
        self.chance = self.np_random

    def step(self, action: Any) -> tuple:
        self.steps += 1
        noise = self.chance.normal(scale=0.1, size=2)
        push = np.array([action[0], self.drag * self.slope])
        self.state = (self.state + 0.3 * push + noise).astype(np.float32)
        return self.outcome()

    def outcome(self) -> tuple:
        reward = float(self.slope * (self.state[0] + 9.0))
        found = [self.state.copy(), reward, False, False, {}]
        if self.strange and self.steps == 3:
            match self.fault:
                case "observation":
                    found[0][1] = np.nan
                case "shape":
                    found[0] = found[0][:1]
                case "reward":
                    found[1] = np.array([found[1]])
                case "infinite":
                    found[1] = -np.inf
                case "4-tuple":
                    del found[3]
                case "step":
                    raise ZeroDivisionError("division by zero")
        return tuple(found)


def walk_with(fault: str) -> type[Walk]:
    return type("Faulty", (Walk,), {"fault": fault})


class OwnChance(Walk):
    """Good in everything but gymnasium's rule on seeds."""

    def seed_chance(self, seed: int | None) -> None:
        self.chance = np.random.default_rng(seed)


class Warned(Walk):
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)


class ResetRaises(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        if seed not in GYMNASIUMS_SEEDS:
            raise KeyError("map")
        return super().reset(seed=seed)


class Chancy(Walk):
    """Draws from nowhere."""

    def outcome(self) -> tuple:
        obs, reward, *rest = super().outcome()
        return obs, reward + self.strange * np.random.default_rng().random(), *rest


class OfItsProcess(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        _, info = super().reset(seed=seed)
        self.state[1] += self.strange * os.getpid() * 1e-3
        return self.state.copy(), info


class Dies(Walk):
    """In a worker's process."""

    def step(self, action: Any) -> tuple:
        if multiprocessing.parent_process() is not None:
            os._exit(7)
        return super().step(action)


class DiesOnce(Walk):
    """In a worker's process, the first time."""

    def __init__(self, marks: str, slope: float = 1.0):
        super().__init__(slope)
        self.mark = Path(marks) / "was here"

    def step(self, action: Any) -> tuple:
        if multiprocessing.parent_process() is not None and not self.mark.exists():
            self.mark.touch()
            os._exit(7)
        return super().step(action)


class Remembering(Walk):
    """Starts a little nearer to where the episode before ended."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        last = getattr(self, "state", np.zeros(2, np.float32))
        obs, info = super().reset(seed=seed)
        if self.strange:
            self.state = obs + 0.1 * last
        return self.state.copy(), info


class Leaking(Walk):
    """Shows the slope in what it observes."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        obs, info = super().reset(seed=seed)
        obs[1] = 3.0 * self.slope + 0.1 * obs[1]
        return obs, info


class Limited(Walk):
    def outcome(self) -> tuple:
        obs, reward, _, _, info = super().outcome()
        return obs, reward, False, self.strange and self.steps == 5, info


class Ends(Walk):
    def outcome(self) -> tuple:
        obs, reward, *_, info = super().outcome()
        return obs, reward, self.steps == 5, False, info


class Brief(Walk):
    def outcome(self) -> tuple:
        obs, reward, *_, info = super().outcome()
        return obs, reward, True, False, info


class Texts(Walk):
    observation_space = Text(5)


class Doubled(gymnasium.ObservationWrapper):
    """Says nothing of a space that it leaves."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.observation_space = Box(-0.1, 0.1, (2,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return 2.0 * observation


def doubled(slope: float = 1.0) -> gymnasium.Env:
    return Doubled(Walk(slope))


def wrapped(slope: float = 1.0) -> gymnasium.Env:
    return TransformReward(Walk(slope), float)


class Own:
    """A user's own class of tasks."""

    horizon = HORIZON

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        low, high = (0.5, 1.5) if split == "train" else (1.5, 2.0)
        return [{"slope": value} for value in rng.uniform(low, high, num_tasks).tolist()]

    def make(self, task: Task) -> gymnasium.Env:
        return Walk(task["slope"])


class Multiplies(Own):
    def make(self, task: Task) -> gymnasium.Env:
        return Walk()

    def apply(self, env: Any, task: Task) -> None:
        env.slope = task["slope"]
        env.drag *= task["slope"]


class SetsOnce(Own):
    """The task that an environment is put into first stays; without one it cannot be reset."""

    def make(self, task: Task) -> gymnasium.Env:
        env = Walk()
        del env.slope
        return env

    def apply(self, env: Any, task: Task) -> None:
        env.slope = getattr(env, "slope", task["slope"])


class OneSplit(Own):
    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        return super().sample(num_tasks, rng, "train")


class Overlapping(Own):
    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        first = 0 if split == "train" else 400
        return [
            {"slope": 1 + i / 500} for i in rng.integers(first, first + 500, num_tasks).tolist()
        ]


class OwnGenerator(Own):
    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        return super().sample(num_tasks, np.random.default_rng(), split)


class SampleRaises(Own):
    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        raise FileNotFoundError("maps.csv")


class OneTask(Own):
    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[Task]:
        return [{"slope": 1.0 if split == "train" else 2.0}] * num_tasks


class Arrays:
    """K x E points at once: a BatchedEnv and its distribution, with a fault or none."""

    def __init__(self, fault: str = ""):
        self.fault = fault
        actions = Discrete(2, start=1) if fault == "space" else Box(-1.0, 1.0, (2,))
        self.spec = EnvSpec("arrays", Box(-9.0, 9.0, (2,)), actions, HORIZON)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> Sequence[Task]:
        low = 0.0 if split == "train" else 1.0
        goals = low + rng.random((num_tasks, 2))
        match self.fault:
            case "object":
                return [{"goal": goal, "map": print} for goal in goals.tolist()]
            case "few":
                goals = goals[:7]
            case "sample":
                raise FileNotFoundError("maps.csv")
        return [{"goal": goal} for goal in goals.tolist()]

    def describe(self, task: Task) -> str:
        return f"goal {task['goal'][0]:.2f}"

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> Points:
        return Points(self.fault, num_tasks, episodes_per_task)


class Points:
    def __init__(self, fault: str, num_tasks: int, episodes: int):
        self.fault, self.shape = fault, (num_tasks, episodes)
        self.state = np.zeros((*self.shape, 2), np.float32)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self.goals = np.array([task["goal"] for task in tasks], np.float32)[:, None]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.steps = 0
        self.state[:] = 0.0
        if self.fault == "reset":
            return self.state.astype(np.float64)
        return self.state if self.fault == "overwrites" else self.state.copy()

    def step(self, actions: np.ndarray) -> StepResult:
        self.steps += 1
        self.state += 0.1 * np.clip(actions, -1.0, 1.0)
        obs = self.state.copy()
        rewards = -np.abs(self.state - self.goals).sum(-1)
        never = np.zeros(self.shape, bool)
        terminated, truncated = never, np.full(self.shape, self.steps >= HORIZON)
        match self.fault:
            case "overwrites":
                obs = self.state
            case "float64":
                obs = obs.astype(np.float64)
            case "column":
                rewards = rewards[..., None]
            case "list":
                terminated = never.tolist()
            case "both":
                terminated = truncated
            case "again":  # beyond the end of an episode, which is nobody's business
                terminated = never.copy()
                terminated[:, 0] = self.steps >= 5
            case "endless":
                truncated = never
            case "nan" if self.steps == 4:
                rewards[0, 0] = np.nan
            case "nan at the end" if self.steps == HORIZON:
                obs[-1, -1] = np.nan
            case "raises":
                raise OverflowError("too far")
        return StepResult(obs, rewards, terminated, truncated, never.copy())  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        if self.fault == "close":
            raise OSError("closed twice")


class Narrowing(Own):
    """Has another action space in the steeper half of the tasks."""

    def make(self, task: Task) -> gymnasium.Env:
        env = Walk(task["slope"])
        if task["slope"] > 1.0:
            env.action_space = Box(-0.5, 0.5, (1,), np.float32)
        return env


SLOPE = {"slope": Uniform(0.5, 2.0)}


def of(env: Any, **options: Any) -> Any:
    return gym_tasks(env, SLOPE, **{"horizon": HORIZON, **options})


walk = of(Walk)
constructor = of(walk_with("constructor"))
chancy = of(Chancy)
chancy_said = of(Chancy, deterministic=False)
unused = gym_tasks(Walk, {"seen": Uniform(0.0, 1.0)}, horizon=HORIZON)
faint = gym_tasks(Walk, {"slope": Uniform(1.0, 1.0001)}, horizon=HORIZON)
words = gym_tasks(Walk, {"slope": Choice([0.5, 1.0, 1.5, 2.0])}, horizon=HORIZON)


class Breaking(Walk):
    fault = "step"


breaking = of(Breaking)
