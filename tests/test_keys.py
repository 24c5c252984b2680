"""No two uses of random numbers share a key, as numpy reads keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from metarl import keys
from metarl.agents import catalogue
from metarl.checking.agents import check_agent
from metarl.checking.before_training import check_before_training
from metarl.checking.checks import check
from metarl.checking.options import CheckOptions
from metarl.checking.play import Subject
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import Config, FewShotConfig
from metarl.envs.arrays.point_goal import PointGoal
from metarl.envs.gym.task_vec_env import TaskEnv
from metarl.errors import DivergedError
from metarl.experiments.presets import preset
from metarl.loop import evaluation, training
from metarl.recording.options import RecordOptions
from metarl.recording.record import record
from metarl.sources import episodes
from metarl.types import Workers

SEED, ITERATIONS, HORIZON = 3, 13, 4
DIVERGED = ((0, 0), (7, 0), (7, 1))
"""Iterations and attempts whose simulations diverge."""

POINTS = ("point-goal", "", HORIZON)

Words = tuple[int, ...]


class Use(NamedTuple):
    """Keys that one use draws."""

    of: str
    drawn: list[tuple[int, ...]]
    """Keys in order."""
    once: bool
    """Whether no key is drawn twice; agents that are compared and episodes that are repeated have
    the same keys."""


def words(key: tuple[int, ...]) -> Words:
    """Returns the key as numpy's SeedSequence reads it: 32 bits a word, at least four words."""
    found: list[int] = []
    for number in map(int, key):
        found.append(number & 0xFFFFFFFF)
        while number := number >> 32:
            found.append(number & 0xFFFFFFFF)
    return tuple(found + [0] * (4 - len(found)))


