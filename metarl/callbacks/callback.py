"""The interface of callbacks. It imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from metarl.config.settings import AnyConfig
    from metarl.runs.results import Results


class Start(NamedTuple):
    """Facts of a run before its first iteration, or before the first after it is continued."""

    run_dir: Path
    config: AnyConfig
    iteration: int
    """Complete iterations so far: 0 for a new run."""


class Callback:
    """Base class of callbacks. Each method may be left as it is: it does nothing.

    A callback watches a run and must not change it. `agent` is only to be read: its weights are
    compared after each call, and a run whose callback changed them ends with an error. Random
    numbers of a run come from its seed alone, so a callback may draw its own.

    An exception in a callback ends the run. The message names the callback, all complete
    iterations are kept, and the same call continues the run.

    Set `stop` to a reason to end training after the present iteration. A continued run calls
    `on_start` again: a callback that decides by earlier iterations reads them there, from
    `metarl.results(start.run_dir).training`.
    """

    stop: str = ""
    """Reason to end training; empty to go on."""

    def on_start(self, start: Start) -> None:
        """Called before the first iteration of a run, or of its continuation."""

    def on_iteration(self, metrics: Mapping[str, float], agent: Any) -> None:
        """Called after each iteration; `metrics` is its line of metrics.jsonl."""

    def on_checkpoint(self, iteration: int, folder: Path) -> None:
        """Called after a checkpoint of `iteration` complete iterations is saved in `folder`."""

    def on_evaluation(self, results: Results) -> None:
        """Called after `metarl.evaluate` has written an evaluation of a run."""

    def on_end(self, ending: str) -> None:
        """Called once after training, also after an error; `ending` says how it ended.

        It is "done", "stopped" by a callback, "interrupted" by Ctrl-C or a signal, or "failed".
        """
