"""Reptile on supervised tasks, and the learner that starts from scratch: plain training of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.few_shot import loss_of
from metarl.agents.reptile import MOMENTS, check_outer, difference, towards
from metarl.agents.saved_weights import checked
from metarl.config.settings import DescentConfig, NoUpdateConfig, ReptileConfig
from metarl.config.settings_few_shot import LearnerConfig
from metarl.equations.adam import (
    AdamState,
    adam_loaded,
    adam_start,
    adam_state_dict,
    adam_step,
)
from metarl.networks.learner import network
from metarl.networks.mlp import expand_to_tasks
from metarl.types import Examples, FewShotSpec, Metrics, Params


class TaskState(NamedTuple):
    """K tasks on their way: parameters and moments shared before the first step, then [K, ...]."""

    params: Params
    moments: AdamState
    steps: int


class FewShotReptile:
    """theta <- theta + beta mean_i(phi_i - theta), arXiv:1803.02999, Algorithm 2 (batched) or 1
    (`serial`), phi_i where `config.inner.steps` steps on task i's support and as many on its query
    led. Without an outer rule theta stays as drawn: each task is learned from scratch.
    """

    def __init__(
        self,
        spec: FewShotSpec,
        config: LearnerConfig,
        rng: np.random.Generator,
        device: torch.device,
    ):
        inner, outer = config.inner, config.outer
        assert isinstance(inner, DescentConfig), inner
        assert isinstance(outer, ReptileConfig | NoUpdateConfig), outer
        if isinstance(outer, ReptileConfig):
            check_outer(outer, shared_start=False)
        self.spec, self.device, self.inner, self.outer = spec, device, inner, outer
        self.network = network(spec, spec.outputs, config.network)
        self.loss = loss_of(spec)
        self.meta: Params = {name: x.to(device) for name, x in self.network.init(rng).items()}
        self.moments = adam_start(self.meta)

    @property
    def steps(self) -> int:
        """On the support."""
        return self.inner.steps

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters, its optimizer anew."""
        return TaskState(self.meta, adam_start(self.meta), 0)

    @torch.no_grad()
    def predict(self, state: TaskState, inputs: Tensor) -> Tensor:
        return self.network(state.params, inputs)

    def adapt(self, state: TaskState, support: Examples) -> TaskState:
        """One step of every task on its own examples. Changes nothing here."""
        inputs, targets = self._minibatch(support, state.steps)
        tasks = len(inputs)
        leaves = expand_to_tasks(state.params, tuple(state.params), tasks)
        with torch.enable_grad():
            loss = self.loss(self.network(leaves, inputs), targets).sum()
        found = torch.autograd.grad(loss, list(leaves.values()))
        gradient = dict(zip(leaves, found, strict=True))
        params, moments = {n: x.detach() for n, x in leaves.items()}, state.moments
        if self.inner.optimizer == "adam":
            if not state.steps:
                zeros = {name: torch.zeros_like(x) for name, x in params.items()}
                moments = moments._replace(mean=zeros, square=zeros)
            params, moments = adam_step(params, gradient, moments, self.inner.lr)
        else:
            params = {name: x - self.inner.lr * gradient[name] for name, x in params.items()}
        return TaskState(params, moments, state.steps + 1)

    def _minibatch(self, examples: Examples, step: int) -> Examples:
        """Those of one step: one random order of the examples after another, the same for all
        tasks. The order belongs to the step, so adaptation is a pure function."""
        size, number = self.inner.minibatch, examples.inputs.shape[1]
        if not size or size >= number:
            return examples
        turn, place = divmod(step * size, number)
        orders = [np.random.default_rng(n).permutation(number) for n in (turn, turn + 1)]
        order = np.concatenate(orders)[place : place + size]
        rows = torch.from_numpy(order).to(examples.inputs.device)
        return Examples(*(x[:, rows] for x in examples))

    def learned(self, support: Examples, query: Examples) -> Params:
        """phi_i of every task, [K, ...], from the meta-parameters."""
        state = self.begin()
        for examples in (support, query):
            for _ in range(self.steps):
                state = self.adapt(state, examples)
        return state.params

    def meta_update(self, support: Examples, query: Examples) -> Metrics:
        """One outer step from all tasks, or, `serial`, one after another: each learns from where
        the one before had led."""
        if isinstance(self.outer, NoUpdateConfig):
            return {"skipped": 0.0}
        before, moments = self.meta, self.moments
        if self.outer.serial:
            for task in range(len(support.inputs)):
                own = (Examples(*(x[task : task + 1] for x in y)) for y in (support, query))
                self._towards(self.learned(*own))
        else:
            self._towards(self.learned(support, query))
        moved = difference(self.meta, before)
        distance = float(torch.stack([x.square().sum() for x in moved.values()]).sum().sqrt())
        if not np.isfinite(distance):
            self.meta, self.moments = before, moments
            return {"skipped": 1.0}
        return {"skipped": 0.0, "reptile/distance": distance}

    def _towards(self, adapted: Params) -> None:
        assert isinstance(self.outer, ReptileConfig)
        self.meta, self.moments = towards(self.meta, adapted, self.moments, self.outer)

    def state_dict(self) -> Params:
        return {**self.meta, **adam_state_dict(self.moments, MOMENTS)}

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this learner's.
        """
        copies = checked(state, self.state_dict(), self.device)
        self.meta = {name: copies[name] for name in self.meta}
        self.moments = adam_loaded(self.moments, copies, MOMENTS)
