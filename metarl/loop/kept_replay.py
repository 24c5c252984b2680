"""The replay of a run: its trials are files in the run's folder, which checkpoints name."""

from __future__ import annotations

from typing import Any

from metarl import memory
from metarl.config.settings import AnyConfig, Config
from metarl.errors import UserError
from metarl.loop import saved_state
from metarl.loop.saved_state import SavedState
from metarl.runs import checkpoint
from metarl.runs.checkpoint import Checkpoint
from metarl.runs.directory import RunDirectory
from metarl.runs.replay import KEPT_AT_MOST, Replay, ReplayState
from metarl.types import MetaLearner


class NoReplay:
    """A run of an agent that learns from each trial once."""

    def state(self) -> ReplayState | None:
        """Returns the trials that a checkpoint names."""
        return None

    def restore(self, found: Checkpoint, state: SavedState) -> None:
        """Takes the trials that the checkpoint names."""

    def remove_unsaved(self) -> None:
        """Removes the files of trials that no checkpoint needs."""


class KeptReplay(NoReplay):
    """A run of an agent that learns from its trials again and again."""

    def __init__(self, replay: Replay, run: RunDirectory, name: str):
        """Keeps the trials of `replay` in the run's folder; `name` is the agent's."""
        self._replay, self._run, self._name = replay, run, name
        replay.keep_in(run.replay)

    def state(self) -> ReplayState | None:
        return self._replay.state()

    def restore(self, found: Checkpoint, state: SavedState) -> None:
        if state.replay is None:
            raise UserError(
                f"{found.path} has no replay, and {self._name} learns from one\n"
                "start a new run with --run-dir in another folder"
            )
        self._replay.restore(state.replay)

    def remove_unsaved(self) -> None:
        kept = saved_state.replays(checkpoint.saved(self._run.checkpoints))
        self._replay.remove_all_but(kept)


def replay_of(config: AnyConfig, run: RunDirectory, agent: MetaLearner) -> NoReplay:
    """Returns the replay of an agent's run.

    Raises:
        UserError: where a meta-batch does not fit into it.
    """
    replay = getattr(agent, "replay", None)
    if not isinstance(replay, Replay):
        return NoReplay()
    if isinstance(config, Config):
        replay.check_size(config.sampling.tasks * config.sampling.episodes)
    return KeptReplay(replay, run, config.agent.name)


def check_disk(config: AnyConfig, spec: Any) -> None:
    """Raises a UserError where the disk has no room for the newest replay and that of the best
    checkpoint."""
    if needs := memory.of_replay(config, spec):
        run = RunDirectory(config.run_dir)
        written = sum(path.stat().st_size for path in run.replay.glob("*.f32"))
        needs = {name: KEPT_AT_MOST * count for name, count in needs.items()}
        memory.check_disk(run.root, needs, written)
