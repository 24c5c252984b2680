"""Meta-World's benchmarks as task distributions: ML1, ML10, ML25, ML45 and a user's own lists.

A task is {"class": "push-v3", "split": "train", "goal": 17}: goal 17 (counted from 0) of the 50
that metaworld's own benchmark draws for the class with `goals_seed`. Observations hide the goal:
its numbers are zero. Episodes never terminate; solved means `info["success"] == 1` at any step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from metarl.config.settings import MetaWorldConfig
from metarl.envs.metaworld.batched import TERMS, ClassShares, TaskPayload
from metarl.envs.metaworld.classes import Split, Splits, check_rules, splits_of
from metarl.envs.metaworld.goals import GOALS, ClassGoals, goals_of
from metarl.envs.metaworld.reference_rows import ReferenceRows
from metarl.envs.metaworld.simulations import CURRENT, HAND_HIGH, HAND_LOW
from metarl.envs.metaworld.snapshots import Snapshot, model_path
from metarl.envs.splits import check_draw, check_split
from metarl.envs.task_bounds import Between, Bounds, OneOf
from metarl.errors import UserError
from metarl.sampling.pool import Pool
from metarl.sampling.rows import Shares
from metarl.types import BatchedEnv, EnvSpec, Task, Workers

MAX_HORIZON = 500
"""The longest episode that metaworld's environments allow, in steps."""


def benchmark(name: str, variant: str, horizon: int, config: MetaWorldConfig) -> MetaWorld:
    """Makes the task distribution of a benchmark.

    Raises:
        UserError: for an unknown class, a class in both splits, a horizon above 500, and a version
            of metaworld that the batched rules do not reproduce.
    """
    splits = splits_of(name, variant, config.goals_seed)
    if horizon > MAX_HORIZON:
        raise UserError(
            f"a horizon of {horizon} steps: Meta-World's episodes have at most {MAX_HORIZON}"
        )
    made = MetaWorld(name, splits, horizon, config)
    if made.batched:
        check_rules()
    return made


class MetaWorld:
    """The task distribution of one benchmark."""

    def __init__(self, name: str, splits: Splits, horizon: int, config: MetaWorldConfig):
        self.splits, self.config = splits, config
        self.spec = EnvSpec(
            name, _observation_space(), Box(-1.0, 1.0, (4,), np.float32), horizon, has_success=True
        )
        self._drawn: dict[str, dict[str, ClassGoals]] = {}

    @property
    def batched(self) -> bool:
        """Whether the batched engine is used; it has only the rewards of version v2."""
        return self.config.engine == "batched" and self.config.rewards == "v2"

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines to print before a run starts."""
        if self.batched:
            return ()
        why = "rewards v1 need" if self.config.rewards == "v1" else "the engine reference steps"
        return (
            f"{self.spec.name}: {why} metaworld's own environments, one at a time on the workers, "
            "3 to 9 times slower than batched ones and about 25 MB each",
        )

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws equally many tasks of each class, as the official vector environments do.

        Tasks are ordered by class; the i-th of n tasks of a class is drawn from its goals i, i + n,
        i + 2n, ... `draw` makes no difference.

        Raises:
            UserError: if the tasks cannot be spread evenly over the classes.
        """
        check_draw(draw)
        classes = self._split(split).classes
        each, rest = divmod(num_tasks, many := len(classes))
        if rest:
            raise UserError(
                f"{num_tasks} tasks cannot be spread evenly over the {many} {split} classes of "
                f"{self.spec.name}; give {many}, {2 * many}, {3 * many} ... (--sampling.tasks)"
            )
        shares = [np.arange(place % GOALS, GOALS, each) for place in range(each)]
        return [
            self._task(name, split, int(rng.choice(share))) for name in classes for share in shares
        ]

    def spread(self, split: str) -> int:
        """Returns the number of classes; `sample` needs a multiple of it."""
        return len(self._split(split).classes)

    def held_out(self, goals: int, split: str = "test") -> list[Task]:
        """Returns the first `goals` goals of each class, class after class.

        The official protocol evaluates on 40 goals.

        Raises:
            UserError: for more than 50 goals.
        """
        if goals > GOALS:
            raise UserError(f"{goals} goals of each class: there are only {GOALS} (--tasks)")
        return [
            self._task(name, split, goal)
            for name in self._split(split).classes
            for goal in range(goals)
        ]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BatchedEnv:
        factory, payload_of, terms, together = self.shares
        return Pool(
            factory, self.spec, num_tasks, episodes_per_task, workers, payload_of, terms, together
        )

    @property
    def shares(self) -> Shares:
        """Shares for whole rounds, of simulations class by class or of metaworld's own."""
        if self.batched:
            classes = (name for split in self.splits for name in split.classes)
            factory = ClassShares({name: model_path(name) for name in classes}, self.spec.horizon)
            return Shares(factory, self._payload, TERMS, divisible=True)
        rand_vecs = {
            split: {name: goals.rand_vecs for name, goals in self._goals(split).items()}
            for split in Splits._fields
        }
        return Shares(ReferenceRows(rand_vecs, self.config.rewards, self.spec.horizon))

    @property
    def task_bounds(self) -> dict[str, Bounds]:
        both = dict.fromkeys(name for split in self.splits for name in split.classes)
        return {
            "class": OneOf(tuple(both), only=True),
            "split": OneOf(Splits._fields, only=True),
            "goal": Between(0, GOALS - 1, only=True),
        }

    def completed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a task that a user gave with its split: that of its class; of a class in both,
        the held-out one.

        Raises:
            ValueError: for a class that is not in the split.
        """
        name = values.get("class")
        own = [split for split in Splits._fields if name in self._split(split).classes]
        split = values.get("split", own[-1] if own else "test")
        if own and split in Splits._fields and split not in own:
            raise ValueError(f"{name} is a class of the {own[0]} split, and split is {split}")
        return {**values, "split": split}

    def describe(self, task: Task) -> str:
        return f"{task['class']} #{task['goal']}"

    def snapshot(self, task: Task) -> Snapshot:
        """Returns the state after the task's reset.

        Raises:
            ValueError: if the task is not of this benchmark.
        """
        try:
            classes = self._split(task["split"]).classes
            if task["class"] not in classes or not 0 <= task["goal"] < GOALS:
                raise KeyError(task["class"])
        except KeyError:
            raise ValueError(
                f"{dict(task)} is no task of {self.spec.name}; take one from `sample` or "
                "`held_out`: {'class': ..., 'split': 'train' or 'test', 'goal': 0 to 49}"
            ) from None
        return self._goals(task["split"])[task["class"]].snapshot(task["goal"])

    def _goals(self, split: str) -> dict[str, ClassGoals]:
        if split not in self._drawn:
            self._drawn[split] = goals_of(self._split(split))
        return self._drawn[split]

    def _payload(self, task: Task) -> TaskPayload:
        return TaskPayload(task["class"], self.snapshot(task))

    def _split(self, split: str) -> Split:
        return getattr(self.splits, check_split(split))

    def _task(self, name: str, split: str, goal: int) -> Task:
        return {"class": name, "split": split, "goal": goal}


def _observation_space() -> Box:
    """Returns the observation space of metaworld's environments with hidden goals."""

    def bound(hand: np.ndarray, opening: float, objects: float) -> np.ndarray:
        half = [*hand, opening, *[objects] * (CURRENT - 4)]
        return np.array([*half, *half, 0.0, 0.0, 0.0], np.float32)

    low, high = bound(HAND_LOW, -1.0, -np.inf), bound(HAND_HIGH, 1.0, np.inf)
    return Box(low, high, dtype=np.float32)
