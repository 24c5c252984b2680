"""Inner rule of Reptile on examples, and of learning from scratch: plain training of each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from metarl.agents.inner.rule import MEMORY, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count, Natural, Positive
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np

    from metarl.equations import adam
    from metarl.types import Examples, Params
else:
    np, adam = lazy("numpy"), lazy("metarl.equations.adam")

MEAN, SQUARE = f"{MEMORY}mean.", f"{MEMORY}square."


@dataclass(frozen=True)
class TrainingConfig(RuleSettings):
    """Inner rule: plain training of each task's parameters, by gradient descent or Adam."""

    family: ClassVar[str] = "training"
    agents = {"examples": RuleSettings.agents["examples"]}  # noqa: RUF012

    lr: Positive = 0.02
    steps: Count = 5
    """Steps in training: on the support, and as many on the query."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Its state begins anew with each task."""
    minibatch: Natural = 0
    """Examples in a step; 0: all there are. The same places in every task, in fixed random orders,
    so that adaptation is a function of the examples alone."""

    def build(self, network: NetworkShape) -> Training:
        return Training(self, network)


class Training(InnerRule):
    """A step of SGD or Adam on a minibatch; Adam's state is the task's memory."""

    first_order = True

    def __init__(self, config: TrainingConfig, network: NetworkShape):
        self.config, self.steps = config, config.steps
        self.adapted = tuple(network.shapes)

    def minibatch(self, examples: Examples, index: int) -> Examples:
        """Returns the examples of one step: one random order after another, equal for all tasks."""
        size, number = self.config.minibatch, examples.inputs.shape[1]
        if not size or size >= number:
            return examples
        turn, place = divmod(index * size, number)
        orders = [np.random.default_rng(n).permutation(number) for n in (turn, turn + 1)]
        rows = np.concatenate(orders)[place : place + size]
        return type(examples)(*(x[:, rows] for x in examples))

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        before, lr = given.params, self.config.lr
        if self.config.optimizer == "sgd":
            return {name: x - lr * given.gradient[name] for name, x in before.items()}
        state = adam.adam_start(before)
        if index:
            mean, square = ({n: params[part + n] for n in before} for part in (MEAN, SQUARE))
            state = adam.AdamState(state.count + index, mean, square)
        after, state = adam.adam_step(before, given.gradient, state, lr)
        memory = {MEAN: state.mean, SQUARE: state.square}
        return {**after, **{part + n: x for part, xs in memory.items() for n, x in xs.items()}}