class Goals(PointGoal):
    """Point goals of two classes, 15 each: they are evaluated in two parts."""

    def held_out(self, goals: int, split: str = "test") -> list[dict[str, Any]]:
        drawn = self.sample(2 * goals, np.random.default_rng(0), split)
        return [{"class": "ab"[n // goals], **task} for n, task in enumerate(drawn)]

    def spread(self, split: str) -> int:
        return 2


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Gives the list of the keys that are drawn meanwhile in this process."""
    drawn: list[tuple[int, ...]] = []
    sequence = keys.sequence

    def recording(seed: int, purpose: keys.Purpose, *counters: int) -> np.random.SeedSequence:
        drawn.append((seed, purpose, *counters))
        return sequence(seed, purpose, *counters)

    with patch.context() as here:
        here.setattr(keys, "sequence", recording)
        yield drawn


def trained(run_dir: Path, patch: pytest.MonkeyPatch) -> Config:
    """Trains on point goals; a diverged attempt has drawn all its numbers."""
    config = preset("point-goal")
    assert isinstance(config, Config)
    policy = replace(config.agent.policy, hidden=(4,))
    config = replace(
        config,
        env=replace(config.env, horizon=HORIZON),
        sampling=replace(config.sampling, tasks=4, episodes=5),
        agent=replace(config.agent, policy=policy),
        iterations=ITERATIONS,
        device="cpu",
        workers=0,
        seed=SEED,
        run_dir=str(run_dir),
    )
    play = episodes.adaptation_rounds

    def diverging(*args: Any) -> Any:
        found = play(*args)
        *_, (_, *counters), _ = args
        if tuple(counters) in DIVERGED:
            raise DivergedError("point-goal", {}, episode=0, step=0)
        return found

    with patch.context() as here:
        here.setattr(episodes, "adaptation_rounds", diverging)
        training.train(config, "x")
    return config


def evaluated(run_dir: Path, of: Any = None, **options: Any) -> None:
    asked = EvaluateOptions(
        run_dir=run_dir, **{"tasks": 3, "steps": 2, "episodes": 5, **options},
        seed=SEED, device="cpu", workers=0,
    )  # fmt: skip
    evaluation.evaluate(asked, of)


def filmed(run_dir: Path, config: Config) -> None:
    """Films the agent: it adapts to the episodes of an evaluation, and plays others."""
    options = RecordOptions(
        run_dir=run_dir, seed=SEED, episodes=5, steps=(0, 1, 2), size=96, device="cpu", workers=0
    )
    record(options, config)


def few_shot(run_dir: Path) -> FewShotConfig:
    config = preset("sinusoid-maml")
    assert isinstance(config, FewShotConfig)
    config = replace(
        config,
        sampling=replace(config.sampling, tasks=2, updates=3),
        iterations=ITERATIONS,
        device="cpu",
        seed=SEED,
        run_dir=str(run_dir),
    )
    training.train(config, "x")
    return config


def checked_agent(name: str, source: Any) -> None:
    config = catalogue.default(name, source)
    check_agent(
        lambda spec, rng, device: catalogue.build(spec, config, rng, device),
        source, updates=9, seed=SEED, tell=lambda line: None,
    )  # fmt: skip


def played_by_another_library() -> None:
    """Plays some episodes in copies of a task's environment."""
    tasks = PointGoal(*POINTS)
    for copy in range(9):
        env = TaskEnv(tasks, {"goal": [0.1, 0.2]}, Workers(0), SEED, copy)
        for _ in range(3):
            env.reset()


@pytest.fixture(scope="module")
def uses(tmp_path_factory: pytest.TempPathFactory) -> list[Use]:
    run, shots = (tmp_path_factory.mktemp(name) for name in ("run", "shots"))
    tasks, options = PointGoal(*POINTS), CheckOptions(tasks=4, seed=SEED, workers=0)
    classes = Goals(*POINTS)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_write", lambda *found: None)  # pictures draw no key

        def add(of: str, play: Callable[[], Any], once: bool = True) -> Any:
            with recorded(patch) as drawn:
                result = play()
            found.append(Use(of, drawn, once))
            return result

        config = add("training", lambda: trained(run, patch))
        add("training", lambda: few_shot(shots))
        add("evaluation", lambda: evaluated(run))
        add("evaluation", lambda: evaluated(run, mode_episodes=5))
        add("evaluation", lambda: evaluated(run, classes, tasks=15))
        add("evaluation", lambda: evaluated(run, classes, tasks=15, mode_episodes=5))
        add("evaluation", lambda: evaluated(run, controls=("random",)), once=False)
        add("evaluation", lambda: filmed(run, config), once=False)
        asked = EvaluateFewShotOptions(run_dir=shots, tasks=110, seed=SEED, device="cpu")
        add("evaluation", lambda: evaluation.evaluate(asked))
        checking = "checks of tasks"
        add(checking, lambda: check(Subject(tasks, options), lambda line: None), once=False)
        add(checking, lambda: check_before_training(tasks, config, Workers(0)), once=False)
        for agent in (("maml-ppo", "episodes"), ("reptile-ppo", "episodes"), ("maml", "examples")):
            add("checks of agents", lambda agent=agent: checked_agent(*agent), once=False)
        add("environments for other libraries", played_by_another_library)
    return found


def test_no_use_draws_what_another_draws(uses):
    """Evaluation builds the agent from training's key, and then loads its weights."""
    drawn: dict[str, set[Words]] = {}
    for use in uses:
        drawn.setdefault(use.of, set()).update(map(words, use.drawn))
    drawn["evaluation"].discard(words((SEED, keys.Purpose.INIT)))
    shared = {(one, other): drawn[one] & drawn[other] for one, other in combinations(drawn, 2)}
    assert not {pair: sorted(found)[:3] for pair, found in shared.items() if found}


def test_a_use_draws_each_number_once(uses):
    for use in uses:
        if use.once:
            assert len(set(map(words, use.drawn))) == len(use.drawn), use.of


def test_every_purpose_and_phase_was_drawn(uses):
    """Else the tests above would not see the keys of a new one."""
    of_episodes = (keys.Purpose.RESET, keys.Purpose.NOISE)
    drawn = [key for use in uses for key in use.drawn]
    assert {purpose for _, purpose, *_ in drawn} == set(keys.Purpose)
    thirds = {key[2] for key in drawn if key[1] in of_episodes}
    assert thirds == {*range(ITERATIONS), keys.Purpose.EVALUATION, *keys.Phase}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((3, 9), (3, 9, 0, 0)),
        ((3, 9), (3, 9, 0, 0, 0)),
        ((3, 4, 7, 1, 0), (3, 4, 7, 1, 0, 0)),
        ((3, 9, 2**32), (3, 9, 0, 1)),
        ((3, 9, 2**32 - 1), (3, 9, 2**32 - 1, 0)),
    ],
)
def test_numpy_reads_keys_as_these_tests_do(one, other):
    states = [np.random.SeedSequence(key).generate_state(4).tolist() for key in (one, other)]
    assert (states[0] == states[1]) == (words(one) == words(other))
