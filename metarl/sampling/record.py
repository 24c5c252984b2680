"""The arrays that a round's episodes are written to, step by step, where they are played."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from metarl.types import EnvSpec


class Record(NamedTuple):
    """N episodes of at most T steps. All numbers behind the end of an episode are zero."""

    obs: np.ndarray  # [T, N, obs_dim] float32, before each step
    actions: np.ndarray  # [T, N, act_dim]
    outputs: np.ndarray  # [T, N, output_dim] float32 of the policy's network, see `of_width`
    rewards: np.ndarray  # [T, N] float32
    final_obs: np.ndarray  # [N, obs_dim] float32, the state that the last step reached
    lengths: np.ndarray  # [N] int32
    terminated: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool: ended by the time limit
    solved_at: np.ndarray  # [N] int32: first step solved, from 1; 0 if none was
    filled: np.ndarray  # [N] int32: steps that may hold numbers other than zero
    width: np.ndarray  # [N] int32: output_dim of those steps' outputs

    @staticmethod
    def bytes_for(spec: EnvSpec, episodes: int, output_dim: int) -> int:
        return _layout(spec, episodes, output_dim).itemsize

    @classmethod
    def in_memory(cls, spec: EnvSpec, episodes: int, output_dim: int, buffer: Any) -> Record:
        """Returns the arrays as views of a zeroed buffer of `bytes_for` bytes."""
        whole = np.frombuffer(buffer, _layout(spec, episodes, output_dim), 1)
        return cls(*(whole[name][0] for name in cls._fields))

    def of_width(self, output_dim: int) -> Record:
        """Returns the record with outputs [T, N, output_dim], at most as many as it was made for;
        they are adjacent in memory, whatever their number."""
        steps, episodes, _ = self.outputs.shape
        used = self.outputs.reshape(-1)[: steps * episodes * output_dim]
        return self._replace(outputs=used.reshape(steps, episodes, output_dim))

    def part(self, rows: slice) -> Record:
        """Returns views of some episodes."""
        steps = (x[:, rows] for x in self[:4])
        return Record(*steps, *(x[rows] for x in self[4:]))

    def begin(self) -> None:
        """Forgets the last round; outputs of another width lie elsewhere in memory."""
        self.lengths[:] = self.solved_at[:] = 0
        self.terminated[:] = self.truncated[:] = False
        now = self.outputs.shape[2]
        if not np.isin(self.width, (0, now)).all():
            self.outputs[:] = 0.0
        self.width[:] = now

    def fill(self, t: int) -> None:
        """Notes that step `t` is written now, also if the round does not come to its end."""
        np.maximum(self.filled, t + 1, out=self.filled)

    def clear_after(self, steps: int) -> None:
        """Sets what earlier rounds left behind `steps` to zero."""
        left = int(self.filled.max(initial=0))
        for x in self[:4]:
            x[steps:left] = 0
        self.filled[:] = steps


def most_outputs(spec: EnvSpec) -> int:
    """Returns the most numbers that a policy's network gives for an action: a logit for each
    option, or a mean and a deviation for each number."""
    space = spec.action_space
    if isinstance(space, Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, MultiDiscrete) else 2 * spec.act_dim


def action_type(spec: EnvSpec) -> type:
    """Returns the type of actions in arrays: int64 for choices, else float32."""
    return np.int64 if np.issubdtype(spec.action_space.dtype, np.integer) else np.float32


def _layout(spec: EnvSpec, episodes: int, output_dim: int) -> np.dtype:
    """Returns the arrays as the fields of one record; each begins at a cache line of 64 bytes."""
    n, steps = episodes, (spec.horizon, episodes)
    fields: list[tuple[type, tuple[int, ...]]] = [
        (np.float32, (*steps, spec.obs_dim)),
        (action_type(spec), (*steps, spec.act_dim)),
        (np.float32, (*steps, output_dim)),
        (np.float32, steps),
        (np.float32, (n, spec.obs_dim)),
        (np.int32, (n,)),
        (np.bool_, (n,)),
        (np.bool_, (n,)),
        (np.int32, (n,)),
        (np.int32, (n,)),
        (np.int32, (n,)),
    ]
    formats = [np.dtype(each) for each in fields]
    *offsets, end = accumulate((-(-x.itemsize // 64) * 64 for x in formats), initial=0)
    return np.dtype(
        {"names": Record._fields, "formats": formats, "offsets": offsets, "itemsize": end}
    )
