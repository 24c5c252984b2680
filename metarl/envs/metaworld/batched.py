"""K x E Meta-World simulations of any classes: physics on threads, by jobs of a class each."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mujoco
import numpy as np

from metarl.envs.metaworld.simulations import OBS_DIM, ClassModel, Simulations
from metarl.envs.metaworld.snapshots import Snapshot
from metarl.types import DivergedError, EnvSpec, Step, Task

ROWS = 20
"""Simulations in a job, at most, unless one task has more: jobs are few, as each pays for its
numpy calls, and enough to keep all threads busy. The same whatever the number of threads."""


class Job(NamedTuple):
    """Some tasks of one class, stepped in one call by whichever thread is free."""

    simulations: Simulations
    tasks: np.ndarray  # [n] their places among the K


class BatchedMetaWorld:
    """A BatchedEnv. Resets have no chance in them: every episode of a task begins alike."""

    def __init__(
        self,
        spec: EnvSpec,
        snapshot_of: Callable[[Task], Snapshot],
        model_of: Callable[[str], ClassModel],
        num_tasks: int,
        episodes: int,
        threads: int,
    ):
        self.spec, self.shape = spec, (num_tasks, episodes)
        self._snapshot_of, self._model_of = snapshot_of, model_of
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self.tasks: Sequence[Task] = ()
        self._layout: list[str] = []
        self._jobs: list[Job] = []
        self._scratch: dict[str, list[mujoco.MjData]] = {}
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        if len(tasks) != self.shape[0]:
            raise ValueError(f"{len(tasks)} tasks in an environment opened for {self.shape[0]}")
        layout = [task["class"] for task in tasks]
        if layout != self._layout:
            # First: the models of the former jobs may go before new ones come.
            self._layout, self._jobs = [], []
            self._jobs = self._new_jobs(layout)
            self._layout = layout
        self.tasks = list(tasks)
        for job in self._jobs:
            job.simulations.set_tasks([self._snapshot_of(tasks[k]) for k in job.tasks])

    def _new_jobs(self, layout: Sequence[str]) -> list[Job]:
        jobs, at_once = [], max(1, ROWS // self.shape[1])
        for name in dict.fromkeys(layout):
            places = np.flatnonzero(np.array(layout) == name)
            model = self._model_of(name)
            for start in range(0, len(places), at_once):
                some = places[start : start + at_once]
                jobs.append(Job(Simulations(model, len(some), self.shape[1]), some))
        return jobs

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """`seeds` are not needed: a reset is a function of the task."""
        self._steps = 0
        obs = np.empty((*self.shape, OBS_DIM), np.float32)
        for job in self._jobs:
            obs[job.tasks] = job.simulations.reset().reshape(-1, self.shape[1], OBS_DIM)
        return obs

    def step(self, actions: np.ndarray) -> Step:
        if not np.isfinite(actions).all():
            self._raise_bad_action(actions)
        clipped = np.clip(actions, np.float32(-1), np.float32(1))
        step = Step(
            np.empty((*self.shape, OBS_DIM), np.float32),
            np.empty(self.shape, np.float32),
            np.zeros(self.shape, bool),
            np.full(self.shape, self._steps + 1 == self.spec.horizon),
            np.empty(self.shape, bool),
        )

        def play(job: Job) -> None:
            rows = clipped[job.tasks].reshape(-1, clipped.shape[-1])
            spare = self._scratch.setdefault(job.simulations.kind.name, [])
            try:
                data = spare.pop()
            except IndexError:
                data = mujoco.MjData(job.simulations.kind.model)
            obs, terms = job.simulations.step(rows, data)
            spare.append(data)
            episodes = self.shape[1]
            step.obs[job.tasks] = obs.reshape(-1, episodes, OBS_DIM)
            step.rewards[job.tasks] = terms.reward.reshape(-1, episodes)
            step.success[job.tasks] = terms.success.reshape(-1, episodes)

        if self._threads is None:
            for job in self._jobs:
                play(job)
        else:
            list(self._threads.map(play, self._jobs))
        self._steps += 1
        self._check_stable(step.obs)
        return step

    @property
    def info(self) -> dict[str, np.ndarray]:
        """The terms of the last step's rewards by their names in the reference's info, [K, E]."""
        found = {}
        for job in self._jobs:
            for name, values in job.simulations.terms._asdict().items():
                term = found.setdefault(name, np.empty(self.shape))
                term[job.tasks] = values.reshape(-1, self.shape[1])
        found["unscaled_reward"] = found.pop("reward")
        return found

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        self._jobs, self._layout, self._scratch = [], [], {}

    def _check_stable(self, obs: np.ndarray) -> None:
        if not np.isfinite(obs).all():
            task, episode, _ = np.argwhere(~np.isfinite(obs))[0].tolist()
            raise DivergedError(self.spec.name, self.tasks[task], episode, self._steps)

    def _raise_bad_action(self, actions: np.ndarray) -> None:
        task, episode = np.argwhere(~np.isfinite(actions).all(axis=-1))[0].tolist()
        raise FloatingPointError(
            f"{self.spec.name}: action {actions[task, episode]} of the policy, task "
            f"{dict(self.tasks[task])}, episode {episode}, step {self._steps + 1}"
        )
