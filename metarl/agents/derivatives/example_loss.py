"""The loss of supervised tasks, as inner steps read it."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from metarl.equations.few_shot import cross_entropy, mean_squared_error
from metarl.networks.supervised import Network
from metarl.types import Examples, FewShotSpec, Params


class ExampleLoss:
    """Mean-squared error of numbers, cross-entropy of classes."""

    always = False
    """The predictions are not needed where a rule reads no gradient."""

    def __init__(self, spec: FewShotSpec, network: Network):
        self.spec, self.network = spec, network
        self.of = cross_entropy if spec.classes else mean_squared_error
        self.sample_dim = prod(spec.input_shape) + spec.outputs

    def __call__(self, params: Params, support: Examples) -> tuple[Tensor, Tensor]:
        """Returns each task's loss [K], and the predictions."""
        predictions = self.network(params, support.inputs)
        return self.of(predictions, support.targets), predictions

    def num_tasks(self, support: Examples) -> int:
        return len(support.inputs)

    def inputs(self, support: Examples, reads: frozenset[str]) -> dict[str, Any]:
        """Returns the fields of a RuleInput that do not depend on parameters.

        Samples are inputs and targets side by side, [K, N, sample_dim]; classes are one-hot.
        """
        found: dict[str, Any] = {"examples": support} if "examples" in reads else {}
        if "samples" in reads:
            inputs, targets = support
            if self.spec.classes:
                targets = torch.nn.functional.one_hot(targets, self.spec.outputs)
            samples = torch.cat([inputs.flatten(2), targets.to(inputs.dtype)], -1)
            found["samples"] = samples
            found["weights"] = samples.new_full(samples.shape[:2], 1.0 / samples.shape[1])
        return found
