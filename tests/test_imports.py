"""Who may import whom: docs/architecture.md in forty lines of `ast`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from metarl.device import torch_sleeps

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "metarl").rglob("*.py"))

GROUND = {
    "errors", "config", "keys", "device", "lazy", "threads", "parallel", "graphs", "found", "text",
    "signals", "memory", "limits",
}  # fmt: skip
LOWER = GROUND | {"acting", "equations", "types", "networks", "sampling", "runs"}
MAY_IMPORT = {
    "equations": {"equations"},
    "types": {"equations", "errors"},
    "acting": {"acting"},
    "networks": GROUND | {"acting", "equations", "types", "networks"},
    "sampling": GROUND | {"acting", "equations", "types", "networks", "sampling"},
    "runs": GROUND | {"equations", "types", "runs"},
    "comparison": GROUND | {"types", "runs", "comparison"},
    "agents": LOWER | {"agents"},
    "envs": LOWER | {"envs"},
    "checking": LOWER | {"envs", "checking"},
    "sources": LOWER | {"envs", "sources"},
    **dict.fromkeys(GROUND, GROUND),
    "device": GROUND | {"types"},
}
"""Rooms not named here are doors, loops and experiments: they may import everything."""

LIGHT = {"yaml", "tyro"}
"""Modules that a command line may load, beside Python's own, to answer --help in a second."""


def room(source: Path) -> str:
    return source.relative_to(ROOT / "metarl").parts[0].removesuffix(".py")


def imported(source: Path, when_loaded: bool = False) -> Iterator[str]:
    """Dotted names of the modules that a file imports.

    All of them, those of `lazy("...")` and of `if TYPE_CHECKING:` too; or `when_loaded`, those
    that are imported together with the file.
    """
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in _loaded(tree.body) if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            # Of `from metarl import keys` the imported name is a module, and counts as one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and not when_loaded and _name(node.func) == "lazy":
            (module,) = node.args
            assert isinstance(module, ast.Constant), f"{source}: lazy() of what is no literal"
            yield str(module.value)


def _loaded(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported, but for those inside functions' bodies."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        blocks = [getattr(node, block, []) for block in ("body", "orelse", "finalbody")]
        if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            blocks[0] = []
        blocks += [handler.body for handler in getattr(node, "handlers", [])]
        for block in blocks:
            yield from _loaded(block)


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def test_what_is_loaded_with_a_module(tmp_path: Path):
    source = tmp_path / "module.py"
    source.write_text(
        "import a\n"
        "from b import c\n"
        "if TYPE_CHECKING:\n    import d\nelse:\n    d, e = lazy('d'), lazy('e.f')\n    import g\n"
        "try:\n    import h\nexcept ImportError:\n    import i\n"
        "class A:\n    import j\n    def f(self):\n        import k\n"
        "def f():\n    import m\n"
    )
    assert set(imported(source, when_loaded=True)) == {"a", "b.c", "g", "h", "i", "j"}
    assert set(imported(source)) == {"a", "b.c", "d", "e.f", "g", "h", "i", "j", "k", "m"}


def test_rooms_import_only_lower_rooms():
    for source in SOURCES:
        allowed = MAY_IMPORT.get(room(source))
        for name in imported(source):
            parts = name.split(".")
            if parts[0] == "metarl" and allowed is not None:
                assert parts[1] in allowed, f"{source}: {room(source)} may not import {name}"


def test_only_the_doors_import_the_catalogues():
    for source in SOURCES:
        for name in imported(source):
            if name.startswith(("metarl.agents.catalogue", "metarl.envs.catalogue")):
                assert room(source) not in MAY_IMPORT, f"{source} may not import {name}"


def test_equations_are_pure_torch():
    for source in (ROOT / "metarl" / "equations").rglob("*.py"):
        outside = {name.split(".")[0] for name in imported(source)} - set(sys.stdlib_module_names)
        assert outside <= {"torch", "metarl"}, source


def test_acting_is_pure_numpy():
    """Worker processes import it, and torch would take them seconds and hundreds of megabytes."""
    for source in (ROOT / "metarl" / "acting").rglob("*.py"):
        outside = {name.split(".")[0] for name in imported(source)} - set(sys.stdlib_module_names)
        assert outside <= {"numpy", "metarl"}, source


def test_nobody_imports_the_links_the_scripts_or_the_tests():
    places = [*SOURCES, *(ROOT / "scripts").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    for source in places:
        roots = {name.split(".")[0] for name in imported(source)}
        assert not roots & {"envs", "agents", "scripts", "tests"}, source


def test_command_lines_are_light():
    """Everything that a door loads before its work: the closure of imports at once."""
    waiting = [ROOT / "metarl" / "__main__.py", *(ROOT / "metarl" / "commands").glob("*.py")]
    seen: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        for name in imported(source, when_loaded=True):
            parts = name.split(".")
            if parts[0] != "metarl":
                assert parts[0] in LIGHT | set(sys.stdlib_module_names), f"{source} loads {name}"
            for depth in range(2, len(parts) + 1):
                module = ROOT.joinpath(*parts[:depth])
                files = module.with_suffix(".py"), module / "__init__.py"
                waiting += [file for file in files if file.exists()]
    assert {"catalogue.py", "sgd.py", "trpo.py"} <= {source.name for source in seen}


@pytest.mark.parametrize(
    ("before", "sleeps"), [("", True), ("sys.modules['torch'] = object()", False)]
)
def test_torchs_threads_sleep_where_metarl_comes_first(before: str, sleeps: bool):
    """Read by torch when it is imported, here by a stand-in that is there at once. With OMP_DYNAMIC
    torch's products in bfloat16 would be wrong."""
    shown = "'GOMP_SPINCOUNT' in os.environ and os.environ['OMP_DYNAMIC'] == 'FALSE'"
    code = f"import os, sys\n{before}\nimport metarl\nprint({shown})"
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    clean["OMP_DYNAMIC"] = "TRUE"
    found = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(sleeps)


def test_torchs_threads_sleep_in_these_tests():
    """tests/conftest.py imports metarl before anything imports torch; else all tests are slow."""
    assert torch_sleeps()


def test_python_3_10_can_load_every_module():
    """It has no syntax of later versions, and no NamedTuple with another base."""
    for source in [*SOURCES, *(ROOT / "scripts").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and "NamedTuple" in map(_name, node.bases):
                assert len(node.bases) == 1, f"{source}: {node.name}"


def test_what_is_printed_is_made_printable():
    """Names and errors may hold anything, so text reaches a stream by `metarl.text.say` alone."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and source.name != "text.py":
                to_file = [ast.unparse(x.value) for x in node.keywords if x.arg == "file"]
                bare = _name(node.func) == "print" and (not to_file or "sys." in to_file[0])
                written = ast.unparse(node.func).startswith(("sys.stdout.wr", "sys.stderr.wr"))
                assert not bare, f"{source}:{node.lineno}"
                assert not written, f"{source}:{node.lineno}"


def test_text_is_utf_8_whatever_the_locale():
    """Every call that reads or writes text names its encoding."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or {key.arg for key in node.keywords} & {"encoding"}:
                continue
            method = node.func.attr if isinstance(node.func, ast.Attribute) else None
            if isinstance(node.func, ast.Attribute) and _name(node.func.value) == "found":
                continue  # found.read_text is for UTF-8 alone
            assert method not in ("read_text", "write_text"), f"{source}:{node.lineno}"
            if _name(node.func) == "open":
                modes = [x.value for x in node.args[1:] if isinstance(x, ast.Constant)]
                assert any("b" in str(mode) for mode in modes), f"{source}:{node.lineno}"
