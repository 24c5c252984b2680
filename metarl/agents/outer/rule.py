"""The interface of outer rules: how the meta-parameters move after a meta-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from metarl.lazy import lazy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from metarl.equations import adam
    from metarl.types import Metrics, Params
else:
    adam = lazy("metarl.equations.adam")


class OuterRule(Protocol):
    """A pure step of meta-parameters; the agent keeps the state between steps.

    What the rule asks of `objective` depends on the rule: `MetaBatch` and `ExampleObjective` give
    gradients, Reptile's gives the adapted parameters, RL2's the steps of trials.
    """

    left_behind: str
    """Prefix of the names of a state that older runs saved and nothing used; empty: none."""

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        """Returns what a user should know of the rule on this device; `sizes` are those of an MLP's
        layers."""
        ...

    def init(self, meta: Params) -> Any:
        """Returns the state before the first step: an optimizer's, or nothing."""
        ...

    def step(
        self, meta: Params, state: Any, objective: Any, rng: np.random.Generator
    ) -> tuple[Params, Any, Metrics]:
        """Returns new meta-parameters, the new state, and metrics.

        Where a loss, gradient or KL on the way is not finite, parameters and state are the old
        ones and the metric `skipped` is 1.
        """
        ...

    def state_dict(self, state: Any) -> Params:
        """Returns the state as named tensors, for saved weights."""
        ...

    def load(self, state: Any, saved: Params) -> Any:
        """Returns the saved state; `saved` may hold other tensors, `state` gives the names."""
        ...


def halved(weight: float, half_life: float, updates: float) -> float:
    """Returns a weight after so many updates, halved every `half_life` of them; 0: it stays.

    Rules count updates in their saved state, so that a resumed run has the same weight, however
    many iterations are asked for.
    """
    return weight * 0.5 ** (updates / half_life) if half_life else weight


class Stateless:
    """Outer rules that keep nothing between steps."""

    left_behind = ""

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        return ()

    def init(self, meta: Params) -> tuple[()]:
        return ()

    def state_dict(self, state: tuple[()]) -> Params:
        return {}

    def load(self, state: tuple[()], saved: Params) -> tuple[()]:
        return ()


class KeepsAdam:
    """Outer rules whose state is that of Adam, saved under names that begin with `PREFIX`."""

    PREFIX = "outer."
    left_behind = ""

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        return ()

    def init(self, meta: Params) -> adam.AdamState:
        return adam.adam_start(meta)

    def state_dict(self, state: adam.AdamState) -> Params:
        return adam.adam_state_dict(state, self.PREFIX)

    def load(self, state: adam.AdamState, saved: Params) -> adam.AdamState:
        return adam.adam_loaded(state, saved, self.PREFIX)
