"""Reptile with PPO inside: theta moves towards where each task's own learning led.

theta <- theta + beta mean_i(phi_i - theta), arXiv:1803.02999, Algorithm 2, where phi_i is theta
after PPO on every round of task i's episodes, the last one among them. No gradient goes through
the adaptation. What is said of parameters holds for the policy's and the value function's alike.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.inner.ppo import Course, Learners, PpoSteps, Samples
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.agents.saved_weights import checked
from metarl.config.settings import AgentConfig, PpoStepsConfig, ReptileConfig
from metarl.equations.adam import (
    AdamState,
    adam_loaded,
    adam_start,
    adam_state_dict,
    adam_step,
)
from metarl.equations.distributions import ActionDistribution
from metarl.equations.ppo import explained_variance
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy
from metarl.networks.value import MlpValue
from metarl.sampling.collect import memoryless
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories

MOMENTS = "outer."
"""What the names of the outer Adam's state begin with, beside those of parameters."""

ADAM_AT_MOST = 0.1
"""Larger steps of an outer Adam are taken for a forgotten setting."""


class TaskState(NamedTuple):
    """K tasks on their way from the meta-parameters to their own."""

    learners: Learners
    finite: Tensor
    """[K], shared before the first round: whether every update so far was."""
    seen: tuple[Statistics, ...]
    """Of the episodes of each round."""


