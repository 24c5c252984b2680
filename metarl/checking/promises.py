"""Checks of the promises of an agent, one function each; they raise Broken."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from metarl.checking.findings import Broken, Finding, expect
from metarl.checking.learning import ExampleLearner, Learner, adapted, difference, weights
from metarl.errors import UserError
from metarl.runs.replay import Replay
from metarl.types import Examples, Params

CLOSE = 1e-6
"""Tolerance for differences due to the order of a sum."""


def interface(learner: Learner) -> Finding:
    """Checks that an agent has all members, with the right shapes."""
    agent = learner.agent()
    missing = [name for name in learner.members if not hasattr(agent, name)]
    expect(not missing, f"the agent has no {', '.join(missing)}", "see metarl/types.py")
    whole = isinstance(agent.steps, int) and agent.steps >= 0
    expect(whole, f"steps is {agent.steps!r}", "give a whole number, 0 or more")
    learner.expect_shapes(agent)
    return Finding("ok", f"it adapts {agent.steps} steps in training; shapes are as promised")


def only_updates(learner: Learner) -> Finding:
    """Checks that only updates change an agent, and that returned state_dicts stay fixed."""
    agent = learner.agent()
    before = weights(agent)
    *supports, query = learner.rounds(agent, 0, 2)
    learner.does(agent, adapted(agent, [*supports, query]), query)
    name = difference(before, weights(agent))
    remedy = "let adapt return another state, and leave the agent as it is"
    expect(not name, f"adapting changes the agent's {name}", remedy)
    name = difference(learner.trained.before, learner.trained.kept)
    what = f"meta_update writes into {name} that state_dict returned before"
    expect(not name, what, "replace tensors, or return copies")
    return Finding("ok", "adapting leaves the agent as it is")


def changed(learner: Learner) -> Finding:
    """Checks that meta-updates change the agent; those of a control must not."""
    trained = learner.trained
    moved = bool(difference(trained.before, weights(trained.agent)))
    if learner.learns:
        what = "meta-updates leave the agent as it was"
        expect(moved, what, "of a control say learns=False")
        return Finding("ok", "meta-updates change it")
    expect(not moved, "meta-updates change an agent of which learns=False was said")
    return Finding("ok", "meta-updates leave it as it was")


def function(learner: Learner) -> Finding:
    """Checks that adapt leaves its input state alone and is deterministic."""
    agent = learner.trained.agent
    first_support, support = learner.rounds(agent, 100, 1)
    state = agent.adapt(agent.begin(), first_support)

    def does(after: Any) -> Tensor:
        return learner.does(agent, after, support)

    began = torch.equal(does(agent.begin()), does(agent.begin()))
    expect(began, "a second time it begins elsewhere", "begin at the weights alone")
    before = does(state)
    first = does(agent.adapt(state, support))
    what = "adapt changes the state that it was given"
    expect(torch.equal(does(state), before), what, "return another one")
    expect(
        torch.equal(does(agent.adapt(state, support)), first),
        "the same support adapts to something else a second time",
        "draw no chance in adapt, and let it depend on its arguments and the weights alone",
    )
    if isinstance(learner, ExampleLearner):  # their predictions are measured without gradients
        with torch.no_grad():
            again = does(agent.adapt(state, support))
        expect(torch.equal(again, first), "where gradients are off it adapts to something else")
    what = f"after {learner.updates} updates adapting changes nothing"
    expect(not torch.equal(before, first), what)
    free = not (before.requires_grad or first.requires_grad)
    expect(free, "what it does carries gradients along", "detach it")
    return Finding("ok", "adaptation is a function of state and support")


def tasks_apart(learner: Learner) -> Finding:
    """Checks that a task's data affect only that task, also if it is alone."""
    agent = learner.trained.agent
    support, query = learner.rounds(agent, 100, 1)

    def does(support: Any, query: Any) -> Tensor:
        return learner.does(agent, adapted(agent, [support] * learner.steps_apart), query)

    together, other = does(support, query), does(learner.altered(support), query)
    moved = (together - other).abs().amax(1).tolist()  # [K]
    what = "other data of a task change nothing in what it does there"
    expect(moved[1] > learner.told_apart, what)
    for task in range(len(moved)):
        if task == 1:
            continue
        what = f"other data of task 1 change what it does in task {task}"
        remedy = "let nothing in adapt mix the first axis, [K, ...]"
        expect(moved[task] <= CLOSE, what, remedy)
        if isinstance(learner, ExampleLearner):  # environments are opened for several tasks
            alone = does(
                *(Examples(*(x[task : task + 1] for x in part)) for part in (support, query))
            )
            near = torch.allclose(alone[0], together[task], rtol=1e-4, atol=1e-5)
            expect(near, f"task {task} is learned otherwise alone than beside others")
    return Finding("ok", "tasks do not touch each other")


