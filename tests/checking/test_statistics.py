"""The checks' statistics against closed forms, and by a second route."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from metarl.checking.findings import Check, Finding, run, summary
from metarl.checking.options import CheckOptions
from metarl.checking.play import RandomPolicy, Subject, distinct
from metarl.checking.repetition import first_difference
from metarl.checking.tasks import FOLDS, r_squared, separation
from metarl.envs import catalogue
from metarl.types import Trajectories


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def by_hand(features: np.ndarray, values: np.ndarray) -> float:
    """Ridge regression in the primal, fold by fold, on every look as a sample of its own."""
    num, looks, width = features.shape
    flat = features.reshape(-1, width)
    x = (flat - flat.mean(0)) / flat.std(0)
    y, fold = np.repeat(values, looks), np.repeat(np.arange(num) % FOLDS, looks)
    error = np.zeros(len(y))
    for index in range(FOLDS):
        kept, out = fold != index, fold == index
        centred, mean = x[kept] - x[kept].mean(0), y[kept].mean()
        weights = np.linalg.inv(centred.T @ centred + np.eye(width)) @ centred.T @ (y[kept] - mean)
        error[out] = y[out] - mean - (x[out] - x[kept].mean(0)) @ weights
    return 1.0 - error @ error / ((y - y.mean()) @ (y - y.mean()))


def test_the_probe_is_ridge_regression_on_unseen_tasks(rng: np.random.Generator):
    features, values = rng.normal(size=(23, 2, 4)), rng.normal(size=23)
    features[..., 1] += values[:, None]
    assert r_squared(features, values) == pytest.approx(by_hand(features, values), abs=1e-12)


def test_the_probe_finds_what_is_shown_and_nothing_in_noise(rng: np.random.Generator):
    values = rng.normal(size=60)
    noise = rng.normal(size=(60, 2, 5))
    assert r_squared(noise, values) < 0.1
    assert r_squared(np.zeros((60, 2, 5)), values) < 0.01
    shown = np.concatenate([noise, np.repeat(3.0 - 2.0 * values, 2).reshape(60, 2, 1)], axis=2)
    assert r_squared(shown, values) > 0.95
    wide = np.concatenate([shown, np.ones((60, 2, 500))], axis=2)
    assert r_squared(wide, values) == pytest.approx(r_squared(shown, values))


def test_separation_of_ranks():
    """H = 12/(N(N+1)) sum R_k^2/n - 3(N+1): ranks 1-3, 4-6, 7-9 give 7.2, on 2 degrees."""
    assert separation(np.arange(9.0).reshape(3, 3)) == pytest.approx(chi2.sf(7.2, 2))
    assert separation(np.full((3, 4), 2.0)) == 1.0


def trajectories() -> Trajectories:
    none = torch.zeros(2, 4, 2, dtype=torch.bool)
    return Trajectories(
        torch.zeros(2, 4, 2, 3), torch.zeros(2, 4, 2, 1), torch.zeros(2, 4, 2), none, none.clone(),
        ~none, torch.zeros(2, 2, 3), torch.zeros(2, 2, dtype=torch.int32), None,  # pyright: ignore
    )  # fmt: skip


TASKS = [{"at": 0}, {"at": 1}]


@pytest.mark.parametrize(
    ("field", "place", "said"),
    [
        ("obs", (1, 2, 0, 1), "task {'at': 1}, episode 0, step 2: observation[1] is 1.0 now, 0.0"),
        ("rewards", (0, 2, 1), "task {'at': 0}, episode 1, step 3: reward is 1.0 now, 0.0"),
        ("terminated", (1, 3, 1), "task {'at': 1}, episode 1, step 4: terminated is True now"),
        ("truncated", (1, 0, 1), "task {'at': 1}, episode 1, step 1: truncated is True now"),
        ("final_obs", (0, 0, 2), "task {'at': 0}, episode 0, step 4: observation[2] is 1.0 now"),
        ("solved_at", (1, 0), "task {'at': 1}, episode 0, step 4: the first step solved is 1 now"),
    ],
)
def test_where_episodes_part(field: str, place: tuple, said: str):
    one, other = trajectories(), trajectories()
    assert first_difference(one, other, TASKS, "now") == ""
    getattr(other, field)[place] = 1
    assert first_difference(one, other, TASKS, "now").startswith(said)


def test_episodes_part_at_their_first_difference():
    one, other = trajectories(), trajectories()
    other.rewards[0, 3, 0] = other.obs[1, 2, 1, 0] = 1.0
    assert ", step 2: observation[0]" in first_difference(one, other, TASKS, "now")
    other.rewards[1, 0, 1] = -0.0  # equal to zero, with another bit
    assert ", step 1: reward is -0.0" in first_difference(one, other, TASKS, "now")


def test_random_actions_are_normal_or_uniform():
    box = RandomPolicy(catalogue.make("point-goal", 5).spec)
    noise = torch.randn(2, 3, 2)
    assert box.noise == ("normal", 2)
    assert torch.equal(box.act(torch.ones(2, 3, 2), noise)[0], noise)
    choice = RandomPolicy(catalogue.make("bandit:5", 5).spec)
    gumbel = -torch.empty(4000, 5).exponential_().log()
    assert choice.noise == ("gumbel", 5)
    pulls = choice.act(torch.ones(4000, 1), gumbel)[0].ravel().bincount(minlength=5)
    assert ((pulls - 800).abs() < 5 * 800**0.5).all()


def test_steps_fit_into_their_share():
    subject = Subject(catalogue.make("point-goal", 100), CheckOptions(max_steps=3000))
    assert subject.steps_of(10) == 100
    assert subject.steps_of(60) == 50
    assert subject.steps_of(60, 0.1) == 5
    assert subject.steps_of(4000) == 1


def test_every_round_is_another_one():
    subject = Subject(catalogue.make("point-goal", 5), CheckOptions(tasks=2, episodes=6))
    assert subject.returns.shape == (2, 6)
    assert np.unique(subject.returns).size == 12


def test_what_closing_raises_is_left_to_the_checks(wrong_envs: Any):
    subject = Subject(wrong_envs.Arrays("close"), CheckOptions())
    with pytest.raises(OSError, match="closed twice"):
        subject.env.close()
    subject.close()


def test_different_tasks_keep_their_order():
    tasks: list[Any] = [{"a": 2, "b": 1}, {"b": 1, "a": 2}, {"a": 1}, {"a": [1]}, {"a": 1}]
    assert distinct(tasks) == [{"a": 2, "b": 1}, {"a": 1}, {"a": [1]}]


def test_findings_are_told_as_they_come():
    said: list[str] = []

    def raises(subject: None) -> Finding:
        assert said == ["ok       first         1 of 1"]
        raise SystemExit("enough")

    found = run(
        [
            Check("first", lambda subject: Finding("ok", "1 of 1")),
            Check("second", raises),
            Check("third", lambda subject: Finding("ok", ""), ("first", "second")),
            Check("fourth", lambda subject: Finding("warning", "a\nb", "c\nd"), ("first",)),
        ],
        None,
        said.append,
    )
    assert summary(found) == "4 checks: 1 ok, 1 warning, 1 FAIL, 1 skipped"
    text = "\n".join(said)
    indent = " " * 23
    assert "FAIL     second        SystemExit: enough\n" in text
    assert f'{indent}  Traceback (most recent call last):\n{indent}    File "' in text
    assert "skipped  third         it needs second\n" in text
    assert text.endswith(f"warning  fourth        a\n{indent}b\n{indent}c\n{indent}d")
