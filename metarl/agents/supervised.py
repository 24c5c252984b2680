"""The agent that adapts a network to labelled examples by an inner rule, under any outer rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from metarl.agents.derivatives.autograd import Autograd, gradient_of
from metarl.agents.derivatives.example_loss import ExampleLoss
from metarl.agents.inner.rule import NetworkShape, RuleSettings
from metarl.agents.meta_parameters import MetaParameters
from metarl.config.settings import FewShotAgentConfig
from metarl.networks.mlp import concat_tasks, expand_to_tasks, select_tasks
from metarl.networks.supervised import network
from metarl.parallel import even_slices, in_parts, side_by_side
from metarl.types import Examples, FewShotSpec, Metrics, Params

KEPT_STEPS = 5
"""Inner steps whose intermediate results are kept together for the meta-gradient. Those of more
steps are computed again, one step at a time."""
UPDATES = "updates"
"""Name of the count of meta-updates in saved weights."""
PART = 30_000_000
"""Multiplications of one evaluation of the network that a thread works on at a time, at least: with
fewer the start of an operation takes longer than its arithmetic."""
PARTS = 16
"""Largest number of parts of the tasks."""


@dataclass(frozen=True, eq=False)
class TaskState:
    """K tasks after an inner step on each of some supports.

    The parameters are computed when they are first asked for: a meta-update learns through the
    adaptation and needs the supports alone.
    """

    agent: SupervisedAgent
    start: Params
    """Parameters before any step."""
    supports: tuple[Examples, ...] = ()
    before: TaskState | None = None

    @cached_property
    def params(self) -> Params:
        """Shared by all tasks, but [K, ...] where a step adapted them."""
        first, at = len(self.supports), self
        while at.before is not None and "params" not in vars(at):
            first, at = first - 1, at.before
        if at is self:
            return self.start
        start = vars(at).get("params", at.start)

        def one(rows: slice) -> Params:
            params = select_tasks(start, rows)
            for index, support in enumerate(self.supports[first:], first):
                params = self.agent.step(params, _tasks(support, rows), index, followed=False)
            return params

        with in_parts():
            parts = self.agent.parts(*(x.inputs for x in self.supports[first:]))
            return _joined(side_by_side(one, parts))


class SupervisedAgent(MetaParameters):
    """An inner rule and an outer one on supervised tasks: begin, predict, adapt, meta_update.

    Only `meta_update` and `load_state_dict` change the agent.
    """

    def __init__(
        self,
        spec: FewShotSpec,
        config: FewShotAgentConfig,
        rng: np.random.Generator,
        device: torch.device,
    ):
        inner = config.inner
        assert isinstance(inner, RuleSettings), inner  # the catalogue sees to it
        self.spec, self.config = spec, config
        self.network = network(spec, inner.network_outputs(spec), config.network)
        self.loss = ExampleLoss(spec, self.network)
        start = self.network.init(rng)
        shapes = {name: tuple(x.shape) for name, x in start.items()}
        self.rule = inner.build(
            NetworkShape(
                shapes, self.network.layers, self.loss.sample_dim, network=self.network, spec=spec
            )
        )
        self.inner = Autograd(self.rule, self.loss)
        own = self.rule.init(start, rng)
        meta, fixed = ({**start, **own}, {}) if self.rule.learns_start else (own, start)
        super().__init__(meta, config.outer.build(), device, fixed)
        self.updates = 0
        """Meta-updates so far; saved where the inner rule counts them."""

    @property
    def steps(self) -> int:
        """Adaptation steps in a meta-update of training, all on the same support."""
        return self.rule.steps

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters."""
        return TaskState(self, {**self.fixed, **self.meta})

    @torch.no_grad()
    @in_parts()
    def predict(self, state: TaskState, inputs: Tensor) -> Tensor:
        """Returns predictions [K, N, outputs] at inputs [K, N, *input_shape]."""
        params = state.params

        def one(rows: slice) -> Tensor:
            return self.rule.predict(self.network, select_tasks(params, rows), inputs[rows])

        return torch.cat(side_by_side(one, self.parts(inputs)))

    def parts(self, *inputs: Tensor) -> list[slice]:
        """Returns the parts of the tasks, by the shapes of their inputs alone; one on a GPU."""
        tasks, most = len(inputs[0]), max(x.shape[1] for x in inputs)
        number = tasks * most * self.network.multiplications // PART
        on_cpu = inputs[0].device.type == "cpu"
        return even_slices(tasks, min(PARTS, tasks, max(1, number)) if on_cpu else 1)

    def adapt(self, state: TaskState, support: Examples) -> TaskState:
        """Takes one inner step of every task on its own examples. Changes nothing here."""
        return TaskState(self, state.start, (*state.supports, support), state)

    @in_parts()
    def meta_update(self, state: TaskState, query: Examples, rng: np.random.Generator) -> Metrics:
        """Takes one outer step, from tasks that adapted to their supports; see `state.supports`."""
        objective = ExampleObjective(self, state.supports, query)
        self.meta, self.outer_state, metrics = self.outer.step(
            self.meta, self.outer_state, objective, rng
        )
        self.updates += not metrics["skipped"]
        return metrics

    def step(self, params: Params, support: Examples, index: int, followed: bool) -> Params:
        """Returns the parameters after step `index`; where `followed`, as a function of `params`.

        Every task takes it from a copy of its own.
        """
        examples = self.rule.minibatch(support, index)
        if not followed:
            params = {name: x.detach() for name, x in params.items()}
        own = expand_to_tasks(params, self.rule.adapted, len(examples.inputs))
        return self.inner.follow({**params, **own}, examples, index, followed)[0]

    def other_state(self) -> Params:
        return {UPDATES: torch.tensor([self.updates])} if self.rule.counts_updates else {}

    def load_other_state(self, state: Params) -> None:
        if self.rule.counts_updates:
            self.updates = int(state[UPDATES])


