"""Environments that draw themselves, or do not, as tasks of a user's own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box

from metarl import Uniform, gym_tasks

GOAL, AGENT = (0, 150, 0), (200, 0, 0)
WIDE, HIGH, SCALE = 90, 60, 4


class Blind(gymnasium.Env):
    """A point on a line that moves to a goal; has no picture."""

    observation_space = Box(-9, 9, (1,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, goal: float = 0.0):
        self.goal, self.x = goal, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-1, 1))
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.x = float(np.clip(self.x + action[0], -9, 9))
        return np.array([self.x], np.float32), -abs(self.x - self.goal), False, False, {}


class Line(Blind):
    """The same with a picture, if it is asked for."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, goal: float = 0.0, render_mode: str | None = None):
        super().__init__(goal)
        self.render_mode = render_mode

    def render(self) -> Any:
        picture = np.full((HIGH, WIDE, 3), 255, np.uint8)
        at, goal = (int(WIDE / 2 + SCALE * x) for x in (self.x, self.goal))
        picture[:, goal : goal + 1] = GOAL
        picture[25:35, at - 3 : at + 3] = AGENT
        return picture if self.render_mode == "rgb_array" else None


class Silent(Line):
    """Says that it draws, and draws nothing."""

    def render(self) -> Any:
        return "nothing"


class Classic(Line):
    """Draws with a library that is not installed, as gymnasium's own environments."""

    def render(self) -> Any:
        raise DependencyNotInstalled(
            'brush is not installed, run `pip install "gymnasium[brushes]"`'
        ) from ModuleNotFoundError("No module named 'brush'")


class Own:
    """Tasks of a user's class, which makes environments without a mode."""

    horizon = 12

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[dict]:
        return [{"goal": float(goal)} for goal in rng.uniform(-5, 5, num_tasks)]

    def make(self, task: dict) -> gymnasium.Env:
        return Line(task["goal"])


def _tasks(env: Any, **facts: Any) -> Any:
    return gym_tasks(env, {"goal": Uniform(-5.0, 5.0)}, horizon=12, **facts)


line, blind, silent, classic = map(_tasks, (Line, Blind, Silent, Classic))
random = _tasks(Line, deterministic=False)
