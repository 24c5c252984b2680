"""Checks of the promises of an agent that training and evaluation rely on.

from metarl import check_agent

check_agent(lambda spec, rng, device: MyAgent(spec, rng, device), "episodes")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from metarl.checking.findings import Check, Finding, attempt, run
from metarl.checking.learning import How, Learner, Make, Place, difference, opened, weights
from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.types import Params

HORIZON = 6
"""Steps of an episode in the catalogue's tasks."""
CLOSE = 1e-6
"""Tolerance for differences due to the order of a sum."""


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
    how = How(learns, updates, seed, torch.device(device))
    distributions = usual_tasks(tasks) if isinstance(tasks, str) else (tasks,)
    with opened(make, distributions, how) as learners:
        return run(
            [
                Check("interface", _each(interface)),
                Check("only updates", _each(only_updates), ("interface",)),
                Check("learns", _each(is_changed), ("only updates",)),
                Check("function", _each(function), ("only updates",)),
                Check("tasks apart", _each(tasks_apart), ("function",)),
                Check("longer", _each(longer), ("function",)),
                Check("resumes", _each(resumes), ("function",)),
                Check("refuses", _each(refuses), ("only updates",)),
                Check("metrics", _each(metrics), ("only updates",)),
                Check("not finite", _each(not_finite), ("learns", "resumes", "metrics")),
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
                return found._replace(what=f"on {learner.name}: {found.what}")
        names = ", ".join(learner.name for learner in learners)
        return found._replace(what=f"{found.what} ({names})")

    return looked


def interface(learner: Learner) -> Finding:
    """Checks that an agent has all members, with the right shapes."""
    agent = learner.agent()
    missing = [name for name in learner.members if not hasattr(agent, name)]
    if missing:
        return Finding("FAIL", f"the agent has no {', '.join(missing)}", "see metarl/types.py")
    if not isinstance(agent.steps, int) or agent.steps < 0:
        return Finding("FAIL", f"steps is {agent.steps!r}", "give a whole number, 0 or more")
    if wrong := learner.misfit(agent):
        return Finding("FAIL", wrong)
    return Finding("ok", f"it adapts {agent.steps} steps in training; shapes are as promised")


def only_updates(learner: Learner) -> Finding:
    """Checks that only updates change an agent, and that returned state_dicts stay fixed."""
    agent = learner.agent()
    before = weights(agent)
    batch = learner.batch(agent, 0, 2)
    learner.does(agent, agent.adapt(batch.state, batch.query), batch.query)
    if name := difference(before, weights(agent)):
        return Finding(
            "FAIL", f"adapting changes the agent's {name}",
            "let adapt return another state, and leave the agent as it is",
        )  # fmt: skip
    if name := difference(learner.first.before, learner.first.kept):
        return Finding(
            "FAIL", f"meta_update writes into {name} that state_dict returned before",
            "replace tensors, or return copies",
        )  # fmt: skip
    return Finding("ok", "adapting leaves the agent as it is")


def is_changed(learner: Learner) -> Finding:
    """Checks that meta-updates change the agent; those of a control must not."""
    _, before, _, after = learner.first
    changed = bool(difference(before, after))
    if changed and not learner.how.learns:
        return Finding("FAIL", "meta-updates change an agent of which learns=False was said")
    if learner.how.learns and not changed:
        return Finding(
            "FAIL", "meta-updates leave the agent as it was", "of a control say learns=False"
        )
    return Finding("ok", f"meta-updates {'change it' if changed else 'leave it as it was'}")


def function(learner: Learner) -> Finding:
    """Checks that adapt leaves its input state alone and is deterministic."""
    agent = learner.trained
    batch = learner.batch(agent, 100, 1)
    state, support = batch.state, batch.query

    def does(of: Any) -> list[Tensor]:
        return learner.does(agent, of, batch.query)

    if not _same(does(agent.begin()), does(agent.begin())):
        return Finding("FAIL", "a second time it begins elsewhere", "begin at the weights alone")
    before = does(state)
    first = does(agent.adapt(state, support))
    if not _same(does(state), before):
        return Finding("FAIL", "adapt changes the state that it was given", "return another one")
    if not _same(does(agent.adapt(state, support)), first):
        return Finding(
            "FAIL", "the same support adapts to something else a second time",
            "draw no chance in adapt, and let it depend on its arguments and the weights alone",
        )  # fmt: skip
    if learner.gradients_off:
        with torch.no_grad():
            again = does(agent.adapt(state, support))
        if not _same(again, first):
            return Finding("FAIL", "where gradients are off it adapts to something else")
    if _same(before, first):
        return Finding("FAIL", f"after {learner.how.updates} updates adapting changes nothing")
    if any(x.requires_grad for x in (*before, *first)):
        return Finding("FAIL", "what it does carries gradients along", "detach it")
    return Finding("ok", "adaptation is a function of state and support")


def tasks_apart(learner: Learner) -> Finding:
    """Checks that a task's data affect only that task, also if it is alone."""
    agent = learner.trained
    batch = learner.batch(agent, 100, 1)
    support, query = batch.supports[0], batch.query

    def does(given: Any, at: Any = query) -> list[Tensor]:
        return learner.does(agent, learner.adapted(agent, given, learner.steps_apart), at)

    one, two = does(support), does(learner.altered(support, 101))
    apart = [_distance(x, y) for x, y in zip(one, two, strict=True)]
    if not any(x[1] > learner.told_apart for x in apart):
        return Finding("FAIL", "other data of a task change nothing in what it does there")
    for task in range(len(one[0])):
        if task == 1:
            continue
        if not all(x[task] <= CLOSE for x in apart):
            return Finding(
                "FAIL", f"other data of task 1 change what it does in task {task}",
                "let nothing in adapt mix the first axis, [K, ...]",
            )  # fmt: skip
        by_itself = learner.alone(support, query, task)
        if by_itself and not all(
            torch.allclose(x[0], y[task], rtol=1e-4, atol=1e-5)
            for x, y in zip(does(*by_itself), one, strict=True)
        ):
            return Finding("FAIL", f"task {task} is learned otherwise alone than beside others")
    return Finding("ok", "tasks do not touch each other")


def longer(learner: Learner) -> Finding:
    """Checks adaptation with more steps than in training, from the meta-parameters."""
    agent = learner.trained
    steps = agent.steps + 2
    long, short = (learner.batch(agent, 100, count) for count in (steps, 1))
    states = [agent.begin()]
    for support in long.supports:
        states.append(agent.adapt(states[-1], support))
    for step, state in enumerate(states):
        if not all(bool(x.isfinite().all()) for x in learner.does(agent, state, short.query)):
            return Finding("FAIL", f"after {step} of {steps} steps what it does is not finite")
    two = (learner.does(agent, state, short.query) for state in (states[1], short.state))
    if not _same(*two):
        return Finding("FAIL", "its first step is another where more follow")
    return Finding("ok", f"it adapts {steps} steps")


def resumes(learner: Learner) -> Finding:
    """Checks that an agent which loads the weights continues exactly like the original."""
    agent, other = learner.agent(), learner.agent(5)
    learner.update(agent, 0)
    other.load_state_dict(weights(agent))
    if name := difference(weights(agent), weights(other)):
        return Finding("FAIL", f"loaded and saved again, {name} is another")
    for number in (1, 2):
        if learner.update(agent, number) != learner.update(other, number):
            return Finding(
                "FAIL", f"update {number} after loading has other metrics than without",
                "let state_dict hold all that an update depends on, an optimizer's state too",
            )  # fmt: skip
    if name := difference(weights(agent), weights(other)):
        return Finding(
            "FAIL", f"two updates after loading, {name} is another than without",
            "let state_dict hold all that an update depends on, an optimizer's state too",
        )  # fmt: skip
    return Finding("ok", "loaded, it goes on the same to the bit")


def refuses(learner: Learner) -> Finding:
    """Checks that weights with other names or shapes are refused."""
    agent = learner.agent()
    before = weights(agent)
    wrong: dict[str, Params] = {"a name more": {**before, "more": torch.zeros(1)}}
    for name in list(before)[:1]:
        wrong["one tensor of another shape"] = {name: torch.zeros(99)}
        wrong["a name less"] = {n: x for n, x in before.items() if n != name}
    for what, given in wrong.items():
        try:
            agent.load_state_dict(given)
        except ValueError:
            if name := difference(before, weights(agent)):
                return Finding("FAIL", f"of weights that it refuses ({what}) it has taken {name}")
            continue
        return Finding("FAIL", f"load_state_dict takes weights with {what}", "raise a ValueError")
    return Finding("ok", "other weights are refused")


def not_finite(learner: Learner) -> Finding:
    """Checks that non-finite data change nothing, not even an optimiser's state."""
    if not learner.how.learns:
        return Finding("skipped", "it learns nothing that could be spoilt")
    places: tuple[Place, ...] = ("support", "query")
    for place in places:
        agent, other = learner.agent(), learner.agent()
        learner.update(agent, 0)
        before = weights(agent)
        other.load_state_dict(before)
        if place == "support" and not agent.steps:
            continue
        batch = learner.batch(agent, 1, agent.steps)
        state, query = batch.state, batch.query
        try:
            if place == "query":
                query = learner.spoilt(query)
            else:
                state = agent.begin()
                for support in batch.supports:
                    state = agent.adapt(state, learner.spoilt(support))
            said = agent.meta_update(state, query, learner.rng(1)).get("skipped")
        except UserError:
            if not learner.may_refuse:
                raise
            said = 1.0
        if said != 1.0:
            return Finding(
                "FAIL", f"with a {place} that is not finite skipped is {said}",
                "where a loss or gradient is not finite, change nothing and return skipped: 1.0",
            )  # fmt: skip
        if name := difference(before, weights(agent)):
            return Finding("FAIL", f"a {place} that is not finite changes {name}")
        for one in (agent, other):
            learner.update(one, 2)
        if name := difference(weights(other), weights(agent)):
            return Finding(
                "FAIL", f"after a {place} that is not finite the next update makes {name} another"
            )
    return Finding("ok", "what is not finite changes nothing, and is said")


def metrics(learner: Learner) -> Finding:
    """Checks the metrics of all updates in earlier checks, all from finite data."""
    for number, found in enumerate(learner.metrics):
        if not isinstance(found, dict) or "skipped" not in found:
            return Finding(
                "FAIL", "meta_update returns no metric `skipped`",
                "return {name: float}, with skipped: 1.0 where nothing was changed, else 0.0",
            )  # fmt: skip
        for name, x in found.items():
            if not isinstance(x, int | float) or not math.isfinite(x):
                return Finding("FAIL", f"the metric {name} is {x!r}", "return finite floats")
        if found["skipped"]:
            return Finding("FAIL", f"of finite data, update {number} says that it was skipped")
    return Finding("ok", f"{len(learner.metrics)} updates return finite numbers, and skip none")


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """Returns the largest difference in each task, [K]."""
    return (x - y).abs().flatten(1).amax(1)
