"""Whole episodes of K tasks, all stepped together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.equations.distributions import ActionDistribution, each
from metarl.types import BatchedEnv, EnvSpec, Trajectories

Act = Callable[[Tensor, Tensor], tuple[Tensor, ActionDistribution]]
"""obs [K, E, obs_dim], noise [K, E, n] -> actions [K, E, act_dim] and their distribution."""


class Draws(NamedTuple):
    """All chance in K x E episodes, drawn before they begin."""

    reset_seeds: np.ndarray  # [K, E] uint64
    noise: Tensor  # [T, K, E, n]


def draw(spec: EnvSpec, num_tasks: int, episodes: int, noise: tuple[str, int], *key: int) -> Draws:
    """The draws that belong to `key` = (seed, counters...); see `metarl.keys`."""
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


@torch.no_grad()
def collect(
    env: BatchedEnv, act: Act, draws: Draws, spec: EnvSpec, device: torch.device
) -> Trajectories:
    """One episode in each of the K x E environments, under `act`.

    T is the horizon, or the longest episode's length where all ended before it.
    """
    noise = draws.noise.to(device)
    num_steps, num_tasks, episodes, _ = noise.shape
    shape = (num_tasks, num_steps, episodes)
    obs = np.empty((*shape, spec.obs_dim), np.float32)
    rewards = np.zeros(shape, np.float32)
    terminated, truncated, mask = (np.zeros(shape, bool) for _ in range(3))
    final_obs = np.empty((num_tasks, episodes, spec.obs_dim), np.float32)
    success = np.zeros((num_tasks, episodes), bool)
    alive = np.ones((num_tasks, episodes), bool)
    actions: list[Tensor] = []
    distributions: list[ActionDistribution] = []
    now = env.reset(draws.reset_seeds)
    for t in range(num_steps):
        obs[:, t] = now
        action, distribution = act(torch.from_numpy(now).to(device), noise[t])
        actions.append(action)
        distributions.append(distribution)
        step = env.step(action.cpu().numpy())
        mask[:, t] = alive
        rewards[:, t] = np.where(alive, step.rewards, 0.0)
        terminated[:, t] = alive & step.terminated
        truncated[:, t] = alive & step.truncated & ~step.terminated
        success |= alive & step.success
        ends = alive & (step.terminated | step.truncated)
        final_obs[ends] = step.obs[ends]
        alive &= ~ends
        # What lies beyond an episode's end may be anything, nan too: nobody is to see it.
        now = np.where(alive[..., None], step.obs, np.float32(0.0))
        if not alive.any():
            break
    used = len(actions)
    cut = [torch.from_numpy(x[:, :used]) for x in (obs, rewards, terminated, truncated, mask)]
    obs_t, rewards_t, terminated_t, truncated_t, mask_t = (x.to(device) for x in cut)
    return Trajectories(
        obs_t,
        torch.stack(actions, dim=1),
        rewards_t,
        terminated_t,
        truncated_t,
        mask_t,
        torch.from_numpy(final_obs).to(device),
        torch.from_numpy(success).to(device),
        _over_time(distributions, num_tasks),
    )


def _over_time(steps: list[ActionDistribution], num_tasks: int) -> ActionDistribution:
    """The distributions of T steps as one, [K, T, E, ...]; what all tasks share, expanded."""
    fields = []
    for parts in zip(*steps, strict=True):
        field = torch.stack(parts, dim=min(1, parts[0].dim() - 1))
        if parts[0].dim() == 1:
            field = field[None, :, None].expand(num_tasks, -1, -1, -1)
        fields.append(field)
    stacked = iter(fields)
    return each(lambda _: next(stacked), steps[0])


def returns_of(trajectories: Trajectories) -> Tensor:
    """The undiscounted return of each episode, [K, E]."""
    return (trajectories.rewards * trajectories.mask).sum(1)
