"""The agents' updates by a loop over the tasks, which bench_update.py measures the agents against.

Every loop starts from the same episodes as its agent, makes advantages of one task's at a time,
and comes to the same meta-parameters:

* TRPO outside: autograd with create_graph through the inner step, and Hessian-vector products of
  the KL by a second backward pass over its retained graph, on all data, as most public code does.
* PPO outside: in each epoch one task's gradient after the other, by plain autograd.
* Reptile: the inner PPO of one task after the other.
* RL2: the trials of one task after the other, whose gradients are summed over a minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch, learning_batch
from metarl.agents.gradient_agent import GradientAgent
from metarl.agents.inner.differentiable import DifferentiableSgd, Round
from metarl.agents.outer.trial_ppo import Steps
from metarl.agents.reptile import Reptile, towards
from metarl.agents.rl2 import Rl2
from metarl.agents.surrogate_agent import SurrogateAgent
from metarl.config.settings import PpoConfig, SgdConfig
from metarl.equations.adam import adam_step, clip_norm
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.losses import clipped_gain
from metarl.equations.returns import standardize
from metarl.equations.trust_region import (
    conjugate_gradient,
    ravel,
    surrogate_gain,
    trust_region_scale,
    unravel,
)
from metarl.sampling.collect import returns_of
from metarl.types import Params, Trajectories

Learner: TypeAlias = GradientAgent | Reptile | Rl2
"""Whatever is meta-trained here."""


def looped(agent: Learner, rounds: Sequence[Trajectories]) -> Params:
    """The meta-parameters after an update of `agent`, which stays as it is."""
    match agent:
        case Rl2():
            return rl2(agent, rounds)
        case Reptile():
            return reptile(agent, rounds)
        case SurrogateAgent():
            return PpoLoop(agent, rounds).update()
        case GradientAgent():
            return TrpoLoop(agent, rounds).update()


class WholeTasks(np.random.Generator):
    """Orders trials so that those of a task stay together: a loop has them in one minibatch."""

    def __init__(self, episodes: int):
        super().__init__(np.random.PCG64(0))
        self.episodes = episodes

    def permutation(self, x: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        tasks = super().permutation(x // self.episodes)
        return (tasks[:, None] * self.episodes + np.arange(self.episodes)).ravel()


class Task(NamedTuple):
    """What an update learns of one task, without K."""

    supports: list[Round]
    query: Round
    outcome: Tensor
    """[], the return after adaptation, standardised over tasks."""


class Loop:
    """Of agents that adapt by gradient steps."""

    def __init__(self, agent: GradientAgent, rounds: Sequence[Trajectories]):
        inner, outer = agent.config.inner, agent.config.outer
        assert isinstance(inner, SgdConfig)
        self.agent, self.policy, self.first_order = agent, agent.policy, inner.first_order
        ratio = isinstance(outer, PpoConfig) and outer.inner_ratio
        self.rule = DifferentiableSgd(agent.policy, inner, ratio)
        returns = returns_of(rounds[-1]).mean(1)
        outcomes = standardize(returns, torch.full_like(returns, 1.0 / len(returns)))
        self.tasks = []
        for own, outcome in zip(by_task(rounds), outcomes, strict=True):
            *supports, query = map(self._round, own)
            self.tasks.append(Task(supports, query, outcome))
            self.adapted(agent.meta, self.tasks[-1])  # who collected the query

    def _round(self, episodes: Trajectories) -> Round:
        normal = self.agent.normaliser.trajectories(episodes)
        found = Round.of(learning_batch(normal, self.agent.config.advantages), episodes)
        behaviour = each(lambda x: x[0], found.behaviour)
        return Round(Batch(*(x[0] for x in found.batch)), behaviour, found.num_steps)

    def adapted(self, meta: Params, task: Task) -> tuple[Params, list[ActionDistribution]]:
        """Parameters after the inner steps, and the policies before each of them."""
        followed = any(x.requires_grad for x in meta.values()) and not self.first_order
        params, before = self.policy.begin(meta), []
        for index, support in enumerate(task.supports):
            moved = {name: params[name] for name in self.rule.moved}
            moved = {
                n: x if x.requires_grad else x.clone().requires_grad_() for n, x in moved.items()
            }
            before.append(self.policy({**params, **moved}, support.obs))
            loss = self.rule.loss(before[-1], support)
            found = torch.autograd.grad(loss, list(moved.values()), create_graph=followed)
            params = self.rule.descended(params, dict(zip(moved, found, strict=True)), index)
        return params, before


class TrpoLoop(Loop):
    """The usual way: double backward."""

    def gain_and_kl(self, meta: Params) -> tuple[Tensor, Tensor]:
        gains, kls = [], []
        for task in self.tasks:
            obs, actions, advantages, weights = task.query.batch
            old, new = task.query.behaviour, self.policy(self.adapted(meta, task)[0], obs)
            gains.append(surrogate_gain(new, old, actions, advantages, weights))
            kls.append((weights * old.kl(new)).sum())
        return torch.stack(gains).mean(), torch.stack(kls).mean()

    def direction(self) -> tuple[Tensor, float]:
        meta, config = leaf(self.agent.meta), self.agent.outer.config
        leaves = list(meta.values())
        gain, kl = self.gain_and_kl(meta)
        gradient = torch.autograd.grad(gain, leaves, retain_graph=True)
        slopes = torch.autograd.grad(kl, leaves, create_graph=True)

        def product(vector: Tensor) -> Tensor:
            tangent = unravel(vector, meta).values()
            along = torch.stack([(s * v).sum() for s, v in zip(slopes, tangent, strict=True)]).sum()
            second = torch.autograd.grad(along, leaves, retain_graph=True, materialize_grads=True)
            return ravel(dict(zip(meta, second, strict=True))) + config.damping * vector

        flat = ravel(dict(zip(meta, gradient, strict=True)))
        solution = conjugate_gradient(product, flat, config.cg_iterations)
        return trust_region_scale(solution, flat, config.max_kl) * solution.x, gain.item()

    def update(self) -> Params:
        direction, before = self.direction()
        start, config = ravel(self.agent.meta), self.agent.outer.config
        for tries in range(config.backtracks):
            step = config.backtrack_ratio**tries * direction
            candidate = unravel(start + step, self.agent.meta)
            gain, kl = self.gain_and_kl(candidate)
            if gain.item() > before and kl.item() <= config.max_kl:
                return candidate
        return self.agent.meta


class PpoLoop(Loop):
    """Plain autograd, a task's gradient after the other's."""

    def __init__(self, agent: SurrogateAgent, rounds: Sequence[Trajectories]):
        super().__init__(agent, rounds)
        self.config, self.adam = agent.outer.config, agent.adam

    def loss(self, meta: Params, task: Task) -> Tensor:
        params, before = self.adapted(meta, task)
        loss = -self.gain(self.policy(params, task.query.obs), task.query)
        for support, here in zip(task.supports, before, strict=True):
            if self.config.exploration:
                loss = loss - self.gain(here, support, task.outcome)
            if self.config.inner_kl:
                kl = (support.batch.weights * support.behaviour.kl(here)).sum()
                loss = loss + self.config.inner_kl / len(task.supports) * kl
        return loss

    def gain(self, here: ActionDistribution, of: Round, credit: Tensor | None = None) -> Tensor:
        _, actions, advantages, weights, _ = of.batch
        credit = advantages if credit is None else credit
        log_probs, old = here.log_probs(actions), of.behaviour.log_probs(actions)
        return clipped_gain(log_probs, old, credit, weights, self.config.clip)[0]

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


def reptile(agent: Reptile, rounds: Sequence[Trajectories]) -> Params:
    found = []
    for own in by_task(rounds):
        state = agent.begin()
        for episodes in own:
            state, *_ = agent.learn(state, episodes)
        agent.divergence(state, own[-1])
        found.append(state.learners.params)
    adapted = {name: torch.cat([x[name] for x in found]) for name in agent.meta}
    return towards(agent.meta, adapted, agent.moments, agent.outer)[0]


def rl2(agent: Rl2, rounds: Sequence[Trajectories]) -> Params:
    """Advantages alone are made of all tasks at once: they are standardised over all trials."""
    outer, config, played = agent.outer, agent.outer.config, []
    for own in by_task(rounds):
        state = agent.begin()
        for episodes in own[:-1]:
            state = agent.adapt(state, episodes)
        played.append(agent.trial_steps(state, own[-1]))
    steps = Steps(*(torch.cat(x) for x in zip(*played, strict=True)))
    lessons, _ = outer.lessons(agent.meta, steps, outer.returns(steps, agent.returns))
    task_of = torch.arange(len(played)).repeat_interleave(len(played[0].mask))
    params, moments, rng = agent.meta, agent.adam, WholeTasks(len(played[0].mask))
    entropy = outer.entropy(agent.adam, len(task_of))
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
