"""What all tests share."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a submission is judged by the same examples
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def strange_envs() -> Any:
    """A user's module of environments, in tests/own: worker processes find it on the path too."""
    return importlib.import_module("strange_envs")
