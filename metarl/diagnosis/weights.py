"""Checks of a run's checkpoints: which are intact, what would be loaded, whether it fits."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarl import keys, memory
from metarl.agents import catalogue as agents
from metarl.config import own_code
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.diagnosis import folder
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding, command, removal
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import CorruptCheckpointError, UserError
from metarl.loop import saved_state
from metarl.runs import checkpoint
from metarl.runs.checkpoint_files import MOST, claimed_score, read
from metarl.runs.directory import RunDirectory
from metarl.sources.episodes import EpisodeSource
from metarl.sources.examples import ExampleSource

MOST_LOOKED_AT = 20
"""Checkpoints that are verified, the newest; a run keeps three."""
LARGEST = 1 << 29
"""Bytes of an agent that is built to compare it."""


class Weights(NamedTuple):
    """Verified checkpoints of a run."""

    intact: dict[int, float | None]
    """Score by iteration, oldest first."""
    corrupt: dict[Path, str]
    left_out: int
    best: int
    """Iteration of the checkpoint that an evaluation loads by default; 0 for none."""

    @property
    def newest(self) -> int:
        return max(self.intact, default=0)


def weights(run: RunDirectory, most: int = MOST) -> Weights:
    """Reads a run's checkpoints; those whose tensors take more than `most` bytes are corrupt."""
    paths = checkpoint.saved(run.checkpoints)
    claims = {path: (claimed_score(path), int(path.name)) for path in paths[-MOST_LOOKED_AT:]}
    intact, corrupt = {}, {}
    for path in claims:
        try:
            intact[int(path.name)] = read(path, most).score
        except CorruptCheckpointError as error:
            corrupt[path] = str(error).partition("\n")[0]
    ranked = sorted(claims, key=claims.__getitem__, reverse=True)
    best = next((int(path.name) for path in ranked if path not in corrupt), 0)
    return Weights(intact, corrupt, len(paths) - len(claims), best)


def saved(run: RunDirectory, found: Weights, log_last: int) -> Iterator[Finding]:
    """Yields whether each checkpoint is intact, and which ones are used."""
    again = command("train", "--config", run.config)
    for path, why in found.corrupt.items():
        later = found.intact and int(path.name) > found.newest
        used = f"{found.newest:06d} is used" if later else "it is passed over"
        remedy = f"{used}; {removal(path, folder=True)} removes it"
        if found.intact:
            yield Finding(FAULT, "checkpoints", f"{path.name} is corrupt: {why}", remedy)
        else:
            yield Finding(FAULT, "checkpoints", f"{path.name} is corrupt: {why}")
    if found.left_out:
        yield Finding(NOTE, "checkpoints", f"{found.left_out} older ones were not looked at")
    if found.intact:
        score = found.intact[found.best]
        shown = "no score" if score is None or not math.isfinite(score) else f"score {score:.4g}"
        names = ", ".join(f"{iteration:06d}" for iteration in found.intact)
        text = f"intact: {names}; the best is {found.best:06d} ({shown})"
        yield Finding(OK, "checkpoints", text)
    elif found.corrupt:
        text = "no checkpoint is intact, and the run cannot be continued or evaluated"
        yield Finding(FAULT, "checkpoints", text, "put back a copy, or move the folder away and "
                      "start anew")  # fmt: skip
    elif log_last and folder.holder(run):
        yield Finding(NOTE, "checkpoints", "none yet", "wait for the first of the run in use")
    elif log_last:
        text = f"there is none, and metrics of {log_last} iterations"
        yield Finding(
            FAULT, "checkpoints", text, "if the run was moved without them, move them too"
        )
    else:
        yield Finding(NOTE, "checkpoints", "none yet", f"{again} trains to the first")


def fits(run: RunDirectory, config: AnyConfig, found: Weights) -> Iterator[Finding]:
    """Yields whether the saved weights and counts are those of the config's agent."""
    if not found.intact:
        return
    if why := _not_built(config):
        yield Finding(OK, "weights", f"not compared with the config: {why}")
        return
    try:
        with _at_most(LARGEST):
            source = _source(config)
            rng = keys.generator(config.seed, keys.Purpose.INIT)
            agent = agents.build(source.spec, config.agent, rng, source.device, None, 0)
    except (MemoryError, RuntimeError):  # torch raises the latter
        text = f"the agent of the config may take more than {memory.size(LARGEST)}"
        yield Finding(NOTE, "weights", text, "it is not compared with the checkpoints")
        return
    room = checkpoint.room_for(agent)
    for iteration in sorted({found.newest, found.best}):
        path = run.checkpoints / f"{iteration:06d}"
        try:
            loaded = checkpoint.load(path, "cpu", room)
            loaded.load_into(agent)
            saved_state.read(loaded.state, source.counters, path)
        except (UserError, CorruptCheckpointError) as error:
            text = str(error).partition("\n")[0]
            yield Finding(FAULT, "weights", text, "put back the config.yaml of these weights, or "
                          f"remove them: {removal(path, folder=True)}")  # fmt: skip
            return
    yield Finding(OK, "weights", "they fit the agent of the config")


def _not_built(config: AnyConfig) -> str:
    """Returns why the agent is not built; empty if it is."""
    if envs.is_own(config.env.name) or own_code.is_place(config.agent.name):
        return "code of your own is not run"
    if getattr(config.env, "path", ""):
        return "its data are not read"
    return ""


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Lets allocations of more than `size` bytes fail while the block runs, where it can."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):  # there is no such file on macOS
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        most = pages * resource.getpagesize() + size
        if before[0] == resource.RLIM_INFINITY or most < before[0]:
            resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _source(config: AnyConfig) -> Any:
    """Returns the source of a run's tasks; it draws none."""
    tasks: Any = envs.configured(config.env, None)
    if isinstance(config, FewShotConfig):
        return ExampleSource(config, tasks, torch.device("cpu"))
    conditioned = agents.observes_task(config.agent)
    tasks = TaskConditioned(tasks) if conditioned else tasks
    return EpisodeSource(config, tasks, torch.device("cpu"))
