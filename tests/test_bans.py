"""What no file of the project may do: run what a file holds, start a shell, use the network.

Each exception is a row of ALLOWED with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for folder in ("metarl", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")
)

CALLS = {
    **dict.fromkeys(
        (
            "pickle.load pickle.loads pickle.Unpickler _pickle.load _pickle.loads "
            "_pickle.Unpickler cloudpickle.load cloudpickle.loads dill.load dill.loads "
            "dill.Unpickler joblib.load pandas.read_pickle torch.load torch.jit.load "
            "torch.package.PackageImporter torch.hub.load marshal.load marshal.loads "
            "shelve.open shelve.Shelf pickle.dump pickle.dumps dill.dump"
        ).split(),
        "pickles: a file of them runs code when it is read",
    ),
    **dict.fromkeys(
        "yaml.load yaml.load_all yaml.unsafe_load yaml.unsafe_load_all yaml.full_load "
        "yaml.full_load_all yaml.Loader yaml.UnsafeLoader yaml.FullLoader yaml.CLoader".split(),
        "yaml with tags makes objects: use metarl.config.files",
    ),
    **dict.fromkeys(
        "eval exec compile __import__ builtins.eval builtins.exec builtins.compile "
        "runpy.run_path code.interact".split(),
        "runs text as code",
    ),
    **dict.fromkeys(
        "os.system os.popen subprocess.getoutput subprocess.getstatusoutput pty.spawn "
        "commands.getoutput asyncio.create_subprocess_shell".split(),
        "starts a shell",
    ),
    **dict.fromkeys(["tempfile.mktemp"], "another may take the name: use mkstemp or mkdtemp"),
    **dict.fromkeys(
        "numpy.fromfile numpy.memmap numpy.lib.format.read_array numpy.lib.format.open_memmap"
        .split(),
        "reads what a file declares without bounds: use metarl.envs.npz",
    ),
}  # fmt: skip
"""Full names that are neither called nor passed on, and why."""
MODULES = {
    **dict.fromkeys(["dill", "joblib", "marshal", "shelve"], "pickles or worse"),
    **dict.fromkeys(
        "socket socketserver ssl urllib urllib3 requests http httpx aiohttp ftplib smtplib "
        "telnetlib xmlrpc poplib imaplib websockets".split(),
        "the network",
    ),
}
"""Modules that are not imported."""
NEEDED = {
    "numpy.load": ("allow_pickle", False),
    "PIL.Image.open": ("formats", None),
}
"""Calls that must have a keyword, with this value if it is not None."""
PROCESSES = {
    f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")
}
LEARNERS = {"PPO", "A2C", "SAC", "TD3", "DQN", "DDPG", "RecurrentPPO"}
"""Stable-Baselines3's, whose `load` unpickles."""

ALLOWED = {
    ("metarl/sampling/ray_actor.py", "cloudpickle.loads"): "reads what the driver itself sent by "
    "Ray, which pickles every message: docs/ray.md",
    ("metarl/sampling/worker.py", "socket"): "timeouts of a pair of pipes between two processes of "
    "one machine; it has no address",
    ("tests/runs/test_places.py", "socket"): "makes a socket's file in a run's folder",
    ("tests/sampling/test_pool.py", "socket"): "changes Python's default timeout, opens nothing",
    ("tests/envs/metaworld/test_goals.py", "pickle.loads"): "metaworld hands out its tasks pickled",
    ("tests/envs/metaworld/test_goals.py", "pickle.dumps"): "a pickle that must not be read",
    ("scripts/attacks/others.py", "socket"): "names the kinds of sockets, to "
    "count those that metarl opens",
    ("tests/test_scripts.py", "runpy.run_path"): "runs the scripts of this project",
    ("tests/test_check_env.py", "exec"): "runs the example that a help text prints",
    ("tests/agents/test_sb3_export.py", "PPO.load"): "reads what the test has just exported",
}  # fmt: skip
"""(file, name): why it may."""