class Reptile:
    """Reptile: begin, actor, adapt, meta_update. Evaluation adapts by the same PPO."""

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, PpoStepsConfig)
        assert isinstance(config.outer, ReptileConfig)
        check_outer(config.outer)
        self.spec, self.config, self.device = spec, config, device
        self.policy, self.value = MlpPolicy(spec, config.policy), MlpValue(spec, config.policy)
        self.inner = PpoSteps(self.policy, self.value, config.inner, config.advantages)
        self.outer = config.outer
        start = {**self.policy.init(rng), **self.value.init(rng)}
        self.meta: Params = {name: x.to(device) for name, x in start.items()}
        self.moments = adam_start(self.meta)
        self.normaliser = Normaliser.before_anything(
            config.normalisation, config.advantages.discount, spec.obs_dim, device
        )

    @property
    def noise(self) -> tuple[str, int]:
        """The kind of noise that `act` takes, and its width."""
        return self.policy.kind.noise, self.policy.noise_dim

    @property
    def steps(self) -> int:
        """Adaptation steps in a meta-iteration of training, before that to the query."""
        return self.config.inner.steps

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters, its optimizer anew."""
        return TaskState(
            self.inner.start(self.meta),
            torch.ones((), dtype=torch.bool, device=self.device),
            (),
        )

    def act(
        self, state: TaskState, obs: Tensor, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        """Actions [K, E, act_dim] at obs [K, E, obs_dim], and the distribution they came from."""
        distribution = self.policy(state.learners.params, self.normaliser.obs(obs))
        return distribution.sample(noise), distribution

    def actor(self, state: TaskState, episodes: slice) -> Actor:
        """Acts by `act`; which episodes it is does not matter."""
        return memoryless(partial(self.act, state))(episodes)

    def adapt(self, state: TaskState, support: Trajectories) -> TaskState:
        """PPO of every task on its own episodes. Changes nothing here."""
        return self.learn(state, support)[0]

    def learn(self, state: TaskState, support: Trajectories) -> tuple[TaskState, Samples, Course]:
        """`adapt`, with what it learned from and how that went."""
        found = self.normaliser.statistics(support)
        seen = (*state.seen, found)
        normal = self.unit(seen[0]).trajectories(support)
        samples = self.inner.samples(state.learners.params, normal)
        learners, course, finite = self.inner.step(state.learners, samples)
        return TaskState(learners, state.finite & finite, seen), samples, course

    def unit(self, first: Statistics) -> Normaliser:
        """What these tasks' episodes are normalised by. Where nothing was seen before, rewards by
        their own `first` round: a value function that learned them raw would have to unlearn it.
        """
        seen = self.normaliser.seen
        if "returns" not in seen or seen["returns"].count > 0:
            return self.normaliser
        return self.normaliser._replace(seen={**seen, "returns": first["returns"]})

    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Adapts to the query too, then one outer step, of the tasks whose updates were finite.

        Where none were the meta-parameters stay, and `skipped` is 1. Only after it do the
        statistics change that observations and rewards are normalised by.
        """
        del rng
        state, samples, course = self.learn(state, query)
        kl = self.divergence(state, query)
        kept = state.finite & kl.isfinite()
        self.normaliser = self.normaliser.after(*state.seen)
        metrics = {"skipped": float(not kept.any()), "reptile/left_out": float((~kept).sum())}
        if not kept.any():
            return metrics
        adapted = {name: x[kept] for name, x in state.learners.params.items()}
        distance = difference(mean_of(adapted), self.meta)
        self.meta, self.moments = towards(self.meta, adapted, self.moments, self.outer)
        explained = explained_variance(samples.values, samples.targets, samples.weights)
        means = {
            "kl": kl,
            "clip_fraction": course.clip_fraction,
            "value/loss": course.value_loss,
            "value/explained_variance": explained,
            "gradient_norm": course.gradient_norm,
        }
        metrics["reptile/distance"] = float(sum(x.square().sum() for x in distance.values())) ** 0.5
        return {**metrics, **{name: float(x[kept].mean()) for name, x in means.items()}}

    @torch.no_grad()
    def divergence(self, state: TaskState, episodes: Trajectories) -> Tensor:
        """Mean KL(who collected || now) on each task's episodes, [K]."""
        new = self.policy(state.learners.params, self.normaliser.obs(episodes.obs))
        kl = torch.where(episodes.mask, episodes.behaviour.kl(new), 0.0)
        return kl.sum((1, 2)) / episodes.mask.sum((1, 2))

    def state_dict(self) -> Params:
        moments = adam_state_dict(self.moments, MOMENTS) if self.outer.optimizer == "adam" else {}
        return {**self.meta, **moments, **self.normaliser.state_dict()}

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this agent's.
        """
        copies = checked(state, self.state_dict(), self.device)
        self.meta = {name: copies[name] for name in self.meta}
        if self.outer.optimizer == "adam":
            self.moments = adam_loaded(self.moments, copies, MOMENTS)
        self.normaliser = self.normaliser.loaded(copies)


def check_outer(config: ReptileConfig, shared_start: bool = True) -> None:
    """Steps that lose what was learned are refused, though nothing forbids them. Serial ones do
    where the tasks of a meta-batch have a `shared_start`."""
    if config.optimizer == "adam" and config.lr > ADAM_AT_MOST:
        raise UserError(
            f"agent.outer.lr is {config.lr:g}, and with Adam that is how far every parameter "
            "moves\n  give it Adam's own scale, --agent.outer.lr 0.001"
        )
    if shared_start and config.optimizer == "sgd" and config.serial and config.lr >= 1.0:
        raise UserError(
            f"agent.outer.serial with agent.outer.lr {config.lr:g} keeps nothing of a meta-batch's "
            "tasks but the last\n  take smaller steps, --agent.outer.lr 0.1"
        )


def towards(
    meta: Params, adapted: Params, moments: AdamState, config: ReptileConfig
) -> tuple[Params, AdamState]:
    """The outer step from theta = `meta` towards the phi_i = `adapted` [K, ...].

    Parallel: one step of theta + beta (mean_i phi_i - theta), or of Adam downhill along
    -(mean_i phi_i - theta). Serial: K such steps, the i-th towards phi_i alone. All phi_i still
    set out from one theta, for the meta-batch's episodes were collected together; the published
    serial algorithm would learn task i from where task i-1 had led. So beta = 1 keeps the last
    task only, and beta = b weighs task i by b (1 - b)^(K-i).
    """
    goals = [mean_of(adapted)]
    if config.serial:
        tasks = len(next(iter(adapted.values())))
        goals = [{name: x[i] for name, x in adapted.items()} for i in range(tasks)]
    for goal in goals:
        uphill = difference(goal, meta)
        if config.optimizer == "adam":
            downhill = {name: -x for name, x in uphill.items()}
            meta, moments = adam_step(meta, downhill, moments, config.lr)
        else:
            meta = {name: x + config.lr * uphill[name] for name, x in meta.items()}
    return meta, moments


def mean_of(adapted: Params) -> Params:
    return {name: x.mean(0) for name, x in adapted.items()}


def difference(goal: Params, start: Params) -> Params:
    return {name: goal[name] - x for name, x in start.items()}
