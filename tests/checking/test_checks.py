"""Every check: what is good passes, and what has one fault fails that check alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from metarl import Uniform, gym_tasks
from metarl.checking import episodes, play, repetition, tasks
from metarl.checking.checks import check
from metarl.checking.findings import Finding, summary
from metarl.checking.options import CheckOptions
from metarl.checking.play import Subject
from metarl.envs import catalogue
from metarl.envs.gym.tasks import class_tasks

QUICK = CheckOptions(tasks=6, episodes=4, workers=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "TIMED_S", 0.01)


def checked(
    distribution: Any, options: CheckOptions = QUICK, workers: bool = False
) -> dict[str, Finding]:
    """With `workers` as users have it; without, what they play is played in this process."""
    subject = Subject(distribution, options)
    with pytest.MonkeyPatch.context() as patch:
        if not workers:
            patch.setattr(play, "Workers", lambda *_, **__: play.HERE)
            patch.setattr(repetition, "ELSEWHERE", play.HERE)
        try:
            return check(subject, lambda line: None)
        finally:
            subject.close()


def told(found: dict[str, Finding], *but: str) -> dict[str, str]:
    """Returns the statuses that are not ok, by name."""
    return {
        name: one.status for name, one in found.items() if one.status != "ok" and name not in but
    }


def test_a_walk_has_nothing_wrong(wrong_envs: Any):
    found = checked(wrong_envs.walk, workers=True)
    assert told(found) == {}
    assert list(found) == [
        "opens", "gymnasium", "faults", "same seed", "no memory", "splits", "tasks differ",
        "task hidden", "units", "actions", "speed", "endings",
    ]  # fmt: skip
    assert summary(found) == "12 checks: 12 ok"
    assert "observations [2], actions Box(-1.0, 1.0, (1,), float32), horizon 12; 6 tasks" in (
        found["opens"].what
    )
    assert found["endings"].what == (
        "24 episodes last 12.0 steps on average (12 to 12) of at most 12; 0% terminate, "
        "100% are truncated"
    )


def test_a_wrapper_of_ones_own_is_nothing_wrong(wrong_envs: Any):
    assert told(checked(wrong_envs.of(wrong_envs.wrapped))) == {}


class Scaled(gymnasium.Wrapper):
    """Sound, and its argument is not in the environment's spec."""

    def __init__(self, env: gymnasium.Env, scale: float):
        super().__init__(env)
        self.scale = scale

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        return obs, self.scale * float(reward), *rest


class Shifted(gymnasium.RewardWrapper):
    """Sound; made with an object that no copy of a spec can hold."""

    def __init__(self, env: gymnasium.Env, by: Any):
        super().__init__(env)
        self.by, self.lock = by, threading.Lock()

    def reward(self, reward: Any) -> float:
        return float(reward) + self.by()


def scaled() -> gymnasium.Env:
    return Scaled(gymnasium.make("Pendulum-v1"), 0.1)


def shifted() -> gymnasium.Env:
    return Shifted(gymnasium.make("Pendulum-v1"), lambda: 1.0)


def both() -> gymnasium.Env:
    return Shifted(gymnasium.wrappers.TransformReward(scaled(), float), lambda: 1.0)


@pytest.mark.parametrize("make", [scaled, shifted, both])
def test_no_environment_is_made_from_a_spec(make: Any):
    """Training makes none either."""
    found = checked(gym_tasks(make, {"g": Uniform(2, 20)}, horizon=30))
    assert told(found, "gymnasium", "actions") == {}
    assert found["gymnasium"].status == "warning"
    assert "recommend using a symmetric and normalized space" in found["gymnasium"].remedy


