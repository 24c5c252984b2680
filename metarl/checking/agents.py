"""Checks of the promises of an agent that training and evaluation rely on.

from metarl import check_agent

check_agent(lambda spec, rng, device: MyAgent(spec, rng, device), "episodes")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch

from metarl.checking import promises
from metarl.checking.findings import Check, Finding, attempt, run
from metarl.checking.learning import EpisodeLearner, ExampleLearner, Learner, Make
from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import families

HORIZON = 6
"""Steps of an episode in the catalogue's tasks."""


def check_agent(
    make: Make,
    tasks: Any = "episodes",
    *,
    learns: bool = True,
    updates: int = 5,
    seed: int = 1,
    device: str | torch.device = "cpu",
    tell: Callable[[str], object] = print,
) -> dict[str, Finding]:
    """Makes agents, has them adapt and learn on tasks, and checks each promise.

    Args:
        make: (spec, rng, device) -> an agent before its first update.
        tasks: a TaskDistribution or FewShotTasks; or "episodes", for point-goal and bandit:5, or
            "examples", for sinusoid and digits.
        learns: whether meta-updates change the agent; those of a control do not.
        updates: meta-updates before adaptation is checked; some agents do not adapt before.
        seed: seed of the tasks and all randomness.
        device: device that the agent is made on.
        tell: called with every line as it is found.

    Returns:
        Promise -> finding, whose `status` is "ok", "FAIL", or "skipped".
    """
    distributions = usual_tasks(tasks) if isinstance(tasks, str) else (tasks,)
    with ExitStack() as stack:
        learners = []
        for one in distributions:
            kind = EpisodeLearner if hasattr(one, "open") else ExampleLearner
            learners.append(kind(make, one, stack, learns, updates, seed, torch.device(device)))
        return run(
            [
                Check("interface", _each(promises.interface)),
                Check("only updates", _each(promises.only_updates), ("interface",)),
                Check("learns", _each(promises.changed), ("only updates",)),
                Check("function", _each(promises.function), ("only updates",)),
                Check("tasks apart", _each(promises.tasks_apart), ("function",)),
                Check("longer", _each(promises.longer), ("function",)),
                Check("resumes", _each(promises.resumes), ("function",)),
                Check("refuses", _each(promises.refuses), ("only updates",)),
                Check("metrics", _each(promises.metrics), ("only updates",)),
                Check("not finite", _each(promises.not_finite), ("learns", "resumes", "metrics")),
            ],
            learners,
            tell,
        )


def usual_tasks(source: Literal["episodes", "examples"] | str) -> tuple[Any, ...]:
    """Returns tasks of the catalogue that are quick to learn."""
    if source == "examples":
        digits = FewShotEnvConfig("digits", ways=3)
        return families.build(FewShotEnvConfig("sinusoid")), families.build(digits)
    if source != "episodes":
        raise ValueError(f"tasks are {source!r}; give 'episodes', 'examples' or tasks of your own")
    from metarl.envs.arrays.bandit import Bandit
    from metarl.envs.arrays.point_goal import PointGoal

    return PointGoal("point-goal", "", HORIZON), Bandit("bandit:5", "5", HORIZON)


def _each(look: Callable[[Learner], Finding]) -> Callable[[Sequence[Learner]], Finding]:
    """Wraps a check to run on every distribution and return the first failure."""

    def looked(learners: Sequence[Learner]) -> Finding:
        found = Finding("skipped", "no tasks")
        for learner in learners:
            found = attempt(look, learner)
            if found.status == "FAIL":
                return found._replace(what=f"on {learner.spec.name}: {found.what}")
        names = ", ".join(learner.spec.name for learner in learners)
        return found._replace(what=f"{found.what} ({names})")

    return looked
