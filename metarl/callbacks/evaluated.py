"""Tells callbacks of an evaluation that was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.callbacks.group import Callbacks, checked
from metarl.callbacks.tensorboard import TensorBoard
from metarl.runs.directory import RunDirectory
from metarl.runs.results import of_evaluation

if TYPE_CHECKING:
    from metarl.callbacks.callback import Callback
    from metarl.runs.results import Results


def tell_of_evaluation(run: Path, folder: Path, callbacks: Sequence[Callback] = ()) -> Results:
    """Returns the results of an evaluation in `folder`, once the callbacks were told.

    TensorBoard shows it too if the evaluation lies in the run's folder and training has written
    files of TensorBoard there.

    Raises:
        UserError: if a callback raised.
    """
    results = of_evaluation(run, folder)
    callbacks = checked(callbacks)
    shown = any(isinstance(one, TensorBoard) for one in callbacks)
    if not shown and results.home == run and RunDirectory(run).tensorboard.is_dir():
        callbacks = (TensorBoard(), *callbacks)
    Callbacks(callbacks).evaluation(results)
    return results
