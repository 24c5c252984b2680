"""Three classes to play, of which two move bodies of the model at a reset."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import copy
from functools import lru_cache

import mujoco
import numpy as np
import pytest

from metarl.envs.metaworld import goals
from metarl.envs.metaworld.distribution import MetaWorld
from metarl.types import Workers

NAME = "metaworld:basketball-v3,peg-insert-side-v3,push-v3|reach-v3"


@pytest.fixture(scope="session", autouse=True)
def _compiled_once():
    """Everyone has a model of their own, as ever: a copy of what was compiled from the file."""
    compiled = lru_cache(maxsize=5)(mujoco.MjModel.from_xml_path)  # each takes tens of megabytes

    def model(path):
        return copy.copy(compiled(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mujoco.MjModel, "from_xml_path", staticmethod(model))
        yield


@pytest.fixture
def goals_are_few(monkeypatch, tmp_path):
    """`goals_are_few(n)`: the first n of each class are drawn alone, and kept apart."""

    def few(number):
        monkeypatch.setattr(goals, "GOALS", number)
        monkeypatch.setenv("METARL_CACHE", str(tmp_path / "few"))

    return few


@pytest.fixture(scope="session")
def make():
    """`make(config, horizon)` -> the distribution, opened by a user's name."""
    from metarl.config.settings import MetaWorldConfig
    from metarl.envs import catalogue

    def made(config: MetaWorldConfig | None = None, horizon: int = 500) -> MetaWorld:
        found = catalogue.make(NAME, horizon, metaworld=config)
        assert isinstance(found, MetaWorld)
        return found

    return made


@pytest.fixture(scope="session")
def three(make) -> MetaWorld:
    """Batched."""
    return make()


@pytest.fixture
def opened():
    """`opened(distribution, tasks, E, workers)` -> an environment with these tasks."""
    envs = []

    def open_env(distribution, tasks, episodes=2, workers=1):
        env = distribution.open(len(tasks), episodes, Workers(workers))
        envs.append(env)
        env.set_tasks(tasks)
        return env

    yield open_env
    for env in envs:
        env.close()


@pytest.fixture(scope="session")
def played():
    """`played(env, actions [T, K, E, 4])` -> all that an episode showed of each row, [K, E, n]."""

    def play(env, actions):
        shown = [env.reset(np.zeros(actions.shape[1:3], np.uint64))]
        for action in actions:
            step = env.step(action)
            shown += [step.obs.copy(), step.rewards[..., None], step.success[..., None]]
        return np.concatenate(shown, axis=-1)

    return play
