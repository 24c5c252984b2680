"""Recorded episodes as an agent's support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from torch import Tensor

from metarl.deployment.examples import as_array
from metarl.envs.gym.spaces import observer
from metarl.equations.distributions import each
from metarl.errors import UserError
from metarl.sampling.record import action_type
from metarl.sampling.rows import RowError
from metarl.text import shown
from metarl.types import EnvSpec, Trajectories


class Episode(NamedTuple):
    """A recorded episode of T steps, for `agent.adapt`; a dict with these keys is one too."""

    obs: Any
    """T + 1 observations in the environment's own format: before each step, and after the last.
    The one after the last may be left out where the episode terminated."""
    actions: Any
    """T actions in the environment's own format; those of a Box may lie beyond its bounds."""
    rewards: Any
    """T rewards in the environment's units."""
    terminated: Any
    """Whether the last step terminated the episode; False where it was cut, by a time limit or by
    the end of the recording. An array [T] of bools is read too."""


class Played(NamedTuple):
    """An episode of T steps as arrays."""

    obs: list[np.ndarray]
    """T + 1 vectors [obs_dim] float32, as the agent sees them."""
    actions: list[np.ndarray]
    """T vectors [act_dim], as the policy gives them."""
    rewards: list[np.ndarray]
    terminated: bool
    distributions: list[Any]
    """The collecting policy's, [1, 1, ...] each."""


def is_episode(value: Any) -> bool:
    """Returns whether a value has the form of a recorded episode, whole or in part."""
    names = value if isinstance(value, Mapping) else getattr(value, "_fields", ())
    return "rewards" in names and "actions" in names


def read(
    episodes: Sequence[Any], spec: EnvSpec, spaces: tuple[Space, Space], told: np.ndarray
) -> list[Played]:
    """Returns recorded episodes as arrays.

    Args:
        episodes: those of a user.
        spec: the run's.
        spaces: observation and action space of the environment that they were recorded in.
        told: numbers of the task that follow each observation.

    Raises:
        UserError: for what has another form; it names the episode and the field.
    """
    return [
        _Reader(f"episode {i}", spec, spaces, told).read(episode)
        for i, episode in enumerate(episodes)
    ]


class _Reader(NamedTuple):
    """Reads one episode."""

    place: str
    spec: EnvSpec
    spaces: tuple[Space, Space]
    told: np.ndarray

    def read(self, episode: Any) -> Played:
        given = episode if isinstance(episode, Mapping) else episode._asdict()
        if missing := [name for name in Episode._fields if name not in given]:
            raise UserError(
                f"{self.place} has no {' and no '.join(missing)}\n"
                "give metarl.Episode(obs, actions, rewards, terminated), or a dict with these keys"
            )
        rewards = self._rewards(given["rewards"])
        steps = len(rewards)
        terminated = self._terminated(given["terminated"], steps)
        actions = self._of_steps("actions", given["actions"], (steps,))
        allowed = (steps, steps + 1) if terminated else (steps + 1,)
        obs = self._of_steps("obs", given["obs"], allowed)
        observe = observer(self.spaces[0])
        seen = [self._vector(observe, x, i) for i, x in enumerate(obs)]
        acted = [self._action(x, i) for i, x in enumerate(actions)]
        seen += [np.zeros_like(seen[0])] * (steps + 1 - len(seen))
        return Played(seen, acted, list(rewards), terminated, [])

    def _rewards(self, given: Any) -> np.ndarray:
        rewards = as_array(given)
        if rewards.ndim != 1 or rewards.dtype.kind not in "fiub" or not len(rewards):
            raise UserError(
                f"{self.place}: rewards have shape {rewards.shape} and {rewards.dtype}; give a "
                "number for each of at least one step"
            )
        if len(rewards) > self.spec.horizon:
            raise UserError(
                f"{self.place} has {len(rewards)} steps, and the run's horizon is "
                f"{self.spec.horizon}\ncut it there, with terminated=False"
            )
        rewards = rewards.astype(np.float32)
        if not np.isfinite(rewards).all():
            at = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise UserError(
                f"{self.place}: the reward of step {at + 1} is {rewards[at]}; leave the episode out"
            )
        return rewards

    def _terminated(self, given: Any, steps: int) -> bool:
        flags = as_array(given)
        fits = flags.shape in ((), (steps,)) and flags.dtype.kind in "b"
        if not fits or (flags.ndim and flags[:-1].any()):
            raise UserError(
                f"{self.place}: terminated is {shown(given)}; give whether the last step "
                "terminated the episode, True or False"
            )
        return bool(flags.ravel()[-1])

    def _of_steps(self, name: str, given: Any, allowed: tuple[int, ...]) -> Any:
        if isinstance(given, Tensor):
            given = given.detach().cpu().numpy()
        count = len(given) if isinstance(given, Sequence | np.ndarray) and np.ndim(given) else -1
        if count not in allowed:
            extra = "; obs also has the one after the last step" if name == "obs" else ""
            raise UserError(
                f"{self.place} has {allowed[0] if name == 'actions' else allowed[-1] - 1} rewards "
                f"and {count if count >= 0 else shown(given)} {name}; give {allowed[-1]}{extra}"
            )
        return given

    def _vector(self, observe: Any, obs: Any, index: int) -> np.ndarray:
        if isinstance(self.spaces[0], Box):
            obs = as_array(obs)
        try:
            found = np.asarray(observe(obs), np.float32)
        except RowError as error:
            raise UserError(f"{self.place}, obs[{index}]: {error.what}") from None
        if not np.isfinite(found).all():
            raise UserError(
                f"{self.place}, obs[{index}] has a number that is not finite; leave the episode out"
            )
        return np.concatenate([found, self.told])

    def _action(self, action: Any, index: int) -> np.ndarray:
        """Returns an action as the policy gives it; choices begin at zero."""
        space, found = self.spaces[1], as_array(action)
        fits = found.shape == space.shape or (not space.shape and found.shape == (1,))
        if fits and isinstance(space, Box):
            found = found.astype(np.float32)
            fits = found.dtype.kind == "f" and bool(np.isfinite(found).all())
        elif fits and isinstance(space, Discrete | MultiDiscrete):
            found = found.reshape(space.shape) - space.start
            most = space.n if isinstance(space, Discrete) else space.nvec
            fits = found.dtype.kind in "iu" and bool(((found >= 0) & (found < most)).all())
        if not fits:
            raise UserError(
                f"{self.place}: actions[{index}] is {shown(action)}, which is not in {space}\n"
                "give actions as the environment takes them"
            )
        return found.reshape(-1).astype(action_type(self.spec))


