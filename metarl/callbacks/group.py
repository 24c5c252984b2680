"""Calls all callbacks of a run, and watches that none changes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.callbacks.callback import Callback, Start
from metarl.errors import UserError
from metarl.lazy import lazy
from metarl.text import shown

if TYPE_CHECKING:
    import torch

    from metarl.runs.results import Results
else:
    torch = lazy("torch")


class Callbacks:
    """Callbacks of one run, in their order."""

    def __init__(self, callbacks: Sequence[Callback] = (), where: object = ""):
        """`where` is the run, for messages.

        Raises:
            UserError: for anything that is no callback.
        """
        self._all, self._where, self._begun = checked(callbacks), where, 0

    @property
    def stop(self) -> str:
        """Reason of the first callback that asks for the end of training; empty if none does."""
        return next((f"{_name(x)}: {x.stop}" for x in self._all if x.stop), "")

    def start(self, start: Start) -> None:
        for one in self._all:
            self._begun += 1
            self._call(one, "on_start", start)

    def iteration(self, metrics: Mapping[str, float], agent: Any, weights: Mapping[str, Any]):
        """Tells of an iteration; `weights` are the agent's, and are left as they were.

        Raises:
            UserError: if a callback raised, or changed the agent.
        """
        for one in self._all:
            if type(one).on_iteration is Callback.on_iteration:
                continue
            if _is_ours(one):
                self._call(one, "on_iteration", dict(metrics), agent)
            else:
                self._watched(one, metrics, agent, weights)

    def _watched(
        self,
        one: Callback,
        metrics: Mapping[str, float],
        agent: Any,
        weights: Mapping[str, torch.Tensor],
    ) -> None:
        before = {name: x.detach().clone() for name, x in weights.items()}
        try:
            self._call(one, "on_iteration", dict(metrics), agent)
        finally:
            changed = _differing(before, agent.state_dict())
            for name, x in weights.items():
                if not _equal(x, before[name]):
                    with torch.no_grad():
                        x.copy_(before[name])
        if changed:
            raise UserError(
                f"callback {_name(one)} changed the agent ({changed}), which callbacks only read\n"
                f"nothing of it is kept{self._kept()}"
            )

    def checkpoint(self, iteration: int, folder: Path) -> None:
        for one in self._all:
            self._call(one, "on_checkpoint", iteration, folder)

    def evaluation(self, results: Results) -> None:
        kept = f"the evaluation is kept in {results.folder}"
        for one in self._all:
            self._call(one, "on_evaluation", results, kept=kept)

    def end(self, ending: str) -> None:
        """Tells all callbacks that have begun, also if one raises.

        What they raise is a warning after another error; but Ctrl-C and an exit stay what they are.
        """
        raised: list[BaseException] = []
        for one in self._all[: self._begun]:
            try:
                self._call(one, "on_end", ending)
            except BaseException as error:
                raised.append(error)
        self._begun = 0
        for error in raised:
            if ending in ("done", "stopped") or not isinstance(error, Exception):
                raise error
        for error in raised:
            warnings.warn(str(error), stacklevel=2)

    def _call(self, one: Callback, method: str, *arguments: Any, kept: str = "") -> None:
        function: Callable[..., Any] = getattr(one, method)
        try:
            function(*arguments)
        except Exception as error:
            if _is_ours(one) and isinstance(error, UserError | OSError):
                raise
            raise UserError(
                f"callback {_name(one)}: {method} raised {type(error).__name__}: {error}"
                f"\n{kept or f'complete iterations are kept{self._kept()}'}"
            ) from error

    def _kept(self) -> str:
        return f" in {self._where}; the same call continues" if self._where else ""


def checked(callbacks: Any) -> tuple[Callback, ...]:
    """Returns the callbacks in what was given as such.

    Raises:
        UserError: for anything that is no callback.
    """
    if not isinstance(callbacks, Iterable):
        raise UserError(f"callbacks is {shown(callbacks)}; give a list of callbacks")
    found = tuple(callbacks)
    for one in found:
        if not isinstance(one, Callback):
            made = f"; give an object, {one.__name__}(...)" if _is_class(one) else (
                "; give objects of classes that derive from metarl.Callback"
            )  # fmt: skip
            raise UserError(f"callbacks: {shown(one)} is no callback{made}")
    return found


def _is_class(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, Callback)


def _name(callback: Callback) -> str:
    return type(callback).__name__


def _is_ours(callback: Callback) -> bool:
    return type(callback).__module__.startswith("metarl.callbacks.")


def _differing(before: Mapping[str, torch.Tensor], now: Mapping[str, torch.Tensor]) -> str:
    """Returns the first name whose tensor differs; empty if none does."""
    names = [*before, *(name for name in now if name not in before)]
    for name in names:
        if name not in before or name not in now or not _equal(before[name], now[name]):
            return name
    return ""


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Returns whether two tensors have the same bits; a NaN equals the same NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(torch.equal(one, other)) or bool(torch.isclose(one, other, 0, 0, True).all())
