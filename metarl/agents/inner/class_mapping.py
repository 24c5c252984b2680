"""Maps the examples of each class to that class's row of the last layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metarl.agents.inner.rule import MEMORY, RULE, InnerRule, NetworkShape, RuleInput
from metarl.errors import UserError
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.agents.inner.mapping import MappingConfig
    from metarl.equations import few_shot
    from metarl.networks import mlp
    from metarl.types import Params
else:
    torch, mlp = lazy("torch"), lazy("metarl.networks.mlp")
    few_shot = lazy("metarl.equations.few_shot")

SUMS, COUNTS = f"{MEMORY}sums", f"{MEMORY}counts"


class ClassMapping(InnerRule):
    """Adapts row c of the last layer by [W_c, b_c]' = [W_c, b_c] + [d_c, 0] + H([d_c, m]).

    e_c is the mean over class c's examples of the last layer's inputs, m the mean of e_c over the
    classes, and d_c = (e_c - m) / sqrt(n), with n numbers in each. H is an MLP whose output is zero
    before training, so the rule begins as a nearest-mean classifier by inner products. All classes
    share H: another order of the classes gives the same rows in that order, and classes that
    training has not seen are no special case (as arXiv:1804.09458, section 3.2, makes rows of
    features). The last layer's own rows are learned too, and say what no example says.
    """

    reads = frozenset({"examples"})

    def __init__(self, config: MappingConfig, network: NetworkShape):
        if network.network is None or network.spec is None or not network.spec.classes:
            raise UserError(
                "agent.inner.deltas is 'classes', and these tasks have no classes\n"
                "  take --agent.inner.deltas full, head or low-rank"
            )
        self.network, self.classes = network.network, network.spec.outputs
        last = f"layer{network.layers - 1}"
        self.weight, self.bias = self.adapted = f"{last}.weight", f"{last}.bias"
        shapes: Mapping[str, Sequence[int]] = network.shapes
        self.width = shapes[self.weight][1]
        sizes = (2 * self.width, config.hidden, self.width + 1)
        self.hyper = mlp.Mlp(sizes, "relu", "xavier", f"{RULE}hyper")

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        params = self.hyper.init(rng)
        last = f"{RULE}hyper{self.hyper.layers - 1}.weight"
        params[last] = torch.zeros_like(params[last])
        return params

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        assert given.examples is not None
        inputs, targets = given.examples
        features = self.network.features(params, inputs)
        sums, counts = few_shot.class_sums(features, targets, self.classes)
        before = None
        if index:  # the rows of fewer examples are replaced
            before = self.rows(params, params[SUMS] / params[COUNTS])
            sums, counts = params[SUMS] + sums, params[COUNTS] + counts
        rows = self.rows(params, sums / counts)
        rows = rows if before is None else rows - before
        return {
            self.weight: given.params[self.weight] + rows[..., :-1],
            self.bias: given.params[self.bias] + rows[..., -1],
            SUMS: sums,
            COUNTS: counts,
        }

    def rows(self, params: Params, means: Tensor) -> Tensor:
        """Returns what is added to each row and bias [K, classes, width + 1], from the classes'
        mean features [K, classes, width]."""
        middle = means.mean(-2, keepdim=True)
        scale = self.width**-0.5
        apart = (means - middle) * scale
        said = self.hyper(params, torch.cat([apart, middle.expand_as(means) * scale], -1))
        return said + torch.nn.functional.pad(apart, (0, 1))
