"""Policies that an agent adapted to tasks, with what they were adapted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space

from metarl.acting.policy import Ready
from metarl.acting.units import Units
from metarl.deployment.policy import Interface, Policy
from metarl.errors import UserError
from metarl.sampling.collect import returns_of
from metarl.sampling.sampler import acts_in_numpy
from metarl.text import shown
from metarl.types import Trajectories


@dataclass(frozen=True)
class Adaptation:
    """K tasks after adaptation."""

    agent: Any
    device: torch.device
    state: Any
    supports: list[Trajectories]
    spaces: tuple[Space, Space]
    told: list[np.ndarray]
    """Numbers of each task that follow its observations."""
    facts: dict[str, Any]
    seed: int

    @property
    def tasks(self) -> int:
        return len(self.told)


class AdaptedPolicy(Policy):
    """A policy that an agent adapted to one task."""

    def __init__(self, adapted: Adaptation, task: int):
        """`task` is the index of the task among those that were adapted together."""
        interface = Interface(*adapted.spaces, adapted.agent.noise, adapted.told[task])
        acting = acting_of(adapted, task)
        super().__init__(acting, interface, adapted.facts, adapted.seed)
        self.support_returns = tuple(tuple(returns_of(x)[task].tolist()) for x in adapted.supports)
        """Undiscounted return of each episode that was learned from: a tuple for each step."""
        self._adapted, self._task = adapted, task

    def to_sb3(self, env: Any, **settings: Any) -> Any:
        """Returns the policy as a Stable-Baselines3 PPO that can learn on in `env`.

        Args:
            env: an environment, or a VecEnv, with the spaces of the run.
            settings: further arguments of PPO, such as `n_steps`.

        Raises:
            UserError: for an agent without an MLP policy, such as RL2, and for other spaces.
        """
        from metarl.agents.meta_parameters import MlpAgent
        from metarl.agents.sb3_export import export

        agent, name = self._adapted.agent, self.facts["agent"]
        if not hasattr(env, "observation_space") or not hasattr(env, "action_space"):
            raise UserError(
                f"to_sb3 was given {shown(env)}; give an environment with the run's spaces, such "
                "as gymnasium.make(ID)"
            )
        if not isinstance(agent, MlpAgent):
            raise UserError(
                f"{name} has no MLP policy that Stable-Baselines3 could hold\n"
                "export an agent that adapts by gradient steps or by Reptile's PPO, or save it by "
                "adapted.save(path)"
            )
        if len(self.interface.told):
            raise UserError(
                f"{name} observes the numbers of its task, which no environment gives\n"
                "save it by adapted.save(path), or export an agent that adapts, such as maml-trpo"
            )
        return export(agent, self._adapted.state, self._task, env, settings)


def acting_of(adapted: Adaptation, task: int) -> Any:
    """Returns the policy of one of K tasks, in numpy where the agent has one."""
    agent, state = adapted.agent, adapted.state
    if acts_in_numpy(agent):
        return agent.acting(state).of(Units.all(adapted.tasks, 1).part(task, task + 1))
    return OwnActing(agent, adapted.device, state, adapted.tasks, task)


@dataclass(frozen=True)
class OwnActing:
    """Policy of an agent of a user's own, which torch evaluates; implements Acting."""

    agent: Any
    device: torch.device
    state: Any
    num_tasks: int
    task: int
    output_dim = 0

    def of(self, units: Units) -> OwnActing:
        return self

    def ready(self, units: Units) -> Ready:
        """Returns the policy at the begin of an episode of its task; the other tasks see zeros."""
        actor, device = self.agent.actor(self.state, slice(0, 1)), self.device

        @torch.no_grad()
        def act(
            obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            def of_all(x: np.ndarray) -> torch.Tensor:
                whole = np.zeros((self.num_tasks, *x.shape[1:]), np.float32)
                whole[self.task] = x[0]
                return torch.from_numpy(whole).to(device)

            first, paid = not begun, of_all(rewards)
            begun.append(True)
            actions, distribution = actor(of_all(obs), None if first else paid, of_all(noise))
            outputs = next(iter(distribution))
            own = slice(self.task, self.task + 1)
            shape = (self.num_tasks, 1, outputs.shape[-1])
            return actions[own].cpu().numpy(), outputs.expand(shape)[own].cpu().numpy()

        begun: list[bool] = []
        return act
