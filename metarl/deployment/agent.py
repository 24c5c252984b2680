"""A trained agent that adapts to tasks outside of training, by the rounds that evaluation plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Space

from metarl import keys, memory
from metarl.deployment import recorded
from metarl.deployment.adapted import Adaptation, AdaptedPolicy
from metarl.deployment.arguments import count, is_distribution
from metarl.deployment.playing import OneEnvironment, play_in
from metarl.deployment.spaces import check_same_spaces, spaces_of
from metarl.envs import given_tasks
from metarl.envs.task_conditioned import TaskConditioned, numbers_of
from metarl.errors import UserError
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Sampler
from metarl.text import shown
from metarl.types import Classes, EnvSpec, Task, TaskDistribution, Trajectories, Workers

GIVE = "give a gymnasium environment, a task or a list of tasks, or a list of recorded episodes"
SOURCES = "metarl.Episode, or a dict of obs, actions, rewards, terminated"
TASK_BYTES = 64
"""Least memory of a task, a dict."""


class LoadedAgent:
    """A trained agent that learned from episodes, with the weights of one checkpoint.

    Nothing changes it: `adapt` begins at the meta-parameters each time.
    """

    def __init__(
        self,
        agent: Any,
        distribution: TaskDistribution,
        base: TaskDistribution,
        episodes: int,
        facts: Mapping[str, Any],
        device: torch.device,
    ):
        """
        Args:
            agent: with its weights.
            distribution: the run's tasks, as the agent sees them.
            base: the run's tasks without their numbers in the observations.
            episodes: those of an adaptation step in training.
            facts: where the weights come from.
            device: where the agent's tensors are.
        """
        self.agent, self.distribution, self.base = agent, distribution, base
        self.device, self.facts = device, dict(facts)
        self.one_by_one = getattr(agent, "episodes_per_step", None) == 1
        """Whether each step learns from a single episode, as the memory of RL2 does."""
        self.steps = max(1, agent.steps)
        """Adaptation steps where `adapt` is not told how many: those of training."""
        self.episodes = 1 if self.one_by_one else episodes
        """Episodes of a step where `adapt` is not told how many: those of training."""

    def __repr__(self) -> str:
        return f"LoadedAgent({', '.join(f'{k}={v!r}' for k, v in self.facts.items())})"

    @property
    def spec(self) -> EnvSpec:
        """Spaces and horizon of the run, as the agent sees them."""
        return self.distribution.spec

    def sample_tasks(self, number: int, seed: int = 1, split: str = "test") -> Sequence[Task]:
        """Returns tasks of the run's distribution; by default those that `metarl evaluate` draws
        with that seed and number."""
        number, seed = count("number", number), count("seed", seed, least=0)
        memory.check({"number": number * TASK_BYTES})
        if isinstance(self.base, Classes):  # so many goals of each class
            return self.base.held_out(number, split)
        rng = keys.generator(seed, keys.Purpose.EVALUATION_TASKS)
        return self.base.sample(number, rng, split)

    def adapt(
        self,
        source: Any,
        episodes: int | None = None,
        steps: int | None = None,
        *,
        seed: int = 1,
        task: Task | None = None,
        tasks: TaskDistribution | None = None,
    ) -> Any:
        """Returns the policy after adaptation to a task; for a list of tasks, a list of policies.

        Args:
            source: a gymnasium environment with the run's spaces, whose episodes are played one
                after the other; a task of the run's distribution, or a list of them, which adapt
                together; or a list of recorded episodes of one task (`metarl.Episode`).
            episodes: episodes that each step learns from; left out, as many as in training.
                Recorded ones are divided among the steps, in their order.
            steps: adaptation steps, each on fresh episodes; left out, as many as in training. With
                0 nothing is played, and the policy is the one before adaptation. With RL2 each
                episode is a step of its own, so episodes x steps are remembered.
            seed: decides all random numbers.
            task: what is known of the task of an environment or of recorded episodes; only agents
                that observe their task's numbers, such as oracle-trpo, read it.
            tasks: another distribution that the tasks are of.

        Raises:
            UserError: for anything else, for other spaces than the run's, and as evaluation.
        """
        count("seed", seed, least=0)
        if isinstance(source, gymnasium.Env):
            return self._to_environment(source, *self._asked(episodes, steps), seed, task)
        if recorded.is_episode(source):
            raise UserError("adapt was given one recorded episode; give a list: adapt([episode])")
        if isinstance(source, Mapping):
            return self._to_tasks([source], *self._asked(episodes, steps), seed, tasks)[0]
        if not isinstance(source, Sequence) or isinstance(source, str) or not len(source):
            raise UserError(f"adapt was given {_named(source)}; {GIVE}")
        if all(map(recorded.is_episode, source)):
            if episodes is not None:
                raise UserError(
                    f"episodes is {shown(episodes)}, and {len(source)} recorded ones are given; "
                    "leave it out"
                )
            return self._to_recorded(source, steps, seed, task)
        if not any(map(recorded.is_episode, source)) and all(
            isinstance(x, Mapping) for x in source
        ):
            return self._to_tasks(list(source), *self._asked(episodes, steps), seed, tasks)
        raise UserError(f"adapt was given a list with {_named(source[0])}; {GIVE}\n({SOURCES})")

    def _asked(self, episodes: int | None, steps: int | None) -> tuple[int, int]:
        """Returns the episodes of a round and the number of rounds."""
        if self.one_by_one and episodes is not None:
            trials = 1 if steps is None else count("steps", steps, least=0)
            steps = count("episodes", episodes) * trials
            episodes = 1
        return (
            self.episodes if episodes is None else count("episodes", episodes),
            self.steps if steps is None else count("steps", steps, least=0),
        )

    def _to_environment(
        self, env: gymnasium.Env, episodes: int, steps: int, seed: int, task: Task | None
    ) -> AdaptedPolicy:
        told = self._told(task)
        check_same_spaces(env, self.spec, len(told))
        self._check_memory(1, episodes, 1)
        one = OneEnvironment.of(env, self.spec.horizon, told)

        def played(state: Any, index: int) -> Trajectories:
            draws = self._draws(1, episodes, seed, index)
            return play_in(one, self.agent, state, self.spec, index, draws, self.device)

        spaces = env.observation_space, env.action_space
        name = type(env.unwrapped).__name__
        return self._adapted(played, steps, spaces, [told], seed, {"env": name})[0]

    def _to_tasks(
        self,
        given: list[Task],
        episodes: int,
        steps: int,
        seed: int,
        tasks: TaskDistribution | None,
    ) -> list[AdaptedPolicy]:
        base, distribution = self.base, self.distribution
        if tasks is not None:
            if not is_distribution(tasks):
                raise UserError(
                    f"tasks is {shown(tasks)}; give a distribution of tasks, such as "
                    "metarl.gym_tasks(...)"
                )
            base = distribution = tasks
            if self._observes_task:
                distribution = TaskConditioned(tasks)
            self._check_distribution(distribution.spec)
        given = given_tasks.checked(given, base, "tasks")
        told = [self._told(task) for task in given]
        self._check_memory(len(given), episodes, steps)
        sampler = Sampler(distribution, len(given), episodes, Workers(0))
        try:
            sampler.set_tasks(given)

            def played(state: Any, index: int) -> Trajectories:
                draws = self._draws(len(given), episodes, seed, index)
                return sampler.play(self.agent, state, index, draws, self.device)

            found = self._adapted(played, steps, spaces_of(base), told, seed, {})
        finally:
            sampler.close()
        return found

    def _to_recorded(
        self, given: Sequence[Any], steps: int | None, seed: int, task: Task | None
    ) -> AdaptedPolicy:
        if self.one_by_one:
            rounds = len(given)
            if steps not in (None, rounds):
                raise UserError(
                    f"steps is {shown(steps)}, and {self.facts['agent']} takes a step after each "
                    f"of the {rounds} episodes; leave it out"
                )
        else:
            rounds = 1 if steps is None else count("steps", steps)
        if len(given) % rounds:
            raise UserError(
                f"{len(given)} recorded episodes cannot be divided among {rounds} steps\n"
                "give as many for each step, in their order"
            )
        told, spaces = self._told(task), spaces_of(self.base)
        read = recorded.read(given, self.spec, spaces, told)
        bounds = list(pairwise(range(0, len(read) + 1, len(read) // rounds)))

        def played(state: Any, index: int) -> Trajectories:
            own = read[slice(*bounds[index])]
            return recorded.as_support(own, self.agent, state, self.device)

        return self._adapted(played, rounds, spaces, [told], seed, {"recorded": len(read)})[0]

    def _adapted(
        self,
        played: Callable[[Any, int], Trajectories],
        steps: int,
        spaces: tuple[Space, Space],
        told: list[np.ndarray],
        seed: int,
        facts: dict[str, Any],
    ) -> list[AdaptedPolicy]:
        """Returns a policy for each task after `steps` steps on episodes that `played` returns."""
        state, supports = self.agent.begin(), []
        for index in range(steps):
            supports.append(played(state, index))
            state = self.agent.adapt(state, supports[-1])
        used = {"steps": steps, "episodes": int(supports[0].mask.shape[2]) if supports else 0}
        about = {**self.facts, **facts, **used}
        adapted = Adaptation(self.agent, self.device, state, supports, spaces, told, about, seed)
        return [AdaptedPolicy(adapted, k) for k in range(len(told))]

    def _draws(self, num_tasks: int, episodes: int, seed: int, index: int) -> RoundDraws:
        """Returns the random numbers of a round, by the key of evaluation."""
        kind, width = self.agent.noise
        key = (seed, keys.Purpose.EVALUATION, index)
        return RoundDraws((num_tasks, episodes), kind, width, key, self.spec.horizon)

    def _check_memory(self, num_tasks: int, episodes: int, rounds: int) -> None:
        """Raises a UserError for more episodes than fit into memory."""
        names = "episodes and steps" if rounds > 1 else "episodes"
        memory.check({names: memory.of_rounds(self.spec, num_tasks, episodes, rounds)})

    @property
    def _observes_task(self) -> bool:
        return isinstance(self.distribution, TaskConditioned)

    def _told(self, task: Task | None) -> np.ndarray:
        """Returns the numbers that follow each observation, [n]; mostly none."""
        if not isinstance(self.distribution, TaskConditioned):
            return np.zeros(0, np.float32)
        width, example = self.distribution.width, self.base.sample(1, np.random.default_rng(0))[0]
        if task is None:
            raise UserError(
                f"{self.facts['agent']} observes the numbers of its task, and no task is given\n"
                f"give task=, such as task={shown(dict(example), 200)}"
            )
        numbers = numbers_of(task)
        if len(numbers) != width or not np.isfinite(numbers).all():
            raise UserError(
                f"the task {shown(dict(task))} has {len(numbers)} numbers, and the run learned "
                f"tasks of {width} finite ones, such as {shown(dict(example), 200)}"
            )
        return np.array(numbers, np.float32)

    def _check_distribution(self, spec: EnvSpec) -> None:
        """Raises a UserError for another distribution with other spaces or horizon."""
        own = self.spec
        facts = {
            "observations": (spec.obs_dim, own.obs_dim),
            "actions": (spec.action_space, own.action_space),
            "steps in an episode": (spec.horizon, own.horizon),
        }
        for what, (theirs, ours) in facts.items():
            if theirs != ours:
                raise UserError(
                    f"{spec.name} has {what} {shown(theirs)}, and the run learned {own.name}, with "
                    f"{shown(ours)}\ngive tasks with the same, or load a run of these"
                )


def _named(value: Any) -> str:
    if isinstance(value, gymnasium.vector.VectorEnv):
        return "a vector of environments, and one is played"
    if callable(value):
        return f"{shown(value)}, which is not called"
    return shown(value)
