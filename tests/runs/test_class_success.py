"""Success by class: known rates, metaworld's own evaluation, the picture and the report."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import metaworld
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.evaluation import metalearning_evaluation

from metarl.reporting.run_page import render
from metarl.runs import plot_style
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.class_success import (
    as_json,
    class_success,
    official_count,
    table,
    text_table,
)
from metarl.runs.class_success_plot import success_figure

HORIZON = 12
NAMES = list(ALL_V3_ENVIRONMENTS)


def outcome(solved_at: np.ndarray) -> Outcome:
    return Outcome(-1.0 * solved_at, solved_at > 0, None, solved_at)


def adaptation(solved_at: np.ndarray, goals: list[int], **others: np.ndarray) -> Adaptation:
    """Makes one from [K, S, E]; the first goals[0] tasks are of one class, the next of another."""
    points = range(solved_at.shape[1])
    return Adaptation(
        "ml10", "maml-trpo", "test", tuple(points), tuple(100.0 * s for s in points),
        tuple(
            {"class": name, "split": "test", "goal": goal}
            for name, count in zip(NAMES, goals, strict=False)
            for goal in range(count)
        ),
        outcome(solved_at),
        others={name: outcome(at) for name, at in others.items()},
        made_from={"horizon": HORIZON, "protocol": "metaworld"},
    )  # fmt: skip


def scattered(*shape: int, seed: int = 0) -> np.ndarray:
    """Steps of success; two of three episodes fail."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 1 / 3, rng.integers(1, HORIZON + 1, shape), 0)


def test_known_rates():
    """Three goals of one class and one of another, 2 episodes each; classes weigh the same."""
    before = np.zeros((4, 2), int)
    after = np.array([[3, 0], [3, 3], [0, 0], [7, 0]])
    found = class_success(adaptation(np.stack([before, after], axis=1), [3, 1]))
    assert found
    assert found.goals == {NAMES[0]: 3, NAMES[1]: 1}
    assert [list(rates.mean) for rates in found.solved.classes.values()] == [[0, 0.5], [0, 0.5]]
    after[3] = 7
    found = class_success(adaptation(np.stack([before, after], axis=1), [3, 1]))
    assert found
    assert list(found.solved.overall.mean) == [0, 0.75]
    assert found.solved.episodes == 2


def test_equal_goals_leave_no_doubt():
    """Within each class: one that is solved and one that is not are no reason for an interval."""
    solved_at = np.zeros((6, 2, 3), int)
    solved_at[:3, :, 0] = 5  # one of three episodes
    found = class_success(adaptation(solved_at, [3, 3]))
    assert found
    for rates, mean in zip(found.solved.classes.values(), (1 / 3, 0), strict=True):
        np.testing.assert_allclose(rates.ci95, mean)
        assert np.ptp(rates.ci95) == 0
    np.testing.assert_allclose(found.solved.overall.ci95, 1 / 6)


def test_the_interval_over_goals_of_a_class():
    """40 goals, each solved in all of its episodes or in none: 1.96 sqrt(p (1 - p) / 40)."""
    solved_at = np.zeros((80, 1, 3), int)
    solved_at[:20] = 5
    found = class_success(adaptation(solved_at, [40, 40]))
    assert found
    half = 1.96 * np.sqrt(0.25 / 40)
    (low, high), (none, nothing) = (rates.ci95[0] for rates in found.solved.classes.values())
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.03)
    assert none == nothing == 0
    assert found.solved.overall.ci95[0] == pytest.approx([low / 2, high / 2])


def test_what_has_no_figures():
    whole = adaptation(scattered(4, 2, 3), [2, 2])
    assert class_success(whole)
    parts = vars(whole)
    unkept = replace(whole.outcome, solved_at=None)
    assert class_success(Adaptation(**{**parts, "outcome": unkept})) is None
    tasks = ({"goal": 1}, *whole.tasks[1:])
    assert class_success(Adaptation(**{**parts, "tasks": tasks})) is None
    old = Adaptation(**{**parts, "made_from": {}, "controls": {"old": unkept}})
    found = class_success(old)
    assert found
    assert found.controls == {}
    assert found.solved.overall.official is None


