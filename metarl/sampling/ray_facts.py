"""Facts that have to be the same in this process and on every node of a Ray cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from metarl.errors import UserError
from metarl.sampling.losses import WorkerWarning

ARCHITECTURE = "processor"
"""Key of the kind of processor that products of matrices are computed for."""


def facts_function() -> Callable[[], dict[str, str]]:
    """Returns a function that can be sent to a node without metarl: it is pickled by value, as
    functions inside others are."""

    def facts() -> dict[str, str]:
        import hashlib
        import importlib.metadata
        import importlib.util
        import sys
        from pathlib import Path

        found = {"Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        for package in ("ray", "numpy", "mujoco", "gymnasium", "metaworld"):
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = "is not installed"
        spec = importlib.util.find_spec("metarl")
        if spec is None or spec.origin is None:
            found["metarl"] = "is not installed"
        else:
            digest = hashlib.sha256()
            folder = Path(spec.origin).parent
            for path in sorted(folder.rglob("*.py")):
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
            found["metarl"] = f"with source {digest.hexdigest()[:8]}"
        found["processor"] = "unknown"
        try:
            import numpy  # noqa: F401  loads the library that is asked for
            from threadpoolctl import threadpool_info

            kinds = {x["architecture"] for x in threadpool_info() if "architecture" in x}
            found["processor"] = " ".join(sorted(kinds)) or "unknown"
        except ImportError:
            pass
        return found

    return facts


def compare(where: str, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raises a UserError for other versions; warns of processors that round otherwise."""
    other = [f"{x} {there[x]} (here {here[x]})" for x in here if there[x] != here[x]]
    processor = [text for text in other if text.startswith(ARCHITECTURE)]
    if len(other) > len(processor):
        raise UserError(
            f"{where} has {', '.join(text for text in other if text not in processor)}\n"
            "install the same on every machine"
        )
    if processor:
        warnings.warn(
            f"{where} has a {processor[0]}: results may depend on which node plays what",
            WorkerWarning,
            stacklevel=2,
        )


def host_of(node: Mapping[str, Any]) -> str:
    """Returns how a node is called in messages."""
    return node.get("NodeManagerAddress", "(lost)")


def first_line(error: BaseException) -> str:
    """Returns the last line of a message that says something, in at most 200 characters."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip():.200}" if lines else type(error).__name__