@torch.no_grad()
def as_support(
    episodes: Sequence[Played], agent: Any, state: Any, device: torch.device
) -> Trajectories:
    """Returns recorded episodes as if the agent in `state` had chosen their actions."""
    actor, count = agent.actor(state, slice(0, len(episodes))), len(episodes)
    steps = max(len(x.actions) for x in episodes)
    rewards, distributions = None, []
    noise = torch.zeros(1, count, agent.noise[1], device=device)
    for t in range(steps):
        obs = np.stack([x.obs[min(t, len(x.actions) - 1)] for x in episodes])
        seen = torch.from_numpy(obs).to(device)[None]
        distributions.append(actor(seen, rewards, noise)[1])
        paid = [x.rewards[min(t, len(x.rewards) - 1)] for x in episodes]
        rewards = torch.tensor(np.array(paid, np.float32), device=device)[None]
    found = []
    for i, episode in enumerate(episodes):
        own = [
            each(lambda x, i=i: x.expand(1, count, x.shape[-1])[:, i : i + 1], one)
            for one in distributions[: len(episode.actions)]
        ]
        found.append(episode._replace(distributions=own))
    return trajectories_of(found, device)


def trajectories_of(episodes: Sequence[Played], device: torch.device) -> Trajectories:
    """Returns whole episodes of one task, [1, T, E, ...]; zero after each one's end."""
    steps = max(len(x.actions) for x in episodes)
    lengths = torch.tensor([len(x.actions) for x in episodes], device=device)
    over = torch.tensor([x.terminated for x in episodes], device=device)

    def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
        whole = np.stack(rows)
        return np.concatenate(
            [whole, np.zeros((steps - len(whole), *whole.shape[1:]), whole.dtype)]
        )

    def over_time(each_of: Sequence[Sequence[np.ndarray]]) -> Tensor:
        whole = np.stack([padded(rows) for rows in each_of], 1)  # [T, E, ...]
        return torch.from_numpy(whole).to(device)[None]

    def parameter(index: int) -> Tensor:
        rows = [torch.cat([d[index] for d in x.distributions], 0)[:, 0] for x in episodes]
        whole = [torch.cat([r, r.new_zeros(steps - len(r), *r.shape[1:])]) for r in rows]
        return torch.stack(whole, 1)[None]

    first = episodes[0].distributions[0]
    family: Any = type(first)
    time = torch.arange(1, steps + 1, device=device)[:, None]
    ends = (time == lengths)[None]
    last = np.stack([x.obs[-1] for x in episodes])
    return Trajectories(
        obs=over_time([x.obs[:-1] for x in episodes]),
        actions=over_time([x.actions for x in episodes]),
        rewards=over_time([x.rewards for x in episodes]),
        terminated=ends & over,
        truncated=ends & ~over,
        mask=(time <= lengths)[None],
        final_obs=torch.from_numpy(last).to(device)[None],
        solved_at=torch.zeros(1, len(episodes), dtype=torch.int32, device=device),
        behaviour=family(*(parameter(i) for i in range(len(first)))),
    )
