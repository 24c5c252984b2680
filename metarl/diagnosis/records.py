"""Checks of what a run says of itself: its config, its environment and its data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metarl.config import own_code
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding, command
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.data import data_of
from metarl.runs import data, environment
from metarl.runs.directory import RunDirectory

COMPARED = 1 << 26
"""Bytes of data that are hashed to compare them."""


def config(run: RunDirectory, config: AnyConfig) -> Iterator[Finding]:
    """Yields what the config is of; own code is not run."""
    text = f"{config.agent.name} on {config.env.name}, {config.iterations} iterations"
    own = [f"--env {config.env.name}"] if envs.is_own(config.env.name) else []
    own += [f"--agent {config.agent.name}"] if own_code.is_place(config.agent.name) else []
    if own:
        yield Finding(NOTE, "config", f"{text}; code of your own", f"commands need {' '.join(own)}")
    else:
        yield Finding(OK, "config", text)


def machine(run: RunDirectory) -> Iterator[Finding]:
    """Yields what is other here than where the run was computed."""
    if not run.environment.exists():
        yield Finding(NOTE, "environment", "there is no environment.json", "training writes one")
        return
    before = environment.read(run.environment)
    machine, threads = before.get("machine", {}), before.get("threads", {})
    # Device and threads are decided by the command that continues the run.
    now: dict[str, Any] = environment.describe(machine.get("device", ""), threads)
    if "vectors" in machine and now["machine"]["vectors"] == "unknown":
        now["machine"]["vectors"] = machine["vectors"]
    changes = environment.changes(before, now)
    for change in changes:
        yield Finding(
            NOTE, "environment", f"since the run: {change}", "a run that goes on here may differ"
        )
    if not changes:
        yield Finding(OK, "environment", "versions, commit and processor are those of the run")


def learned_from(run: RunDirectory, config: AnyConfig) -> Iterator[Finding]:
    """Yields whether a user's own data are there, and the same."""
    if not isinstance(config, FewShotConfig) or not config.env.path:
        return
    if not families.is_one(config.env.name):
        return
    path = Path(config.env.path).expanduser()
    again = command("train", "--config", run.config, "--env.path", "PATH")
    known = data.read(run)
    if known is None:
        yield Finding(NOTE, "data", "there is no data.json", "training records their hash")
        return
    try:
        size = sum(file.stat().st_size for file in families.files(config.env).values())
        if size > COMPARED:
            text = f"{path} is there; {size:,} bytes are not compared here"
            yield Finding(OK, "data", f"{text}, the next command does")
            return
        now = data_of(config)
    except (UserError, OSError) as error:
        text = str(error).partition("\n")[0]
        yield Finding(FAULT, "data", text, f"say where they are: {again}")
        return
    if now is None or now.sha256 != known.sha256:
        text = f"{path} holds other data than those of the run, {known}"
        yield Finding(FAULT, "data", text, f"say where those are: {again}")
    else:
        yield Finding(OK, "data", f"{path} has the contents that the run learned from")
