"""The interface of inner rules: how the parameters of K tasks move, one step at a time.

A rule is a function of parameters and of what a step reads of the support. It knows neither where
its tasks come from (episodes or examples) nor which outer rule there is, so one file serves all.
Its settings stand beside it, with `build`, which makes the rule for a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from metarl.config.settings import InnerSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.networks.linearised import LossHessian
    from metarl.networks.supervised import Network
    from metarl.types import Examples, FewShotSpec, Params

RULE = "rule."
"""Prefix of the names of a rule's own meta-parameters. Matrices end in `weight`, all others are
vectors, as in a network."""
MEMORY = "memory."
"""Prefix of the names of a task's state between steps, [K, n, ...]. It lies beside the task's
parameters, and there is none before the first step."""


class NetworkShape(NamedTuple):
    """The network whose parameters a rule moves."""

    shapes: Mapping[str, tuple[int, ...]]
    """Parameter -> its shape without a task axis."""
    layers: int
    """Its parameters are `layer{i}.weight` and `layer{i}.bias`; the last layer is the head."""
    sample_dim: int
    """Numbers in one sample of the support, as `RuleInput.samples` has them."""
    context: int = 0
    """Context inputs: parameters that are zero when a task begins (CAVIA)."""
    network: Network | None = None
    """The network, where tasks are learned from examples; None for a policy."""
    spec: FewShotSpec | None = None

    def head(self) -> tuple[str, ...]:
        """Returns the names of the last layer's parameters.

        log_std is one of them: the last layer puts out the distribution's parameters, and log_std
        is a parameter of the distribution that has a bias alone.
        """
        last = f"layer{self.layers - 1}."
        return tuple(n for n in self.shapes if n.startswith(last) or n == "log_std")


class RuleInput(NamedTuple):
    """Everything that one step reads of K tasks, at their parameters; see `InnerRule.reads`."""

    params: Params
    """The adapted parameters, [K, ...], at which gradient and loss were taken."""
    gradient: Params
    """Gradient of each task's loss by those parameters, [K, ...]."""
    loss: Tensor | None = None  # [K]
    samples: Tensor | None = None  # [K, N, sample_dim]: inputs and targets, side by side
    weights: Tensor | None = None  # [K, N], each task's sum to one
    examples: Examples | None = None
    """The support itself, where it consists of examples."""


class LinearisedRuleStep(Protocol):
    """One step with its derivative, for products in both directions."""

    @property
    def params(self) -> Params:
        """The parameters after the step, [K, ...] where the rule adapts them."""
        ...

    def forward(self, tangent: Params) -> Params:
        """Returns the derivative times `tangent`, which is shared or [K, ...]."""
        ...

    def transposed(self, cotangent: Params) -> Params:
        """Returns the transposed derivative times `cotangent` [K, ...]."""
        ...

    def to(self, dtype: torch.dtype) -> LinearisedRuleStep:
        """Returns the same step, whose Hessian products have another precision."""
        ...


class InnerRule(ABC):
    """One step of K tasks, differentiable in everything that it reads.

    Most rules define `step`, and `init` where they learn something of their own.
    """

    adapted: tuple[str, ...] = ()
    """Names of the parameters that a step moves; no other gets a task axis by it."""
    reads: frozenset[str] = frozenset({"gradient"})
    """Fields of `RuleInput` that it needs besides `params`; others may be missing."""
    first_order = False
    """Whether gradients and losses are constants of the meta-gradient."""
    learns_start = True
    """Whether the parameters that tasks start from are learned, or stay as they were drawn."""
    steps = 1
    """Inner steps in a meta-update of training."""
    counts_updates = False
    """Whether `query_weights` changes in training, so that an agent has to keep count."""

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        """Returns the rule's own meta-parameters, beside those that tasks start from."""
        del params, rng
        return {}

    @abstractmethod
    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        """Returns what a step changes: adapted parameters [K, ...] and memory.

        Args:
            params: the network's parameters, the rule's own, and its memory; shared by all tasks
                before the first step, then [K, ...] where adapted.
            given: what this step reads of the support.
            index: number of the step; 0 is the first.
        """

    def linearise(
        self, params: Params, given: RuleInput, index: int, hessian: LossHessian | None
    ) -> LinearisedRuleStep:
        """Returns the step with its derivative in `params`, by autograd where no rule knows better.

        `hessian` is that of the loss in the adapted parameters. Without one gradient and loss are
        constants.
        """
        from metarl.agents.derivatives.linearised import AutogradStep

        return AutogradStep(self, params, given, index, hessian)

    def query_weights(self, updates: int) -> tuple[float, ...]:
        """Returns the weight of the query's loss after each step, after so many meta-updates.

        On episodes the last step alone counts: its policies collect the query.
        """
        del updates
        return (*[0.0] * (self.steps - 1), 1.0)

    def minibatch(self, examples: Examples, index: int) -> Examples:
        """Returns those examples of a support that step `index` learns from."""
        del index
        return examples

    def predict(self, network: Network, params: Params, inputs: Tensor) -> Tensor:
        """Returns predictions [K, N, outputs] at inputs [K, N, *input_shape]."""
        return network(params, inputs)

    def shortened(self, before: Params, after: Params, index: int, scale: float) -> Params:
        """Returns `after`, at `scale` of the way where step `index` is beyond those of training."""
        if index < self.steps:
            return after
        return {**after, **{n: before[n].lerp(after[n], scale) for n in self.adapted}}


@dataclass(frozen=True)
class RuleSettings(InnerSettings, ABC):
    """Base class of the settings of rules that follow the interface `InnerRule`."""

    family: ClassVar[str] = "differentiable"
    agents: ClassVar[Mapping[str, str]] = {
        "episodes": "metarl.agents.policy_gradient:PolicyGradientAgent",
        "examples": "metarl.agents.supervised:SupervisedAgent",
    }

    @abstractmethod
    def build(self, network: NetworkShape) -> InnerRule:
        """Returns the rule for that network."""

    def network_outputs(self, spec: FewShotSpec) -> int:
        """Returns how many numbers the network puts out for targets of `spec`.

        Raises:
            UserError: where the rule does not serve such tasks.
        """
        return spec.outputs
