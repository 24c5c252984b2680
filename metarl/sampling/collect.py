"""Collection of whole episodes of K tasks, all stepped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.equations.distributions import ActionDistribution, each
from metarl.errors import EnvFaultError
from metarl.sampling.draws import BLOCK, KINDS, noise_block
from metarl.types import Actor, BatchedEnv, EnvSpec, Part, StepResult, Task, Trajectories

Act = Callable[[Tensor, Tensor], tuple[Tensor, ActionDistribution]]
"""obs [K, E, obs_dim], noise [K, E, n] -> actions [K, E, act_dim] and their distribution."""

ActorOf = Callable[[slice], Actor]
"""Slice of each task's episodes -> the actor for them, which starts at their first step."""


def memoryless(act: Act) -> ActorOf:
    """Returns actors that read the current obs only, by `act`."""
    return lambda episodes: lambda obs, rewards, noise: act(obs, noise)


class Noise:
    """Noise of K x E episodes, n numbers a step, drawn as far as the episodes go."""

    def __init__(self, steps: int, more: Callable[[int], Tensor]):
        """`steps` is the most that an episode has; `more(s)` draws the next s, [s, K, E, n]."""
        self.steps, self._more = steps, more
        self._blocks: list[Tensor] = []

    def at(self, step: int, device: torch.device) -> Tensor:
        """Returns the noise of a step, [K, E, n]."""
        index, place = divmod(step, BLOCK)
        while len(self._blocks) <= index:
            self._blocks.append(self._more(min(BLOCK, self.steps - BLOCK * len(self._blocks))))
        if self._blocks[index].device != device:
            self._blocks[index] = self._blocks[index].to(device)
        return self._blocks[index][place]

    def first(self, steps: int) -> Tensor:
        """Returns the noise of the first steps, [steps, K, E, n], in the memory of the CPU."""
        return torch.stack([self.at(step, torch.device("cpu")) for step in range(steps)])


class Draws(NamedTuple):
    """Random numbers of K x E episodes."""

    reset_seeds: np.ndarray  # [K, E] uint64
    noise: Noise
    steps: int
    """The most steps that are played."""


