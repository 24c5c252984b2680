"""Tests the promises that the loops rely on, for every agent, on episodes and on examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import box_probes
import numpy as np
import pytest
import torch
from catalogue_rows import every_rule, table

from metarl import check_agent
from metarl.agents import catalogue
from metarl.agents.inner.belief import BeliefConfig
from metarl.agents.inner.learned_optimizer import LearnedOptimizerConfig
from metarl.agents.inner.mapping import MappingConfig
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.inner.replayed_trial import ReplayedTrialConfig
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.inner.training import TrainingConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.adam import AdamConfig
from metarl.agents.outer.reptile import ReptileConfig
from metarl.agents.outer.sac import SacConfig
from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.config.settings import (
    AnyAgentConfig,
    FewShotAgentConfig,
    FewShotEnvConfig,
    NetworkConfig,
)
from metarl.device import torch_device
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import UserError
from metarl.sampling.rounds import adaptation_rounds
from metarl.sources.examples import adaptation
from metarl.types import Examples, Workers

CPU = torch.device("cpu")
TASKS, SHOTS, QUERIES, WAYS = 3, 4, 5, 3
EPISODES, HORIZON = 4, 6
CONTROLS = ("random", "sb3-ppo", "from-scratch")
"""They learn nothing from one task for another."""
MLP = NetworkConfig(hidden=(8,))
PLAYED = {"point-goal", "bandit:5"}
LEARNED = {
    "regression": (FewShotEnvConfig("sinusoid"), MLP),
    "classification": (FewShotEnvConfig("digits", ways=WAYS), MLP),
    "images": (
        FewShotEnvConfig("digits", ways=WAYS),
        NetworkConfig("conv", hidden=(4, 3), batch_norm=True),
    ),
}


class FarBox(box_probes.FarBox):
    """Actions in a box that does not hold 0, for several steps."""

    horizon = HORIZON


TASKS_OF = {
    "far-box": box_probes.BoxProbe(FarBox),
    **{name: envs.make(name, HORIZON) for name in sorted(PLAYED)},
    **{kind: families.build(env) for kind, (env, _) in LEARNED.items()},
}
VARIANTS = {
    "lomaml-still": ("lomaml", LearnedOptimizerConfig(lr=0.01, learn_start=False), AdamConfig()),
    "maml-of-many-steps": ("maml", SgdConfig(lr=0.01, steps=7), AdamConfig()),
    "reptile-serial": (
        "reptile", TrainingConfig(), ReptileConfig(lr=0.01, optimizer="adam", serial=True)
    ),
    "mapping-low-rank": ("mapping", MappingConfig("low-rank"), AdamConfig()),
}  # fmt: skip
"""On examples, beside the catalogue's own."""
EPISODIC = [
    *((name, "point-goal") for name in catalogue.names("episodes")),
    *((name, "bandit:5") for name in every_rule("episodes")),
]
SUPERVISED = [
    *((n, "regression") for n in catalogue.names("examples") if not n.startswith("protonet")),
    *((name, kind) for kind in ("classification", "images") for name in every_rule("examples")),
    *((name, "regression") for name in VARIANTS),
]


def config_of(name: str, tasks: str) -> AnyAgentConfig:
    """An agent's settings, with a small network."""
    if tasks in LEARNED:
        _, network = LEARNED[tasks]
        if name in VARIANTS:
            of, inner, outer = VARIANTS[name]
            return FewShotAgentConfig(name=of, inner=inner, outer=outer, network=network)
        return replace(catalogue.default(name, "examples"), network=network)
    config = catalogue.default(name)
    inner, outer = config.inner, config.outer
    if isinstance(inner, TrialConfig | ReplayedTrialConfig | BeliefConfig):
        inner = replace(inner, size=8, steps=2)
    if isinstance(outer, SacConfig):
        outer = replace(outer, updates_per_step=1e-9, replay=40, batch=8)
    if isinstance(inner, PpoStepsConfig):
        inner = replace(inner, epochs=2, minibatches=2)
    if isinstance(outer, TrialPpoConfig):
        outer = replace(outer, epochs=2, minibatches=2)
    if isinstance(outer, TrpoConfig):  # a tenth of so few samples is no measure of a step
        outer = replace(outer, query_fraction=1.0)
    return replace(config, inner=inner, outer=outer, policy=replace(config.policy, hidden=(8,)))


