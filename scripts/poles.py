"""CartPoles whose poles never fall, so that all samplers play the same number of steps."""

from __future__ import annotations

import time
from typing import Any

import gymnasium


class UnfallingPole(gymnasium.Wrapper):
    """CartPole without an end, each step `burden` rounds of arithmetic longer."""

    def __init__(self, burden: int = 0):
        super().__init__(gymnasium.make("CartPole-v1", max_episode_steps=-1))
        pole: Any = self.env.unwrapped
        pole.theta_threshold_radians = pole.x_threshold = 1e9
        self.burden = burden

    def step(self, action: Any) -> Any:
        total = 0
        for number in range(self.burden):
            total += number * number % 7
        return self.env.step(action)


def burden_of(step_us: float) -> int:
    """Returns the rounds of arithmetic that make a step last `step_us` microseconds here."""
    plain, loaded = UnfallingPole(), UnfallingPole(2000)
    seconds = []
    for pole in (plain, loaded):
        pole.reset(seed=1)
        start = time.perf_counter()
        for _ in range(2000):
            pole.step(1)
        seconds.append((time.perf_counter() - start) / 2000)
    return max(0, round(2000 * (1e-6 * step_us - seconds[0]) / (seconds[1] - seconds[0])))
