"""Fixtures that all tests share."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

# First: it sets how long torch's threads spin, which torch reads when it is imported
import metarl  # noqa: F401  # isort: skip

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests start about a hundred processes. Each would compile all of torch's modules anew where no
# bytecode is kept, so theirs is, in a folder of the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache/code"))

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a submission is judged by the same examples
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Torch's own generator says the same in a test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def strange_envs() -> Any:
    """A user's module of environments, in tests/own: worker processes find it on the path too."""
    return importlib.import_module("strange_envs")
