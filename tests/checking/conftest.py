"""A user's module of faulty tasks on the path, where worker processes find it too."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture
def wrong_envs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("wrong_envs")
