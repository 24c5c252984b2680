"""Pictures are of the episodes that were played, in environments of any kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import drawn_envs
import numpy as np
import pytest
from drawn_envs import AGENT, SCALE, WIDE
from PIL import Image
from whole_runs import tree

from metarl.commands import record
from metarl.errors import UserError
from metarl.recording.episodes import Episode
from metarl.recording.headless import VARIABLE, works
from metarl.recording.places import films_of
from metarl.recording.scenes.drawn import BanditScene, MdpScene, PointScene
from metarl.recording.scenes.gym import GymScene

WITHOUT = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "DISPLAY", "WAYLAND_DISPLAY")}


def an_episode(task: dict, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> Episode:
    return Episode(task, "a task", 0, 7, obs, actions, rewards, float(rewards.sum()), 0, True)


def played_line(steps: int = 5) -> Episode:
    env = drawn_envs.Line(goal=3.0)
    obs, rewards, actions = [env.reset(seed=7)[0]], [], np.linspace(-1, 1, steps)[:, None]
    for action in actions.astype(np.float32):
        step = env.step(action)
        obs.append(step[0])
        rewards.append(step[1])
    return an_episode({"goal": 3.0}, np.array(obs), actions.astype(np.float32), np.array(rewards))


def test_a_gymnasium_environment_draws_the_states_that_were_played():
    episode, scene = played_line(), GymScene(drawn_envs.line, 96)
    scene.check([episode.task])
    assert scene.aspect == pytest.approx(60 / 90)
    views = list(scene.views(episode, [0, 2, 5]))
    assert len(views) == 3
    for view, step in zip(views, [0, 2, 5], strict=True):
        columns = np.flatnonzero((view.image[30] == AGENT).all(axis=-1))
        assert columns[0] + 3 == int(WIDE / 2 + SCALE * episode.obs[step, 0])


def test_an_episode_that_cannot_be_played_again_is_not_filmed():
    episode = played_line()
    wrong = episode._replace(actions=-episode.actions)
    with pytest.raises(UserError, match="differs at step 1"):
        list(GymScene(drawn_envs.line, 96).views(wrong, [0, 5]))


@pytest.mark.parametrize("name", ["line", "Own"])
def test_tasks_of_the_users_own_are_filmed(trained: Callable[..., Path], name: str, tmp_path: Path):
    place = f"drawn_envs:{name}"
    run, film = trained("point-goal", "--env", place), tmp_path / "film.gif"
    record.main([str(run), "--env", place, "--out", str(film), "--workers", "0", "--size", "96"])
    with Image.open(film, formats=["GIF"]) as picture:
        assert picture.n_frames == 13  # pyright: ignore[reportAttributeAccessIssue]


def test_an_environment_that_cannot_draw_is_refused_before_it_is_played(
    trained: Callable[..., Path],
):
    run = trained("point-goal", "--env", "drawn_envs:blind")
    before = contents(run)
    with pytest.raises(UserError, match=r"draws no 'rgb_array'.*\n.*render_modes") as raised:
        record.main([str(run), "--env", "drawn_envs:blind", "--workers", "0"])
    assert len(str(raised.value).splitlines()) == 2
    assert contents(run) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in tree(folder).items()}


def test_pictures_that_are_none_are_a_fault_of_the_environment():
    with pytest.raises(UserError, match="render returned str"):
        GymScene(drawn_envs.silent, 96).check([{"goal": 3.0}])


def test_a_library_that_draws_and_is_missing_is_named_with_its_command():
    with pytest.raises(UserError) as raised:
        GymScene(drawn_envs.classic, 96).check([{"goal": 3.0}])
    assert str(raised.value).splitlines() == [
        "Classic cannot be drawn: brush is not installed",
        'pip install "gymnasium[brushes]"',
    ]


def test_what_seeds_do_not_determine_is_not_filmed():
    with pytest.raises(UserError, match="deterministic=True"):
        GymScene(drawn_envs.random, 96)


def test_code_of_a_user_is_not_run_for_a_film(trained: Callable[..., Path]):
    run = trained("point-goal", "--env", "drawn_envs:line")
    with pytest.raises(UserError, match="add --env"):
        record.main([str(run)])


def test_a_point_walks_to_its_goal():
    obs = np.linspace([0, 0], [0.4, -0.2], 6)
    episode = an_episode({"goal": [0.4, -0.2]}, obs, np.zeros((5, 2)), np.zeros(5))
    scene = PointScene(120)
    scene.prepare([episode])
    first, last = scene.views(episode, [0, 5])
    assert (first.note, last.note) == ("distance 0.45", "distance 0.00")
    assert (first.image != last.image).any()


def test_a_bandit_shows_what_paid():
    green, orange = (0, 158, 115), (230, 159, 0)
    actions, rewards = np.array([[1], [0], [1]]), np.array([1.0, 0.0, 1.0])
    episode = an_episode({"probabilities": [0.2, 0.9]}, np.ones((4, 1)), actions, rewards)
    first, last = BanditScene(200).views(episode, [0, 3])
    count = [(last.image == colour).all(axis=-1).sum() for colour in (green, orange)]
    assert count[0] == pytest.approx(2 * count[1], rel=0.1)
    assert not (first.image == green).all(axis=-1).any()
    assert last.note == "arm 1 paid"


def test_an_mdp_shows_its_state():
    states = [0, 3, 9]
    rewards = np.array([1.0, -0.5])
    episode = an_episode({"mdp": 1}, np.eye(10)[states], np.array([[2], [4]]), rewards)
    notes = [view.note for view in MdpScene(120).views(episode, [0, 1, 2])]
    assert notes == ["state 0", "state 3, action 2 paid +1.00", "state 9, action 4 paid -0.50"]


@cache
def can_draw() -> str:
    return next((choice for choice in ("egl", "osmesa") if works(choice, dict(WITHOUT))), "")


def command(*argv: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "metarl", "record", *argv, "--workers", "0", "--threads", "1"],
        env={**WITHOUT, **more},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_robots_are_drawn_without_a_display(trained: Callable[..., Path], tmp_path: Path):
    run, film = trained("halfcheetah-vel-quick"), tmp_path / "film.gif"
    argv = [str(run), "--task", "velocity=1.5", "--size", "160", "--out", str(film)]
    done = command(*argv)
    if not can_draw():
        assert done.returncode == 2
        assert "libosmesa6" in done.stderr
        assert not film.exists()
        pytest.skip("MuJoCo cannot draw on this machine")
    assert done.returncode == 0, done.stderr
    with Image.open(film, formats=["GIF"]) as picture:
        assert picture.n_frames == 13  # pyright: ignore[reportAttributeAccessIssue]
        facts = json.loads(picture.info["comment"].partition(b"{")[2].join([b"{", b""]))
        middle = np.asarray(picture.convert("RGB"))[60:170, :170].astype(int)
    assert facts["lengths"] == [[12, 12]]
    assert ((middle[..., 0] - middle[..., 2]) > 40).sum() > 100, "the robot's orange is not there"
    assert ((middle[..., 1] - middle[..., 0]) > 40).sum() > 20, "nor is the green pole"


@pytest.mark.slow
def test_a_choice_of_the_users_that_does_not_work_is_named(trained: Callable[..., Path]):
    run = trained("halfcheetah-vel-quick")
    done = command(str(run), **{VARIABLE: "nonsense"})
    assert done.returncode == 2
    assert "MUJOCO_GL is 'nonsense'" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert films_of(run) == []
