"""Environments as users write them, right and wrong. Worker processes import them by name."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from metarl import Uniform, gym_tasks

HORIZON = 12


class Walk(gymnasium.Env):
    """A noisy walk on a line that one action in [-1, 1] pushes; it ends beyond 3."""

    action_space = Box(-1.0, 1.0, (1,), np.float32)
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, slope: float = 1.0):
        self.slope = slope

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2).astype(np.float32)
        self.steps = 0
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple:
        self.steps += 1
        noise = self.np_random.normal(scale=0.1, size=2)
        self.state = (self.state + 0.3 * np.array([action[0], self.slope]) + noise).astype("f4")
        over = bool(np.abs(self.state).max() > 3.0)
        return self.state.copy(), float(self.slope * self.state[0]), over, False, {}


class Faulty(Walk):
    """A walk that goes wrong at one step of those episodes that start to the right."""

    def __init__(self, fault: str, at: int = 3, width: int = 1, slope: float = 1.0):
        super().__init__(slope)
        self.fault, self.at = fault, at
        self.action_space = Box(-1.0, 1.0, (width,), np.float32)
        if fault == "constructor":
            raise RuntimeError("no licence")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        if self.fault == "reset raises":
            raise KeyError("map")
        obs, info = super().reset(seed=seed)
        self.strange = bool(obs[0] > 0)
        if self.fault == "reset returns obs":
            return obs  # pyright: ignore[reportReturnType]
        return obs, info

    def step(self, action: Any) -> tuple:
        obs, reward, terminated, truncated, info = super().step(action)
        if not (self.strange and self.steps == self.at):
            return obs, reward, terminated, truncated, info
        match self.fault:
            case "nan observation":
                obs[1] = np.nan
            case "infinite observation":
                obs[0] = np.inf
            case "nan reward":
                reward = float("nan")
            case "infinite reward":
                reward = -np.inf
            case "observation shape":
                obs = obs[:1]
            case "observation dtype":
                obs = np.array(["a", "b"])
            case "observation list":
                obs = obs.tolist()
            case "reward shape":
                reward = np.array([reward])
            case "reward none":
                reward = None
            case "terminated int":
                terminated = 0
            case "4-tuple":
                return obs, reward, terminated, info
            case "step raises":
                raise ZeroDivisionError("division by zero")
            case "exits":
                os._exit(7)
            case "hangs":
                time.sleep(1000.0)
        return obs, reward, terminated, truncated, info


class Once(Walk):
    """A walk whose process dies or hangs at its fourth step, the first time that it comes there."""

    def __init__(self, marks: str, how: str, slope: float = 1.0):
        super().__init__(slope)
        self.mark, self.how = Path(marks) / "was here", how

    def step(self, action: Any) -> tuple:
        if self.steps == 3:
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                if self.how == "hangs":
                    time.sleep(1000.0)
                os.kill(os.getpid(), 9)
        return super().step(action)


class Slow(Walk):
    """Takes its time."""

    def __init__(self, seconds: float, slope: float = 1.0):
        super().__init__(slope)
        self.seconds = seconds

    def step(self, action: Any) -> tuple:
        time.sleep(self.seconds)
        return super().step(action)


class Unrepeatable(Walk):
    """Starts elsewhere in every process."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        obs, info = super().reset(seed=seed)
        self.state = obs + np.float32(1e-4 * (os.getpid() % 1000))
        return self.state.copy(), info


class Unclosable(Walk):
    def close(self) -> None:
        raise OSError("stuck")


class Reusing(Walk):
    """Returns the same array each time, written anew."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        obs, info = super().reset(seed=seed)
        self.buffer = getattr(self, "buffer", np.zeros(2, np.float32))
        self.buffer[:] = obs
        return self.buffer, info

    def step(self, action: Any) -> tuple:
        obs, *rest = super().step(action)
        self.buffer[:] = obs
        return (self.buffer, *rest)


class Remembering(Walk):
    """Starts where the episode before ended."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        last = getattr(self, "state", np.zeros(2, np.float32))
        obs, info = super().reset(seed=seed)
        self.state = obs + last
        return self.state.copy(), info


class Paid(Walk):
    """A walk of full length with rewards from which nothing can be learned."""

    def __init__(self, pays: str, slope: float = 1.0):
        super().__init__(slope)
        self.pays = pays

    def step(self, action: Any) -> tuple:
        obs, reward, _, truncated, info = super().step(action)
        match self.pays:
            case "nothing":
                reward = 0.0
            case "huge once":
                reward = 1e38 if self.steps == 3 else reward
            case "huge often":
                reward = 1e38 if self.steps > 2 else reward
            case "huge":
                reward *= 1e30
        return obs, reward, False, truncated, info


gymnasium.register("Walk-v0", entry_point="strange_envs:Walk")

SLOPE = {"slope": Uniform(0.5, 2.0)}

walk = gym_tasks(Walk, SLOPE, horizon=HORIZON)
endless = gym_tasks(Walk, SLOPE, horizon=1_000_000)
reusing = gym_tasks(Reusing, SLOPE, horizon=HORIZON)
remembering = gym_tasks(Remembering, SLOPE, horizon=HORIZON)


unrepeatable = gym_tasks(Unrepeatable, SLOPE, horizon=HORIZON)
unclosable = gym_tasks(Unclosable, SLOPE, horizon=HORIZON)


def faulty(fault: str, at: int = 3, width: int = 1):
    kwargs = {"fault": fault, "at": at, "width": width}
    return gym_tasks(Faulty, SLOPE, horizon=max(HORIZON, at), kwargs=kwargs)


def slow(seconds: float):
    return gym_tasks(Slow, SLOPE, horizon=HORIZON, kwargs={"seconds": seconds})


def once(marks: Path, how: str):
    return gym_tasks(Once, SLOPE, horizon=HORIZON, kwargs={"marks": str(marks), "how": how})


def __getattr__(name: str) -> Any:
    """`strange_envs:fault_nan_reward` for the doors."""
    if name.startswith("fault_"):
        return faulty(name.removeprefix("fault_").replace("4_tuple", "4-tuple").replace("_", " "))
    if name.startswith("paid_"):
        pays = name.removeprefix("paid_").replace("_", " ")
        return gym_tasks(Paid, SLOPE, horizon=HORIZON, kwargs={"pays": pays})
    raise AttributeError(name)


class Parent(Walk):
    """Starts a process of multiprocessing's and another program, and writes down their numbers."""

    def __init__(self, pids: str, slope: float = 1.0):
        super().__init__(slope)
        self.child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        self.child.start()
        self.program = subprocess.Popen(["sleep", "60"])
        with open(pids, "a") as file:
            file.write(f"{self.child.pid} {self.program.pid} ")

    def close(self) -> None:
        self.child.kill()
        self.program.kill()
        self.program.wait()


def parents(pids: Path):
    return gym_tasks(Parent, SLOPE, horizon=HORIZON, kwargs={"pids": str(pids)})
