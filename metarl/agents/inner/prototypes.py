"""Inner rule of prototypical networks: a class is the mean of its examples' embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl.agents.inner.rule import MEMORY, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count
from metarl.errors import UserError
from metarl.lazy import lazy

if TYPE_CHECKING:
    from torch import Tensor

    from metarl.equations import few_shot
    from metarl.networks.supervised import Network
    from metarl.types import FewShotSpec, Params
else:
    few_shot = lazy("metarl.equations.few_shot")

SUMS, COUNTS = f"{MEMORY}sums", f"{MEMORY}counts"


@dataclass(frozen=True)
class PrototypesConfig(RuleSettings):
    """Inner rule: a class is the mean of its examples' embeddings (prototypical networks)."""

    agents = {"examples": RuleSettings.agents["examples"]}  # noqa: RUF012

    embedding: Count = 64

    def build(self, network: NetworkShape) -> Prototypes:
        return Prototypes(network)

    def network_outputs(self, spec: FewShotSpec) -> int:
        if not spec.classes:
            raise UserError(
                f"prototypes tell classes apart, and targets of {spec.name} are numbers\n"
                "  take another --agent, or tasks with classes, --env digits"
            )
        return self.embedding


class Prototypes(InnerRule):
    """arXiv:1703.05175: p_c is the mean embedding of class c's support, and a query is of class c
    with probability softmax_c(-||f(x) - p_c||^2). Of a task nothing is learned but the p_c, so
    more steps on the same examples change nothing. Before the first all classes are as likely.
    """

    reads = frozenset({"examples"})

    def __init__(self, network: NetworkShape):
        assert network.network is not None
        assert network.spec is not None
        self.network: Network = network.network
        self.spec: FewShotSpec = network.spec

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        """Returns the sums of each class's embeddings so far [K, classes, d], and their number."""
        assert given.examples is not None
        inputs, targets = given.examples
        sums, counts = few_shot.class_sums(self.network(params, inputs), targets, self.spec.outputs)
        if not index:
            return {SUMS: sums, COUNTS: counts}
        return {SUMS: params[SUMS] + sums, COUNTS: params[COUNTS] + counts}

    def predict(self, network: Network, params: Params, inputs: Tensor) -> Tensor:
        """Returns logits [K, N, classes] at inputs [K, N, *input_shape]."""
        if SUMS not in params:
            return inputs.new_zeros(*inputs.shape[:2], self.spec.outputs)
        prototypes = params[SUMS] / params[COUNTS]
        return few_shot.prototype_logits(network(params, inputs), prototypes)
