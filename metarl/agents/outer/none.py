"""No outer rule: controls whose meta-parameters stay as they were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metarl.agents.outer.rule import Stateless
from metarl.config.settings import OuterSettings

if TYPE_CHECKING:
    import numpy as np

    from metarl.types import Metrics, Params


@dataclass(frozen=True)
class NoUpdateConfig(OuterSettings):
    """No outer rule: the initial parameters stay."""

    fits = ("differentiable", "ppo", "training")
    derivatives = "by_hand"
    learns = False

    def build(self) -> NoUpdate:
        return NoUpdate()


class NoUpdate(Stateless):
    """Leaves everything as it is."""

    left_behind = "outer."

    def step(
        self, meta: Params, state: tuple[()], objective: Any, rng: np.random.Generator
    ) -> tuple[Params, tuple[()], Metrics]:
        return meta, state, {"skipped": 0.0}
