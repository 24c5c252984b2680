"""Collection of whole episodes of K tasks, all stepped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.equations.distributions import ActionDistribution
from metarl.errors import EnvFaultError
from metarl.types import Actor, BatchedEnv, EnvSpec, Part, StepResult, Task, Trajectories

Act = Callable[[Tensor, Tensor], tuple[Tensor, ActionDistribution]]
"""obs [K, E, obs_dim], noise [K, E, n] -> actions [K, E, act_dim] and their distribution."""

ActorOf = Callable[[slice], Actor]
"""Slice of each task's episodes -> the actor for them, which starts at their first step."""


def memoryless(act: Act) -> ActorOf:
    """Returns actors that read the current obs only, by `act`."""
    return lambda episodes: lambda obs, rewards, noise: act(obs, noise)


class Draws(NamedTuple):
    """Random numbers of K x E episodes, drawn before they begin."""

    reset_seeds: np.ndarray  # [K, E] uint64
    noise: Tensor  # [T, K, E, n]


def draw(spec: EnvSpec, num_tasks: int, episodes: int, noise: tuple[str, int], *key: int) -> Draws:
    """Returns the draws for `key` = (seed, counters...); `noise` is (kind, numbers an action)."""
    kind, width = noise
    seed, *counters = key
    values = np.empty((num_tasks, episodes, spec.horizon, width), np.float32)
    for k in range(num_tasks):
        for e in range(episodes):
            rng = keys.generator(seed, keys.Purpose.NOISE, *counters, k, e)
            if kind == "normal":
                rng.standard_normal(dtype=np.float32, out=values[k, e])
            elif kind == "gumbel":
                values[k, e] = rng.gumbel(size=values.shape[2:])
            else:
                raise ValueError(f"{kind!r} is no kind of noise: normal or gumbel")
    by_step = np.ascontiguousarray(values.transpose(2, 0, 1, 3))
    seeds = keys.seeds(num_tasks, episodes, seed, keys.Purpose.RESET, *counters)
    return Draws(seeds, torch.from_numpy(by_step))


class EpisodeBuffer(NamedTuple):
    """Arrays that hold the steps of K x E environments as they arrive."""

    obs: np.ndarray  # [K, T, E, obs_dim], zero after an episode's end
    rewards: np.ndarray  # [K, T, E], zero after an episode's end
    terminated: np.ndarray  # [K, T, E]
    truncated: np.ndarray  # [K, T, E]
    mask: np.ndarray  # [K, T, E], False after an episode's end
    final_obs: np.ndarray  # [K, E, obs_dim]
    solved_at: np.ndarray  # [K, E] first solved step, from 1; 0 for none

    @staticmethod
    def zeros(spec: EnvSpec, num_tasks: int, num_steps: int, episodes: int) -> EpisodeBuffer:
        shape, width = (num_tasks, num_steps, episodes), (spec.obs_dim,)
        return EpisodeBuffer(
            obs=np.zeros(shape + width, np.float32),
            rewards=np.zeros(shape, np.float32),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
            mask=np.zeros(shape, bool),
            final_obs=np.zeros((num_tasks, episodes, *width), np.float32),
            solved_at=np.zeros((num_tasks, episodes), np.int32),
        )

    def of(self, episodes: slice) -> EpisodeBuffer:
        """Returns views of some episodes."""
        timed = [x[:, :, episodes] for x in self[:5]]
        return EpisodeBuffer._make([*timed, *(x[:, episodes] for x in self[5:])])


