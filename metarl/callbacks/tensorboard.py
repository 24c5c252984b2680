"""TensorBoard's files of a run: metrics, hyperparameters, adaptation curves of evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.callbacks.callback import Callback, Start
from metarl.config.files import keys
from metarl.runs import places
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import natural

if TYPE_CHECKING:
    from metarl.runs.board import Board
    from metarl.runs.results import Results


class TensorBoard(Callback):
    """Writes RUN/tensorboard/: scalars of each iteration, hyperparameters, and of evaluations the
    adaptation curve, with the adaptation step as TensorBoard's step.

    Every training has one, and so has every evaluation in the folder of a run with these files.
    Give it to `metarl.evaluate` to show another evaluation.
    """

    _board: Board | None = None

    def on_start(self, start: Start) -> None:
        from metarl.runs.board import Board  # slow to import

        run = RunDirectory(start.run_dir)
        self._board = Board(run.tensorboard, start.iteration)
        if not start.iteration:
            self._board.hyperparameters(hyperparameters(start.config))

    def on_iteration(self, metrics: Mapping[str, float], agent: Any) -> None:
        del agent
        if self._board is not None:
            names = sorted(metrics.keys() - {"iteration"}, key=natural)
            scalars = {name: float(metrics[name]) for name in names}
            self._board.append(int(metrics["iteration"]), scalars)

    def on_evaluation(self, results: Results) -> None:
        from metarl.runs.board import Board

        run = RunDirectory(results.home)
        kind = Path("evaluation", _name(results))
        folders = [run.tensorboard / part for part in (".", kind.parent, kind)]
        places.check(run.root, folders, [])  # a link may lead out of a run that somebody sent
        board = Board(run.tensorboard, -1, str(kind))  # step 0 and later of an earlier one go
        try:
            for row in results.summary:
                name = f"evaluation/{row['split']}/{row['measure']}/{row['learner']}"
                board.append(row["step"], {name: math.nan if row["mean"] is None else row["mean"]})
        finally:
            board.close()

    def on_end(self, ending: str) -> None:
        del ending
        if self._board is not None:
            self._board.close()
            self._board = None


def _name(results: Results) -> str:
    """Returns the name of an evaluation in a run's folder; none of one that lies elsewhere."""
    root = RunDirectory(results.run).evaluation.root.resolve()
    folder = root if results.folder is None else results.folder.resolve()
    if folder == root:
        return "test"
    return folder.name if folder.parent == root else ""


def hyperparameters(config: Any) -> dict[str, float | bool | str]:
    """Returns a config as TensorBoard's hyperparameters: numbers, truth values and text."""
    found = {}
    for key, value in keys(config).items():
        plain = isinstance(value, bool | str | int) or (
            isinstance(value, float) and math.isfinite(value)
        )
        found[key] = value if plain else str(value)
    return found
