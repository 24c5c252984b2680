"""Outer rule of Reptile: theta moves towards the parameters that tasks adapted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metarl.agents.outer.rule import KeepsAdam, halved
from metarl.config.ranges import NonNegative, Positive
from metarl.config.settings import AgentConfig, AnyAgentConfig, OuterSettings
from metarl.errors import UserError
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.agents.reptile import Adapted
    from metarl.agents.supervised import ExampleObjective
    from metarl.equations import adam
    from metarl.types import Metrics, Params
else:
    torch, adam = lazy("torch"), lazy("metarl.equations.adam")

ADAM_AT_MOST = 0.1
"""Larger steps of an outer Adam are refused as a forgotten setting."""


@dataclass(frozen=True)
class ReptileConfig(OuterSettings):
    """Outer rule: towards the parameters that tasks adapted to."""

    fits = ("ppo", "training")

    lr: Positive = 1.0
    """beta in theta + beta mean_i(phi_i - theta); with Adam, its step size."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    serial: bool = False
    """Towards one task after the other. Supervised tasks set out from where the one before had
    led; in reinforcement learning all learned from the same parameters, so the last weigh most."""
    lr_half_life: NonNegative = 0.0
    """Updates, with `serial` tasks, after which `lr` has halved; 0: it stays constant."""
    keep_std: bool = False
    """Leave the deviation that a new task's actions have at `policy.init_std`. PPO narrows it in
    every task, and a mean of narrowed ones leaves a new task little exploration."""

    def build(self) -> Reptile:
        return Reptile(self)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        if not self.keep_std or (isinstance(agent, AgentConfig) and agent.policy.std == "shared"):
            return {}
        policy = isinstance(agent, AgentConfig)
        reason = "the deviation is an output of the network" if policy else "it is a policy's"
        return {"agent.outer.keep_std": reason}

    def check(self, agent: AnyAgentConfig) -> None:
        if self.optimizer == "adam" and self.lr > ADAM_AT_MOST:
            raise UserError(
                f"agent.outer.lr is {self.lr:g}, and with Adam that is how far every parameter "
                "moves\n  give it Adam's own scale, --agent.outer.lr 0.001"
            )
        keeps_last = self.optimizer == "sgd" and self.serial and self.lr >= 1.0
        if keeps_last and isinstance(agent, AgentConfig):
            raise UserError(
                f"agent.outer.serial with agent.outer.lr {self.lr:g} keeps nothing of a "
                "meta-batch's tasks but the last\n  take smaller steps, --agent.outer.lr 0.1"
            )


STD = "log_std"
"""Name of a policy's parameter for the deviation of its actions (`networks.mlp.MlpPolicy`)."""


class Reptile(KeepsAdam):
    """theta <- theta + beta mean_i(phi_i - theta), arXiv:1803.02999, Algorithm 2, or with Adam
    downhill along -(mean_i phi_i - theta).

    Serial (Algorithm 1): K such steps, the i-th towards phi_i alone. On episodes beta = b then
    weighs task i by b (1 - b)^(K-i), and beta = 1 keeps the last task only.
    """

    COUNT = f"{KeepsAdam.PREFIX}count"
    """Name of the number of steps so far; without Adam only an `lr` that halves needs it."""

    def __init__(self, config: ReptileConfig):
        self.config = config
        self.left_behind = "outer." if config.optimizer == "sgd" else ""

    def step(
        self,
        meta: Params,
        state: adam.AdamState,
        objective: Adapted | ExampleObjective,
        rng: np.random.Generator,
    ) -> tuple[Params, adam.AdamState, Metrics]:
        after, adam_state, number = meta, state, objective.num_tasks
        groups = [slice(0, number)]
        if self.config.serial:
            groups = [slice(i, i + 1) for i in range(number)]
        for tasks in groups:
            goal = mean_of(objective.adapted(after, tasks))
            after, adam_state = self.towards(after, goal, adam_state)
        if self.config.keep_std:
            after = {name: meta[name] if name == STD else x for name, x in after.items()}
        moved = difference(after, meta)
        distance = float(torch.stack([x.square().sum() for x in moved.values()]).sum().sqrt())
        if not distance < float("inf"):
            return meta, state, {"skipped": 1.0}
        return after, adam_state, {"skipped": 0.0, "reptile/distance": distance}

    def towards(
        self, meta: Params, goal: Params, state: adam.AdamState
    ) -> tuple[Params, adam.AdamState]:
        """Returns the parameters after one step from `meta` towards `goal`."""
        config, uphill = self.config, difference(goal, meta)
        lr = halved(config.lr, config.lr_half_life, float(state.count))
        if config.optimizer == "adam":
            downhill = {name: -x for name, x in uphill.items()}
            return adam.adam_step(meta, downhill, state, lr)
        after = {name: x + lr * uphill[name] for name, x in meta.items()}
        return after, state._replace(count=state.count + 1.0)

    def state_dict(self, state: adam.AdamState) -> Params:
        if self.config.optimizer == "adam":
            return super().state_dict(state)
        return {self.COUNT: state.count} if self.config.lr_half_life else {}

    def load(self, state: adam.AdamState, saved: Params) -> adam.AdamState:
        if self.config.optimizer == "adam":
            return super().load(state, saved)
        return state._replace(count=saved.get(self.COUNT, state.count))


def mean_of(adapted: Params) -> Params:
    """Returns the mean over tasks of parameters [K, ...]."""
    return {name: x.mean(0) for name, x in adapted.items()}


def difference(goal: Params, start: Params) -> Params:
    """Returns goal - start, parameter by parameter."""
    return {name: goal[name] - x for name, x in start.items()}
