"""A ladder of probes for every agent: each rung needs one ability, and its optimum is known.

An agent that fails a rung lacks the ability that the rung is named after. Training stops as soon as
a meta-batch shows the optimum to be near, and fresh episodes are what is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import probes
import pytest
import torch
from catalogue_rows import every_rule

from metarl.agents import catalogue
from metarl.agents.inner.replayed_trial import ReplayedTrialConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.config.settings import AgentConfig
from metarl.device import torch_threads
from metarl.envs.task_conditioned import TaskConditioned
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Agent, EnvSpec, Trajectories, Workers

CPU = torch.device("cpu")
TASKS, EPISODES, JUDGED = 4, 40, 100
"""Tasks and episodes of a meta-batch, and episodes for each task that an agent is judged by."""

NEAR = 0.9
"""The share of the optimum that is asked for."""
CHANCE = 0.1
"""How far from one half the mean of 400 tosses of a coin may be, four deviations."""
ENOUGH = 0.98
"""The share in a meta-batch at which training stops: it must show more than is asked for later."""


def built(spec: EnvSpec, config: AgentConfig) -> Agent:
    """The one place that knows where agents come from."""
    return catalogue.build(spec, config, np.random.default_rng(0), CPU)


NAMES = every_rule("episodes")
CONFIGS = {name: catalogue.default(name) for name in NAMES}
NEVER_TRAINED = [n for n in NAMES if not CONFIGS[n].outer.learns]
TRAINED = [n for n in NAMES if n not in NEVER_TRAINED]
TOLD = [n for n in TRAINED if catalogue.observes_task(CONFIGS[n])]
JOINT = [n for n in TRAINED if not CONFIGS[n].inner.training_steps and n not in TOLD]
OFF_POLICY = [n for n in TRAINED if isinstance(CONFIGS[n].inner, ReplayedTrialConfig)]
"""Agents that learn action values from a replay."""
REMEMBERS = [*OFF_POLICY, *(n for n in TRAINED if isinstance(CONFIGS[n].inner, TrialConfig))]
VALUED = [n for n in NAMES if CONFIGS[n].advantages.gae_lambda < 1.0]
"""Agents with a learned value function. Others have a linear baseline, fit to each round."""

INNER: dict[str, Any] = {"lr": 0.01, "size": 8}
OUTER: dict[str, Any] = {
    "lr": 0.03,
    "epochs": 4,
    "minibatches": 2,
    "max_kl": 0.1,
    "cg_iterations": 5,
    "query_fraction": 1.0,
    "product_dtype": "float32",
}
"""Settings with which rules learn fast, wherever a rule has them; a new agent is given them too."""
PPO_STEPS: dict[str, Any] = {"lr": 0.03, "epochs": 5, "minibatches": 2, "steps": 1}
OF_AGENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reptile-ppo": (PPO_STEPS, {"lr": 1.0}),
    "sb3-ppo": (PPO_STEPS, {}),
    "rl2": ({"steps": 0}, {"lr": 0.02}),
    "rl2-sac": (
        {"steps": 0, "embedding": 8},
        {
            "lr": 0.01,
            "batch": 64,
            "updates_per_step": 0.2,
            "polyak": 0.05,
            "entropy_of_choice": 0.05,
        },
    ),
    "varibad": ({"steps": 0}, {"elbo_terms": 4, "predictions": 4}),
    "cavia-trpo": ({"lr": 0.1}, {}),
}
"""Settings of single agents on top of those, inner and outer."""
IDENTIFYING: dict[str, dict[str, Any]] = {
    "reptile-ppo": {"steps": 2},
    "anil-trpo": {"lr": 0.5},
    "rl2": {"steps": 1},
    "rl2-sac": {"steps": 1},
    "varibad": {"steps": 1},
    "cavia-trpo": {"lr": 3.0},
}
"""Inner settings where adaptation is what counts; `lr` 0.3 for agents that are not named."""
JUDGED_AFTER = {
    "mapping-trpo": "it adds to any policy, so nothing presses the policy before it to be good",
}
"""Agents that are judged after an adaptation step where others are before it, and why."""
ITERATIONS = {"reptile-ppo": 10}
"""The most meta-updates that training may take; 30 for agents that are not named."""


def quick(
    name: str, inner: dict[str, Any] | None = None, advantages: dict[str, float] | None = None
) -> AgentConfig:
    """Settings with which the agent learns fast, `inner` and `advantages` on top of them."""
    config = CONFIGS[name]
    own_inner, own_outer = OF_AGENTS.get(name, ({}, {}))
    return replace(
        config,
        inner=with_known(config.inner, {**INNER, **own_inner, **(inner or {})}),
        outer=with_known(config.outer, {**OUTER, **own_outer}),
        policy=replace(config.policy, hidden=(8,), activation="tanh"),
        advantages=replace(config.advantages, **(advantages or {})),
        # New statistics would change what a policy does where there is nothing to learn.
        normalisation=replace(config.normalisation, observations=False),
    )


def with_known(rule: Any, settings: dict[str, Any]) -> Any:
    """A rule with those of the settings that it has."""
    return replace(rule, **{name: x for name, x in settings.items() if hasattr(rule, name)})


class Pupil:
    """An agent, and the probe that it plays."""

    def __init__(self, config: AgentConfig, env: type[probes.ProbeEnv], tasks: int = TASKS):
        probe = probes.Probe(env)
        self.config = config
        self.distribution = TaskConditioned(probe) if catalogue.observes_task(config) else probe
        self.spec, self.tasks = self.distribution.spec, tasks
        self.agent = built(self.spec, config)
        self.most = ITERATIONS.get(config.name, 30)
        self.rng = np.random.default_rng(1)

    def play(self, episodes: int, steps: int, *key: int) -> tuple[Any, list[Trajectories]]:
        env = self.distribution.open(self.tasks, episodes, Workers(0))
        tasks = self.distribution.sample(self.tasks, self.rng)
        return adaptation_rounds(self.agent, env, self.spec, tasks, episodes, steps, (7, *key), CPU)

    def train(
        self, enough: Callable[[list[Trajectories]], bool] | None = None, most: int | None = None
    ) -> dict[str, float]:
        """Meta-updates until a meta-batch is `enough`; the last one's metrics."""
        metrics: dict[str, float] = {}
        for iteration in range(self.most if most is None else most):
            state, rounds = self.play(EPISODES, self.agent.steps, 0, iteration)
            if enough and enough(rounds):
                break
            metrics = self.agent.meta_update(state, rounds[-1], self.rng)
            assert metrics["skipped"] == 0.0
        return metrics

    def learn(self, share: Callable[[Trajectories], float]) -> float:
        """Trains until nearly all of a meta-batch is right; the `share` of fresh episodes that is.

        Before adaptation: that is what all tasks have in common.
        """
        step = int(self.config.name in JUDGED_AFTER)
        self.train(lambda rounds: share(rounds[step]) >= ENOUGH)
        return share(self.judged(step)[step])

    def judged(self, steps: int) -> list[Trajectories]:
        """Fresh episodes before adaptation and after each of so many steps."""
        return self.play(JUDGED, steps, 1)[1]


