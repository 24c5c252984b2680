"""Curricula: what `sample` is told, that held-out tasks stay, and exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from whole_runs import rows, weights

import metarl
from metarl.envs.gym.tasks import class_tasks, gym_tasks
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import EnvFaultError, UserError
from metarl.loop import evaluation
from metarl.types import takes_progress

SMALL: dict[str, Any] = {
    "settings": {"agent.policy.hidden": [4], "sampling.tasks": 3, "sampling.episodes": 2},
    "evaluation": {"tasks": 2, "steps": 1, "episodes": 2},
    "device": "cpu",
    "threads": 1,
    "workers": 0,
}


MASS = metarl.Uniform(0.5, 2.5)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Widening:
    """Pendulums that get heavier with the iterations; it notes what it is told."""

    horizon = 6

    def __init__(self):
        self.told: list[Any] = []

    def sample(self, num_tasks, rng, split, progress=None):
        if split == "test":
            return [{"m": float(m)} for m in rng.uniform(3, 4, num_tasks)]
        self.told.append(progress)
        most = 2.0 if progress is None else 1.0 + progress.iteration / progress.iterations
        worse = progress is not None and len(progress.returns) > 1 and np.diff(progress.returns)[-1]
        return [{"m": float(m)} for m in rng.uniform(0.5, most + 0.1 * (worse < 0), num_tasks)]

    def make(self, task):
        env = gymnasium.make("Pendulum-v1", max_episode_steps=-1)
        env.unwrapped.m = task["m"]  # pyright: ignore[reportAttributeAccessIssue]
        return env


def train(folder: Path, tasks: Any, iterations: int, *callbacks: metarl.Callback) -> None:
    metarl.meta_train(
        "point-goal", tasks, run_dir=folder, iterations=iterations, callbacks=callbacks, **SMALL
    )


class Cut(metarl.Callback):
    """Ends a run of the same length early, as a signal does."""

    def on_iteration(self, metrics, agent):
        if metrics["iteration"] == 2:
            raise KeyboardInterrupt


def test_sample_is_told_of_iterations_and_returns_also_by_a_continued_run(tmp_path):
    whole, first, second = Widening(), Widening(), Widening()
    train(tmp_path / "whole", whole, 4)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", first, 4, Cut())
    train(tmp_path / "parts", second, 4)
    told = [x for x in whole.told if x is not None]
    assert [(x.iteration, x.iterations, len(x.returns)) for x in told] == [
        (0, 4, 0), (1, 4, 1), (2, 4, 2), (3, 4, 3),
    ]  # fmt: skip
    returns = [row["return/step1"] for row in rows(tmp_path / "whole")]
    assert told[-1].returns == tuple(returns[:3])
    assert [x for x in (*first.told, *second.told) if x is not None] == told
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert weights(tmp_path / "parts", 4) == weights(tmp_path / "whole", 4)


def lighter(task, progress):
    return task["m"] < 1.0 + progress.iteration


def pendulums(curriculum: Any = lighter) -> Any:
    return gym_tasks(
        "Pendulum-v1", {"m": metarl.Uniform(0.5, 2.5)}, horizon=6, curriculum=curriculum
    )


def test_a_curriculum_chooses_among_training_tasks(rng):
    tasks = pendulums()

    def drawn(split="train", **progress):
        return [task["m"] for task in tasks.sample(200, rng, split, **progress)]

    early, late = metarl.Progress(0, 9, ()), metarl.Progress(5, 9, (1.0,))
    assert max(drawn(progress=early)) < 1.0
    assert max(drawn(progress=late)) > 2.0
    assert max(drawn("test", progress=early)) > 2.0
    assert max(drawn()) > 2.0
    held = metarl.gym_tasks(
        "Pendulum-v1",
        {"m": metarl.Uniform(0.5, 2.5, test=(0.6, 0.7))},
        horizon=6,
        curriculum=lighter,
    )
    seen = [task["m"] for task in held.sample(300, rng, progress=early)]
    assert not [m for m in seen if 0.6 <= m <= 0.7]
    a, b = (tasks.sample(5, np.random.default_rng(3), progress=early) for _ in range(2))
    assert a == b


def test_a_stratified_draw_stays_even_under_a_curriculum(rng):
    """Six of ten tasks are offered; those that fill a batch up are not the lowest."""
    offered = gym_tasks(
        "Pendulum-v1", {"m": metarl.Uniform(0, 1)}, horizon=5,
        curriculum=lambda task, progress: task["m"] < 0.6,
    )  # fmt: skip
    progress = metarl.Progress(0, 10, ())
    drawn = [offered.sample(10, rng, "train", "stratified", progress) for _ in range(300)]
    masses = np.array([task["m"] for tasks in drawn for task in tasks])
    assert masses.mean() == pytest.approx(0.3, abs=0.01)


def test_who_takes_progress():
    assert takes_progress(pendulums())
    assert not takes_progress(pendulums(None))
    assert takes_progress(class_tasks(Widening(), "x:y"))
    assert takes_progress(TaskConditioned(pendulums()))


@pytest.mark.parametrize(
    ("curriculum", "error", "message"),
    [
        (lambda task, progress: False, UserError, "curriculum offers none of 3000 drawn tasks"),
        (lambda task, progress: task["mass"] < 1, EnvFaultError, "curriculum raised KeyError"),
    ],
)
def test_a_curriculum_without_tasks_is_refused(curriculum, error, message, rng):
    with pytest.raises(error, match=message):
        pendulums(curriculum).sample(3, rng, progress=metarl.Progress(7, 9, ()))


def test_a_run_with_a_curriculum_is_evaluated_on_all_held_out_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "png", lambda figure: b"")  # pictures take their time
    monkeypatch.setattr(evaluation, "adaptation_figure", lambda *_: None)
    train(tmp_path, pendulums(), 1)
    found = metarl.evaluate(tmp_path, pendulums(), num_tasks=20, episodes=1, steps=1)
    assert max(found.adaptation.column("task.m")) > 1.5
