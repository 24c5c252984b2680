"""Few-shot regression of sinusoids and random polynomials.

One parameter keeps the splits apart: its quantiles are cut into train and test cells (splits.py).
The other parameters have the same distribution in both splits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.polynomial.legendre import legval

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.splits import quantiles, shares
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import Examples, FewShotSpec, Task


class Curves(ABC):
    """Draws the points of regression tasks with one input and one output, for FewShotTasks."""

    task_bounds: Mapping[str, Bounds]
    interval: tuple[float, float]
    """Range of x; examples are drawn uniformly from it."""

    def __init__(self, env: FewShotEnvConfig, variant: str):
        del variant
        self.spec = FewShotSpec(env.name, (1,), 1, classes=False)

    @abstractmethod
    def curve(self, task: Mapping[str, Any], xs: np.ndarray) -> np.ndarray:
        """Returns the curve's values at `xs`, in the shape of `xs`."""

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        """Draws noiseless points: support [K, shots, 1] and query [K, queries, 1]."""
        xs = rng.uniform(*self.interval, (len(tasks), shots + queries)).astype(np.float32)
        # Each number of a task, also one in a list, becomes [K, 1] to broadcast with xs [K, N].
        together = {key: np.array([task[key] for task in tasks]).T[..., None] for key in tasks[0]}
        ys = self.curve(together, xs.astype(np.float64)).astype(np.float32)
        x, y = torch.from_numpy(xs)[..., None], torch.from_numpy(ys)[..., None]
        return Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:])


class Sinusoid(Curves):
    """Tasks {"amplitude": a, "phase": p}: y = a sin(x - p).

    arXiv:1703.03400, section 5.1, and its code (cbfinn/maml, data_generator.py): amplitude
    U(0.1, 5), phase U(0, pi), x U(-5, 5), no noise. The splits share no amplitude; the paper draws
    its test tasks from the training distribution.
    """

    interval = (-5.0, 5.0)
    amplitudes = (0.1, 5.0)
    phases = (0.0, np.pi)

    def __init__(self, env: FewShotEnvConfig, variant: str):
        super().__init__(env, variant)
        ends = {"amplitude": self.amplitudes, "phase": self.phases}
        self.task_bounds = {name: Between(*both) for name, both in ends.items()}

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str = "train") -> list[Task]:
        amplitudes = _scaled(quantiles(num_tasks, rng, split), self.amplitudes)
        phases = _scaled(shares(num_tasks, rng, "random"), self.phases)
        rows = zip(amplitudes.tolist(), phases.tolist(), strict=True)
        return [{"amplitude": amplitude, "phase": phase} for amplitude, phase in rows]

    def curve(self, task: Mapping[str, Any], xs: np.ndarray) -> np.ndarray:
        return task["amplitude"] * np.sin(xs - task["phase"])

    def describe(self, task: Task) -> str:
        return f"{task['amplitude']:.2f} sin(x - {task['phase']:.2f})"


class Polynomial(Curves):
    """Tasks {"coefficients": [c_0, ..., c_D]}: y = sum_d c_d sqrt(2 d + 1) P_d(x), x U(-1, 1).

    P_d is the Legendre polynomial. The factor makes the terms orthonormal under x, so a curve's
    mean square over x is the sum of its c_d^2. Coefficients are U(-r, r) with variance 1 / (D + 1):
    for any degree targets have mean 0 and variance 1, and each term contributes equally.
    The splits share no value of c_D, which affects the shape most.
    """

    interval = (-1.0, 1.0)

    def __init__(self, env: FewShotEnvConfig, variant: str):
        """`variant` is the degree D."""
        super().__init__(env, variant)
        self.degree = int(variant)
        self.reach = (3.0 / (self.degree + 1)) ** 0.5
        """r, the largest coefficient; the variance is r^2 / 3."""
        self.task_bounds = {"coefficients": Between(-self.reach, self.reach)}

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str = "train") -> list[Task]:
        last = quantiles(num_tasks, rng, split)
        others = [shares(num_tasks, rng, "random") for _ in range(self.degree)]
        rows = _scaled(np.stack([*others, last], axis=1), (-self.reach, self.reach))
        return [{"coefficients": row} for row in rows.tolist()]

    def curve(self, task: Mapping[str, Any], xs: np.ndarray) -> np.ndarray:
        weighted = [np.sqrt(2 * d + 1) * c for d, c in enumerate(task["coefficients"])]
        return legval(xs, np.array(weighted), tensor=False)

    def describe(self, task: Task) -> str:
        return " ".join(f"{c:+.2f}" for c in task["coefficients"])


def _scaled(within: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Maps numbers in [0, 1) to an interval."""
    return ends[0] + (ends[1] - ends[0]) * within
