"""The updates of the agents by a loop over tasks, with which bench_update.py compares the agents.

Every loop starts from the same episodes as its agent, computes the advantages of one task at a
time, and arrives at the same meta-parameters:

* TRPO outside: `metarl/agents/reference.py`, as most public code does it. Autograd with
  create_graph goes through the inner step. Products with the KL's Hessian are a second backward
  pass over its retained graph, on all data.
* PPO outside: in each epoch the gradient of one task after the other, by plain autograd.
* Learned inner rules: the agent's own differentiable step on one task, with either outer rule.
* Reptile: the inner PPO of one task after the other.
* RL2: the trials of one task after the other, with gradients summed over a minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from metarl.agents import reference
from metarl.agents.batch import Batch, CollectedBatch
from metarl.agents.derivatives.autograd import Autograd
from metarl.agents.inner.sgd import Sgd
from metarl.agents.outer.ppo import Ppo
from metarl.agents.outer.rule import halved
from metarl.agents.outer.trials import Steps
from metarl.agents.outer.trpo import Trpo
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.agents.reptile import Adapted, ReptilePpo
from metarl.agents.rl2 import Rl2
from metarl.equations.adam import adam_step, clip_norm
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.losses import clipped_gain
from metarl.networks.mlp import select_tasks
from metarl.types import Params, Trajectories

Learner: TypeAlias = PolicyGradientAgent | ReptilePpo | Rl2
"""Agents that have a loop here."""


def looped(agent: Learner, rounds: Sequence[Trajectories]) -> Params:
    """The meta-parameters after an update of `agent`, which stays as it is."""
    match agent:
        case Rl2():
            return rl2(agent, rounds)
        case ReptilePpo():
            return reptile(agent, rounds)
        case PolicyGradientAgent():
            if isinstance(agent.outer, Trpo):
                return trpo(agent, rounds)
            return PpoLoop(agent, rounds).update()


class WholeTasks(np.random.Generator):
    """Orders trials so that those of a task stay together: a loop has them in one minibatch."""

    def __init__(self, episodes: int):
        super().__init__(np.random.PCG64(0))
        self.episodes = episodes

    def permutation(self, x: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        tasks = super().permutation(x // self.episodes)
        return (tasks[:, None] * self.episodes + np.arange(self.episodes)).ravel()


def trpo(agent: PolicyGradientAgent, rounds: Sequence[Trajectories]) -> Params:
    """By `reference.py`."""
    assert isinstance(agent.outer, Trpo)
    tasks = []
    for own in by_task(rounds):
        *supports, query = (Batch(*(x[0] for x in agent.batch(played))) for played in own)
        tasks.append(reference.TaskBatches(supports, query))
    meta, _ = reference.meta_update(
        agent.policy, inner_rule(agent), agent.meta, tasks, agent.outer.config
    )
    return meta


def inner_rule(agent: PolicyGradientAgent) -> reference.Adapt:
    """Gradient steps by autograd; another rule is the agent's own, on one task."""
    rule, loss = agent.rule, agent.inner.loss
    if isinstance(rule, Sgd):
        inner = rule.config
        return partial(
            reference.adapt,
            agent.policy,
            lr=inner.lr,
            names=rule.adapted,
            first_order=inner.first_order,
        )
    steps = Autograd(rule, loss)

    def adapt(meta: Params, supports: Sequence[Batch]) -> Params:
        params = {**agent.fixed, **meta}
        followed = any(x.requires_grad for x in meta.values())
        for index, batch in enumerate(supports):
            whole = Batch(*(x[None] for x in batch))
            unread = cast(Any, None)  # the score-function loss reads no behaviour
            support = CollectedBatch(whole, unread, 1)
            params, _ = steps.follow(params, support, index, followed)
        return select_tasks(params, 0)

    return adapt


class Task(NamedTuple):
    """Data of one task, K = 1, for an update by PPO."""

    supports: list[CollectedBatch]
    query: CollectedBatch
    outcome: Tensor
    """[], the mean reward after adaptation, in deviations of all tasks' rewards."""


