"""The inner loss of a policy on a task's episodes, and the samples that rules read of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl.agents.batch import Batch, CollectedBatch
from metarl.equations.dice import dice_loss
from metarl.equations.distributions import ActionDistribution
from metarl.equations.losses import score_function_loss
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec, Params


class PolicyLoss:
    """One of three losses, with the same gradient where the support was collected.

    * The score-function loss ("score").
    * The loss by importance ratio ("ratio"), ProMP's low-variance curvature estimator
      (arXiv:1810.06784, section 5). At other parameters its gradient still is theirs, and its
      Hessian lacks only how earlier actions bear on later ones.
    * The loss of DiCE ("dice"), whose Hessian lacks nothing in expectation, and is noisier. At
      other parameters it weighs an action by the ratios of all actions up to it; `dice_lambda`
      below 1 forgets the earlier ones.
    """

    always = True
    """The policy's distribution is needed even where a rule reads no gradient."""

    def __init__(self, spec: EnvSpec, policy: MlpPolicy, estimator: str, dice_lambda: float = 1.0):
        self.policy, self.estimator, self.dice_lambda = policy, estimator, dice_lambda
        self.sample_dim = spec.obs_dim + policy.noise_dim + 2

    def __call__(
        self, params: Params, support: CollectedBatch
    ) -> tuple[Tensor, ActionDistribution]:
        """Returns each task's loss [K], and the policy on the support."""
        here = self.policy(params, support.obs)
        _, actions, advantages, weights, _ = support.batch
        if self.estimator == "dice":
            log_ratios = here.log_probs(actions) - support.behaviour.log_probs(actions)
            parts = (log_ratios, advantages, weights)
            timed = [x.unflatten(-1, (support.num_steps, -1)) for x in parts]
            return dice_loss(*timed, dice_lambda=self.dice_lambda), here
        if self.estimator == "ratio":
            return -surrogate_gain(here, support.behaviour, actions, advantages, weights), here
        return score_function_loss(here, actions, advantages, weights), here

    def num_tasks(self, support: CollectedBatch) -> int:
        return len(support.obs)

    def inputs(self, support: CollectedBatch, reads: frozenset[str]) -> dict[str, Any]:
        """Returns the fields of a RuleInput that do not depend on parameters."""
        return self.sample_inputs(support.batch) if "samples" in reads else {}

    def sample_inputs(self, batch: Batch) -> dict[str, Any]:
        """Returns samples [K, N, sample_dim]: observation, action, reward, advantage; weights."""
        numbers = torch.stack([batch.rewards, batch.advantages], -1)
        parts = [batch.obs, self.policy.encoded(batch.actions).to(numbers.dtype), numbers]
        return {"samples": torch.cat(parts, -1), "weights": batch.weights}
