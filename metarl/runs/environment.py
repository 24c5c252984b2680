"""Describes a run's software and machine: versions, git commit, hardware, threads."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from metarl import found
from metarl.errors import UserError
from metarl.runs.files import replace_text
from metarl.text import shown
from metarl.threads import cores

PACKAGES = ("metarl", "torch", "mujoco", "gymnasium", "metaworld", "numpy", "scipy")
"""Packages whose version may change a result."""


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
            "cpus": cores().count,
            "device": device,
        },
        "threads": dict(threads),
    }


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
    """Reads the description that `write` wrote.

    Raises:
        UserError: if the file holds anything else.
    """
    environment = found.json_object(path, values=10_000)
    for section in ("versions", "machine", "threads"):
        inside = environment.get(section, {})
        if not isinstance(inside, dict) or len(inside) > 100:
            raise UserError(f"{path}: {section} is {shown(inside)}; it describes no environment")
    return environment


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a line for each version, and for the number of torch's threads, that differs: a
    resumed run's results may change."""
    old, new = ({**x.get("versions", {}), "torch threads": _torch(x)} for x in (before, now))
    return [
        f"{_cut(name)} {_cut(old.get(name, 'missing'))} -> {_cut(new.get(name, 'missing'))}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _cut(value: Any) -> str:
    """Returns a version as text of bounded length; anything may stand in its place."""
    return value if isinstance(value, str) and len(value) <= 60 else shown(value)


def _torch(environment: Mapping[str, Any]) -> int:
    return environment.get("threads", {}).get("torch", "missing")
