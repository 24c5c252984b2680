"""Whole rounds of K x E episodes, played in the shares of worker processes or in this one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UserError
from metarl.sampling.draws import RoundDraws
from metarl.sampling.env_share import EnvShares
from metarl.sampling.play import POLICY, Round, play
from metarl.sampling.pool import fault_at
from metarl.sampling.record import Record, most_outputs
from metarl.sampling.round_processes import RoundProcesses
from metarl.sampling.rows import USER, Plan, RowError, Rows, ShareFactory, Shares
from metarl.sampling.worker import portable
from metarl.types import EnvSpec, Task, TaskDistribution, Trajectories, Workers, check_number

Behaviour = Callable[[Tensor], ActionDistribution]
"""Outputs of the policy's network, [K, T, E, output_dim] -> the distributions of the actions."""


class RoundPlayer(Protocol):
    """Plays rounds into `record`; in this process, in worker processes or on other machines."""

    record: Record

    @property
    def busy_s(self) -> Sequence[float]: ...
    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None: ...
    def play(self, acting: Acting, draws: RoundDraws) -> None: ...
    def close(self) -> None: ...


class Shards:
    """K x E environments that are played round by round, by any number of processes."""

    def __init__(
        self, distribution: TaskDistribution, num_tasks: int, episodes: int, workers: Workers
    ):
        """Starts the worker processes, or none for a count of 0.

        Raises:
            UserError: where the environments cannot be sent to worker processes.
        """
        self.spec: EnvSpec = distribution.spec
        self._units = Units.all(num_tasks, episodes)
        self._shape = num_tasks, episodes
        shares: Shares = getattr(distribution, "shares", None) or Shares(
            EnvShares(distribution, self._units.size),
            divisible=getattr(distribution, "opens_fast", False),
        )
        self._payload_of = shares.payload_of
        plan = Plan.divided(self.spec, num_tasks, episodes, 1, shares.terms)
        self._tasks: Sequence[Task] = ()
        self.round_s = 0.0
        """Time that the last round took, in seconds, with what this process alone did."""
        self._player = _player(shares, plan, self._units, workers)

    @property
    def busy_s(self) -> Sequence[float]:
        """Time that each process took for its share of the last round, in seconds."""
        return self._player.busy_s

    @property
    def who(self) -> str:
        """The players, if other machines may take part; else empty."""
        return getattr(self._player, "who", "")

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the tasks of the next rounds.

        Raises:
            EnvFaultError: for a fault in a constructor.
        """
        check_number(tasks, self._shape[0])
        self._tasks = tasks
        payloads = tasks if self._payload_of is None else [self._payload_of(task) for task in tasks]
        of_row = [k for k, _ in self._units.places()]
        try:
            self._player.set_tasks([tasks[k] for k in of_row], [payloads[k] for k in of_row])
        except RowError as error:
            raise self._fault(error) from None

    def play(
        self, acting: Acting, behaviour: Behaviour, draws: RoundDraws, device: torch.device
    ) -> Trajectories:
        """Plays one episode in each environment.

        Raises:
            DivergedError: if a simulation became unstable.
            EnvFaultError: for a fault of an environment.
            FloatingPointError: if the policy gives numbers that are not finite; its text is the
                cause, if it is known.
        """
        started = time.perf_counter()
        try:
            self._player.play(acting, draws)
        except RowError as error:
            raise self._fault(error) from None
        record = self._player.record.of_width(acting.output_dim)
        found = trajectories(record, self._shape, behaviour, device)
        self.round_s = time.perf_counter() - started
        return found

    def close(self) -> None:
        self._player.close()

    def _fault(self, error: RowError) -> Exception:
        k, e = divmod(error.row, self._shape[1])
        if error.field == POLICY:
            return FloatingPointError(error.what)
        if error.field == USER:
            return UserError(error.what)
        return fault_at(error, self.spec.name, self._tasks, k, e)


def _player(shares: Shares, plan: Plan, units: Units, workers: Workers) -> RoundPlayer:
    """Returns the processes that play, or this one for none and for a BatchedEnv of a user's own
    that cannot be sent to another."""
    factory, outputs = shares.factory, most_outputs(plan.spec)
    if workers.cluster is not None:
        from metarl.sampling.ray_rounds import RayRounds

        return RayRounds(factory, plan, units, workers, outputs, shares.divisible)
    count = min(workers.count, len(units))
    if isinstance(factory, EnvShares) and not getattr(factory.distribution, "travels", True):
        count = 0
    if count and isinstance(factory, EnvShares):
        if not shares.divisible:  # one call steps all rows of a worker, which may take longer
            rows = -(-plan.size // count)
            workers = workers._replace(timeout_s=workers.timeout_s * rows)
        try:
            portable(factory)
        except UserError as error:
            (reason, *_) = str(error).splitlines()
            warnings.warn(f"{plan.spec.name}: {reason}; this process plays alone", stacklevel=4)
            count = 0
    if not count:
        return InThisProcess(factory, plan, units, outputs)
    limited = workers._replace(count=count)
    return RoundProcesses(factory, plan, units, limited, outputs, shares.divisible)


class InThisProcess:
    """Plays all units in this process."""

    def __init__(self, factory: ShareFactory, plan: Plan, units: Units, output_dim: int):
        rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
        self._share, self._units = factory.share(rows, plan.parts, 0), units
        size = max(1, Record.bytes_for(plan.spec, plan.size, output_dim))
        # Pages of an empty array take no memory until they are written to.
        memory = np.zeros(size, np.uint8)
        self.record = Record.in_memory(plan.spec, plan.size, output_dim, memory)
        self.busy_s: Sequence[float] = (0.0,)

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        self._share.set_tasks(dict(enumerate(payloads)))

    def play(self, acting: Acting, draws: RoundDraws) -> None:
        started = time.perf_counter()
        asked = Round(acting.of(self._units.groups()), draws)
        # With more threads a product may be rounded otherwise, and is too small to gain by them.
        with _blas().limit(limits=1, user_api="blas"):
            play(self._share, self._units, asked, self.record.of_width(acting.output_dim))
        self.busy_s = (time.perf_counter() - started,)

    def close(self) -> None:
        self._share.close()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def trajectories(
    record: Record,
    shape: tuple[int, int],
    behaviour: Behaviour,
    device: torch.device,
) -> Trajectories:
    """Returns a round's K x E episodes, copied from `record`; `shape` is (K, E)."""
    steps = int(record.lengths.max())

    def over_time(x: np.ndarray) -> Tensor:
        whole = torch.from_numpy(x[:steps]).to(device).unflatten(1, shape)
        return whole.transpose(0, 1).clone(memory_format=torch.contiguous_format)

    def of_episodes(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x.reshape(*shape, *x.shape[1:]).copy()).to(device)

    last = of_episodes(record.lengths)[:, None]  # [K, 1, E]
    step = torch.arange(1, steps + 1, dtype=last.dtype, device=device)[:, None]  # [T, 1]
    ends = step == last
    return Trajectories(
        obs=over_time(record.obs),
        actions=over_time(record.actions),
        rewards=over_time(record.rewards),
        terminated=ends & of_episodes(record.terminated)[:, None],
        truncated=ends & of_episodes(record.truncated)[:, None],
        mask=step <= last,
        final_obs=of_episodes(record.final_obs),
        solved_at=of_episodes(record.solved_at),
        behaviour=behaviour(over_time(record.outputs)),
    )