def seen_by(config: AnyAgentConfig, tasks: str) -> Any:
    """The tasks as the agent sees them."""
    known: Any = TASKS_OF[tasks]
    return TaskConditioned(known) if catalogue.observes_task(config) else known


def built(name: str, tasks: str, seed: int = 0, device: torch.device = CPU) -> Any:
    config = config_of(name, tasks)
    spec = seen_by(config, tasks).spec
    return catalogue.build(spec, config, np.random.default_rng(seed), device)


@pytest.mark.parametrize(("name", "tasks"), [*EPISODIC, *SUPERVISED])
def test_each_keeps_its_promises(name, tasks):
    assert_promises(name, config_of(name, tasks), tasks)


@pytest.mark.parametrize("name", every_rule("episodes"))
def test_each_keeps_them_with_every_option_of_a_gaussian_policy(name):
    """The deviation depends on the state, and actions are scaled to a box far from zero."""
    config: Any = config_of(name, "far-box")
    std = "shared" if name == "sb3-ppo" else "state"
    policy = replace(config.policy, std=std, scale_to_box=True)
    assert_promises(name, replace(config, policy=policy), "far-box")


def assert_promises(name: str, config: AnyAgentConfig, tasks: str) -> None:
    said = []
    found = check_agent(
        lambda spec, rng, device: catalogue.build(spec, config, rng, device),
        seen_by(config, tasks),
        learns=name not in CONTROLS,
        tell=said.append,
    )
    left_out = {"not finite"} if name in CONTROLS else set()
    assert {x for x, one in found.items() if one.status != "ok"} == left_out, "\n".join(said)
    assert len(found) == 10
    assert not [x for x in left_out if found[x].status != "skipped"]


@pytest.mark.parametrize(("name", "tasks"), [*EPISODIC, *SUPERVISED])
def test_other_weights_are_refused_in_words(name, tasks):
    agent = built(name, tasks)
    weights = agent.state_dict()
    first = next(iter(weights))
    for wrong in ({**weights, "more": torch.zeros(1)}, {first: torch.zeros(99)}):
        with pytest.raises(ValueError, match="these weights"):
            agent.load_state_dict(wrong)


class Supervised:
    """An agent that has learned a little, and the tasks that it learns from."""

    def __init__(self, name: str, kind: str):
        self.agent, self.tasks = built(name, kind), TASKS_OF[kind]
        self.spec = self.tasks.spec
        for number in range(5):
            support, query = self.drawn(number)
            state = self.after(support, self.agent.steps)
            self.agent.meta_update(state, query, np.random.default_rng(number))

    def drawn(self, number: int) -> tuple[Examples, Examples]:
        """Support and query of some tasks."""
        rng = np.random.default_rng(number)
        return self.tasks.draw(self.tasks.sample(TASKS, rng), SHOTS, QUERIES, rng)

    def after(self, support: Examples, steps: int) -> Any:
        state = self.agent.begin()
        for _ in range(steps):
            state = self.agent.adapt(state, support)
        return state


