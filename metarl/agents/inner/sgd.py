"""Inner rule: gradient descent, theta' = theta - alpha g. MAML, ANIL, CAVIA and Meta-SGD use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from metarl.agents.inner.rule import InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Natural, Positive, UnitInterval
from metarl.config.settings import AgentConfig, AnyAgentConfig
from metarl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.networks.linearised import LossHessian
    from metarl.types import Params

SIZE = "lr."
"""Prefix of the names of learned step sizes, before the name of the parameter they are for."""


@dataclass(frozen=True)
class SgdConfig(RuleSettings):
    """Inner rule: gradient steps on each task's loss (on episodes the score-function loss)."""

    examples_help: ClassVar[Mapping[str, str]] = {
        "": "Inner rule: gradient steps on each task's loss.",
        "steps": "Inner steps in training.",
        "adapted": "Parameters that inner steps move: all, or those of the last layer (ANIL).",
        "extra_step_scale": "At evaluation, steps beyond `steps` use `lr` times this.",
    }

    lr: Positive = 0.1
    """Step size."""
    steps: Natural = 1
    """Inner steps in training; 0 is joint training."""
    first_order: bool = False
    """Ignore how the inner gradient depends on the meta-parameters (FOMAML)."""
    adapted: Literal["all", "head", "context"] = "all"
    """Parameters that inner steps move: all, those of the last layer (ANIL), or the context
    inputs of the policy (CAVIA)."""
    learn_lr: bool = False
    """Meta-learn a step size for every parameter, `lr` at first (Meta-SGD)."""
    estimator: Literal["score", "dice"] = "score"
    """Estimator of a policy's inner loss: `dice` has correct derivatives of any order (DiCE)."""
    dice_lambda: UnitInterval = 1.0
    """Factor on the log-ratio of an earlier action, for each step since then: 1 is DiCE, 0 the loss
    of ProMP. Smaller factors have less variance and more bias (Loaded DiCE)."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` use `lr` times this (published: 0.5, Ant's 0.01)."""

    @property
    def learns_lr(self) -> bool:
        return self.learn_lr

    def build(self, network: NetworkShape) -> Sgd:
        return (MetaSgd if self.learn_lr else Sgd)(self, network)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        dice, context = self.estimator == "dice", self.adapted == "context"
        if not isinstance(agent, AgentConfig):
            ways = [
                ("estimator", dice, "it is for policies; a loss has its own derivatives"),
                ("adapted", context, "a supervised network has no context inputs"),
                ("steps", not self.steps, "it adapts, or it is no meta-learner"),
            ]
        elif self.steps and agent.outer.learns:
            reason = "without its second order DiCE is the score function"
            ways = [("first_order", self.first_order and dice, reason)]
        else:
            unlearned = "nothing is learned through an inner step"
            unused = dice and agent.outer.derivatives == "autograd"
            ways = [
                ("first_order", self.first_order, unlearned),
                ("learn_lr", self.learn_lr, unlearned),
                ("estimator", unused, "it does not adapt in training"),
            ]
        ways.append(("dice_lambda", self.dice_lambda != 1.0 and not dice, "it is DiCE's"))
        return {f"agent.inner.{key}": reason for key, asked, reason in ways if asked}

    def check(self, agent: AnyAgentConfig) -> None:
        context = agent.policy.context if isinstance(agent, AgentConfig) else 0
        if self.estimator == "dice" and agent.outer.derivatives == "by_hand":
            raise UserError(
                f"agent {agent.name!r} differentiates its inner loss by hand, which "
                "agent.inner.estimator 'dice' has no form for\n"
                "  take PPO outside, --agent dice-maml, or --agent.inner.estimator score"
            )
        if self.estimator == "dice" and agent.outer.importance_weighted():
            raise UserError(
                f"agent {agent.name!r} has two inner losses at once\n"
                "  choose agent.inner.estimator: dice, or agent.outer.inner_ratio: true"
            )
        if (self.adapted == "context") != (context > 0):
            raise UserError(
                f"agent.inner.adapted is {self.adapted!r}, and agent.policy.context is {context}: "
                "context inputs are adapted alone, or there are none\n  give both, "
                "--agent.inner.adapted context --agent.policy.context 10, or neither"
            )
        if not self.steps and (self.learn_lr or self.adapted == "context"):
            key = "learn_lr" if self.learn_lr else "adapted"
            raise UserError(
                f"agent.inner.{key} is {getattr(self, key)!r}, and agent.inner.steps is 0: it is "
                "learned through inner steps of training\n  take one, --agent.inner.steps 1"
            )