def longer(learner: Learner) -> Finding:
    """Checks adaptation with more steps than in training, from the meta-parameters."""
    agent = learner.trained.agent
    steps = agent.steps + 2
    support, query = learner.rounds(agent, 100, 1)

    def does(state: Any) -> Tensor:
        return learner.does(agent, state, query)

    states = [agent.begin()]
    for each in learner.rounds(agent, 100, steps)[:-1]:
        states.append(agent.adapt(states[-1], each))
    for step, state in enumerate(states):
        finite = bool(does(state).isfinite().all())
        expect(finite, f"after {step} of {steps} steps what it does is not finite")
    same = torch.equal(does(states[1]), does(adapted(agent, [support])))
    expect(same, "its first step is another where more follow")
    return Finding("ok", f"it adapts {steps} steps")


def resumes(learner: Learner) -> Finding:
    """Checks that an agent which loads the weights continues exactly like the original."""
    agent, other = learner.agent(), learner.agent(5)
    learner.update(agent, 0)
    _take_over(other, agent)
    name = difference(weights(agent), weights(other))
    expect(not name, f"loaded and saved again, {name} is another")
    remedy = "let state_dict hold all that an update depends on, an optimizer's state too"
    for number in (1, 2):
        same = learner.update(agent, number) == learner.update(other, number)
        expect(same, f"update {number} after loading has other metrics than without", remedy)
    name = difference(weights(agent), weights(other))
    expect(not name, f"two updates after loading, {name} is another than without", remedy)
    return Finding("ok", "loaded, it goes on the same to the bit")


def _take_over(other: Any, agent: Any) -> None:
    """Gives an agent what a resumed run has: the weights of `agent`, and the trials of its replay
    if it has one."""
    other.load_state_dict(weights(agent))
    if isinstance(kept := getattr(agent, "replay", None), Replay):
        other.replay.take(kept)


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
            name = difference(before, weights(agent))
            expect(not name, f"of weights that it refuses ({what}) it has taken {name}")
        else:
            raise Broken(f"load_state_dict takes weights with {what}", "raise a ValueError")
    return Finding("ok", "other weights are refused")


def metrics(learner: Learner) -> Finding:
    """Checks the metrics of all updates in earlier checks, all from finite data."""
    for number, found in enumerate(learner.metrics):
        expect(
            isinstance(found, dict) and "skipped" in found,
            "meta_update returns no metric `skipped`",
            "return {name: float}, with skipped: 1.0 where nothing was changed, else 0.0",
        )
        for name, x in found.items():
            finite = isinstance(x, int | float) and math.isfinite(x)
            expect(finite, f"the metric {name} is {x!r}", "return finite floats")
        expect(not found["skipped"], f"of finite data, update {number} says that it was skipped")
    return Finding("ok", f"{len(learner.metrics)} updates return finite numbers, and skip none")


def not_finite(learner: Learner) -> Finding:
    """Checks that non-finite data change nothing, not even an optimiser's state."""
    if not learner.learns:
        return Finding("skipped", "it learns nothing that could be spoilt")
    for place in ("support", "query"):
        agent, other = learner.agent(), learner.agent()
        if place == "support" and not agent.steps:
            continue
        learner.update(agent, 0)
        before = weights(agent)
        _take_over(other, agent)
        said = _skipped(learner, agent, place)
        remedy = "where a loss or gradient is not finite, change nothing and return skipped: 1.0"
        expect(said == 1.0, f"with a {place} that is not finite skipped is {said}", remedy)
        name = difference(before, weights(agent))
        expect(not name, f"a {place} that is not finite changes {name}")
        for one in (agent, other):
            learner.update(one, 2)
        name = difference(weights(other), weights(agent))
        what = f"after a {place} that is not finite the next update makes {name} another"
        expect(not name, what)
    return Finding("ok", "what is not finite changes nothing, and is said")


def _skipped(learner: Learner, agent: Any, place: str) -> float | None:
    """Takes an update from data spoilt in one place and returns its metric `skipped`."""
    *supports, query = learner.rounds(agent, 1, agent.steps)
    if place == "support":
        supports = [learner.spoilt(support) for support in supports]
    else:
        query = learner.spoilt(query)
    try:
        return agent.meta_update(adapted(agent, supports), query, learner.rng(1, 1)).get("skipped")
    except UserError:
        if isinstance(learner, ExampleLearner):
            raise
        return 1.0  # refusing such rewards is fine too, as the sampler does so earlier