def paid(episodes: Trajectories) -> float:
    """The mean return."""
    return float(returns_of(episodes).mean())


def left(episodes: Trajectories) -> float:
    """Truncation's share of episodes that leave the poor place."""
    poor = episodes.obs[:, 0, :, 0] == 1.0
    return float(episodes.actions[:, 0, :, 0][poor].float().mean())


def stayed(episodes: Trajectories) -> float:
    return 1.0 - left(episodes)


def right_beside_a_value(episodes: Trajectories) -> float:
    """BesideAValue's share of actions that add something."""
    places = episodes.obs[..., :4].argmax(-1)
    return float((episodes.actions[..., 0] == places % 2).float().mean())


def first_policy(episodes: Trajectories) -> torch.Tensor:
    """The action distribution's parameters in the first step."""
    return torch.cat([x[:, 0] for x in episodes.behaviour], -1).softmax(-1)


@pytest.fixture(autouse=True)
def one_thread():
    """More would wait for each other in products as small as these."""
    with torch_threads(1):
        yield


on_policy = pytest.mark.parametrize("name", [n for n in NAMES if n not in OFF_POLICY])
"""Agents whose policy follows rewards alone, and not action values that begin anywhere."""
trained = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in OFF_POLICY else n for n in TRAINED]
)


@on_policy
def test_nothing_to_learn(name):
    """No action pays more than another, so the policy stays as it was.

    It does but for rounding, of which Adam makes steps: more where there is a value to subtract.
    """
    rounding, config = 0.2 if name in VALUED else 0.1, quick(name)
    if hasattr(config.outer, "bootstrap"):  # a new value of the belief would pay for the action
        config = replace(config, outer=with_known(config.outer, {"bootstrap": "never"}))
    pupil = Pupil(config, probes.NothingToLearn, tasks=2)
    (before,) = pupil.judged(0)
    pupil.train(most=3)
    for after in pupil.judged(1):
        torch.testing.assert_close(first_policy(after), first_policy(before), atol=rounding, rtol=0)


@trained
def test_one_value(name):
    """A value function explains rewards that the observation tells in advance. Where there is none,
    an action that adds a hundredth to them is found, as the baseline takes the rest away."""
    if name in VALUED or name in OFF_POLICY:
        metrics = Pupil(quick(name), probes.OneValue).train(most=8)
        assert metrics["value/explained_variance"] > NEAR
    else:
        assert Pupil(quick(name), probes.BesideAValue).learn(right_beside_a_value) > NEAR