class ExampleObjective:
    """mean_i L_i(theta_i') on the query of task i, theta_i' = adapt(theta, support_i)."""

    def __init__(self, agent: SupervisedAgent, supports: tuple[Examples, ...], query: Examples):
        self.agent, self.supports, self.query = agent, supports, query
        self.num_tasks = len(query.inputs)
        self.weights = agent.rule.query_weights(agent.updates)
        if len(self.weights) != len(supports):  # other than in training: the last step counts
            self.weights = tuple(float(i == len(supports) - 1) for i in range(len(supports)))

    def gradient(self, meta: Params) -> tuple[Params, Tensor]:
        """Returns the meta-gradient through the adaptation, and the loss []."""
        whole = len(self.supports) <= KEPT_STEPS
        one = partial(self._gradient if whole else self._gradient_step_by_step, meta)
        parts = self.agent.parts(*(x.inputs for x in (*self.supports, self.query)))
        first, *others = found = side_by_side(one, parts)
        if not others:
            return first
        gradients, losses = zip(*found, strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in meta}
        return total, torch.stack(losses).sum()

    def _gradient(self, meta: Params, rows: slice) -> tuple[Params, Tensor]:
        """Returns the share of some tasks in both."""
        leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}
        params, losses = {**self.agent.fixed, **leaves}, []
        for index, (support, weight) in enumerate(zip(self.supports, self.weights, strict=True)):
            params = self.agent.step(params, _tasks(support, rows), index, followed=True)
            if weight:
                losses.append(weight * self._loss(params, rows))
        loss = torch.stack(losses or [self._loss(params, rows)]).sum()
        return gradient_of(loss, leaves), loss.detach()

    def _loss(self, params: Params, rows: slice) -> Tensor:
        """Returns the share of some tasks in the mean loss of the queries, [], at their own
        parameters."""
        agent, (inputs, targets) = self.agent, _tasks(self.query, rows)
        predictions = agent.rule.predict(agent.network, params, inputs)
        return agent.loss.of(predictions, targets).sum() / self.num_tasks

    def _gradient_step_by_step(self, meta: Params, rows: slice) -> tuple[Params, Tensor]:
        """Returns the same as `_gradient` by the chain rule, last step first, in the memory of one
        step.

        Each step is taken again, from the parameters that were kept before it.
        """
        at, supports = [{**self.agent.fixed, **meta}], [_tasks(x, rows) for x in self.supports]
        for index, support in enumerate(supports):
            at.append(self.agent.step(at[-1], support, index, followed=False))
        slope = {name: torch.zeros_like(x) for name, x in at[-1].items()}
        total = torch.zeros(())
        for index, support in reversed(list(enumerate(supports))):
            if weight := self.weights[index]:
                leaves = {name: x.detach().requires_grad_() for name, x in at[index + 1].items()}
                loss = weight * self._loss(leaves, rows)
                slope = {n: slope[n] + x for n, x in gradient_of(loss, leaves).items()}
                total = total.to(loss) + loss.detach()
            leaves = {name: x.detach().requires_grad_() for name, x in at[index].items()}
            after = self.agent.step(leaves, support, index, followed=True)
            along = torch.stack([(slope[name] * x).sum() for name, x in after.items()]).sum()
            slope = gradient_of(along, leaves)
        return {name: slope[name] for name in meta}, total

    def adapted(self, meta: Params, tasks: slice) -> Params:
        """Returns phi_i of those tasks, [k, ...], from `meta` by steps on the supports and as many
        on the query."""
        steps = [_tasks(x, tasks) for x in (*self.supports, *[self.query] * len(self.supports))]

        def one(rows: slice) -> Params:
            params = {**self.agent.fixed, **meta}
            for index, examples in enumerate(steps):
                params = self.agent.step(params, _tasks(examples, rows), index, followed=False)
            return {name: params[name] for name in meta}

        parts = self.agent.parts(*(x.inputs for x in steps))
        return _joined(side_by_side(one, parts))


def _tasks(examples: Examples, rows: slice) -> Examples:
    return Examples(*(x[rows] for x in examples))


def _joined(parts: list[Params]) -> Params:
    return concat_tasks(parts) if len(parts) > 1 else parts[0]
