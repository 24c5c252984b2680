"""Collection of whole episodes of K tasks, all stepped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.equations.distributions import ActionDistribution, each
from metarl.errors import EnvFaultError
from metarl.types import Actor, BatchedEnv, EnvSpec, Part, StepResult, Task, Trajectories

Act = Callable[[Tensor, Tensor], tuple[Tensor, ActionDistribution]]
"""obs [K, E, obs_dim], noise [K, E, n] -> actions [K, E, act_dim] and their distribution."""

ActorOf = Callable[[slice], Actor]
"""Slice of each task's episodes -> the actor for them, which starts at their first step."""


def memoryless(act: Act) -> ActorOf:
    """Returns actors that read the current obs only, by `act`."""

    def actor(
        obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        return act(obs, noise)

    return lambda _: actor


Fault = Callable[[int, int, int, str, object], EnvFaultError]
"""Maps task, episode, step, field and value to the error that names them."""


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


def draw_no_noise(
    spec: EnvSpec, num_tasks: int, episodes: int, noise: tuple[str, int], *key: int
) -> Draws:
    """Returns draws with zero noise: a policy then takes its mode, the likeliest action."""
    seed, *counters = key
    seeds = keys.seeds(num_tasks, episodes, seed, keys.Purpose.RESET, *counters)
    return Draws(seeds, torch.zeros(spec.horizon, num_tasks, episodes, noise[1]))


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
        actor: Actor,
        noise: Tensor,
        buffer: EpisodeBuffer,
        device: torch.device,
        fault: Fault,
    ):
        self.part, self._actor, self._noise, self._device = part, actor, noise, device
        self._fault = fault
        self._buffer = buffer
        self._alive = np.ones(buffer.solved_at.shape, bool)
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
        """Receives a step and sends the next actions, unless it was the last step."""
        if not self.going_on:
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
            raise self._fault(k, e + self.part.episodes.start, step, field, value)

    def _send(self, obs: np.ndarray, rewards: np.ndarray | None) -> None:
        """Sends the actions for `obs`; `rewards` [K, e] are those of the step that led to it."""
        t = len(self.actions)
        self._buffer.obs[:, t] = obs
        on_device = None if rewards is None else torch.from_numpy(rewards).to(self._device)
        seen = torch.from_numpy(obs).to(self._device)
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

    def fault(k: int, e: int, step: int, field: str, value: object) -> EnvFaultError:
        task = tasks[k] if tasks else {}
        return EnvFaultError(spec.name, task, e, step, field, f"the {field} is {value}")

    noise = draws.noise.to(device)
    num_steps, num_tasks, episodes, _ = noise.shape
    buffer = EpisodeBuffer.zeros(spec, num_tasks, num_steps, episodes)
    parts: Sequence[Part] = getattr(env, "parts", None) or [SinglePart(env, episodes)]
    plays = [
        Playing(
            part,
            actor_of(part.episodes),
            noise[:, :, part.episodes],
            buffer.of(part.episodes),
            device,
            fault,
        )
        for part in parts
    ]
    for play in plays:
        play.part.start(draws.reset_seeds[:, play.part.episodes])
    for play in plays:
        play.begin()
    for _ in range(num_steps):
        for play in plays:
            play.advance()
        if not any(play.going_on for play in plays):
            break
    used = max(len(play.actions) for play in plays)
    timed = [torch.from_numpy(x[:, :used]).to(device) for x in buffer[:5]]
    obs, rewards, terminated, truncated, mask = timed
    return Trajectories(
        obs,
        torch.cat([torch.stack(_extended(x.actions, used), dim=1) for x in plays], dim=2),
        rewards,
        terminated,
        truncated,
        mask,
        torch.from_numpy(buffer.final_obs).to(device),
        torch.from_numpy(buffer.solved_at).to(device),
        _joined([_over_time(_extended(x.distributions, used), num_tasks) for x in plays], parts),
    )


Item = TypeVar("Item")


def _extended(items: list[Item], length: int) -> list[Item]:
    """Repeats the last item up to `length`, for a part whose episodes all ended early."""
    return items + items[-1:] * (length - len(items))


def _over_time(steps: list[ActionDistribution], num_tasks: int) -> ActionDistribution:
    """Stacks the distributions of T steps, [K, T, E, ...]; expands parameters shared by tasks."""
    fields = []
    for parts in zip(*steps, strict=True):
        field = torch.stack(parts, dim=min(1, parts[0].dim() - 1))
        if parts[0].dim() == 1:
            field = field[None, :, None].expand(num_tasks, -1, -1, -1)
        fields.append(field)
    stacked = iter(fields)
    return each(lambda _: next(stacked), steps[0])


def _joined(of_parts: list[ActionDistribution], parts: Sequence[Part]) -> ActionDistribution:
    """Concatenates the distributions of all parts along E, [K, T, E, ...]."""
    if len(of_parts) == 1:
        return of_parts[0]
    fields = []
    for pieces in zip(*of_parts, strict=True):
        spread = [
            piece.expand(-1, -1, part.episodes.stop - part.episodes.start, -1)
            for piece, part in zip(pieces, parts, strict=True)
        ]
        fields.append(torch.cat(spread, dim=2))
    joined = iter(fields)
    return each(lambda _: next(joined), of_parts[0])


def returns_of(trajectories: Trajectories) -> Tensor:
    """Returns each episode's undiscounted return, [K, E]."""
    return (trajectories.rewards * trajectories.mask).sum(1)
