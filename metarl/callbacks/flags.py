"""Flags of `metarl train` that add callbacks. They are no settings: config.yaml has none of them,
so a run continues with other callbacks, or without."""

from __future__ import annotations

from typing import Any, NamedTuple

from metarl.config.command_line import take, take_switch
from metarl.errors import UserError

HELP = """  --wandb        send metrics to Weights & Biases; --wandb-project NAME (metarl)
  --stop-after N end after N iterations without a better return after adaptation;
                 --stop-delta X: the least gain (0), --stop-window N: iterations averaged (10)"""


class Asked(NamedTuple):
    """Callbacks that a command line asks for."""

    stopping: dict[str, Any]
    """Arguments of EarlyStopping; empty: none."""
    wandb: str
    """Project at Weights & Biases; empty: none."""

    def made(self) -> list[Any]:
        """Returns the callbacks.

        Raises:
            UserError: where Weights & Biases is not installed.
        """
        from metarl.callbacks.early_stopping import EarlyStopping
        from metarl.callbacks.wandb import WandB

        found: list[Any] = []
        if self.stopping:
            found.append(EarlyStopping(**self.stopping))
        if self.wandb:
            found.append(WandB(self.wandb))
        return found


def take_callbacks(argv: list[str]) -> Asked:
    """Removes the flags of callbacks from `argv`; returns what they ask for.

    Raises:
        UserError: for values that do not fit.
    """
    stopping: dict[str, Any] = {}
    for flag, name, kind in (
        ("--stop-after", "patience", int),
        ("--stop-delta", "min_delta", float),
        ("--stop-window", "window", int),
    ):
        if (value := take(argv, flag)) is None:
            continue
        try:
            stopping[name] = kind(value)
        except ValueError:
            number = "a whole number" if kind is int else "a number"
            raise UserError(f"{flag} is {value!r}; give {number}") from None
        if not stopping.get("patience"):
            if flag == "--stop-after":
                raise UserError(f"{flag} is {value!r}; give a whole number, 1 or more")
            raise UserError(f"{flag} goes with --stop-after N; give that too, or leave it out")
    project = take(argv, "--wandb-project")
    wanted = take_switch(argv, "--wandb") or project is not None
    return Asked(stopping, (project or "metarl") if wanted else "")
