"""Probe tasks: each needs one ability of a learner, and its optimum is a known number.

After the probe environments of rejax. Every probe has two actions. A task {"good": 0 or 1} names
the action that it pays, where that differs from task to task. A batch of tasks has as many of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from metarl.types import EnvSpec, Examples, FewShotSpec, StepResult, Task, Workers


class ProbeEnv:
    """K x E copies of a probe. A probe says what is seen, what is paid, and where it ends."""

    horizon: ClassVar[int] = 1
    width: ClassVar[int] = 1
    """Numbers in an observation."""
    image: ClassVar[tuple[int, int, int] | None] = None

    def __init__(self, num_tasks: int, episodes_per_task: int):
        self.good = np.zeros((num_tasks, 1), int)
        self.place = np.zeros((num_tasks, episodes_per_task), int)
        """0 to 3, by the episode's seed."""
        self.first = np.zeros((num_tasks, episodes_per_task), int)
        """The first action."""
        self.t = 0

    @property
    def coin(self) -> np.ndarray:
        """0 or 1, by the episode's seed."""
        return self.place % 2

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self.good = np.array([[int(task["good"])] for task in tasks])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.place, self.first, self.t = (seeds % np.uint64(4)).astype(int), 0 * self.first, 0
        return self._observed()

    def step(self, actions: np.ndarray) -> StepResult:
        action = actions[..., 0].astype(int)
        if self.t == 0:
            self.first = action
        rewards = self.pays(action) * np.ones(action.shape, np.float32)
        terminated = self.stops(action) & np.ones(action.shape, bool)
        self.t += 1
        truncated = (self.t >= self.horizon) & ~terminated
        never = np.zeros(action.shape, bool)
        return StepResult(
            self._observed(), rewards.astype(np.float32), terminated, truncated, never
        )

    def close(self) -> None:
        pass

    def sees(self) -> list:
        """The numbers of an observation, each for all episodes or [K, E]."""
        return [1.0]

    def pays(self, action: np.ndarray) -> np.ndarray | float:
        """The reward of an action [K, E] in step t."""
        raise NotImplementedError

    def stops(self, action: np.ndarray) -> np.ndarray | bool:
        """Whether the action terminates the episode."""
        return False

    def _observed(self) -> np.ndarray:
        return np.stack([x * np.ones(self.place.shape) for x in self.sees()], -1).astype(np.float32)