def banned(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields line, name and reason of everything in a source that is banned."""
    tree = ast.parse(text)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _modules(node):
                root = name.partition(".")[0]
                if root in MODULES:
                    yield node.lineno, root, MODULES[root]
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (name := f"{node.module}.{alias.name}") in CALLS:
                    yield node.lineno, name, CALLS[name]
        if isinstance(node, ast.Name | ast.Attribute) and _full(node, names) in CALLS:
            yield node.lineno, _full(node, names), CALLS[_full(node, names)]
        if isinstance(node, ast.Call):
            yield from _of_call(node, _full(node.func, names))


def _of_call(node: ast.Call, name: str) -> Iterator[tuple[int, str, str]]:
    given = {key.arg: key.value for key in node.keywords}
    if _is(given.get("shell"), True):
        yield node.lineno, "shell=True", "starts a shell"
    if "allow_pickle" in given and not _is(given["allow_pickle"], False):
        yield node.lineno, "allow_pickle", "unpickles"
    if name in NEEDED:
        keyword, value = NEEDED[name]
        if keyword not in given or (value is not None and not _is(given[keyword], value)):
            yield node.lineno, name, f"needs {keyword}={'...' if value is None else value}"
    if name in PROCESSES and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
        yield node.lineno, name, "a command as text: give a list"
    parts = name.split(".")
    if parts[-1] in ("load", "set_parameters") and len(parts) > 1 and parts[-2] in LEARNERS:
        yield node.lineno, f"{parts[-2]}.load", "Stable-Baselines3's files are pickles"
    dynamic = name in ("importlib.import_module", "metarl.lazy.lazy") and node.args
    if dynamic and isinstance(node.args[0], ast.Constant):
        root = str(node.args[0].value).partition(".")[0]
        if root in {**MODULES, **dict.fromkeys(["pickle", "_pickle", "cloudpickle"], "pickles")}:
            yield node.lineno, root, "imported by its name as text"
    if name in ("getattr", "builtins.getattr") and len(node.args) > 1:
        attribute = node.args[1]
        if isinstance(attribute, ast.Constant) and attribute.value in ("loads", "eval", "exec"):
            yield node.lineno, f"getattr {attribute.value}", "a banned name as text"


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def _imported(tree: ast.AST) -> dict[str, str]:
    """Returns what names of a file stand for: np -> numpy, x of `from a import b as x` -> a.b."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = node.value  # name = lazy("module"), and name = importlib.import_module("module")
            called = _full(made.func, {}).rpartition(".")[2]
            if called in ("lazy", "import_module") and made.args:
                (module, *_), (target, *_) = made.args, node.targets
                if isinstance(module, ast.Constant) and isinstance(target, ast.Name):
                    found[target.id] = str(module.value)
    return found


def _full(node: ast.expr, names: dict[str, str]) -> str:
    """Returns the dotted name of an expression, with imported names spelt out."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def test_no_file_does_what_is_banned():
    found = [
        (path.relative_to(ROOT).as_posix(), line, name, why)
        for path in SOURCES
        for line, name, why in banned(path.read_text(encoding="utf-8"))
    ]
    faults = [row for row in found if (row[0], row[2]) not in ALLOWED]
    assert not faults, "\n".join(
        f"{file}:{line}: {name}: {why}" for file, line, name, why in faults
    )
    used = {(file, name) for file, _, name, _ in found}
    assert not ALLOWED.keys() - used, "exceptions that nothing needs"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import load as x\nx(f)",
        "from pickle import loads",
        "import pickle\nread = pickle.load",
        "import pickle\npickle.Unpickler(f).load()",
        "import cloudpickle\ncloudpickle.loads(b)",
        "import pickle\nmap(pickle.loads, xs)",
        "from metarl.lazy import lazy\np = lazy('pickle')\np.loads(b)",
        "import importlib\nimportlib.import_module('pickle').loads(b)",
        "from importlib import import_module\nimport_module('pickle')",
        "import pickle\ngetattr(pickle, 'loads')(b)",
        "import dill",
        "import joblib",
        "import marshal",
        "import shelve",
        "import yaml\nyaml.load(t, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.unsafe_load(t)",
        "import yaml\nyaml.full_load(t)",
        "import yaml\nclass L(yaml.Loader): pass",
        "from yaml import FullLoader as L",
        "eval('1')",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "import builtins\nbuiltins.exec(text)",
        "__import__(name)",
        "import torch\ntorch.load('x', weights_only=True)",
        "from torch import load\nload('x')",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=bool(1))",
        "from numpy import load as read\nread('x')",
        "read(f, allow_pickle=True)",
        "import subprocess\nsubprocess.run(['ls'], shell=True)",
        "import subprocess\nsubprocess.run('ls')",
        "import subprocess\nsubprocess.Popen(f'ls {x}')",
        "from subprocess import run as go\ngo('ls')",
        "import subprocess\nsubprocess.getoutput('ls')",
        "import os\nos.system('ls')",
        "from os import popen\npopen('ls')",
        "import tempfile\ntempfile.mktemp()",
        "import socket",
        "from urllib.request import urlopen",
        "import urllib.request as r",
        "import requests",
        "import http.client",
        "def f():\n    import socket",
        "from PIL import Image\nImage.open('x')",
        "import PIL.Image\nPIL.Image.open('x')",
        "from stable_baselines3 import PPO\nPPO.load('x')",
        "import stable_baselines3 as sb3\nsb3.PPO.load('x')",
    ],
)
def test_what_is_banned_is_found(text: str):
    assert list(banned(text))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import yaml\nyaml.safe_dump(x)",
        "import re\nre.compile('a')",
        "model.eval()\nspec.compile()",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import subprocess\nsubprocess.run(['ls', '-l'], shell=False)",
        "import safetensors.torch\nsafetensors.torch.load(b)",
        "from PIL import Image\nImage.open('x', formats=['PNG'])",
        "import os\nos.open('x', 0)",
    ],
)
def test_what_is_allowed_is_not(text: str):
    assert not list(banned(text))
