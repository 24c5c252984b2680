"""Learners of supervised tasks that adapt by a differentiable inner rule: MAML and its kin."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.inner.descent import Descent, head_of
from metarl.agents.inner.rule import Rule, Seen
from metarl.agents.inner.rules import rule_of, shortened
from metarl.agents.outer.adam import AdamSteps
from metarl.agents.saved_weights import checked
from metarl.config.settings import LEARNED, AdamConfig, LearnedOptimizerConfig, SgdConfig
from metarl.config.settings_few_shot import LearnerConfig
from metarl.equations.few_shot import cross_entropy, mean_squared_error
from metarl.networks.learner import network
from metarl.networks.mlp import expand_to_tasks
from metarl.types import Examples, FewShotSpec, Metrics, Params

KEPT_STEPS = 5
"""Inner steps whose intermediate results are kept together for the meta-gradient. Those of more
steps are made anew, one step at a time."""


class TaskState(NamedTuple):
    """K tasks on their way from the meta-parameters to their own."""

    params: Params
    """Shared but for those that a step moved, [K, ...]."""
    steps: int
    """That they have behind them."""


class FewShotLearner:
    """An inner rule, and Adam on the loss of the query after it: begin, predict, adapt,
    meta_update. Only `meta_update` and `load_state_dict` change it."""

    def __init__(
        self,
        spec: FewShotSpec,
        config: LearnerConfig,
        rng: np.random.Generator,
        device: torch.device,
    ):
        inner, outer = config.inner, config.outer
        assert isinstance(outer, AdamConfig), outer  # what the catalogue builds this learner of
        self.spec, self.config, self.device = spec, config, device
        self.network = network(spec, spec.outputs, config.network)
        self.loss = loss_of(spec)
        start = {name: x.to(device) for name, x in self.network.init(rng).items()}
        if isinstance(inner, SgdConfig):
            names = head_of(self.network.layers) if inner.moved == "head" else tuple(start)
            self.rule: Rule | Descent = Descent(inner, names)
            own = self.rule.sized(start)
        else:
            assert isinstance(inner, LEARNED), inner
            shapes = {name: tuple(x.shape) for name, x in start.items()}
            sample_dim = prod(spec.input_shape) + spec.outputs
            self.rule = rule_of(inner, shapes, self.network.layers, sample_dim)
            own = {name: x.to(device) for name, x in self.rule.init(rng).items()}
        self.steps, self.first_order = inner.steps, getattr(inner, "first_order", False)
        fixed = isinstance(inner, LearnedOptimizerConfig) and not inner.learn_start
        self.fixed: Params = start if fixed else {}
        """What tasks start from and no update changes."""
        self.meta: Params = own if fixed else {**start, **own}
        self.outer = AdamSteps(outer, self.meta)

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters."""
        return TaskState({**self.fixed, **self.meta}, 0)

    @torch.no_grad()
    def predict(self, state: TaskState, inputs: Tensor) -> Tensor:
        return self.network(state.params, inputs)

    def adapt(self, state: TaskState, support: Examples) -> TaskState:
        """One inner step of every task on its own examples. Changes nothing here."""
        params = {name: x.detach() for name, x in state.params.items()}
        after = self.step(params, support, state.steps, False)
        if isinstance(inner := self.config.inner, LEARNED):  # others take shorter steps themselves
            after = shortened(inner, self.rule.moved, params, after, state.steps)
        return TaskState(after, state.steps + 1)

    def step(self, params: Params, support: Examples, index: int, followed: bool) -> Params:
        """Parameters after step `index` from `params`; where `followed`, as a function of them."""
        with torch.enable_grad():
            own = expand_to_tasks(params, self.rule.moved, len(support.inputs))
            seen = self._seen({**params, **own}, own, support, followed)
            after = {**params, **self.rule.move({**params, **own}, seen, index)}
        return after if followed else {name: x.detach() for name, x in after.items()}

    def _seen(self, params: Params, own: Params, support: Examples, followed: bool) -> Seen:
        inputs, targets = support
        if isinstance(self.rule, Descent):  # it has no use for samples
            samples = weights = inputs.new_zeros(0)
        else:
            samples = samples_of(support, self.spec)
            weights = inputs.new_full(samples.shape[:2], 1.0 / samples.shape[1])
        if not self.rule.gradients:
            return Seen({}, inputs.new_zeros(len(inputs)), samples, weights)
        loss = self.loss(self.network(params, inputs), targets)
        found = torch.autograd.grad(
            loss.sum(), list(own.values()), create_graph=followed and not self.first_order
        )
        gradient = dict(zip(own, found, strict=True))
        return Seen(gradient, loss.detach() if self.first_order else loss, samples, weights)

    def meta_update(self, support: Examples, query: Examples) -> Metrics:
        """Adam downhill on mean_i L_i(theta_i') of the query, through the adaptation."""
        gradient, loss = self.gradient(self.meta, support, query)
        self.meta, metrics = self.outer.step(self.meta, gradient, loss)
        return metrics

    def gradient(self, meta: Params, support: Examples, query: Examples) -> tuple[Params, Tensor]:
        """The meta-gradient, and the loss that it is of: a mean over tasks."""
        if self.steps > KEPT_STEPS:
            return self._gradient_step_by_step(meta, support, query)
        leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}
        params = {**self.fixed, **leaves}
        for index in range(self.steps):
            params = self.step(params, support, index, True)
        loss = self.loss(self.network(params, query.inputs), query.targets).mean()
        return _gradient(loss, leaves), loss.detach()

    def _gradient_step_by_step(
        self, meta: Params, support: Examples, query: Examples
    ) -> tuple[Params, Tensor]:
        """The same by the chain rule, last step first, in the memory of one step: it is taken
        again, from the parameters that were kept before it."""
        at = [{**self.fixed, **meta}]
        for index in range(self.steps):
            at.append(self.step(at[-1], support, index, False))
        leaves = {name: x.detach().requires_grad_() for name, x in at.pop().items()}
        loss = self.loss(self.network(leaves, query.inputs), query.targets).mean()
        slope = _gradient(loss, leaves)
        for index in reversed(range(self.steps)):
            leaves = {name: x.detach().requires_grad_() for name, x in at[index].items()}
            after = self.step(leaves, support, index, True)
            along = torch.stack([(slope[name] * x).sum() for name, x in after.items()]).sum()
            slope = _gradient(along, leaves)
        return {name: slope[name] for name in meta}, loss.detach()

    def state_dict(self) -> Params:
        return {**self.fixed, **self.meta, **self.outer.state_dict()}

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this learner's.
        """
        copies = checked(state, self.state_dict(), self.device)
        self.fixed = {name: copies[name] for name in self.fixed}
        self.meta = {name: copies[name] for name in self.meta}
        self.outer.load_state_dict(copies)


def loss_of(spec: FewShotSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """Of predictions and targets, [K]."""
    return cross_entropy if spec.classes else mean_squared_error


def samples_of(examples: Examples, spec: FewShotSpec) -> Tensor:
    """Inputs and targets side by side, [K, N, ...]; classes are one-hot."""
    inputs, targets = examples
    if spec.classes:
        targets = torch.nn.functional.one_hot(targets, spec.outputs)
    return torch.cat([inputs.flatten(2), targets.to(inputs.dtype)], -1)


def _gradient(of: Tensor, leaves: Params) -> Params:
    found = torch.autograd.grad(of, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found, strict=True))