class Dice(gymnasium.Env):
    """Chance that no seed repeats, as of a robot."""

    observation_space = Box(-9.0, 9.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    slope = 1.0

    def __init__(self):
        self.own = np.random.default_rng()

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        obs = self.own.uniform(-1, 1, 1).astype(np.float32)
        return obs, self.slope * float(obs[0]), False, False, {}


def test_steps_that_need_not_repeat_are_not_refused_by_gymnasium():
    declared = gym_tasks(Dice, {"slope": Uniform(1, 2)}, horizon=5, deterministic=False)
    assert checked(declared)["gymnasium"].status == "ok"
    undeclared = gym_tasks(Dice, {"slope": Uniform(1, 2)}, horizon=5)
    assert checked(undeclared)["gymnasium"].status == "FAIL"


class ClosesOnce(Dice):
    deaf = False

    def close(self) -> None:
        if self.deaf:
            raise RuntimeError("no connection")
        self.deaf = True


def test_an_environment_that_cannot_be_closed_twice_is_named():
    tasks_of_it = gym_tasks(ClosesOnce, {"slope": Uniform(1, 2)}, horizon=5, deterministic=False)
    found = checked(tasks_of_it)["gymnasium"]
    assert found.status == "warning"
    assert found.remedy == "close() of a closed environment raised RuntimeError: no connection"


def test_arrays_have_nothing_wrong(wrong_envs: Any):
    found = checked(wrong_envs.Arrays())
    assert told(found) == {}
    assert "contract" in found
    assert "gymnasium" not in found


@pytest.mark.parametrize(
    ("env", "parameters", "warnings"),
    [
        ("CartPole-v1", {"gravity": Uniform(5, 15), "force_mag": Uniform(5, 15)}, 2),
        ("Pendulum-v1", {"g": Uniform(2, 20)}, 1),
    ],
)
def test_environments_of_gymnasium_are_good(env: str, parameters: Any, warnings: int):
    """Their spaces make gymnasium's own checker warn, and the wrappers of `make` do not."""
    found = checked(gym_tasks(env, parameters, horizon=200), CheckOptions(), workers=True)
    assert told(found) == {"gymnasium": "warning"}
    assert len(found["gymnasium"].remedy.splitlines()) == warnings


@pytest.mark.parametrize("name", ["point-goal", "bandit:5"])
def test_tasks_of_the_catalogue_are_good(name: str):
    assert told(checked(catalogue.make(name, 100), CheckOptions())) == {}


def test_what_comes_after_an_end_is_nobodys_business(wrong_envs: Any):
    found = checked(wrong_envs.Arrays("again"))
    assert found["contract"].status == "ok"
    assert found["endings"].what.endswith("50% terminate, 50% are truncated")


def test_two_directions_are_all_there_are():
    found = checked(catalogue.make("half-cheetah-dir:promp", 20))
    assert found["splits"].status == "warning"
    assert found["splits"].what == "both splits hold the same 2 tasks"
    assert "2 tasks such as" in found["opens"].what
    said = "2 tasks begin with the same observation under one seed"
    assert found["task hidden"] == Finding("ok", said)


def test_tasks_that_are_sparse_by_their_spec_may_look_alike():
    """Random walks of 9 steps are within the radius of no goal at distance 1."""
    found = checked(catalogue.make("sparse-point", 9))["tasks differ"]
    assert found.status == "ok"
    assert found.what.endswith("which are sparse by their spec")
    spec = catalogue.make("sparse-point:dense", 9).spec
    assert not spec.sparse


# gymnasium environments with a fault: environment, the check that fails, what it says, the remedy.
FAULTY = {
    "OwnChance": ("gymnasium", "super().reset(seed=seed)", "follow this rule"),
    "observation": ("faults", "the observation is nan at index 1 of 2; task {'slope': ", "finite"),
    "shape": ("faults", "an array of shape (1,)", "observation_space in shape and type"),
    "reward": ("faults", "the reward is ndarray of shape (1,), not a number", "float(reward)"),
    "infinite": ("faults", "the reward is -inf", "a finite number"),
    "4-tuple": ("faults", "step returned a tuple of 4", "(observation, reward, terminated, trunc"),
    "step": ("faults", "step raised ZeroDivisionError: division by zero", "step(action) must"),
    "ResetRaises": ("faults", "reset raised KeyError: 'map'", "reset(*, seed=None, options=None)"),
    "Chancy": ("same seed", ": reward is ", "self.np_random"),
    "OfItsProcess": ("same seed", "step 0: observation[1] is ", "differs between processes"),
    "Dies": ("faults", "worker 0 exited with code 7 in task", ""),
    "doubled": ("gymnasium", "not within the observation space", "follow this rule"),
    "Remembering": (
        "no memory",
        "step 0: observation[",
        "restore everything that an episode changes",
    ),
    "Brief": ("endings", "every one of 24 episodes is over after its first step", "terminated"),
}


OF_PROCESSES = ("OfItsProcess", "Dies", "step")


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_found_by_its_check(fault: str, wrong_envs: Any):
    name, what, remedy = FAULTY[fault]
    env = getattr(wrong_envs, fault, None) or wrong_envs.walk_with(fault)
    found = checked(wrong_envs.of(env), workers=fault in OF_PROCESSES)
    assert [key for key, one in found.items() if one.status == "FAIL"] == [name]
    assert what in found[name].what
    assert remedy in found[name].remedy


@pytest.mark.parametrize("fault", ["step", "ResetRaises"])
def test_an_exception_comes_with_its_traceback(fault: str, wrong_envs: Any):
    env = getattr(wrong_envs, fault, None) or wrong_envs.walk_with(fault)
    found = checked(wrong_envs.of(env), workers=True)
    assert 'wrong_envs.py", line' in found["faults"].trace
    assert told(found, "faults") == dict.fromkeys(
        [
            "same seed",
            "no memory",
            "tasks differ",
            "task hidden",
            "units",
            "actions",
            "speed",
            "endings",
        ],
        "skipped",
    )
    assert found["splits"].status == "ok"
    assert found["no memory"].what == "it needs same seed"


def test_what_cannot_be_made_leaves_nothing_to_check(wrong_envs: Any):
    found = checked(wrong_envs.constructor)
    assert "constructor raised RuntimeError: no licence" in found["opens"].what
    assert "its signature names" in found["opens"].remedy
    assert 'raise RuntimeError("no licence")' in found["opens"].trace
    assert set(told(found, "opens").values()) == {"skipped"}
    assert len(told(found)) == len(found) == 12


def test_what_gymnasiums_checker_raises_itself_has_no_traceback(wrong_envs: Any):
    found = checked(wrong_envs.of(wrong_envs.OwnChance))["gymnasium"]
    assert found.what.startswith("AssertionError: ")
    assert found.trace == ""


def test_a_worker_that_dies_once_is_a_fault_too(wrong_envs: Any, tmp_path: Path):
    found = checked(
        wrong_envs.of(wrong_envs.DiesOnce, kwargs={"marks": str(tmp_path)}), workers=True
    )
    assert "worker 0 exited with code 7" in found["faults"].what


def test_spaces_without_an_agent_are_refused(wrong_envs: Any):
    found = checked(wrong_envs.of(wrong_envs.Texts))
    assert found["opens"].status == "FAIL"
    assert "no agent can observe Text(" in found["opens"].what


def test_warnings_of_gymnasiums_checker_are_counted(wrong_envs: Any):
    found = checked(wrong_envs.of(wrong_envs.Warned))["gymnasium"]
    assert found.status == "warning"
    assert found.what == "2 warnings of gymnasium's checker"
    assert found.remedy.splitlines() == [
        "A Box observation space minimum value is -infinity. This is probably too low.",
        "A Box observation space maximum value is infinity. This is probably too high.",
    ]


def test_chance_that_is_said_is_a_warning(wrong_envs: Any):
    found = checked(wrong_envs.chancy_said)
    assert told(found) == {"same seed": "warning", "no memory": "skipped"}
    assert "no run can be repeated" in found["same seed"].remedy


def test_a_limit_of_the_environments_own_is_a_warning(wrong_envs: Any):
    found = checked(wrong_envs.of(wrong_envs.Limited))
    assert told(found) == {"endings": "warning"}
    assert found["endings"].what == (
        "24 of 24 episodes are truncated before the horizon of 12, first at step 5"
    )
    assert "give horizon=5" in found["endings"].remedy


def test_a_task_that_is_observed_is_a_warning(wrong_envs: Any):
    found = checked(wrong_envs.of(wrong_envs.Leaking))
    assert told(found) == {"task hidden": "warning"}
    assert found["task hidden"].what.startswith(
        "under one seed 6 tasks begin with 6 different observations; a linear probe of 48 tasks "
        "finds slope (R^2 0.9"
    )
    assert "leave it out" in found["task hidden"].remedy


def test_a_task_that_changes_nothing_fails(wrong_envs: Any):
    found = checked(wrong_envs.unused)
    assert told(found) == {"tasks differ": "FAIL"}
    assert found["tasks differ"].what == (
        "the same seeds and actions give the same 12 steps in all 6 tasks"
    )
    assert "the task changes what the environment does" in found["tasks differ"].remedy


def test_where_episodes_are_cut_the_same_steps_are_no_proof(wrong_envs: Any):
    found = checked(wrong_envs.unused, CheckOptions(tasks=6, episodes=4, workers=0, max_steps=100))
    assert told(found) == {"tasks differ": "warning"}
    assert "the same 8 steps in all 6 tasks" in found["tasks differ"].what
    assert "cut short at step 4 (--max-steps)" in found["faults"].what
    assert found["endings"].what.startswith("2 episodes last 12.0 steps")


def test_episodes_that_end_before_the_cut_are_whole(wrong_envs: Any):
    options = CheckOptions(tasks=6, episodes=4, workers=0, max_steps=200)
    found = checked(wrong_envs.of(wrong_envs.Ends), options)
    assert told(found) == {}
    assert "episodes without a fault; returns" in found["faults"].what
    assert found["endings"].what.startswith("24 episodes last 5.0 steps")


def test_a_horizon_beyond_what_may_be_played_is_said(wrong_envs: Any):
    found = checked(wrong_envs.walk, CheckOptions(tasks=6, episodes=4, workers=0, max_steps=23))
    assert found["endings"] == Finding(
        "warning",
        "episodes of 12 steps were not played to their end",
        "to play them, give --max-steps 24",
    )


def test_tasks_that_hardly_differ_are_told_apart_by_equal_actions(wrong_envs: Any):
    """The returns of random actions do not tell them apart; that is no fault."""
    found = checked(wrong_envs.faint)
    assert told(found) == {}
    assert "6 of 6 tasks play differently with equal seeds" in found["tasks differ"].what
    assert "Kruskal-Wallis p = " in found["tasks differ"].what


# The user's own classes: name, the check that fails, what it says, the remedy.
OWN = {
    "Multiplies": ("no memory", "after other episodes", "everything that other tasks set"),
    "SetsOnce": ("no memory", "after other episodes", "everything that other tasks set"),
    "OneSplit": ("splits", "sample ignores `split`", 'if split is "test"'),
    "Overlapping": ("splits", " in both", "leave the test tasks out"),
    "OwnGenerator": ("splits", "the same generator draws other tasks", "the given generator"),
    "SampleRaises": ("opens", "sample raised FileNotFoundError: maps.csv", "'train' or 'test'"),
    "Narrowing": ("faults", "this task's action_space is Box(", "the same spaces"),
    "OneTask": ("tasks differ", "all draws are {'slope': 1.0}", "nothing to adapt to"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_fault_of_a_class_is_found_by_its_check(name: str, wrong_envs: Any):
    failing, what, remedy = OWN[name]
    found = checked(class_tasks(getattr(wrong_envs, name)(), name))
    assert [key for key, one in found.items() if one.status == "FAIL"] == [failing]
    assert what in found[failing].what
    assert remedy in found[failing].remedy


def test_a_class_of_ones_own_is_good(wrong_envs: Any):
    assert told(checked(class_tasks(wrong_envs.Own(), "Own"))) == {}


# Arrays: the fault, the check that fails, what it says, the remedy.
ARRAYS = {
    "space": ("opens", "or in a flat MultiDiscrete, both counted from 0, not in Discrete(2,", ""),
    "reset": ("contract", "obs of reset is of shape (2, 2, 2) and float64", "and float32"),
    "object": ("splits", "is not plain data: the task: a value cannot be <built-in", "x.tolist()"),
    "few": ("opens", "returned 7 tasks; return 1000, and", ""),
    "sample": ("opens", "FileNotFoundError: maps.csv", "traceback"),
    "float64": ("contract", "obs of step 1 is of shape (2, 2, 2) and float64", "(2, 2, 2) and fl"),
    "column": ("contract", "rewards of step 1 is of shape (2, 2, 1)", "shape (2, 2) and float32"),
    "list": ("contract", "terminated of step 1 is a list", "shape (2, 2) and bool"),
    "overwrites": ("contract", "step 1 wrote into the obs that an earlier", "such as copies"),
    "both": ("contract", "step 12 of task 0, episode 0 is both terminated and trunc", "only if"),
    "raises": ("contract", "OverflowError: too far", "traceback"),
    "close": ("contract", "OSError: closed twice", "traceback"),
    "nan": ("faults", "the reward is nan; task {'goal': ", "finite"),
    "nan at the end": ("faults", "the observation is nan; task {'goal': ", "finite"),
    "endless": ("endings", "24 of 24 episodes are not over after the horizon's 12 steps", "trunc"),
}


@pytest.mark.parametrize("fault", ARRAYS)
def test_a_fault_of_arrays_is_found_by_its_check(fault: str, wrong_envs: Any):
    failing, what, remedy = ARRAYS[fault]
    found = checked(wrong_envs.Arrays(fault))
    assert [key for key, one in found.items() if one.status == "FAIL"] == [failing]
    assert what in found[failing].what
    assert remedy in found[failing].remedy


def test_where_nan_came_is_said(wrong_envs: Any):
    assert checked(wrong_envs.Arrays("nan"))["faults"].what.endswith("episode 0, step 4")
    found = checked(wrong_envs.Arrays("nan at the end"))["faults"].what
    assert found.endswith("episode 1, step 12")


def test_few_tasks_are_compared_without_a_probe(wrong_envs: Any):
    found = checked(wrong_envs.words)
    assert found["task hidden"].what == "3 tasks begin with the same observation under one seed"
    assert "3 tasks such as slope=" in found["opens"].what


def test_an_observation_that_tells_the_task_in_no_straight_line_is_a_warning():
    """The sine of a large number: a linear probe finds nothing, and the task can be read."""

    class Coded(gymnasium.Env):
        observation_space, action_space = Box(-9.0, 9.0, (1,)), Box(-1.0, 1.0, (1,))

        def __init__(self, slope: float = 1.0):
            self.slope = slope

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
            super().reset(seed=seed)
            return np.array([np.sin(1e4 * self.slope)], np.float32), {}

        def step(self, action: Any) -> tuple:
            obs = self.np_random.normal(size=1).astype(np.float32)
            return obs, float(self.slope * action[0]), False, False, {}

    found = checked(gym_tasks(Coded, {"slope": Uniform(0.5, 2.0)}, horizon=9))
    assert told(found) == {"task hidden": "warning"}
    assert "6 different observations; a linear probe of 48 tasks finds none of 1 parameters" in (
        found["task hidden"].what
    )


def test_what_is_the_same_in_all_tasks_is_not_probed():
    found = tasks._varied([{"a": 1.0, "b": [2, 5]}, {"a": 1.0, "b": [3, 5]}])
    assert set(found) == {"b[0]"}


def test_actions_that_are_mostly_clipped_are_told():
    """A Box far from where a new policy acts; rescaled, it is where it acts."""

    class Far(gymnasium.Env):
        observation_space = Box(-9.0, 9.0, (1,))
        action_space = Box(np.array([1.5, 4.5], np.float32), np.array([3.5, 6.5], np.float32))

        def __init__(self, slope: float = 1.0):
            self.slope = slope

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
            super().reset(seed=seed)
            return self.np_random.normal(size=1).astype(np.float32), {}

        def step(self, action: Any) -> tuple:
            obs = self.np_random.normal(size=1).astype(np.float32)
            return obs, float(self.slope * action.sum()), False, False, {}

    def near(slope: float = 1.0) -> gymnasium.Env:
        low, high = (np.full(2, x, np.float32) for x in (-1, 1))
        return gymnasium.wrappers.RescaleAction(Far(slope), low, high)

    slopes = {"slope": Uniform(0.5, 2.0)}
    far = checked(gym_tasks(Far, slopes, horizon=9))["actions"]
    assert far.status == "warning"
    assert "clipped to the Box, 100% of action[1] to [4.5, 6.5]" in far.what
    assert "--agent.policy.scale-to-box" in far.remedy
    assert "RescaleAction" in far.remedy
    assert checked(gym_tasks(near, slopes, horizon=9))["actions"].status == "ok"

    class Above(Far):
        action_space = Box(np.array([1.5, -1], np.float32), np.array([np.inf, 1], np.float32))

    above = checked(gym_tasks(Above, slopes, horizon=9))["actions"]
    assert above.status == "warning"
    assert "action[0] to [1.5, inf]" in above.what
    assert "needs two bounds" in above.remedy
    assert "RescaleAction" not in above.remedy