class Probe:
    """The task distribution of a probe."""

    def __init__(self, env: type[ProbeEnv]):
        self.env = env
        seen = Box(-1.0, 1.0, (env.width,), np.float32)
        self.spec = EnvSpec(env.__name__, seen, Discrete(2), env.horizon, image=env.image)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """As many tasks of one kind as of the other; nothing about them is random."""
        return [{"good": float(k % 2)} for k in range(num_tasks)]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> ProbeEnv:
        return self.env(num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return f"action {task['good']:.0f}"


class OneValue(ProbeEnv):
    """Pays what it shows, 0 or 1, whatever is done: its value is the observation."""

    width = 2

    def sees(self) -> list:
        return [1.0, self.coin]

    def pays(self, action: np.ndarray) -> np.ndarray:
        return self.coin


class BesideAValue(ProbeEnv):
    """Shows one of four places. Two of them pay 100, and in each of them one action adds 1.

    Optimum 1 beside the place's value; chance 0.5. What an action adds is in sight only once that
    value is subtracted. In two places it is action 0, in two action 1, so that no luck finds it.
    """

    width = 4

    def sees(self) -> list:
        return [self.place == n for n in range(4)]

    def pays(self, action: np.ndarray) -> np.ndarray:
        return 100.0 * (self.place // 2) + (action == self.place % 2)


class NothingToLearn(ProbeEnv):
    """Pays nothing whatever is done: no action has an advantage."""

    def pays(self, action: np.ndarray) -> float:
        return 0.0


class ActionMatters(ProbeEnv):
    """Pays action 1 with 1, in all tasks. Optimum 1; chance 0.5."""

    def pays(self, action: np.ndarray) -> np.ndarray:
        return action


class Delay(ProbeEnv):
    """Pays at the last of three steps, 1 if the first action was 1. Optimum 1; chance 0.5."""

    horizon = 3
    width = 3

    def sees(self) -> list:
        if self.t == 0:
            return [1.0, 0.0, 0.0]
        return [0.0, self.first, 1 - self.first]

    def pays(self, action: np.ndarray) -> np.ndarray | float:
        return self.first if self.t == self.horizon - 1 else 0.0


class Memory(ProbeEnv):
    """Shows a coin in the first step, and half a point is paid in the second for the action of that
    number. The other half is paid in the first step for action 0, or who is told its last action
    could note the coin by that.

    Optimum 1. Without a memory 0.75 and no more, for the second observation is always the same.
    """

    horizon = 2
    width = 2

    def sees(self) -> list:
        return [0.0, 2 * self.coin - 1] if self.t == 0 else [1.0, 0.0]

    def pays(self, action: np.ndarray) -> np.ndarray:
        return 0.5 * (action == (0 if self.t == 0 else self.coin))


class TaskToIdentify(ProbeEnv):
    """Pays the task's good action with 1. Optimum 0.5 before adaptation, and 1 after it."""

    def pays(self, action: np.ndarray) -> np.ndarray:
        return action == self.good


class PatchInImage(ProbeEnv):
    """Shows a bright patch of 2 x 2 pixels near a corner of a dark image, moved by up to one pixel.
    Pays one action on one diagonal and the other on the other.

    Optimum 1. A weighted sum of the pixels earns 0.75 and no more: the four corners are an
    exclusive or.
    """

    image = (1, 6, 6)
    width = 36

    @property
    def turned(self) -> np.ndarray | bool:
        """Whether the two actions are changed over, [K, 1]."""
        return False

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        more = (seeds // np.uint64(4)).astype(int)
        self.down, self.right = more % 2, more // 2 % 2
        return super().reset(seeds)

    def pays(self, action: np.ndarray) -> np.ndarray:
        return action == np.isin(self.place, (0, 3)) ^ self.turned

    def _observed(self) -> np.ndarray:
        rows = 3 * (self.place // 2) + self.down
        columns = 3 * (self.place % 2) + self.right
        seen = np.zeros((*self.place.shape, 6, 6), np.float32)
        for i, j in np.ndindex(2, 2):
            np.put_along_axis(
                seen.reshape(*self.place.shape, 36),
                ((rows + i) * 6 + columns + j)[..., None],
                1.0,
                -1,
            )
        return seen.reshape(*self.place.shape, 36)


class HiddenPatchInImage(PatchInImage):
    """Patch whose place tells the good action, with the two actions exchanged in half of the tasks:
    the optimum is 0.5 before adaptation, and 1 after it."""

    @property
    def turned(self) -> np.ndarray | bool:
        return self.good == 1


class Truncation(ProbeEnv):
    """In the poor place action 0 pays 0.6 and ends the task; action 1 pays nothing and leads to the
    rich place, where the time limit stops the episode. In the rich place all pays 1.

    With discount 0.5 the rich place is worth 1 + 0.5 + ... = 2, so going there is worth 1: more
    than 0.6 for who looks beyond the time limit, and nothing for who does not. Who also looks
    beyond a termination, or takes the value of the place that the step set out from, stays.
    """

    width = 2

    def sees(self) -> list:
        rich = self.coin if self.t == 0 else self.coin | self.first
        return [1 - rich, rich]

    def pays(self, action: np.ndarray) -> np.ndarray:
        return np.where(self.coin == 1, 1.0, 0.6 * (action == 0))

    def stops(self, action: np.ndarray) -> np.ndarray:
        return (self.coin == 0) & (action == 0)


class LineProbe:
    """Supervised tasks {"offset": c, "slope": a}: y = c + a x without noise, x in [-1, 1].

    The least possible loss is 0. Without the examples it is the variance of y: 1, whichever of the
    two differs from task to task.
    """

    def __init__(self, varies: str):
        """`varies`: "offset" or "slope"; the other is 0."""
        self.varies = varies
        self.spec = FewShotSpec(f"line of any {varies}", (1,), 1, classes=False)

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str = "train") -> list[Task]:
        """Evenly from one end to the other, so that a batch's variance is the tasks'."""
        width = 3.0**0.5 if self.varies == "offset" else 3.0
        values = width * (2.0 * (np.arange(num_tasks) + rng.random(num_tasks)) / num_tasks - 1.0)
        return [{"offset": 0.0, "slope": 0.0, self.varies: x} for x in values.tolist()]

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        x = torch.from_numpy(rng.uniform(-1.0, 1.0, (len(tasks), shots + queries, 1))).float()
        offset, slope = (
            torch.tensor([task[key] for task in tasks]).view(-1, 1, 1)
            for key in ("offset", "slope")
        )
        y = offset + slope * x
        return Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:])

    def describe(self, task: Task) -> str:
        return f"{task['offset']:+.2f} {task['slope']:+.2f} x"


class SidesProbe:
    """Supervised tasks {"right": 0 or 1}: which of two classes lies to the right, the other to the
    left. What is between them is noise. All of the query can be told by one example of each."""

    spec = FewShotSpec("sides", (2,), 2, classes=True)

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str = "train") -> list[Task]:
        return [{"right": k % 2} for k in range(num_tasks)]

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        def examples(number: int) -> Examples:
            targets = torch.arange(2).repeat_interleave(number).expand(len(tasks), -1)
            right = torch.tensor([[task["right"]] for task in tasks]) == targets
            noise = torch.from_numpy(rng.standard_normal((*targets.shape, 2))).float()
            noise[..., 0] = torch.where(right, 1.0, -1.0) + 0.1 * noise[..., 0]
            return Examples(noise, targets.contiguous())

        return examples(shots), examples(queries)

    def describe(self, task: Task) -> str:
        return f"class {task['right']} is right"