class Scripted(gym.Env):
    """An environment of metaworld's that is solved where its task says, episode by episode."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))
    max_path_length = HORIZON

    def __init__(self, name: str, **_):
        self.task_name = ALL_V3_ENVIRONMENTS[name].__name__

    def seed(self, seed: int) -> None:
        super().reset(seed=seed)

    def set_task(self, task) -> None:
        self.solved_at = task.solved_at
        self.episode = -2  # metaworld resets once as it sets a task, and again to evaluate

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.elapsed = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.elapsed += 1
        kept = self.episode < len(self.solved_at)
        at = self.solved_at[self.episode] if kept else 1  # later ones would show: they are solved
        solved = float(at > 0 and self.elapsed >= at)
        return np.zeros(1, np.float32), 0.0, False, False, {"success": solved}


class Idle:
    """metaworld's idea of an agent."""

    def init(self) -> None: ...
    def reset(self, env_mask) -> None: ...

    def eval_action(self, observations):
        return np.zeros((len(observations), 1), np.float32)


@pytest.mark.parametrize(("classes", "goals"), [(5, 8), (1, 40), (10, 6), (20, 3)])
def test_the_official_count_is_metaworlds(classes, goals):
    """Its evaluation, vector environments and wrappers, over environments that follow a script."""
    solved_at = scattered(classes * goals, 1, 3, seed=classes)
    played = adaptation(solved_at, [goals] * classes)
    tasks = [
        SimpleNamespace(env_name=task["class"], solved_at=at)
        for task, (at,) in zip(played.tasks, solved_at, strict=True)
    ]
    benchmark = SimpleNamespace(
        test_classes={name: partial(Scripted, name) for name in NAMES[:classes]}, test_tasks=tasks
    )
    # With a seed, every environment of a class shuffles its goals alike: the same ones meet.
    envs = metaworld._make_ml_envs_inner(
        benchmark,  # type: ignore
        20, seed=1, split="test", task_select="pseudorandom",
    )  # fmt: skip
    rounds = goals * classes // 20
    total, _, by_class = metalearning_evaluation(
        Idle(),  # type: ignore
        envs, rounds, adaptation_steps=0,
    )  # fmt: skip
    found = class_success(played)
    assert found
    ours = {name: rates.official for name, rates in found.solved.classes.items()}
    assert ours == {name: pytest.approx(by_class[name]) for name in NAMES[:classes]}
    assert found.solved.overall.official == pytest.approx([total])


def counted_step_by_step(solved_at: np.ndarray, side_by_side: int) -> float:
    """The same count, by a clock."""
    shares = []
    for i in range(0, len(solved_at), side_by_side):
        environments = [list(episodes) for episodes in solved_at[i : i + side_by_side]]
        elapsed = [0] * len(environments)
        ended = []
        while len(ended) < solved_at.shape[-1]:
            for e, episodes in enumerate(environments):
                elapsed[e] += 1
                if episodes and elapsed[e] == (episodes[0] or HORIZON):
                    ended.append(episodes.pop(0) > 0)
                    elapsed[e] = 0
        shares.append(np.mean(ended[: solved_at.shape[-1]]))
    return float(np.mean(shares))


@given(
    arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(0, 12)),
    st.integers(1, 5),
)
def test_the_official_count_by_a_clock(solved_at, side_by_side):
    """Ties, leftover goals and any number of episodes."""
    count = official_count(solved_at[:, None], HORIZON, side_by_side)
    assert count == pytest.approx([counted_step_by_step(solved_at, side_by_side)])


def test_a_quarter_counts_as_all():
    """One of four goals side by side is solved, each time at step 10, before the others fail."""
    solved_at = np.zeros((20, 2, 3), int)
    solved_at[::4, 1] = 10
    played = adaptation(solved_at, [4] * 5)
    made_from = {"horizon": 500, "protocol": "metaworld"}
    found = class_success(Adaptation(**{**vars(played), "made_from": made_from}))
    assert found
    for rates in (*found.solved.classes.values(), found.solved.overall):
        assert list(rates.mean) == [0, 0.25]
        assert rates.official is not None
        assert list(rates.official) == [0, 1]


def test_one_environment_a_class_counts_every_episode():
    found = class_success(adaptation(scattered(60, 2, 3), [3] * 20))
    assert found
    assert found.solved.overall.official == pytest.approx(found.solved.overall.mean)


def example() -> Adaptation:
    """Class 0 from 1/6 to 5/6, class 1 solved at the end, class 2 never; a rival that never is."""
    solved_at = np.zeros((6, 2, 3), int)
    solved_at[0, 0] = [4, 0, 0]
    solved_at[:2, 1] = [[4, 4, 0], [4, 4, 4]]
    solved_at[2:4, 1] = 12
    return adaptation(solved_at, [2, 2, 2], rival=np.zeros((6, 2, 3), int))


