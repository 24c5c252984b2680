"""Weights & Biases: metrics, settings and evaluations of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from metarl.callbacks.callback import Callback, Start
from metarl.errors import UserError
from metarl.found import read_text
from metarl.runs.files import replace_text

if TYPE_CHECKING:
    from metarl.runs.results import Results

ID = "metarl-id"
"""File in RUN/wandb with the id of the run at Weights & Biases, by which it is continued."""


class WandB(Callback):
    """Sends a run's metrics to Weights & Biases: `pip install "metarl[wandb]"`.

    Args:
        project: the project there.
        mode: "online", "offline" or "disabled"; None is the variable WANDB_MODE, else online.
            An offline run lies in RUN/wandb, for `wandb sync`.
        init: further arguments of `wandb.init`, such as `entity`, `group` or `tags`.
    """

    def __init__(self, project: str = "metarl", mode: str | None = None, **init: Any):
        """
        Raises:
            UserError: where wandb is not installed, before there is a folder.
        """
        library()
        self.project, self.mode, self.init = project, mode, init
        self._run: Any = None

    def on_start(self, start: Start) -> None:
        """
        Raises:
            UserError: where wandb cannot begin.
        """
        self._begin(start.run_dir, asdict(start.config), train=True)

    def _begin(self, run_dir: Path, config: Mapping[str, Any] | None, train: bool) -> None:
        wandb = library()
        folder = run_dir / "wandb"
        given = {
            "project": self.project,
            **_label(run_dir.resolve()),
            "dir": str(run_dir),
            "id": _id(folder),
            "resume": "allow",
            "config": config,
            **self.init,
        }
        if self.mode is not None:
            given["mode"] = self.mode
        try:
            self._run = wandb.init(**given)
        except Exception as error:
            raise UserError(
                f"Weights & Biases cannot begin: {type(error).__name__}: {error}\n"
                "log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error
        if train:
            self._run.define_metric("*", step_metric="iteration")

    def on_iteration(self, metrics: Mapping[str, float], agent: Any) -> None:
        del agent
        self._run.log(dict(metrics), step=int(metrics["iteration"]))

    def on_evaluation(self, results: Results) -> None:
        """Sends the adaptation curve as a table, and its last values to the run's summary."""
        begun = self._run is None
        if begun:
            self._begin(results.home, None, train=False)
        wandb, rows = library(), results.summary
        columns = rows.columns
        table = wandb.Table(columns=columns, data=[[row[x] for x in columns] for row in rows])
        self._run.log({"evaluation/adaptation": table})
        for row in rows:
            if row["kind"] == "run":
                name = f"evaluation/{row['split']}/{row['measure']}/step{row['step']}"
                self._run.summary[name] = row["mean"]
        if begun:
            self.on_end("done")

    def on_end(self, ending: str) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if ending in ("done", "stopped") else 1)
            self._run = None


def library() -> Any:
    """Returns the module wandb.

    Raises:
        UserError: where it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"Weights & Biases cannot be used: {error}\n"
            'install it with `pip install "metarl[wandb]"`, or leave out --wandb'
        ) from error
    return wandb


def _label(run_dir: Path) -> dict[str, str]:
    """Returns the name of a run there; runs of several seeds are a group."""
    if re.fullmatch(r"seed\d+", run_dir.name):
        experiment = run_dir.parent.name
        return {"name": f"{experiment}-{run_dir.name}", "group": experiment}
    return {"name": run_dir.name}


def _id(folder: Path) -> str:
    """Returns the id that the run has there; a new one is kept in the run's folder."""
    file = folder / ID
    if file.exists():
        found = read_text(file, 64).strip()
        if found.isalnum():
            return found
    folder.mkdir(exist_ok=True)
    made = uuid4().hex[:12]
    replace_text(file, made + "\n")
    return made
