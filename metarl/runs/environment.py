"""Describes a run's software and machine: versions, git commit, hardware, threads.

The file has the present description at its top level, and under `history` the earlier ones.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from metarl import found
from metarl.errors import UserError
from metarl.runs.files import replace_text
from metarl.text import printable, shown
from metarl.threads import cores

PACKAGES = ("metarl", "torch", "mujoco", "gymnasium", "metaworld", "numpy", "scipy")
"""Packages whose version may change a result."""
VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "ATEN_", "ONEDNN_", "DNNL_", "OPENBLAS_")
"""Beginnings of the names of variables that change how numbers are computed, or how fast."""
WITHOUT_EFFECT = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")
"""Variables that are not compared: they set the number of threads, or change no result."""
LONGEST = 100
"""Characters of a variable's value that are kept."""
HISTORY, BEGAN = "history", "from_iteration"
"""Keys of the earlier descriptions, and of the first iteration of one."""
KEPT = 50
"""Earlier descriptions that are kept."""
MEANING = (
    ("versions", "other versions may round differently or draw other tasks"),
    ("git", "other code may compute something else"),
    ("processor", "another processor rounds differently"),
    ("device", "another device rounds differently"),
    ("variables", "they may change rounding"),
    ("torch threads", "an agent of your own may round differently; metarl's own do not"),
)
"""Parts of a description that a result may depend on, and what another one means."""
UNKNOWN_BEFORE = ("git", "processor", "device", "variables")
"""Parts that older runs, or installed packages, do not record."""


def describe(device: str, threads: Mapping[str, int | str]) -> dict[str, Any]:
    """Returns the description of this process's environment, for JSON.

    Args:
        device: device of the policy and the updates, e.g. "cpu" or "cuda (NVIDIA H100)".
        threads: purpose -> number of threads, and what decided it: {"workers": 2, "torch": 2,
            "from": "--threads"}.
    """
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git(Path(__file__).parent),
        "machine": {
            "system": platform.platform(),
            "architecture": platform.machine(),
            "name": platform.node(),
            "processor": _processor(),
            "vectors": _vectors(),
            "cpus": cores().count,
            "device": device,
        },
        "threads": dict(threads),
        "variables": _variables(),
    }


def _variables() -> dict[str, str]:
    names = sorted(x for x in os.environ if x.startswith(VARIABLES) and x not in WITHOUT_EFFECT)
    return {name: printable(os.environ[name])[:LONGEST] for name in names}


def _processor() -> str:
    """Returns the processor's name, where the system tells it."""
    with suppress(OSError, ValueError):
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return printable(value.strip())[:LONGEST]
    return platform.processor() or platform.machine()


def _vectors() -> str:
    """Returns the vector instructions that torch uses, on which the order of its sums depends."""
    torch = sys.modules.get("torch")  # what reads a description needs no torch
    return torch.backends.cpu.get_cpu_capability() if torch else "unknown"


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _git(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of metarl's own files, and whether they were changed since.

    None for an installed package, even within another project's checkout, as git does not track it.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "changed": git("status", "--porcelain", "-uno", "--", "..") != ""}
    except (OSError, subprocess.SubprocessError):
        return None


def write(path: Path, environment: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(environment, indent=2) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Returns the present description, and under `history` a line about each earlier one.

    Raises:
        UserError: if the file holds anything else.
    """
    now, history = _stored(path)
    if history:
        now[HISTORY] = {f"from iteration {x.get(BEGAN, 1)}": _in_a_line(x) for x in history}
    return now


def _in_a_line(environment: Mapping[str, Any]) -> str:
    parts = [(name, part) for name, part in _parts(environment).items() if part]
    named = [part if isinstance(part, Mapping) else {name: part} for name, part in parts]
    return ", ".join(f"{name} {value}" for part in named for name, value in part.items())


def record(path: Path, now: Mapping[str, Any], iteration: int) -> list[str]:
    """Writes a description that begins at `iteration`, and keeps the earlier ones.

    Returns a line for each part that is other than before and that a result may depend on.
    """
    before, history = _stored(path)
    if before and _parts(before) != _parts(now):
        start = before.pop(BEGAN, 1)
        history = [*history, {BEGAN: start, **before}][-KEPT:]
        now = {BEGAN: iteration, **now}
    elif BEGAN in before:
        now = {BEGAN: before[BEGAN], **now}
    write(path, {**now, HISTORY: history} if history else now)
    return changes(before, now) if before else []


def _stored(path: Path) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Returns the description in the file and the earlier ones; nothing if there is no file."""
    try:
        stored = found.json_object(path, values=10_000)
    except FileNotFoundError:
        return {}, []
    for section in ("versions", "machine", "threads", "variables"):
        inside = stored.get(section, {})
        if not isinstance(inside, dict) or len(inside) > 100:
            raise UserError(f"{path}: {section} is {shown(inside)}; it describes no environment")
    history = stored.pop(HISTORY, [])
    history = history if isinstance(history, list) else []
    return stored, [x for x in history if isinstance(x, Mapping)]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a line for each part that differs: what it was, what it is, and what that means."""
    old, new, lines = _parts(before), _parts(now), []
    for part, meaning in MEANING:
        was, is_now = old[part], new[part]
        if part in UNKNOWN_BEFORE and was is None:
            continue  # an older run, which did not record it
        was, is_now = (x if isinstance(x, dict) else {part: x} for x in (was, is_now))
        differ = [
            f"{_said(name)} {_said(was.get(name))} -> {_said(is_now.get(name))}"
            for name in sorted({*was, *is_now})
            if was.get(name) != is_now.get(name)
        ]
        lines += [f"{', '.join(differ)} ({meaning})"] if differ else []
    return lines


def _said(value: Any) -> str:
    """Returns a part as text of bounded length; anything may stand in its place."""
    if value is None:
        return "missing"
    return value if isinstance(value, str) and printable(value[:LONGEST]) == value else shown(value)


def _parts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is compared of a description, by the names in `MEANING`."""
    versions, machine, threads = (
        _mapping(environment, x) for x in ("versions", "machine", "threads")
    )
    git = environment.get("git")
    if isinstance(git, Mapping):
        git = f"{str(git.get('commit'))[:10]}{' with changes' if git.get('changed') else ''}"
    processor = {name: machine[name] for name in ("processor", "vectors") if name in machine}
    return {
        "versions": dict(versions),
        "git": None if git is None else {"commit": git},
        "processor": processor or None,
        "device": machine.get("device"),
        "variables": environment.get("variables"),
        "torch threads": threads.get("torch"),
    }


def _mapping(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = environment.get(name)
    return part if isinstance(part, Mapping) else {}
