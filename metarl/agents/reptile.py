"""Reptile with PPO inside: theta moves towards the parameters adapted to each task by PPO.

theta <- theta + beta mean_i(phi_i - theta), arXiv:1803.02999, Algorithm 2, where phi_i is theta
after PPO on every round of task i's episodes, including the last. No gradient goes through the
adaptation. The parameters are those of the policy and of the value function.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.inner.ppo import PpoSteps, PpoStepsConfig
from metarl.agents.inner.task_ppo import Course, Samples, TaskPpo
from metarl.agents.meta_parameters import MlpAgent
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.agents.outer.reptile import STD, difference, mean_of
from metarl.config.settings import AgentConfig
from metarl.equations.distributions import each
from metarl.equations.ppo import explained_variance
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy
from metarl.networks.value import MlpValue
from metarl.parallel import even_slices, in_parts, side_by_side
from metarl.types import EnvSpec, Metrics, Params, Trajectories

PART = 1000
"""Samples of a minibatch that a thread works on at a time, at least, over some tasks: with fewer
the start of an operation takes longer than its arithmetic."""
PARTS = 16
"""Largest number of parts of the tasks."""


class TaskState(NamedTuple):
    """State of K tasks during adaptation from the meta-parameters."""

    ppo: TaskPpo
    finite: Tensor
    """Whether every update so far was finite, [K]; shared before the first round."""
    stats: tuple[Statistics, ...]
    """Statistics of the episodes of each round."""

    @property
    def params(self) -> Params:
        """Parameters of the policy and of the value function, shared or [K, ...]."""
        return self.ppo.params


class ReptilePpo(MlpAgent):
    """Reptile agent, with begin, actor, adapt, meta_update. Evaluation adapts by the same PPO."""

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, PpoStepsConfig)  # the catalogue sees to it
        self.spec, self.config = spec, config
        self.policy, self.value = MlpPolicy(spec, config.policy), MlpValue(spec, config.policy)
        self.inner = PpoSteps(self.policy, self.value, config.inner, config.advantages)
        meta = {**self.policy.init(rng), **self.value.init(rng)}
        outer = config.outer.build()
        if outer.config.keep_std and STD not in meta:
            raise UserError(
                f"agent.outer.keep_std is true, and the actions of {spec.name} have no deviation\n"
                "  leave it out, --agent.outer.no-keep-std"
            )
        super().__init__(meta, outer, device)
        self.normaliser = Normaliser.before_anything(spec, config, device)

    def begin(self) -> TaskState:
        """Returns the state of a new task: the meta-parameters and a fresh optimiser."""
        return TaskState(
            self.inner.start(self.meta),
            torch.ones((), dtype=torch.bool, device=self.device),
            (),
        )

    @in_parts()
    def adapt(self, state: TaskState, support: Trajectories) -> TaskState:
        """Adapts every task by PPO on its own episodes. Leaves the agent unchanged."""
        return self.learn(state, support)[0]

    def learn(self, state: TaskState, support: Trajectories) -> tuple[TaskState, Samples, Course]:
        """Adapts the tasks; returns also the samples learned from and metrics.

        Parts of the tasks run through all of their epochs side by side.
        """
        stats = (*state.stats, self.normaliser.statistics(support))
        unit = self.unit(stats[0])

        def one(rows: slice) -> tuple[TaskPpo, Samples, Course, Tensor]:
            own = state.ppo.tasks(rows)
            samples = self.inner.samples(own.params, unit.trajectories(_tasks(support, rows)))
            after, course, finite = self.inner.step(own, samples)
            return after, samples, course, finite

        states, *rest, finite = zip(*side_by_side(one, self.parts(support)), strict=True)
        samples, course = (
            type(parts[0])(*map(torch.cat, zip(*parts, strict=True))) for parts in rest
        )
        after = TaskState(TaskPpo.joined(states), state.finite & torch.cat(finite), stats)
        return after, samples, course

    def parts(self, episodes: Trajectories) -> list[slice]:
        """Returns the parts of the tasks, by the episodes' shape alone; one on a GPU."""
        tasks, samples = len(episodes.obs), episodes.mask[0].numel()
        if episodes.obs.device.type != "cpu":
            return even_slices(tasks, 1)
        minibatch = samples // self.inner.config.minibatches
        return even_slices(tasks, min(PARTS, tasks, max(1, tasks * minibatch // PART)))

    def unit(self, first: Statistics) -> Normaliser:
        """Returns the normaliser of these episodes. Without statistics, rewards are scaled by
        their own `first` round, so that the value function need not learn raw rewards first.
        """
        stats = self.normaliser.stats
        if "returns" not in stats or stats["returns"].count > 0:
            return self.normaliser
        return self.normaliser._replace(stats={**stats, "returns": first["returns"]})

    @in_parts()
    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Adapts to the query too, then takes an outer step on tasks with only finite updates.

        If there are none, the meta-parameters stay and `skipped` is 1. The statistics that
        normalise observations and rewards change only after the adaptation.
        """
        state, samples, course = self.learn(state, query)
        kl = self.divergence(state, query)
        kept = state.finite & kl.isfinite()
        self.normaliser = self.normaliser.after(*state.stats)
        metrics = {"skipped": float(not kept.any()), "reptile/left_out": float((~kept).sum())}
        if not kept.any():
            return metrics
        adapted = Adapted({name: x[kept] for name, x in state.params.items()})
        distance = difference(mean_of(adapted.params), self.meta)
        self.meta, self.outer_state, _ = self.outer.step(self.meta, self.outer_state, adapted, rng)
        explained = explained_variance(samples.values, samples.targets, samples.weights)
        means = {
            "kl": kl,
            "clip_fraction": course.clip_fraction,
            "value/loss": course.value_loss,
            "value/explained_variance": explained,
            "gradient_norm": course.gradient_norm,
        }
        if self.inner.config.target_kl:
            parts = min(self.inner.config.minibatches, samples.weights.shape[1])
            means["epochs"] = course.steps / parts
        metrics["reptile/distance"] = float(sum(x.square().sum() for x in distance.values())) ** 0.5
        return {**metrics, **{name: float(x[kept].mean()) for name, x in means.items()}}

    def divergence(self, state: TaskState, episodes: Trajectories) -> Tensor:
        """Returns the mean KL(collecting || adapted policy) on each task's episodes, [K]."""

        def one(rows: slice) -> Tensor:
            own = _tasks(episodes, rows)
            new = self.policy(state.ppo.tasks(rows).params, self.normaliser.obs(own.obs))
            kl = torch.where(own.mask, own.behaviour.kl(new), 0.0)
            return kl.sum((1, 2)) / own.mask.sum((1, 2))

        with torch.no_grad():
            return torch.cat(side_by_side(one, self.parts(episodes)))


def _tasks(episodes: Trajectories, rows: slice) -> Trajectories:
    shape = episodes.mask.shape
    own = each(lambda x: x.expand(*shape, x.shape[-1])[rows], episodes.behaviour)
    others = {n: x[rows] for n, x in episodes._asdict().items() if n != "behaviour"}
    return Trajectories(behaviour=own, **others)


class Adapted(NamedTuple):
    """Adapted parameters phi_i of the tasks, [K, ...]; the outer rule's objective."""

    params: Params

    @property
    def num_tasks(self) -> int:
        return len(next(iter(self.params.values())))

    def adapted(self, meta: Params, tasks: slice) -> Params:
        """Returns phi_i of those tasks, [k, ...]. All started from the parameters that collected,
        whatever `meta` is."""
        return {name: x[tasks] for name, x in self.params.items()}
