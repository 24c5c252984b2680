"""A trained agent that adapts to tasks outside of training, by the rounds that evaluation plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Space

from metarl import keys
from metarl.acting.policy import Ready
from metarl.acting.units import Units
from metarl.deployment import recorded
from metarl.deployment.playing import OneEnvironment, play_in
from metarl.deployment.policy import Interface, Policy
from metarl.deployment.spaces import check_same_spaces
from metarl.envs import given_tasks
from metarl.envs.task_conditioned import TaskConditioned, numbers_of
from metarl.errors import UserError
from metarl.sampling.collect import returns_of
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Sampler, acts_in_numpy
from metarl.text import shown
from metarl.types import EnvSpec, Task, TaskDistribution, Trajectories, Workers

GIVE = "give a gymnasium environment, a task or a list of tasks, or a list of recorded episodes"
SOURCES = "metarl.Episode, or a dict of obs, actions, rewards, terminated"


class AdaptedPolicy(Policy):
    """A policy that an agent adapted to one task."""

    def __init__(self, loaded: LoadedAgent, adapted: _Adapted, task: int):
        """`task` is the index of the task among those that were adapted together."""
        interface = Interface(*adapted.spaces, loaded.agent.noise, adapted.told[task])
        acting = acting_of(loaded, adapted.state, adapted.tasks, task)
        super().__init__(acting, interface, adapted.facts, adapted.seed)
        self.support_returns = tuple(tuple(returns_of(x)[task].tolist()) for x in adapted.supports)
        """Undiscounted return of each episode that was learned from: a tuple for each step."""
        self._loaded, self._adapted, self._task = loaded, adapted, task

    def to_sb3(self, env: Any, **settings: Any) -> Any:
        """Returns the policy as a Stable-Baselines3 PPO that can learn on in `env`.

        Args:
            env: an environment, or a VecEnv, with the spaces of the run.
            settings: further arguments of PPO, such as `n_steps`.

        Raises:
            UserError: for an agent without an MLP policy, such as RL2, and for other spaces.
        """
        from metarl.agents.meta_parameters import MlpAgent
        from metarl.agents.sb3_export import export

        agent, name = self._loaded.agent, self.facts["agent"]
        if not isinstance(agent, MlpAgent):
            raise UserError(
                f"{name} has no MLP policy that Stable-Baselines3 could hold\n"
                "export an agent that adapts by gradient steps or by Reptile's PPO, or save it by "
                "adapted.save(path)"
            )
        if len(self.interface.told):
            raise UserError(
                f"{name} observes the numbers of its task, which no environment gives\n"
                "save it by adapted.save(path), or export an agent that adapts, such as maml-trpo"
            )
        return export(agent, self._adapted.state, self._task, env, settings)


@dataclass(frozen=True)
class _Adapted:
    """K tasks after adaptation."""

    state: Any
    supports: list[Trajectories]
    spaces: tuple[Space, Space]
    told: list[np.ndarray]
    """Numbers of each task that follow its observations."""
    facts: dict[str, Any]
    seed: int

    @property
    def tasks(self) -> int:
        return len(self.told)


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
        rng = keys.generator(seed, keys.Purpose.EVALUATION_TASKS)
        return self.base.sample(_count("number", number), rng, split)

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
            trials = 1 if steps is None else _count("steps", steps, least=0)
            steps = _count("episodes", episodes) * trials
            episodes = 1
        return (
            self.episodes if episodes is None else _count("episodes", episodes),
            self.steps if steps is None else _count("steps", steps, least=0),
        )

    def _to_environment(
        self, env: gymnasium.Env, episodes: int, steps: int, seed: int, task: Task | None
    ) -> AdaptedPolicy:
        told = self._told(task)
        check_same_spaces(env, self.spec, len(told))
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
            base = distribution = tasks
            if self._observes_task:
                distribution = TaskConditioned(tasks)
            self._check_distribution(distribution.spec)
        given = given_tasks.checked(given, base, "tasks")
        told = [self._told(task) for task in given]
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
            rounds = 1 if steps is None else _count("steps", steps)
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
        adapted = _Adapted(state, supports, spaces, told, about, seed)
        return [AdaptedPolicy(self, adapted, k) for k in range(len(told))]

    def _draws(self, num_tasks: int, episodes: int, seed: int, index: int) -> RoundDraws:
        """Returns the random numbers of a round, by the key of evaluation."""
        key = (seed, keys.Purpose.EVALUATION, index)
        kind, width = self.agent.noise
        return RoundDraws((num_tasks, episodes), kind, width, key, self.spec.horizon)

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


def acting_of(loaded: LoadedAgent, state: Any, num_tasks: int, task: int) -> Any:
    """Returns the policy of one of K tasks, in numpy where the agent has one."""
    if acts_in_numpy(loaded.agent):
        return loaded.agent.acting(state).of(Units.all(num_tasks, 1).part(task, task + 1))
    return OwnActing(loaded.agent, loaded.device, state, num_tasks, task)


@dataclass(frozen=True)
class OwnActing:
    """Policy of an agent of a user's own, which torch evaluates; implements Acting."""

    agent: Any
    device: torch.device
    state: Any
    num_tasks: int
    task: int
    output_dim = 0

    def of(self, units: Units) -> OwnActing:
        return self

    def ready(self, units: Units) -> Ready:
        """Returns the policy at the begin of an episode of its task; the other tasks see zeros."""
        actor, device = self.agent.actor(self.state, slice(0, 1)), self.device

        @torch.no_grad()
        def act(
            obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            def of_all(x: np.ndarray) -> torch.Tensor:
                whole = np.zeros((self.num_tasks, *x.shape[1:]), np.float32)
                whole[self.task] = x[0]
                return torch.from_numpy(whole).to(device)

            first, paid = not begun, of_all(rewards)
            begun.append(True)
            actions, distribution = actor(of_all(obs), None if first else paid, of_all(noise))
            outputs = next(iter(distribution))
            own = slice(self.task, self.task + 1)
            shape = (self.num_tasks, 1, outputs.shape[-1])
            return actions[own].cpu().numpy(), outputs.expand(shape)[own].cpu().numpy()

        begun: list[bool] = []
        return act


def spaces_of(distribution: TaskDistribution) -> tuple[Space, Space]:
    """Returns the spaces of a distribution's environments, in their own format."""
    rows = getattr(distribution, "rows", None)
    if rows is not None and hasattr(rows, "observation_space"):
        return rows.observation_space, rows.action_space
    return distribution.spec.observation_space, distribution.spec.action_space


def _count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} is {shown(value)}; give a whole number, at least {least}")
    return int(value)


def _named(value: Any) -> str:
    if isinstance(value, gymnasium.vector.VectorEnv):
        return "a vector of environments, which are played one at a time"
    return shown(value)