def draw(
    spec: EnvSpec,
    num_tasks: int,
    episodes: int,
    noise: tuple[str, int],
    *key: int,
    alike: bool = False,
) -> Draws:
    """Returns the draws for `key` = (seed, counters...); `noise` is (kind, numbers an action).

    Each task has draws of its own, or the first one's if they are `alike`.
    """
    kind, width = noise
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of noise: {', '.join(KINDS)}")
    seed, *counters = key
    drawn = 1 if alike else num_tasks
    generators = [
        keys.generator(seed, keys.Purpose.NOISE, *counters, k, e)
        for k in range(drawn)
        for e in range(episodes)
    ]

    def more(steps: int) -> Tensor:
        if kind == "zero":
            return torch.zeros(steps, num_tasks, episodes, width)
        values = torch.from_numpy(noise_block(generators, (steps, width), kind))
        return values.view(steps, drawn, episodes, width).expand(-1, num_tasks, -1, -1)

    seeds = keys.seeds(drawn, episodes, seed, keys.Purpose.RESET, *counters)
    seeds = seeds.repeat(num_tasks // drawn, 0)
    return Draws(seeds, Noise(spec.horizon, more), spec.horizon)


class PlayedStep(NamedTuple):
    """A step of some episodes of every task, zero in those that ended before."""

    obs: Tensor  # [K, e, obs_dim] before the step
    actions: Tensor  # [K, e, act_dim]
    rewards: Tensor  # [K, e]
    terminated: Tensor  # [K, e] bool
    truncated: Tensor  # [K, e] bool
    mask: Tensor  # [K, e] bool: False after an episode's end


class Playing:
    """Plays the episodes of one part and keeps their steps."""

    def __init__(
        self,
        part: Part,
        actor_of: ActorOf,
        draws: Draws,
        spec: EnvSpec,
        device: torch.device,
        tasks: Sequence[Task],
    ):
        self.part, self._spec, self._device, self._tasks = part, spec, device, tasks
        self._actor, self._draws = actor_of(part.episodes), draws
        self.shape = draws.reset_seeds[:, part.episodes].shape
        """(K, e): tasks and episodes of the part."""
        self._alive = np.ones(self.shape, bool)
        self.steps: list[PlayedStep] = []
        self.distributions: list[ActionDistribution] = []
        self.final_obs = np.zeros((*self.shape, spec.obs_dim), np.float32)
        self.solved_at = np.zeros(self.shape, np.int32)

    @property
    def going_on(self) -> bool:
        """Whether at least one episode has not ended."""
        return bool(self._alive.any())

    def begin(self) -> None:
        """Receives the first obs and sends the first actions."""
        obs = self.part.first_obs()
        if not self.part.checked:
            self._check_finite("observation", obs, 0)
        self._send(obs.astype(np.float32), None)

    def advance(self) -> None:
        """Receives a step and sends the next actions, unless it was the last step.

        After that, steps that do not count are added, beside parts whose episodes go on.
        """
        if not self.going_on:
            padding = PlayedStep(*map(torch.zeros_like, self.steps[-1]))
            self.steps.append(padding._replace(actions=self.steps[-1].actions))
            self.distributions.append(self.distributions[-1])
            return
        step, alive, t = self.part.receive(), self._alive, len(self.steps) + 1
        if not self.part.checked:
            self._check_finite("observation", step.obs, t)
            self._check_finite("reward", step.rewards, t)
        obs, actions = self._sent
        rewards = torch.from_numpy(np.where(alive, step.rewards, 0.0).astype(np.float32))
        terminated = alive & step.terminated
        truncated = alive & step.truncated & ~step.terminated
        flags = map(torch.from_numpy, (terminated, truncated, alive))
        self.steps.append(PlayedStep(obs, actions, rewards.to(obs.device), *flags))
        self.solved_at[alive & step.success & (self.solved_at == 0)] = t
        ends = terminated | truncated
        self.final_obs[ends] = step.obs[ends]
        self._alive = alive & ~ends
        if t < self._draws.steps and self.going_on:
            # After an episode's end its obs may be anything, nan included: the policy gets zeros.
            running = np.where(self._alive[..., None], step.obs, np.float32(0.0))
            self._send(running.astype(np.float32, copy=False), self.steps[-1].rewards)

    def _check_finite(self, field: str, values: np.ndarray, step: int) -> None:
        """Raises the fault for a value that is not finite, before it can reach the policy."""
        if np.isfinite(values).all():
            return
        wrong = ~np.isfinite(values).reshape(*self._alive.shape, -1).all(axis=-1) & self._alive
        if wrong.any():
            k, e = np.argwhere(wrong)[0].tolist()
            found = values[k, e]
            value = found[~np.isfinite(found)][0] if found.ndim else found
            raise EnvFaultError(
                self._spec.name, self._tasks[k] if self._tasks else {},
                e + self.part.episodes.start, step, field, f"the {field} is {value}",
            )  # fmt: skip

    def _send(self, obs: np.ndarray, rewards: Tensor | None) -> None:
        """Sends the actions for `obs`; `rewards` [K, e] are those of the step that led to it."""
        seen = torch.from_numpy(obs).to(self._device)
        noise = self._draws.noise.at(len(self.steps), self._device)[:, self.part.episodes]
        actions, distribution = self._actor(seen, rewards, noise)
        self.part.send(actions.cpu().numpy())
        self._sent = seen, actions
        # Tasks or episodes may share a parameter, as a deviation.
        self.distributions.append(each(lambda x: x.expand(*self.shape, -1), distribution))


class SinglePart:
    """A BatchedEnv that has no parts, as one Part with all episodes."""

    checked = False

    def __init__(self, env: BatchedEnv, episodes: int):
        self._env, self.episodes = env, slice(0, episodes)

    def start(self, seeds: np.ndarray) -> None:
        self._obs = self._env.reset(seeds)

    def first_obs(self) -> np.ndarray:
        return self._obs

    def send(self, actions: np.ndarray) -> None:
        self._step = self._env.step(actions)

    def receive(self) -> StepResult:
        return self._step


@torch.no_grad()
def collect(
    env: BatchedEnv,
    actor_of: ActorOf,
    draws: Draws,
    spec: EnvSpec,
    device: torch.device,
    tasks: Sequence[Task] = (),
) -> Trajectories:
    """Collects one episode in each of the K x E environments; errors name one of `tasks`.

    T is the length of the longest episode, at most the horizon. If the environment has parts, one
    part steps while the policy acts in another.

    Raises:
        EnvFaultError: for an observation or a reward that is not finite.
    """
    episodes = draws.reset_seeds.shape[1]
    parts: Sequence[Part] = getattr(env, "parts", None) or [SinglePart(env, episodes)]
    plays = [Playing(part, actor_of, draws, spec, device, tasks) for part in parts]
    for play in plays:
        play.part.start(draws.reset_seeds[:, play.part.episodes])
    for play in plays:
        play.begin()
    while len(plays[0].steps) < draws.steps and any(play.going_on for play in plays):
        for play in plays:
            play.advance()
    steps = _joined([play.steps for play in plays])
    final_obs = np.concatenate([play.final_obs for play in plays], axis=1)
    solved_at = np.concatenate([play.solved_at for play in plays], axis=1)
    family: Any = type(plays[0].distributions[0])
    return Trajectories(
        *(x.to(device) for x in steps),
        final_obs=torch.from_numpy(final_obs).to(device),
        solved_at=torch.from_numpy(solved_at).to(device),
        behaviour=family(*_joined([play.distributions for play in plays])),
    )


def _joined(parts: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Returns the fields of all parts' steps, [K, T, E, ...] each."""
    over_time = [[torch.stack(x, dim=1) for x in zip(*steps, strict=True)] for steps in parts]
    return [torch.cat(x, dim=2) for x in zip(*over_time, strict=True)]


def returns_of(trajectories: Trajectories) -> Tensor:
    """Returns each episode's undiscounted return, [K, E] float64: a sum of large rewards need not
    be a number of float32."""
    return torch.where(trajectories.mask, trajectories.rewards, 0.0).double().sum(1)
