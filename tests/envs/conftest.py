"""Fixtures of the tests of task distributions."""

from __future__ import annotations

import os

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.types import Workers


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Gives the session a cache of its own, so that a user's stays as it is."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # its parent is that of all of them
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METARL_CACHE", str(folder / "cache"))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def opened():
    """`opened(name, K, E)` -> an environment with tasks, at the start of its episodes."""
    envs = []

    def open_env(name: str, num_tasks: int = 2, episodes: int = 3, threads: int = 1, horizon=None):
        distribution = catalogue.make(name, horizon or catalogue.default_horizon(name))
        env = distribution.open(num_tasks, episodes, Workers(threads))
        envs.append(env)
        env.set_tasks(distribution.sample(num_tasks, np.random.default_rng(3)))
        env.reset(np.arange(num_tasks * episodes, dtype=np.uint64).reshape(num_tasks, episodes))
        return env

    yield open_env
    for env in envs:
        env.close()
