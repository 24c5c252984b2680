"""Normalisation of observations and rewards by running statistics.

As in Stable-Baselines3's VecNormalize and gymnasium's NormalizeObservation and NormalizeReward,
observations are centred, divided by their deviation and clipped, and rewards are divided by the
deviation of discounted returns. The differences are:

* Statistics change only between meta-iterations. Support and query are normalised by the same
  ones, so the meta-gradient has no term in them, and evaluation does not change them.
* The policy's response to an observation thus changes a little after each outer step, outside
  that step's trust region. The change shrinks as one over the number of iterations.
* The first meta-iteration has no statistics and uses raw observations and rewards.
* Pixels of an image are scaled to [0, 1] by their bounds, and stay as they are.
* Returns are the future returns at each step, which the baseline predicts, and not a sum over
  past rewards. Rewards are not clipped.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.acting.policy import Normal
from metarl.config.settings import AgentConfig, NormalisationConfig
from metarl.equations.returns import discounted_returns
from metarl.equations.running_stats import RunningStats, deviation, merge, no_stats, stats_of
from metarl.errors import UserError
from metarl.types import EnvSpec, Params, Trajectories

PREFIX = "normalisation."
"""Prefix of the statistics' names in saved weights, such as `normalisation.obs.mean`."""

Statistics = dict[str, RunningStats]
"""Statistics of `obs` [obs_dim] and `returns` [], each only if it is normalised."""


class Normaliser(NamedTuple):
    """Normalises by statistics. It is immutable: `after` returns a new one."""

    config: NormalisationConfig
    discount: float
    stats: Statistics
    pixels: int = 0
    """Numbers at the begin of an observation that stay: pixels, which are scaled to [0, 1]."""

    @classmethod
    def before_anything(cls, spec: EnvSpec, agent: AgentConfig, device: torch.device) -> Normaliser:
        """Returns a normaliser without samples, or one that does nothing if it is off."""
        config, stats = agent.normalisation, {}
        if config.observations:
            stats["obs"] = no_stats(spec.obs_dim, device=device)
        if config.rewards:
            stats["returns"] = no_stats(device=device)
        kind, pixels = cls if stats else NoNormaliser, prod(spec.image) if spec.image else 0
        return kind(config, agent.advantages.discount, stats, pixels)

    def obs(self, obs: Tensor) -> Tensor:
        """Returns observations [..., obs_dim] standardised and clipped."""
        if not self.config.observations:
            return obs
        (mean, scale), clip = self._of_obs(), self.config.clip
        normal = ((obs - mean) / scale).clamp(-clip, clip)
        return torch.where(self.stats["obs"].count > 0, normal, obs).to(obs.dtype)

    def _of_obs(self) -> tuple[Tensor, Tensor]:
        """Returns mean and deviation of observations, 0 and 1 for pixels."""
        mean, scale = self.stats["obs"].mean, deviation(self.stats["obs"])
        if self.pixels:
            still = torch.arange(len(mean), device=mean.device) < self.pixels
            mean, scale = mean.masked_fill(still, 0.0), scale.masked_fill(still, 1.0)
        return mean, scale

    def numbers(self) -> Normal | None:
        """Returns the normalisation of observations in numpy; None if there is none so far."""
        if not self.config.observations or not self.stats["obs"].count > 0:
            return None
        mean, scale = (x.cpu().numpy() for x in self._of_obs())
        return Normal(mean, scale, self.config.clip)

    def trajectories(self, raw: Trajectories) -> Trajectories:
        """Returns the episodes with observations and rewards normalised."""
        if self.config.observations:
            raw = raw._replace(obs=self.obs(raw.obs), final_obs=self.obs(raw.final_obs))
        if self.config.rewards:
            raw = raw._replace(rewards=raw.rewards / deviation(self.stats["returns"]))
        return raw

    def statistics(self, raw: Trajectories) -> Statistics:
        """Returns statistics of all valid steps of these episodes.

        Raises:
            UserError: if an observation or reward is not finite.
        """
        found: Statistics = {}
        if self.config.observations:
            found["obs"] = stats_of(raw.obs, raw.mask)
        if self.config.rewards:
            rewards = torch.where(raw.mask, raw.rewards, 0.0)
            ended = raw.terminated | raw.truncated
            returns = discounted_returns(rewards, ended, self.discount)
            found["returns"] = stats_of(returns, raw.mask)
        for name, one in found.items():
            if not one.m2.isfinite().all():
                raise UserError(
                    f"the environment gave {name} that are not finite, which would stay in the "
                    "statistics; mend it, or switch agent.normalisation off"
                )
        return found

    def after(self, *rounds: Statistics) -> Normaliser:
        """Returns a normaliser that includes the statistics of these rounds."""
        stats = self.stats
        for found in rounds:
            stats = {name: merge(stats[name], found[name]) for name in stats}
        return self._replace(stats=stats)

    def state_dict(self) -> Params:
        return {
            f"{PREFIX}{name}.{part}": x
            for name, one in self.stats.items()
            for part, x in one._asdict().items()
        }

    def loaded(self, state: Params) -> Normaliser:
        """Returns a normaliser with statistics saved by `state_dict`; `state` may hold more."""

        def read(name: str) -> RunningStats:
            return RunningStats(*(state[f"{PREFIX}{name}.{part}"] for part in RunningStats._fields))

        return self._replace(stats={name: read(name) for name in self.stats})


class NoNormaliser(Normaliser):
    """Leaves observations and rewards as they are, and needs no statistics."""

    __slots__ = ()

    def trajectories(self, raw: Trajectories) -> Trajectories:
        return raw

    def statistics(self, raw: Trajectories) -> Statistics:
        return {}

    def after(self, *rounds: Statistics) -> Normaliser:
        return self


def normalised(state: Params) -> str:
    """Returns in words which quantities saved weights hold statistics of."""
    names = {name.split(".")[1] for name in state if name.startswith(PREFIX)}
    return " and ".join(sorted(names)) or "nothing"
