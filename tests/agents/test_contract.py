"""What the doors rely on, for every agent of the catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.config.settings import AgentConfig, TrialConfig, TrpoConfig
from metarl.device import torch_device
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Workers

CPU = torch.device("cpu")
TASKS, EPISODES, HORIZON = 3, 4, 6
ENVS = ("point-goal", "bandit:5")
NAMES = catalogue.names()


def small(name: str) -> AgentConfig:
    config = catalogue.default(name)
    inner = config.inner
    if isinstance(inner, TrialConfig):
        inner = replace(inner, size=8, steps=2)
    outer = config.outer
    if isinstance(outer, TrpoConfig):  # a tenth of so few samples is no measure of a step
        outer = replace(outer, query_fraction=1.0)
    policy = replace(config.policy, hidden=(8,))
    return replace(config, inner=inner, outer=outer, policy=policy)


class Subject:
    """An agent, and the tasks that it plays."""

    def __init__(self, name: str, env: str, config: AgentConfig | None = None):
        self.config = config or small(name)
        tasks = envs.make(env, HORIZON)
        self.distribution = TaskConditioned(tasks) if catalogue.told(self.config) else tasks
        self.spec = self.distribution.spec
        self.env = self.distribution.open(TASKS, EPISODES, Workers(0))
        self.agent = self.built(0)

    def built(self, seed: int):
        return catalogue.build(self.spec, self.config, np.random.default_rng(seed), CPU)

    def rounds(self, number: int, agent=None, steps: int | None = None):
        agent = agent or self.agent
        tasks = self.distribution.sample(TASKS, np.random.default_rng(number))
        count = agent.steps if steps is None else steps
        return adaptation_rounds(
            agent, self.env, self.spec, tasks, EPISODES, count, (7, number), CPU
        )

    def iterate(self, number: int, agent=None):
        agent = agent or self.agent
        state, rounds = self.rounds(number, agent)
        return agent.meta_update(state, rounds[-1], np.random.default_rng(number))

    def weights(self, agent=None):
        state = (agent or self.agent).state_dict()
        return {name: x.clone() for name, x in state.items()}


@pytest.fixture(params=ENVS)
def env(request):
    return request.param


@pytest.fixture(params=NAMES)
def subject(request, env):
    return Subject(request.param, env)


def trained_where_it_must_be(subject):
    """A mapping says nothing before its first updates."""
    if subject.config.name.startswith("mapping"):
        for number in range(5):
            subject.iterate(number)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x, other[name]), name


def test_only_a_meta_update_changes_an_agent(subject):
    before = subject.weights()
    state, rounds = subject.rounds(0, steps=2)
    subject.agent.adapt(state, rounds[-1])
    assert_same(before, subject.weights())
    for number in range(4):  # a line search may find nothing in so few episodes
        metrics = subject.iterate(number)
        assert metrics["skipped"] == 0.0
        assert all(np.isfinite(value) for value in metrics.values())
    after = subject.weights()
    changed = any(not torch.equal(after[name], before[name]) for name in before)
    assert changed == (subject.config.name not in ("random", "sb3-ppo"))


def test_adaptation_is_a_function_of_what_it_is_given(subject):
    """The same support twice gives the same policy, and leaves the state before as it was."""
    trained_where_it_must_be(subject)
    state, rounds = subject.rounds(0, steps=1)
    noise = torch.zeros(TASKS, EPISODES, subject.agent.noise[1])
    obs = torch.full((TASKS, EPISODES, subject.spec.obs_dim), 0.3)

    def mode(of):
        _, distribution = subject.agent.actor(of, slice(0, EPISODES))(obs, None, noise)
        return [x.clone() for x in distribution]

    before = mode(state)
    first, second = (mode(subject.agent.adapt(state, rounds[-1])) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(before, mode(state), strict=True):
        assert torch.equal(one, other)
    assert any(not torch.equal(x, y) for x, y in zip(before, first, strict=True))


def test_a_resumed_run_is_the_same_to_the_bit(subject):
    subject.iterate(0)
    other = subject.built(5)
    other.load_state_dict(subject.weights())
    assert_same(subject.weights(), subject.weights(other))
    for number in (1, 2):
        one, two = subject.iterate(number), subject.iterate(number, other)
        assert one == two
    assert_same(subject.weights(), subject.weights(other))


def test_other_weights_are_refused(subject):
    weights = subject.weights()
    name = next(iter(weights))
    for wrong in ({**weights, "more": torch.zeros(1)}, {name: torch.zeros(99)}):
        with pytest.raises(ValueError, match="these weights"):
            subject.agent.load_state_dict(wrong)


def test_tasks_do_not_touch_each_other(subject):
    """Another support of one task changes that task's policy alone."""
    trained_where_it_must_be(subject)
    state, rounds = subject.rounds(0, steps=1)
    support = rounds[-1]
    other = support.rewards.clone()
    other[1] = other[1].flip(0) - torch.arange(other.shape[1])[:, None]
    noise = torch.zeros(TASKS, EPISODES, subject.agent.noise[1])
    obs = torch.full((TASKS, EPISODES, subject.spec.obs_dim), 0.3)
    one, two = (
        subject.agent.actor(subject.agent.adapt(state, given), slice(0, EPISODES))(
            obs, None, noise
        )[1][0]
        for given in (support, support._replace(rewards=other))
    )
    assert not torch.equal(one[1], two[1])
    for task in (0, 2):
        torch.testing.assert_close(one[task], two[task], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_evaluated_over_several_steps(name):
    subject = Subject(name, "point-goal")
    _, rounds = subject.rounds(0, steps=3)
    assert len(rounds) == 4
    assert all(returns_of(x).isfinite().all() for x in rounds)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_a_gpu(name):
    subject = Subject(name, "point-goal")
    agent = catalogue.build(
        subject.spec, subject.config, np.random.default_rng(0), torch_device("cuda")
    )
    tasks = subject.distribution.sample(TASKS, np.random.default_rng(0))
    state, rounds = adaptation_rounds(
        agent, subject.env, subject.spec, tasks, EPISODES, agent.steps, (7, 0), torch_device("cuda")
    )
    assert agent.meta_update(state, rounds[-1], np.random.default_rng(0))["skipped"] == 0.0
