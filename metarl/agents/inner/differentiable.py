"""Inner rule: `Sgd`'s step through autograd, on losses that are differentiated twice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.agents.inner.sgd import Sgd
from metarl.config.settings import SgdConfig
from metarl.equations.dice import dice_loss
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.losses import score_function_loss
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.mlp import MlpPolicy, expand_to_tasks
from metarl.types import Params, Trajectories


class Round(NamedTuple):
    """A batch, who collected it and the order of its samples."""

    batch: Batch
    behaviour: ActionDistribution
    """What the actions were drawn from, [K, N, ...]."""
    num_steps: int
    """T of N = T E: time goes before episodes."""

    @classmethod
    def of(cls, batch: Batch, trajectories: Trajectories) -> Round:
        shape = trajectories.mask.shape

        def flat(x: Tensor) -> Tensor:
            return x.expand(*shape, x.shape[-1]).flatten(1, 2)

        return cls(batch, each(flat, trajectories.behaviour), shape[1])

    @property
    def obs(self) -> Tensor:
        return self.batch.obs

    def tasks(self, rows: slice) -> Round:
        """The round of some of the tasks."""
        behaviour = each(lambda x: x[rows], self.behaviour)
        return Round(self.batch.tasks(rows), behaviour, self.num_steps)


class DifferentiableSgd(Sgd):
    """One gradient step of K tasks, whose result autograd can follow to where it started.

    The loss is one of three with the same gradient where the support was collected:

    * the score-function loss, `Sgd`'s own;
    * by importance ratio (`ratio`), ProMP's low-variance curvature estimator (arXiv:1810.06784,
      section 5). At other parameters its gradient still is theirs, and its Hessian lacks only how
      earlier actions bear on later ones;
    * DiCE's, whose Hessian lacks nothing in expectation, and is noisier for it. It says what other
      parameters would collect, not what the step makes of the support at hand, so that after the
      first of several epochs it fits the data no longer.
    """

    def __init__(self, policy: MlpPolicy, config: SgdConfig, ratio: bool):
        super().__init__(policy, config)
        self.ratio = ratio

    def loss(self, here: ActionDistribution, support: Round) -> Tensor:
        """[K], of policies `here` on each task's support."""
        return policy_loss(here, support, self.config.estimator, self.ratio)

    def step(self, params: Params, support: Round, index: int) -> Params:
        """Parameters after one step from `params`, as `Sgd.step`; they are constants."""
        after, _ = self.follow({name: x.detach() for name, x in params.items()}, support, index)
        return {name: x.detach() for name, x in after.items()}

    def follow(
        self, params: Params, support: Round, index: int
    ) -> tuple[Params, ActionDistribution]:
        """The step as a function of `params`, and the policy before it on the support.

        With `first_order` the inner gradient is a constant of that function. Where no parameter
        requires a gradient, everything is.
        """
        followed = any(x.requires_grad for x in params.values())
        num_tasks = support.obs.shape[0]
        with torch.enable_grad():
            own = expand_to_tasks(params, self.moved, num_tasks)
            here = self.policy({**params, **own}, support.obs)
            gradient = torch.autograd.grad(
                self.loss(here, support).sum(),
                list(own.values()),
                retain_graph=followed,  # others go on from `here`
                create_graph=followed and not self.config.first_order,
            )
        by_name = dict(zip(own, gradient, strict=True))
        return self.descended(params, by_name, index), here


def policy_loss(here: ActionDistribution, support: Round, estimator: str, ratio: bool) -> Tensor:
    """[K], of policies `here` on each task's support: by DiCE, by importance ratio, by score."""
    _, actions, advantages, weights, _ = support.batch
    if estimator == "dice":
        timed = (support.num_steps, -1)
        log_probs = here.log_probs(actions)
        return dice_loss(*(x.unflatten(-1, timed) for x in (log_probs, advantages, weights)))
    if ratio:
        return -surrogate_gain(here, support.behaviour, actions, advantages, weights)
    return score_function_loss(here, actions, advantages, weights)
