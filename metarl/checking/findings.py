"""Results of checks, and how they are printed."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from metarl.errors import DivergedError, EnvFaultError, UserError

Status = Literal["ok", "warning", "FAIL", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "warning", "FAIL", "skipped")
Subject = TypeVar("Subject")

REMEDIES = {
    "sample": "sample(num_tasks, rng, split) gets a numpy generator and 'train' or 'test'",
    "observation_space": "give the environments of all tasks the same spaces",
    "action_space": "give the environments of all tasks the same spaces",
    "constructor": "it is called with kwargs= and the parameters that its signature names",
    "observation": "every observation must be in observation_space in shape and type, and finite",
    "reward": "return float(reward), a finite number",
    "terminated": "return bool(terminated)",
    "truncated": "return bool(truncated)",
    "info": "put the key into the info of every step, or leave out success=",
    "reset": "reset(*, seed=None, options=None) must return (observation, info)",
    "step": "step(action) must return (observation, reward, terminated, truncated, info)",
    "apply": "apply(env, task) is called before every reset, the first one too",
}
"""Remedies by `EnvFaultError.field`."""


class Finding(NamedTuple):
    status: Status
    what: str
    """The result in words and numbers."""
    remedy: str = ""
    trace: str = ""
    """The traceback of an exception in the user's code."""

    def lines(self, name: str) -> Iterator[str]:
        """Yields the printed lines."""
        first, *more = self.what.splitlines() or [""]
        yield f"{self.status:<8} {name:<13} {first}"
        yield from (f"{'':23}{line}" for line in (*more, *self.remedy.splitlines()))
        if self.trace:
            yield textwrap.indent(self.trace.rstrip(), " " * 25)


class Broken(Exception):  # noqa: N818 (a promise is broken)
    """A promise that is not kept; its arguments are those of a finding, `what` and `remedy`."""


def expect(kept: bool, what: str, remedy: str = "") -> None:
    """Raises Broken unless a promise is kept."""
    if not kept:
        raise Broken(what, remedy)


@dataclass(frozen=True)
class Check(Generic[Subject]):
    name: str
    look: Callable[[Subject], Finding]
    needs: tuple[str, ...] = ()
    """Names of the checks that must pass before this one runs."""


def run(
    checks: Sequence[Check[Subject]], subject: Subject, tell: Callable[[str], object]
) -> dict[str, Finding]:
    """Runs the checks in order and returns their findings by name; calls `tell` with each line."""
    found: dict[str, Finding] = {}
    for check in checks:
        missing = [name for name in check.needs if found[name].status in ("FAIL", "skipped")]
        if missing:
            found[check.name] = Finding("skipped", f"it needs {', '.join(missing)}")
        else:
            found[check.name] = attempt(check.look, subject)
        for line in found[check.name].lines(check.name):
            tell(line)
    return found


def attempt(look: Callable[[Subject], Finding], subject: Subject) -> Finding:
    """Runs one check; an exception becomes a finding."""
    try:
        return look(subject)
    except Broken as broken:
        return Finding("FAIL", *broken.args)
    except EnvFaultError as fault:
        return Finding("FAIL", str(fault), REMEDIES.get(fault.field, ""), fault.trace)
    except (UserError, DivergedError) as error:
        return Finding("FAIL", str(error))
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}"
        return Finding(
            "FAIL", said, "its traceback ends where it was raised:", traceback.format_exc()
        )


def summary(found: dict[str, Finding]) -> str:
    statuses = [finding.status for finding in found.values()]
    counts = [f"{statuses.count(one)} {one}" for one in STATUSES if one in statuses]
    return f"{len(found)} checks: {', '.join(counts)}"
