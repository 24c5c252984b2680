"""Plays the episodes of an adaptation one after the other, in a single gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from metarl import keys
from metarl.acting.units import Units
from metarl.deployment.recorded import Played, trajectories_of
from metarl.envs.gym.rows import GymRow, GymRows
from metarl.equations.distributions import each
from metarl.errors import UserError
from metarl.sampling.draws import RoundDraws
from metarl.sampling.one_by_one import OneByOne
from metarl.sampling.play import POLICY, Round, play, too_large
from metarl.sampling.pool import fault_at
from metarl.sampling.record import Record
from metarl.sampling.rows import USER, Plan, RowError, Rows
from metarl.sampling.sampler import acts_in_numpy, unstable
from metarl.sampling.shards import trajectories
from metarl.types import EnvSpec, Task, Trajectories

TASK: Task = {}
"""Task of a user's environment in error messages: nothing is known of it."""


class Given(NamedTuple):
    """The environment of a user's own in the place of a maker of environments."""

    env: gymnasium.Env

    def arguments(self, task: Task) -> Mapping[str, Any]:
        return {}

    def make(self, task: Task) -> gymnasium.Env:
        return self.env

    def originals(self, env: gymnasium.Env) -> Mapping[str, Any]:
        return {}

    def separated(self, task: Task) -> Given:
        return self

    def apply(
        self, env: gymnasium.Env, originals: Mapping[str, Any], task: Task
    ) -> Mapping[str, Any]:
        return {}

    def check(self, env: gymnasium.Env, held: Mapping[str, Any], when: str) -> None: ...


@dataclass(frozen=True)
class OneEnvironment(GymRows):
    """Makes rows that all play the same environment, so one at a time."""

    told: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """Numbers of the task that follow each observation."""

    @classmethod
    def of(cls, env: gymnasium.Env, horizon: int, told: np.ndarray) -> OneEnvironment:
        spaces = env.observation_space, env.action_space
        return cls(Given(env), *spaces, horizon, None, told)

    def make(self) -> GymRow:
        return ToldRow(self, self.told)


class ToldRow(GymRow):
    """Row whose observations are followed by the numbers of the task."""

    def __init__(self, rows: GymRows, told: np.ndarray):
        super().__init__(rows)
        if len(told):
            observe = self._observe
            self._observe = lambda obs: np.concatenate([observe(obs), told])


def play_in(
    env: OneEnvironment,
    agent: Any,
    state: Any,
    spec: EnvSpec,
    index: int,
    draws: RoundDraws,
    device: torch.device,
) -> Trajectories:
    """Returns the episodes of adaptation step `index`, [1, T, E, ...], by the agent in `state`.

    They are the episodes of a task that `metarl evaluate` plays with as many episodes and the same
    key.

    Raises:
        EnvFaultError: for a fault of the environment.
        UnstableError: if the policy's actions are no longer finite.
    """
    try:
        if acts_in_numpy(agent):
            return _in_numpy(env, agent, state, spec, draws, device)
        return _in_torch(env, agent, state, draws, device)
    except RowError as error:
        if error.field == POLICY:
            raise unstable(index, error.what) from None
        if error.field == USER:
            raise UserError(error.what) from None
        name = type(env.maker.make(TASK).unwrapped).__name__
        # The environment's own error is the cause, so that its traceback is shown.
        raise fault_at(error, name, [TASK], 0, error.row) from error.__cause__


def _in_numpy(
    env: OneEnvironment,
    agent: Any,
    state: Any,
    spec: EnvSpec,
    draws: RoundDraws,
    device: torch.device,
) -> Trajectories:
    episodes = draws.shape[1]
    plan, acting = Plan.divided(spec, 1, episodes, 1), agent.acting(state)
    rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
    size = Record.bytes_for(spec, episodes, acting.output_dim)
    record = Record.in_memory(spec, episodes, acting.output_dim, np.zeros(size, np.uint8))
    whole = Units(1, episodes, 1, 0, episodes)
    for e in range(episodes):
        unit = whole.part(e, e + 1)
        share = OneByOne(env, rows, [unit.rows], 0)
        share.set_tasks({e: TASK})
        # The other episodes of its group are zeros: so the products have the shape, and the bits,
        # that they have where all episodes are played at once.
        with threadpool_limits(1, user_api="blas"):
            asked = Round(acting.of(unit.groups()), draws)
            play(share, unit, asked, record.part(unit.rows))
    return trajectories(record, draws.shape, partial(agent.behaviour, state), device)


@torch.no_grad()
def _in_torch(
    env: OneEnvironment, agent: Any, state: Any, draws: RoundDraws, device: torch.device
) -> Trajectories:
    """Plays by an agent of a user's own, which workers cannot evaluate."""
    played = []
    for e in range(draws.shape[1]):
        row, found = env.make(), Played([], [], [], False, [])
        row.set_task(TASK)
        actor, noise = agent.actor(state, slice(e, e + 1)), draws.noise([(0, e)])
        seed, *counters = draws.key
        vector = row.reset(keys.seed(seed, keys.Purpose.RESET, *counters, 0, e))
        rewards, over = None, False
        while not over:
            found.obs.append(_finite("observation", vector, e, len(found.actions)))
            seen = torch.from_numpy(found.obs[-1]).to(device)[None, None]
            drawn = torch.from_numpy(noise.at(len(found.actions))).to(device)[None]
            action, distribution = actor(seen, rewards, drawn)
            if not all(bool(x.isfinite().all()) for x in (action, *distribution)):
                raise RowError(POLICY, too_large(float(seen.abs().max())), "", e)
            own = each(lambda x: x.expand(1, 1, x.shape[-1]), distribution)
            found.distributions.append(own)
            found.actions.append(action[0, 0].cpu().numpy())
            (decoded,) = env.decode(found.actions[-1][None])
            vector, reward, terminated, truncated, _ = row.step(decoded)
            found.rewards.append(_finite("reward", reward, e, len(found.actions)))
            rewards = torch.tensor([[reward]], dtype=torch.float32, device=device)
            over = terminated or truncated
        found.obs.append(_finite("observation", vector, e, len(found.actions)))
        played.append(found._replace(terminated=terminated))
    return trajectories_of(played, device)


def _finite(field: str, value: Any, row: int, step: int) -> Any:
    """Returns a finite number or array as float32: a copy, since environments reuse their own."""
    found = np.array(value, np.float32)
    if not np.isfinite(found).all():
        raise RowError(field, f"the {field} is {value}", "", row, step)
    return found