class PpoLoop:
    """Plain autograd, a task's gradient after the other's."""

    def __init__(self, agent: PolicyGradientAgent, rounds: Sequence[Trajectories]):
        self.agent, self.policy = agent, agent.policy
        assert isinstance(agent.outer, Ppo)
        self.config, self.adam = agent.outer.config, agent.outer_state
        assert isinstance(agent.inner, Autograd)
        self.steps = agent.inner
        played = rounds[-1]
        rewards = played.rewards[played.mask]
        means = (played.rewards * played.mask).sum((1, 2)) / played.mask.sum((1, 2))
        outcomes = (means - rewards.mean()) / rewards.std(correction=0)
        self.tasks = []
        for own, outcome in zip(by_task(rounds), outcomes, strict=True):
            *supports, query = map(agent.batch, own)
            self.tasks.append(Task(supports, query, outcome))
            self.adapted(agent.meta, self.tasks[-1])  # who collected the query

    def adapted(self, meta: Params, task: Task) -> tuple[Params, list[ActionDistribution]]:
        """Parameters after the inner steps, and the policies before each of them."""
        followed = any(x.requires_grad for x in meta.values())
        params, before = self.policy.begin({**self.agent.fixed, **meta}), []
        for index, support in enumerate(task.supports):
            params, here = self.steps.follow(params, support, index, followed)
            before.append(here)
        return params, before

    def loss(self, meta: Params, task: Task) -> Tensor:
        params, before = self.adapted(meta, task)
        loss = -self.gain(self.policy(params, task.query.obs), task.query)
        if self.config.exploration:
            loss = loss - self.gain(before[0], task.supports[0], task.outcome)
        for support, here in zip(task.supports, before, strict=True):
            if self.config.inner_kl:
                kl = (support.batch.weights * support.behaviour.kl(here)).sum()
                loss = loss + self.config.inner_kl / len(task.supports) * kl
        return loss

    def gain(
        self, here: ActionDistribution, of: CollectedBatch, credit: Tensor | None = None
    ) -> Tensor:
        _, actions, advantages, weights, _ = of.batch
        credit = advantages if credit is None else credit
        log_probs, old = here.log_probs(actions), of.behaviour.log_probs(actions)
        return clipped_gain(log_probs, old, credit, weights, self.config.clip)[0].sum()

    def update(self) -> Params:
        params, moments = self.agent.meta, self.adam
        for _ in range(self.config.epochs):
            meta = leaf(params)
            gradients = (
                torch.autograd.grad(
                    self.loss(meta, task) / len(self.tasks),
                    list(meta.values()),
                    materialize_grads=True,
                )
                for task in self.tasks
            )
            gradient, _ = clip_norm(
                dict(zip(meta, summed(gradients), strict=True)), self.config.max_grad_norm
            )
            params, moments = adam_step(params, gradient, moments, self.config.lr)
        after = sum(self.loss(params, task).item() for task in self.tasks)
        return params if math.isfinite(after) else self.agent.meta


def reptile(agent: ReptilePpo, rounds: Sequence[Trajectories]) -> Params:
    found = []
    for own in by_task(rounds):
        state = agent.begin()
        for episodes in own:
            state, *_ = agent.learn(state, episodes)
        agent.divergence(state, own[-1])
        found.append(state.ppo.params)
    adapted = {name: torch.cat([x[name] for x in found]) for name in agent.meta}
    rng = np.random.default_rng(0)
    return agent.outer.step(agent.meta, agent.outer_state, Adapted(adapted), rng)[0]


def rl2(agent: Rl2, rounds: Sequence[Trajectories]) -> Params:
    """Advantages alone are made of all tasks at once: they are standardised over all trials."""
    outer, config, played = agent.outer, agent.outer.config, []
    for own in by_task(rounds):
        state = agent.begin()
        for episodes in own[:-1]:
            state = agent.adapt(state, episodes)
        played.append(agent.trial_steps(state, own[-1]))
    steps = Steps(*(torch.cat(x) for x in zip(*played, strict=True)))
    before = agent.outer_state
    lessons, _ = outer.lessons(agent.meta, steps, outer.returns_stats(steps, before.returns))
    task_of = torch.arange(len(played)).repeat_interleave(len(played[0].mask))
    params, moments, rng = agent.meta, before.adam, WholeTasks(len(played[0].mask))
    parts = min(config.minibatches, len(task_of))
    updates = float(before.adam.count) / (config.epochs * parts)
    entropy = torch.tensor(halved(config.entropy, config.entropy_half_life, updates))
    for _ in range(config.epochs):
        for part in np.array_split(rng.permutation(len(task_of)), config.minibatches):
            rows = torch.from_numpy(part)
            chosen = lessons.trials(rows.to(agent.device))
            gradients = (
                outer.gradient(params, chosen.rows(task_of[rows] == task), entropy)[0]
                for task in task_of[rows].unique()
            )
            total = summed(tuple(x.values()) for x in gradients)
            gradient, _ = clip_norm(dict(zip(params, total, strict=True)), config.max_grad_norm)
            params, moments = adam_step(params, gradient, moments, config.lr)
    return params


def by_task(rounds: Sequence[Trajectories]) -> Iterator[list[Trajectories]]:
    """The rounds of each task, K = 1."""
    tasks = len(rounds[0].obs)

    def alone(episodes: Trajectories, task: int) -> Trajectories:
        own = {name: x[task, None] for name, x in episodes._asdict().items() if name != "behaviour"}
        shared = each(lambda x: x.expand(tasks, *x.shape[1:])[task, None], episodes.behaviour)
        return Trajectories(behaviour=shared, **own)

    for task in range(tasks):
        yield [alone(episodes, task) for episodes in rounds]


def leaf(params: Params) -> Params:
    return {name: x.detach().clone().requires_grad_() for name, x in params.items()}


def summed(gradients: Iterator[tuple[Tensor, ...]]) -> list[Tensor]:
    total = [x.clone() for x in next(gradients)]
    for gradient in gradients:
        for whole, x in zip(total, gradient, strict=True):
            whole += x
    return total