def test_success_json():
    found = class_success(example())
    assert found
    document = json.loads(as_json(found))
    head = {"format": 1, "env": "ml10", "agent": "maml-trpo", "split": "test", "steps": [0, 1]}
    assert head.items() <= document.items()
    assert document["goals"] == dict.fromkeys(NAMES[:3], 2)
    rest = document.keys() - head.keys() - {"goals"}
    assert rest == {"episodes", "classes", "overall", "controls", "others"}
    assert document["episodes"] == 3
    assert document["overall"]["mean"] == pytest.approx([1 / 18, 11 / 18])
    for name, rates in found.solved.classes.items():
        stored = {key: np.array(values) for key, values in document["classes"][name].items()}
        np.testing.assert_equal(stored, rates._asdict())
    assert document["others"]["rival"].keys() == {"episodes", "classes", "overall"}
    assert document["others"]["rival"]["overall"]["official"] == [0, 0]


def test_the_table():
    """Two goals side by side: those of class 0 have five of six solved, the three fastest all."""
    found = class_success(example())
    assert found
    headings, rows = table(found)
    assert headings[:4] == ["class", "goals", "before", "after"]
    assert headings[-2:] == ["official before", "official after"]
    cells = {row[0]: row for row in rows}
    assert cells[NAMES[0]][:4] == [NAMES[0], "2", "16.7%", "83.3%"]
    assert cells[NAMES[0]][-2:] == ["33.3%", "100.0%"]
    assert cells[NAMES[1]][2:5] == ["0.0%", "100.0%", "100.0 to 100.0%"]
    assert cells["all classes"][1:4] == ["6", "5.6%", "61.1%"]
    assert [row[0] for row in rows[3:]] == ["all classes", "all classes, rival (other run)"]
    assert "metaworld" in text_table(found).splitlines()[-1]


@pytest.mark.parametrize(("classes", "points"), [(1, 2), (3, 1), (45, 2)])
def test_the_picture(classes, points):
    solved_at = scattered(classes * 41, points, 3)
    solved_at[:41] = [5, 0, 0]
    found = class_success(adaptation(solved_at, [41] * classes, rival=solved_at))
    assert found
    figure = success_figure(found)
    axes = figure.axes[0]
    several = classes > 1
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*(["all classes"] if several else []), *NAMES[:classes]]
    bars = [patch.get_width() for patch in axes.patches]  # type: ignore
    rates = [*([found.solved.overall] if several else []), *found.solved.classes.values()]
    np.testing.assert_allclose(bars, np.ravel([r.mean for r in rates], order="F"))
    floor = [text.get_text() for text in axes.texts]
    assert floor == ([f"one trivial class alone gives {100 / classes:.3g}%"] if several else [])
    marked = {m: [np.array(x.get_xdata()) for x in axes.lines if x.get_marker() == m] for m in "sD"}
    np.testing.assert_allclose(marked["s"], [[r.mean[-1] for r in rates]])
    np.testing.assert_equal(marked["D"], list(np.array([r.official for r in rates]).T))
    paths = [path for lines in axes.collections for path in lines.get_paths()]
    ends = [np.asarray(path.vertices)[:, 0] for path in paths]
    for rate in rates:
        assert any(rate.ci95[-1] == pytest.approx(end) for end in ends)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:points] == ["maml-trpo, before adaptation", "maml-trpo, after 1 step"][:points]
    plot_style.png(figure, dpi=20)


def test_the_report_has_the_classes():
    page = render("run", "", {}, [], [example()])
    assert "Success by class" in page
    assert page.count('<dl class="bars">') == 1
    assert page.count('width="16.67%"') == page.count('width="83.33%"')
    assert f"<td>{NAMES[0]}</td><td>2</td><td>16.7%</td><td>83.3%</td>" in page
    assert '<tr class="own"><td>all classes</td>' in page.replace("\n", "")
    both = render("run", "", {}, [], [example(), example()])
    assert both.count("Success by class, test split") == 2
    assert both.count('<dl class="bars">') == 2
    without = Adaptation(**{**vars(example()), "tasks": ({"goal": 0},) * 6})
    assert "Success by class" not in render("run", "", {}, [], [without])