class Sgd(InnerRule):
    """theta_i' = theta - alpha grad L_i(theta) for K tasks at once (arXiv:1703.03400, section 2.2).

    alpha is `lr` for parameters that are adapted, 0 elsewhere. The last layer alone is ANIL
    (arXiv:1909.09157). The context alone, which starts at zero in every task and has no
    meta-parameter, is CAVIA (arXiv:1810.03642).
    """

    def __init__(self, config: SgdConfig, network: NetworkShape):
        self.config, self.steps = config, config.steps
        self.first_order, self.context = config.first_order, network.context
        groups = {"all": tuple(network.shapes), "head": network.head(), "context": ("context",)}
        self.adapted = groups[config.adapted]
        self.lr = config.lr

    def rate(self, index: int) -> float:
        """Returns the number in alpha = rate D of step `index`."""
        return self.lr * (1.0 if index < max(1, self.steps) else self.config.extra_step_scale)

    def sized(self, params: Params, x: Params) -> Params:
        """Returns D x of the adapted parameters, for which D is 1."""
        return {name: x[name] for name in self.adapted}

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        return descend(params, self.sized(params, given.gradient), self.rate(index))

    def linearise(
        self, params: Params, given: RuleInput, index: int, hessian: LossHessian | None
    ) -> LinearisedSgd:
        after = {**params, **self.step(params, given, index)}
        return LinearisedSgd(after, self, params, given.gradient, self.rate(index), hessian)


class MetaSgd(Sgd):
    """Sgd whose alpha has a meta-learned entry for each parameter, of any sign: Meta-SGD
    (arXiv:1707.09835)."""

    def __init__(self, config: SgdConfig, network: NetworkShape):
        super().__init__(config, network)
        self.lr = 1.0

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        """Returns the step sizes."""
        like = {**params, "context": params["layer0.weight"].new_zeros(self.context)}
        return {SIZE + n: like[n].new_full(like[n].shape, self.config.lr) for n in self.adapted}

    def sized(self, params: Params, x: Params) -> Params:
        """Returns D x of the adapted parameters, D from `params`."""
        return {name: x[name] * params[SIZE + name] for name in self.adapted}

    def linearise(
        self, params: Params, given: RuleInput, index: int, hessian: LossHessian | None
    ) -> LinearisedMetaSgd:
        return LinearisedMetaSgd(*super().linearise(params, given, index, hessian))


def descend(params: Params, direction: Params, lr: float) -> Params:
    """Returns params - lr direction of the parameters that have a direction, [K, ...]."""
    return {name: params[name].sub(x, alpha=lr) for name, x in direction.items()}


class LinearisedSgd(NamedTuple):
    """theta' = theta - rate D g(theta), and its derivative in theta.

    That is I - rate D H. H is symmetric, so one product serves both directions. Without it (first
    order) the derivative is the identity.
    """

    params: Params
    """Parameters after the step."""
    rule: Sgd
    before: Params
    gradient: Params
    rate: float
    hessian: LossHessian | None

    def forward(self, tangent: Params) -> Params:
        """Returns the derivative times `tangent`, shared or [K, ...]."""
        if self.hessian is None:
            return tangent
        moved = self.rule.sized(self.before, self.hessian(tangent))
        return {**tangent, **descend(tangent, moved, self.rate)}

    def transposed(self, cotangent: Params) -> Params:
        """Returns the transposed derivative times `cotangent` [K, ...]."""
        if self.hessian is None:
            return cotangent
        moved = self.rule.sized(self.before, cotangent)
        still = {n: x.new_zeros(x.shape) for n, x in cotangent.items() if n not in moved}
        return {**cotangent, **descend(cotangent, self.hessian({**still, **moved}), self.rate)}

    def to(self, dtype: torch.dtype) -> LinearisedSgd:
        return self if self.hessian is None else self._replace(hessian=self.hessian.to(dtype))


class LinearisedMetaSgd(LinearisedSgd):
    """A step with learned sizes D: also the derivative in D, -rate g, which leaves D as it is.

    To first order a context depends on its step size alone.
    """

    __slots__ = ()

    def forward(self, tangent: Params) -> Params:
        after = super().forward(tangent)
        return {**after, **descend(after, self.rule.sized(tangent, self.gradient), self.rate)}

    def transposed(self, cotangent: Params) -> Params:
        """Returns the transposed derivative times `cotangent` [K, ...].

        The cotangent of D is missing behind the last step, where it is zero.
        """
        by_size = {
            SIZE + name: cotangent.get(SIZE + name, 0.0)
            - self.rate * self.gradient[name] * cotangent[name]
            for name in self.rule.adapted
        }
        return {**super().transposed(cotangent), **by_size}
