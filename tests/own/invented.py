"""Episodes without an environment, for agents that learn from them."""

from __future__ import annotations

from typing import Any

import torch

from metarl.equations.distributions import each
from metarl.types import Trajectories


def played(
    agent: Any, state: Any, seed: int, tasks: int = 5, steps: int = 12, episodes: int = 4
) -> Trajectories:
    """Returns episodes of a task-dependent reward under the state's policy, some cut short."""
    generator, shape = torch.Generator().manual_seed(seed), (tasks, steps, episodes)

    def normal(width: int):
        return torch.randn(*shape, width, generator=generator).to(agent.device)

    obs, noise = normal(agent.spec.obs_dim), normal(agent.noise[1])
    actions, behaviour = agent.act(state, obs.flatten(1, 2), noise.flatten(1, 2))
    behaviour = each(lambda x: x.expand(*actions.shape[:2], -1).unflatten(1, shape[1:]), behaviour)
    actions = actions.unflatten(1, shape[1:])
    goals = torch.linspace(-1, 1, tasks, device=agent.device).view(tasks, 1, 1)
    lengths = torch.randint(
        max(1, steps // 2), steps + 1, (tasks, 1, episodes), generator=generator
    )
    lengths, time = lengths.to(agent.device), torch.arange(steps, device=agent.device)[:, None]
    mask, last, full = time < lengths, time == lengths - 1, lengths == steps
    rewards = -(actions[..., 0].float() - goals).abs() * mask
    nothing = torch.zeros(tasks, episodes, dtype=torch.int32, device=agent.device)
    ends = last & ~full, last & full
    return Trajectories(obs, actions, rewards, *ends, mask, obs[:, -1], nothing, behaviour)