class Playing:
    """Plays the episodes of one part and writes their steps to `buffer`."""

    def __init__(
        self,
        part: Part,
        actor_of: ActorOf,
        noise: Tensor,
        buffer: EpisodeBuffer,
        spec: EnvSpec,
        tasks: Sequence[Task],
    ):
        self.part, self._spec, self._tasks = part, spec, tasks
        self._actor, self._noise = actor_of(part.episodes), noise[:, :, part.episodes]
        self._buffer = buffer.of(part.episodes)
        self.shape = self._buffer.solved_at.shape
        """(K, e): tasks and episodes of the part."""
        self._alive = np.ones(self.shape, bool)
        self._ended = False
        self.actions: list[Tensor] = []
        self.distributions: list[ActionDistribution] = []
        self.going_on = True
        """Whether at least one episode has not ended."""

    def begin(self) -> None:
        """Receives the first obs and sends the first actions."""
        obs = self.part.first_obs()
        if not self.part.checked:
            self._check_finite("observation", obs, 0)
        self._send(obs, None)

    def advance(self) -> None:
        """Receives a step and sends the next actions, unless it was the last step.

        After that the last actions are repeated, as padding beside parts that still go on.
        """
        if not self.going_on:
            self.actions.append(self.actions[-1])
            self.distributions.append(self.distributions[-1])
            return
        t, alive, buffer = len(self.actions) - 1, self._alive, self._buffer
        step = self.part.receive()
        if not self.part.checked:
            self._check_finite("observation", step.obs, t + 1)
            self._check_finite("reward", step.rewards, t + 1)
        buffer.mask[:, t] = alive
        buffer.rewards[:, t] = np.where(alive, step.rewards, 0.0) if self._ended else step.rewards
        if step.success.any():
            buffer.solved_at[alive & step.success & (buffer.solved_at == 0)] = t + 1
        ends = alive & (step.terminated | step.truncated)
        if ends.any():
            buffer.terminated[:, t] = alive & step.terminated
            buffer.truncated[:, t] = alive & step.truncated & ~step.terminated
            buffer.final_obs[ends] = step.obs[ends]
            alive &= ~ends
            self._ended, self.going_on = True, bool(alive.any())
        if t + 1 < len(self._noise) and self.going_on:
            # After an episode's end its obs may be anything, nan included: the policy gets zeros.
            running = alive[..., None]
            obs = np.where(running, step.obs, np.float32(0.0)) if self._ended else step.obs
            self._send(obs, buffer.rewards[:, t])

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

    def _send(self, obs: np.ndarray, rewards: np.ndarray | None) -> None:
        """Sends the actions for `obs`; `rewards` [K, e] are those of the step that led to it."""
        t, device = len(self.actions), self._noise.device
        self._buffer.obs[:, t] = obs
        on_device = None if rewards is None else torch.from_numpy(rewards).to(device)
        seen = torch.from_numpy(obs).to(device)
        action, distribution = self._actor(seen, on_device, self._noise[t])
        self.part.send(action.cpu().numpy())
        self.actions.append(action)
        self.distributions.append(distribution)


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
    noise = draws.noise.to(device)
    num_steps, num_tasks, episodes, _ = noise.shape
    buffer = EpisodeBuffer.zeros(spec, num_tasks, num_steps, episodes)
    parts: Sequence[Part] = getattr(env, "parts", None) or [SinglePart(env, episodes)]
    plays = [Playing(part, actor_of, noise, buffer, spec, tasks) for part in parts]
    for play in plays:
        play.part.start(draws.reset_seeds[:, play.part.episodes])
    for play in plays:
        play.begin()
    for _ in range(num_steps):
        for play in plays:
            play.advance()
        if not any(play.going_on for play in plays):
            break
    used = len(plays[0].actions)
    timed = [torch.from_numpy(x[:, :used]).to(device) for x in buffer[:5]]
    obs, rewards, terminated, truncated, mask = timed
    return Trajectories(
        obs,
        torch.cat([torch.stack(play.actions, dim=1) for play in plays], dim=2),
        rewards,
        terminated,
        truncated,
        mask,
        torch.from_numpy(buffer.final_obs).to(device),
        torch.from_numpy(buffer.solved_at).to(device),
        _behaviour(plays),
    )


def _behaviour(plays: Sequence[Playing]) -> ActionDistribution:
    """Returns the distributions of all steps and parts, [K, T, E, ...] or broadcastable."""
    first = plays[0].distributions[0]
    fields = []
    for index, parameter in enumerate(first):
        if parameter.dim() == 1:  # shared by all tasks and episodes
            steps = torch.stack([step[index] for step in plays[0].distributions])
            fields.append(steps[:, None].expand(plays[0].shape[0], -1, -1, -1))
            continue
        parts = []
        for play in plays:
            steps = torch.stack([step[index] for step in play.distributions], dim=1)
            # Where a part's episodes share a task's parameter, the parts have to be told apart.
            parts.append(steps.expand(-1, -1, play.shape[1], -1) if len(plays) > 1 else steps)
        fields.append(torch.cat(parts, dim=2))
    family: Any = type(first)
    return family(*fields)


def returns_of(trajectories: Trajectories) -> Tensor:
    """Returns each episode's undiscounted return, [K, E]."""
    return (trajectories.rewards * trajectories.mask).sum(1)
