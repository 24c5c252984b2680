"""Films: what they show is what was played, and nothing is lost where they cannot be made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from whole_runs import tree

from metarl import keys
from metarl.commands import record
from metarl.config.options import EvaluateOptions
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.loop.learners import trained as loaded
from metarl.recording.episodes import film_key, first_tasks
from metarl.recording.output import MARK, is_ours
from metarl.recording.places import facts_of, films_of, strip_of
from metarl.sampling.collect import collect, draw, returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Workers

CPU = torch.device("cpu")
HERE = "--workers 0 --threads 1".split()


def filmed(*argv: str | Path) -> None:
    small = [] if "--size" in argv else ["--size", "96"]
    record.main([*map(str, argv), *HERE, *small])


def returns_by_another_route(run: Path, steps: list[int], number: int) -> np.ndarray:
    """Returns [task][step], from adaptation and episodes stepped together by torch."""
    config: Any = run_config(run)
    tasks: Any = envs.configured(config.env)
    options = EvaluateOptions(run_dir=run)
    agent, _ = loaded(run, config, tasks, options, CPU)
    chosen = first_tasks(tasks, number, "test", 1, config.evaluation.tasks)
    found = []
    for step in steps:
        state = agent.begin()
        if step:
            env = tasks.open(number, config.evaluation.episodes, Workers(0))
            key = (1, keys.Purpose.EVALUATION)
            count = config.evaluation.episodes
            state, rounds = adaptation_rounds(
                agent, env, tasks.spec, chosen, count, step - 1, key, CPU
            )
            state = agent.adapt(state, rounds[-1])
        env = tasks.open(number, 1, Workers(0))
        env.set_tasks(chosen)
        played = collect(
            env,
            lambda episodes, state=state: agent.actor(state, episodes),
            draw(tasks.spec, number, 1, agent.noise, *film_key(1)),
            tasks.spec,
            CPU,
        )
        found.append(returns_of(played)[:, 0].numpy())
    return np.stack(found, axis=1)


def test_a_film_shows_the_episodes_of_the_adapted_policy(points: Path):
    filmed(points, "--tasks", "2", "--steps", "0", "1", "3")
    (film,) = films_of(points)
    facts = json.loads(facts_of(film).read_text())
    assert facts["steps"] == [0, 1, 3]
    expected = returns_by_another_route(points, [0, 1, 3], 2)
    np.testing.assert_allclose(facts["returns"], expected, rtol=1e-4)
    assert len({tuple(row) for row in facts["returns"]}) == 2
    assert all(len(set(row)) == 3 for row in facts["returns"]), "adaptation changes nothing"


def test_an_agent_with_a_memory_remembers_its_trial(trained: Callable[..., Path], tmp_path: Path):
    run = trained("bandit-5x10-rl2")
    film = tmp_path / "film.gif"
    filmed(run, "--steps", "0", "2", "--out", film)
    facts = json.loads(comment_of(film).removeprefix(MARK))
    expected = returns_by_another_route(run, [0, 2], 1)
    np.testing.assert_allclose(facts["returns"], expected, rtol=1e-4)
    assert films_of(run) == [], "--out leaves the run's folder as it is"


def comment_of(film: Path) -> bytes:
    with Image.open(film, formats=["GIF"]) as picture:
        return picture.info["comment"]


def test_a_film_can_be_played(points: Path):
    filmed(points, "--every", "5", "--steps", "0", "1", "--fps", "10")
    (film,) = films_of(points)
    assert is_ours(film)
    with Image.open(film, formats=["GIF"]) as picture:
        shown = picture.n_frames  # pyright: ignore[reportAttributeAccessIssue]
        assert shown == 4, "after 0, 5, 10 and 12 steps"
        assert picture.info["duration"] == 100
        width, height = picture.size
        assert width == 2 * (96 + 8) + 8
        assert (width % 2, height % 2) == (0, 0)
    with Image.open(strip_of(film), formats=["PNG"]) as strip:
        assert strip.width > 3 * 176
    assert film.stat().st_size < 100_000


def test_a_video_is_h264_that_browsers_play(points: Path, tmp_path: Path):
    av = pytest.importorskip("av")
    film = tmp_path / "film.mp4"
    filmed(points, "--out", film)
    assert is_ours(film)
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "a page shows it before its end"
    with av.open(str(film)) as opened:
        (stream,) = opened.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(stream)]
    assert len(frames) > 13
    assert np.abs(frames[0].astype(int) - frames[12].astype(int)).max() > 100, "nothing moves"


def test_tasks_of_the_users_own(points: Path):
    filmed(points, "--task", "goal=0.1,-0.2", "--task", "goal=0.4,0.4", "--steps", "0")
    (film,) = films_of(points)
    facts = json.loads(facts_of(film).read_text())
    assert facts["tasks"] == [{"goal": [0.1, -0.2]}, {"goal": [0.4, 0.4]}]
    assert facts["split"] is None


def test_an_earlier_film_of_a_run_is_replaced(points: Path):
    filmed(points, "--steps", "0")
    before = tree(points / "films")
    filmed(points, "--steps", "0", "1")
    filmed(points, "--steps", "0", "--name", "other")
    assert [path.stem for path in films_of(points)] == ["adaptation", "other"]
    assert tree(points / "films").keys() > before.keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{}/film.avi"], "ending in .mp4 or .gif"),
        (["--out", "{}/film"], "ending in .mp4 or .gif"),
        (["--out", "{}/none/film.gif"], "there is no folder"),
        (["--out", "{}/mine.gif", "--force"], "no film of metarl"),
        (["--out", "{}/link.gif", "--force"], "no film of metarl"),
        (["--steps", "1", "0"], "growing numbers"),
        (["--steps", "-1"], "steps is -1"),
        (["--size", "100000"], "size is 100000"),
        (["--size", "1920", "--tasks", "3", "--steps", "0", "1", "2", "3"], "smaller --size"),
        (["--tasks", "40", "--steps", "0", "1"], "at most 48"),
        (["--name", "../x"], "--name"),
        (["--task", "gaol=1"], "'gaol' is no key"),
        (["--fps", "0"], "fps is 0"),
        (["--out"], "--out"),
    ],
)
def test_nothing_is_written_for_what_cannot_be_filmed(
    points: Path, tmp_path: Path, flags: list[str], message: str
):
    (tmp_path / "mine.gif").write_bytes(b"GIF89a of somebody")
    (tmp_path / "link.gif").symlink_to(tmp_path / "mine.gif")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        filmed(points, *(x.format(tmp_path) for x in flags))
    assert len(str(raised.value).splitlines()) <= 3
    assert {k: v[1] for k, v in tree(tmp_path).items()} == {k: v[1] for k, v in before.items()}


def test_a_film_is_replaced_by_force_alone(points: Path, tmp_path: Path):
    film = tmp_path / "film.gif"
    filmed(points, "--steps", "0", "--out", film)
    before = film.read_bytes()
    with pytest.raises(UserError, match="--force"):
        filmed(points, "--steps", "0", "1", "--out", film)
    assert film.read_bytes() == before
    filmed(points, "--steps", "0", "1", "--out", film, "--force")
    assert film.read_bytes() != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(points: Path):
    points.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        filmed(points)


def test_a_link_in_the_place_of_a_runs_films(points: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (points / "films").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        filmed(points)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_learning_from_examples_has_no_episodes(tmp_path: Path):
    few_shot = Path(__file__).resolve().parents[2] / "results/few-shot/sinusoid-maml"
    with pytest.raises(UserError, match="no episodes") as raised:
        filmed(few_shot, "--out", tmp_path / "film.gif")
    assert len(str(raised.value).splitlines()) == 2


def test_filmed_tasks_are_the_first_of_an_evaluation():
    tasks = envs.make("point-goal", 12)
    rng = keys.generator(1, keys.Purpose.EVALUATION_TASKS)
    assert first_tasks(tasks, 2, "test", 1, 40) == list(tasks.sample(40, rng, "test"))[:2]
