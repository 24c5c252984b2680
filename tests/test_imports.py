"""Who may import whom: docs/architecture.md in forty lines of `ast`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "metarl").rglob("*.py"))

GROUND = {"errors", "config", "keys", "device"}
LOWER = GROUND | {"equations", "types", "networks", "sampling", "runs"}
MAY_IMPORT = {
    "equations": {"equations"},
    "types": {"equations", "errors"},
    "networks": GROUND | {"equations", "types", "networks"},
    "sampling": GROUND | {"equations", "types", "networks", "sampling"},
    "runs": GROUND | {"equations", "types", "runs"},
    "agents": LOWER | {"agents"},
    "envs": LOWER | {"envs"},
    "checking": LOWER | {"envs", "checking"},
    **dict.fromkeys(GROUND, GROUND),
    "device": GROUND | {"types"},
}
"""Rooms not named here are doors, loops and experiments: they may import everything."""

LIGHT = {"yaml", "tyro"}
"""What a command line may load, beside Python's own modules, to answer --help in a second."""


def room(source: Path) -> str:
    return source.relative_to(ROOT / "metarl").parts[0].removesuffix(".py")


def imported(source: Path, at_top_only: bool = False) -> Iterator[str]:
    """Dotted names of the modules that a file imports."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            # Of `from metarl import keys` the imported name is a module, and counts as one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_rooms_import_only_lower_rooms(source: Path):
    allowed = MAY_IMPORT.get(room(source))
    for name in imported(source):
        parts = name.split(".")
        if parts[0] == "metarl" and allowed is not None:
            assert parts[1] in allowed, f"{room(source)} may not import {name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_only_the_doors_import_the_catalogues(source: Path):
    for name in imported(source):
        if name.startswith(("metarl.agents.catalogue", "metarl.envs.catalogue")):
            assert room(source) not in MAY_IMPORT, f"{room(source)} may not import {name}"


def test_equations_are_pure_torch():
    for source in (ROOT / "metarl" / "equations").rglob("*.py"):
        outside = {name.split(".")[0] for name in imported(source)} - set(sys.stdlib_module_names)
        assert outside <= {"torch", "metarl"}, source


def test_nobody_imports_the_links_the_scripts_or_the_tests():
    places = [*SOURCES, *(ROOT / "scripts").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    for source in places:
        roots = {name.split(".")[0] for name in imported(source)}
        assert not roots & {"envs", "agents", "scripts", "tests"}, source


def test_command_lines_are_light():
    """Everything that a door loads before its work: the closure of top-level imports."""
    waiting = [
        ROOT / "metarl" / f"{door}.py" for door in ("train", "evaluate", "report", "check_env")
    ]
    seen: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        for name in imported(source, at_top_only=True):
            parts = name.split(".")
            if parts[0] != "metarl":
                assert parts[0] in LIGHT | set(sys.stdlib_module_names), f"{source} loads {name}"
            for depth in range(2, len(parts) + 1):
                module = ROOT.joinpath(*parts[:depth]).with_suffix(".py")
                waiting += [module] if module.exists() else []


@pytest.mark.parametrize(
    ("imports", "sleeps"),
    [("import metarl, torch", True), ("import torch, metarl", False)],
)
def test_torchs_threads_sleep_where_metarl_comes_first(imports: str, sleeps: bool):
    """Read by torch when it is imported; with threads that spin it gets one while they play."""
    code = f"{imports}; from metarl.device import torch_sleeps; print(torch_sleeps())"
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(sleeps)
