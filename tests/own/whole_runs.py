"""Runs started from a shell, and what they left on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file


def rows(run_dir: Path) -> list[dict]:
    """metrics.jsonl without the wall-clock fields."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time/")}
        for row in parsed
    ]


def weights(run_dir: Path, iteration: int) -> dict:
    found = load_file(run_dir / "checkpoints" / f"{iteration:06d}" / "agent.safetensors")
    return {name: x.numpy().tobytes() for name, x in found.items()}


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder, and the folder: when it was changed, and a file's content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *sorted(folder.rglob("*")))
    }


def instead(argv: Sequence[str], *flags: str) -> list[str]:
    """A command line with other values of some flags, which may be given once only."""
    kept, dropped = [], False
    for token in argv:
        dropped = token in flags if token.startswith("--") else dropped
        if not dropped:
            kept.append(token)
    return [*kept, *flags]


def door(*argv: str, environment: Mapping[str, str] = os.environ, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
        # Where pytest runs in the background its children would inherit an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def wait_for(process: subprocess.Popen, run_dir: Path, iterations: int) -> None:
    """Returns once so many iterations stand in metrics.jsonl.

    Raises:
        AssertionError: if the process ends before, or a minute passes.
    """
    metrics, deadline = run_dir / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= iterations):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
