"""The interface of sources: where the data of a meta-batch comes from, and how it is judged.

Training and evaluation are written once, on top of these: a source of episodes plays tasks of
reinforcement, a source of examples draws supervised ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import torch

from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.measures import Measure
from metarl.runs.watch import Watch
from metarl.types import Metrics, Task

Note = Callable[[str], None]
"""Shows a line to the user."""


class Rounds(NamedTuple):
    """K tasks, adapted as often as in training, and what the meta-update learns from."""

    state: Any
    """State of the tasks that the agent's `adapt` returned."""
    query: Any
    """Data that was drawn after the last step."""
    curve: Any
    """Results before adaptation and after each step, which `outcomes` averages; None if not
    measured."""


class Source(Protocol):
    """Tasks to learn from in training."""

    @property
    def spec(self) -> Any:
        """EnvSpec or FewShotSpec."""
        ...

    device: torch.device
    counters: dict[str, Any]
    """Counts of what was used so far; checkpoints keep them."""
    recent: Sequence[float]
    """Scores of the last iterations, which training sets before an iteration, for a curriculum."""
    updates: int
    """Meta-updates in an iteration."""
    workers: int
    """Processes or threads beside this one, for the record."""

    def open(self, stack: ExitStack, note: Note) -> str:
        """Makes ready what iterations need, until `stack` closes; returns a line of facts."""
        ...

    def collect(self, agent: Any, iteration: int, update: int) -> Rounds:
        """Returns fresh tasks' data before and after each adaptation step.

        Raises:
            UserError: where data cannot be learned from; the message names the iteration.
        """
        ...

    def outcomes(self, rounds: Sequence[Rounds]) -> Metrics:
        """Returns how well tasks were solved before adaptation and after each step, on average."""
        ...

    def sameness(self, rounds: Sequence[Rounds]) -> str:
        """Returns why nothing in these data tells better from worse; empty where something may."""
        ...

    def sizes(self, rounds: Sequence[Rounds]) -> dict[str, float]:
        """Returns the largest magnitude of each quantity of the data, such as `rewards`."""
        ...

    def score(self, outcomes: Metrics, steps: int) -> float:
        """Returns the outcome after `steps` steps as a number, the higher the better."""
        ...


class HeldOut(Protocol):
    """Held-out tasks; every agent meets the same."""

    @property
    def tasks(self) -> Sequence[Task]: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def made_from(self) -> Mapping[str, Any]:
        """Settings of the evaluation that adaptation.json keeps."""
        ...

    @property
    def used(self) -> tuple[float, ...]:
        """Amount that one task has used by each step, where it does not depend on the agent."""
        ...

    def seen_by(self, observes_task: bool) -> HeldOut:
        """Returns the same tasks as an agent sees them that observes its task's numbers, or not."""
        ...

    @property
    def spec(self) -> Any: ...
    def adapt(self, agent: Any, name: str, watch: Watch | None = None) -> Outcome:
        """Returns how the agent adapted to every task, from its meta-parameters each time; `watch`
        is told of each round."""
        ...

    def shown(self, agent: Any, found: Adaptation, title: str) -> dict[str, bytes]:
        """Prints what the source shows besides the adaptation curve; returns contents of files by
        their names."""
        ...
