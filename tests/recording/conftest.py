"""Runs whose agents are filmed; a folder of each test's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl.commands import train
from metarl.recording.headless import VARIABLE

SMALL = (
    "--iterations 1 --sampling.tasks 2 --sampling.episodes 2 --agent.policy.hidden 4 "
    "--evaluation.episodes 3 --env.horizon 12 --workers 0 --threads 1"
).split()


@pytest.fixture(autouse=True)
def _choice_of_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film may choose how MuJoCo draws; other tests have what they had before."""
    monkeypatch.setenv(VARIABLE, os.environ.get(VARIABLE, ""))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains one run for each command line, once."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*argv: str) -> Path:
        if argv not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            train.main([*argv, *SMALL, "--run-dir", str(folder)])
            made[argv] = folder
        return made[argv]

    return run


@pytest.fixture
def points(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """A run on point-goal, which may be written into."""
    shutil.copytree(trained("point-goal"), tmp_path / "points")
    return tmp_path / "points"
