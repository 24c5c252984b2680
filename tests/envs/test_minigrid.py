"""MiniGrid: cells one-hot, missions left out, and what is said where the library is missing."""

from __future__ import annotations

import importlib.util
from contextlib import closing

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import FilterObservation

from metarl import Choice, UserError, gym_tasks, minigrid_cells
from metarl.checking.episodes import units
from metarl.checking.interface import opens
from metarl.checking.options import CheckOptions
from metarl.checking.play import Subject
from metarl.config import own_code
from metarl.envs.gym.images import image_shape

pytest.importorskip("minigrid")
from minigrid.envs.empty import EmptyEnv
from minigrid.wrappers import RGBImgPartialObsWrapper

SIZES = {"size": Choice([5, 6])}


def test_cells_are_one_hot():
    plain, wrapped = EmptyEnv(size=5), minigrid_cells(EmptyEnv(size=5))
    first, found = plain.reset(seed=1)[0], wrapped.reset(seed=1)[0]
    assert found.keys() == {"direction", "image"}
    assert wrapped.observation_space.contains(found)
    assert image_shape(wrapped.observation_space, "x") == (21, 7, 7)
    parts = np.split(found["image"], [11, 17], -1)
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part.argmax(-1), first["image"][..., i])
        assert (part.sum(-1) == 1).all()


def test_a_mission_is_refused_with_the_wrapper_that_leaves_it_out():
    tasks = gym_tasks(EmptyEnv, train=[{"size": 5}], test=[{"size": 6}], horizon=3)
    with pytest.raises(UserError, match=r"MissionSpace.*\n.*metarl\.minigrid_cells\(env\)"):
        _ = tasks.spec


def test_what_has_no_cells_is_refused():
    with pytest.raises(UserError, match=r"CartPoleEnv(.|\n)*cells as `image`"):
        minigrid_cells(gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match=r"RGBImgPartialObsWrapper(.|\n)*FilterObservation"):
        minigrid_cells(RGBImgPartialObsWrapper(EmptyEnv(size=5)))


def test_an_id_without_its_module_is_told_the_module():
    with pytest.raises(UserError, match="'minigrid:MiniGrid-Nowhere-v0'"):
        gym_tasks("MiniGrid-Nowhere-v0", SIZES, horizon=3)


@pytest.mark.slow
def test_check_env_sees_that_numbers_of_cells_are_no_brightness():
    def raw(size):
        return FilterObservation(EmptyEnv(size=size), ["image", "direction"])

    def wrapped(size):
        return minigrid_cells(EmptyEnv(size=size))

    said = []
    for make in (raw, wrapped):
        tasks = gym_tasks(make, SIZES, horizon=3, sparse=True)
        subject = Subject(tasks, CheckOptions(max_steps=60, workers=0, episodes=2))
        with closing(subject):
            said.append((units(subject), opens(subject).what))
    assert said[0][0].status == "warning"
    assert "minigrid_cells" in said[0][0].remedy
    assert said[1][0].status == "ok"
    assert "an image, 7 x 7 in 21 channels" in said[1][1]


def test_the_extra_is_named_where_minigrid_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "metarl\[minigrid\]"'):
        gym_tasks("MiniGrid-Nowhere-v0", SIZES, horizon=3)

    def imports():
        raise ModuleNotFoundError("No module named 'minigrid'", name="minigrid")

    with pytest.raises(UserError, match=r'pip install "metarl\[minigrid\]"'):
        own_code.run("importing my_tasks", imports)
    (tmp_path / "lacks.py").write_text("raise ModuleNotFoundError('', name='minigrid')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"needs 'minigrid': pip install \"metarl\[minigrid\]"):
        own_code.at("lacks:tasks")