@trained
def test_an_action_that_matters(name):
    """The action is paid in all tasks, so it is taken before adaptation."""
    assert Pupil(quick(name), probes.ActionMatters).learn(paid) > NEAR


@trained
def test_a_delay(name):
    """The first action is paid for in the last step. With lambda 0 a learned value function is all
    that tells of it before."""
    advantages = {"gae_lambda": 0.0} if name in VALUED else {}
    assert Pupil(quick(name, advantages=advantages), probes.Delay).learn(paid) > NEAR


@trained
def test_a_memory(name):
    """The observation a step ago says what to do; without a memory half is a coin's toss."""
    pupil = Pupil(quick(name), probes.Memory)
    if name in REMEMBERS:
        assert pupil.learn(paid) > NEAR
        return
    pupil.train(most=3)
    for episodes in pupil.judged(1):
        second = episodes.rewards[:, 1] / 0.5
        assert float(second.mean()) == pytest.approx(0.5, abs=CHANCE)


def test_a_transformer_remembers_as_the_other_cells_do():
    """The two rungs that need a memory: within an episode, and from one to the next."""
    cell = {"cell": "transformer", "heads": 2}
    assert Pupil(quick("rl2", cell), probes.Memory).learn(paid) > NEAR
    pupil = Pupil(quick("rl2", {**cell, **IDENTIFYING["rl2"]}), probes.TaskToIdentify)
    pupil.train(lambda rounds: paid(rounds[-1]) >= ENOUGH)
    before, after = pupil.judged(1)
    assert paid(before) == pytest.approx(0.5, abs=CHANCE)
    assert paid(after) > NEAR


@trained
def test_a_task_to_identify(name):
    """Rewards alone tell which action is good: half of the optimum before adaptation, all after.
    Who is told the task has all of it before, who is trained jointly has half."""
    pupil = Pupil(quick(name, IDENTIFYING.get(name, {"lr": 0.3})), probes.TaskToIdentify)
    if name in TOLD:
        assert pupil.learn(paid) > NEAR
        return
    pupil.train(lambda rounds: name not in JOINT and paid(rounds[-1]) >= ENOUGH)
    before, *_, after = pupil.judged(max(1, pupil.agent.steps))
    assert paid(before) == pytest.approx(0.5, abs=CHANCE)
    if name not in JOINT:
        assert paid(after) > NEAR


@trained
def test_a_truncation(name):
    """Who bootstraps goes where the time limit stops a rich future; others take what they can have
    within the episode. RL2 is of the others: the value beyond its trials is zero by definition, and
    for recurrent SAC it is not."""
    pupil = Pupil(quick(name, advantages={"discount": 0.5}), probes.Truncation)
    bootstraps = name in OFF_POLICY or (name in VALUED and name not in REMEMBERS)
    assert pupil.learn(left if bootstraps else stayed) > NEAR


@pytest.mark.parametrize("name", NEVER_TRAINED)
def test_without_an_outer_rule_nothing_is_learned_for_other_tasks(name):
    pupil = Pupil(quick(name), probes.ActionMatters, tasks=2)
    (before,) = pupil.judged(0)
    pupil.train(most=2)
    (after,) = pupil.judged(0)
    assert torch.equal(first_policy(before), first_policy(after))
    assert paid(after) == pytest.approx(0.5, abs=CHANCE)


def test_an_untrained_policy_is_not_there_in_one_step():
    """The step that trained agents identify the task by leads somewhere, and not as far."""
    pupil = Pupil(quick("random", {"lr": 0.3}), probes.TaskToIdentify)
    before, after = map(paid, pupil.judged(1))
    assert before + 0.1 < after < NEAR


@pytest.mark.parametrize(
    ("env", "right", "optimum"),
    [
        (probes.ActionMatters, paid, 1.0),
        (probes.Delay, paid, 1.0),
        (probes.Memory, paid, 0.75),
        (probes.TaskToIdentify, paid, 1.0),
        (probes.Truncation, left, 1.0),
    ],
)
def test_from_scratch_each_task_takes_its_time(env, right, optimum):
    """Stable-Baselines3's PPO climbs the same rungs, in each task anew."""
    advantages = {probes.Delay: {"gae_lambda": 0.0}, probes.Truncation: {"discount": 0.5}}
    config = quick("sb3-ppo", advantages=advantages.get(env))
    before, *_, after = map(right, Pupil(config, env, tasks=2).judged(7))
    assert before == pytest.approx(0.5, abs=CHANCE)
    assert after == pytest.approx(optimum, abs=1.0 - NEAR)