@pytest.fixture(params=SUPERVISED, ids="-".join)
def trained(request):
    return Supervised(*request.param)


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """Yields all tensors within a task's state, those of the agent itself left out."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        yield from (x for inside in state.values() for x in tensors(inside))
    elif isinstance(state, list | tuple):
        yield from (x for inside in state for x in tensors(inside))
    elif is_dataclass(state):
        names = [field.name for field in fields(state) if field.name != "agent"]
        yield from (x for name in (*names, "params") for x in tensors(getattr(state, name)))


def test_a_state_keeps_no_gradients(trained):
    support, query = trained.drawn(9)
    state = trained.agent.adapt(trained.after(support, 1), query)
    found = list(tensors(state))
    assert len(found) > len(trained.agent.state_dict()) // 2
    assert not any(x.requires_grad for x in found)


def test_the_order_of_examples_means_nothing(trained):
    """Nor that of those to predict. After three steps, see `check_agent`."""
    support, query = trained.drawn(9)
    order = torch.randperm(support.inputs.shape[1], generator=torch.Generator().manual_seed(0))
    mixed = Examples(*(x[:, order] for x in support))
    agent = trained.agent
    expected = agent.predict(trained.after(support, 3), query.inputs)
    found = agent.predict(trained.after(mixed, 3), query.inputs.flip(1)).flip(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_its_curve_is_as_long_as_is_asked(trained):
    support, query = trained.drawn(9)
    steps = trained.agent.steps + 2
    longer, shorter = (
        adaptation(trained.agent, trained.spec, support, query, count) for count in (steps, 1)
    )
    assert longer.shape == (1 + trained.spec.classes, steps + 1, TASKS)
    assert longer.isfinite().all()
    assert torch.equal(longer[:, :2], shorter)


def test_prototypes_of_numbers_are_refused():
    with pytest.raises(UserError, match=r"prototypes tell classes apart.*sinusoid are numbers"):
        built("protonet", "regression")


REFUSED = {
    "maml": {"estimator": "dice"},
    "anil": {"adapted": "context"},
    "meta-sgd": {"steps": 0},
    "mapping": {"steps": 2},
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_without_effect_on_examples_are_refused(name):
    config = catalogue.default(name, "examples")
    inner: Any = config.inner
    spec = TASKS_OF["regression"].spec
    said = rf"'{name}' makes no use of agent\.inner\.{next(iter(REFUSED[name]))}: .*\n  leave it"
    changed = replace(config, inner=replace(inner, **REFUSED[name]))
    with pytest.raises(UserError, match=said):
        catalogue.build(spec, changed, np.random.default_rng(0), CPU)


def test_an_unknown_agent_is_named_with_the_nearest():
    said = r"'protonets' is no agent on supervised tasks.* did you mean 'protonet'"
    with pytest.raises(UserError, match=said):
        catalogue.default("protonets", "examples")


def test_the_readmes_table_has_every_agent_on_examples():
    """Each rule by its name, and each agent that has one of its own."""
    lines = table().splitlines()
    shown = {line.split("`")[1]: line.split(" | ")[1] for line in lines[2:]}
    for name in every_rule("examples"):
        row = name if name in shown else f"-{name.rpartition('-')[2]}"
        assert "examples" in shown[row].split(", "), name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", catalogue.names("episodes"))
def test_each_plays_on_a_gpu(name):
    config, device = config_of(name, "point-goal"), torch_device("cuda")
    known, agent = seen_by(config, "point-goal"), built(name, "point-goal", device=device)
    env = known.open(TASKS, EPISODES, Workers(0))
    tasks = known.sample(TASKS, np.random.default_rng(0))
    state, rounds = adaptation_rounds(
        agent, env, known.spec, tasks, EPISODES, agent.steps, (7, 0), device
    )
    assert agent.meta_update(state, rounds[-1], np.random.default_rng(0))["skipped"] == 0.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("name", "kind"), SUPERVISED)
def test_each_learns_from_examples_on_a_gpu(name, kind):
    """And saves weights that a processor takes back."""
    device = torch_device("cuda")
    here, there = built(name, kind), built(name, kind, device=device)
    rng, tasks = np.random.default_rng(0), TASKS_OF[kind]
    support, query = drawn = tasks.draw(tasks.sample(TASKS, rng), SHOTS, QUERIES, rng)
    expected = adaptation(here, tasks.spec, *drawn, steps=2)
    support, query = (Examples(*(x.to(device) for x in part)) for part in drawn)
    curve = adaptation(there, tasks.spec, support, query, steps=2)
    torch.testing.assert_close(curve.cpu(), expected, rtol=1e-3, atol=1e-3)
    state = there.begin()
    for _ in range(there.steps):
        state = there.adapt(state, support)
    assert there.meta_update(state, query, np.random.default_rng(0))["skipped"] == 0.0
    assert all(x.device.type == device.type for x in there.state_dict().values())
    here.load_state_dict(there.state_dict())
