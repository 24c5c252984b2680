"""What a run ran on: versions, git commit, machine, threads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from metarl.errors import UserError
from metarl.runs.files import replace_text

PACKAGES = ("metarl", "torch", "mujoco", "gymnasium", "metaworld", "numpy", "scipy")
"""Whose versions a result may depend on."""


def describe(device: str, threads: Mapping[str, int]) -> dict[str, Any]:
    """The environment of this process, as JSON stores it.

    Args:
        device: where policy and updates live, e.g. "cpu" or "cuda (NVIDIA H100)".
        threads: what they are for -> how many, e.g. {"simulation": 2, "torch": 2}.
    """
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git(Path(__file__).parent),
        "machine": {
            "system": platform.platform(),
            "architecture": platform.machine(),
            "name": platform.node(),
            "cpus": len(os.sched_getaffinity(0)) if _has_affinity() else os.cpu_count(),
            "device": device,
        },
        "threads": dict(threads),
    }


def _has_affinity() -> bool:
    """Linux says how many CPUs this process may use; a container may use fewer than there are."""
    return hasattr(os, "sched_getaffinity")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit that the package's own files are of, and whether they were changed since.

    None for an installed package, also inside somebody else's checkout: the files are untracked.
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
    """What `write` wrote.

    Raises:
        UserError: for a file that is no JSON object.
    """
    try:
        environment = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(environment, dict):
        raise UserError(f"{path} holds no JSON object")
    return environment


def changed_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line per version that differs: a resumed run should say so, results may depend on it."""
    old, new = before.get("versions", {}), now.get("versions", {})
    return [
        f"{name} {old.get(name, 'missing')} -> {new.get(name, 'missing')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
