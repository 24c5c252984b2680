"""Prototypical networks: a class is the mean of its examples in a learned space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.outer.adam import AdamSteps
from metarl.agents.saved_weights import checked
from metarl.config.settings import AdamConfig, PrototypesConfig
from metarl.config.settings_few_shot import LearnerConfig
from metarl.equations.few_shot import class_sums, cross_entropy, prototype_logits
from metarl.errors import UserError
from metarl.networks.learner import network
from metarl.types import Examples, FewShotSpec, Metrics, Params


class TaskState(NamedTuple):
    """Of K tasks: the sums of each class's embeddings so far, and how many they are."""

    sums: Tensor | None = None  # [K, classes, d]
    counts: Tensor | None = None  # [K, classes, 1]


class Prototypes:
    """arXiv:1703.05175: p_c is the mean embedding of class c's support, and a query is of class c
    with probability softmax_c(-||f(x) - p_c||^2). Nothing of a task is learned but the p_c, so
    more steps on the same examples change nothing. Before the first all classes are as likely.
    """

    steps = 1

    def __init__(
        self,
        spec: FewShotSpec,
        config: LearnerConfig,
        rng: np.random.Generator,
        device: torch.device,
    ):
        assert isinstance(config.inner, PrototypesConfig)
        assert isinstance(config.outer, AdamConfig)
        if not spec.classes:
            raise UserError(
                f"agent {config.name!r} tells classes apart, and targets of {spec.name} are "
                "numbers\n  take another --agent, or tasks with classes, --env digits"
            )
        self.spec, self.config, self.device = spec, config, device
        self.network = network(spec, config.inner.embedding, config.network)
        self.meta: Params = {name: x.to(device) for name, x in self.network.init(rng).items()}
        self.outer = AdamSteps(config.outer, self.meta)

    def begin(self) -> TaskState:
        return TaskState()

    @torch.no_grad()
    def predict(self, state: TaskState, inputs: Tensor) -> Tensor:
        return self._logits(self.meta, state, inputs)

    @torch.no_grad()
    def adapt(self, state: TaskState, support: Examples) -> TaskState:
        """The examples' embeddings are added to those so far. Changes nothing here."""
        return self._after(self.meta, state, support)

    def meta_update(self, support: Examples, query: Examples) -> Metrics:
        """Adam downhill on the query's cross-entropy, by prototypes of the support."""
        leaves = {name: x.detach().requires_grad_() for name, x in self.meta.items()}
        loss = self.query_loss(leaves, support, query)
        found = torch.autograd.grad(loss, list(leaves.values()))
        gradient = dict(zip(leaves, found, strict=True))
        self.meta, metrics = self.outer.step(self.meta, gradient, loss.detach())
        return metrics

    def query_loss(self, params: Params, support: Examples, query: Examples) -> Tensor:
        """[], a mean over tasks."""
        state = self._after(params, self.begin(), support)
        return cross_entropy(self._logits(params, state, query.inputs), query.targets).mean()

    def _after(self, params: Params, state: TaskState, support: Examples) -> TaskState:
        embeddings = self.network(params, support.inputs)
        sums, counts = class_sums(embeddings, support.targets, self.spec.outputs)
        if state.sums is None or state.counts is None:
            return TaskState(sums, counts)
        return TaskState(state.sums + sums, state.counts + counts)

    def _logits(self, params: Params, state: TaskState, inputs: Tensor) -> Tensor:
        if state.sums is None or state.counts is None:
            return inputs.new_zeros(*inputs.shape[:2], self.spec.outputs)
        return prototype_logits(self.network(params, inputs), state.sums / state.counts)

    def state_dict(self) -> Params:
        return {**self.meta, **self.outer.state_dict()}

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this learner's.
        """
        copies = checked(state, self.state_dict(), self.device)
        self.meta = {name: copies[name] for name in self.meta}
        self.outer.load_state_dict(copies)
