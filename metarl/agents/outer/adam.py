"""Outer rule: Adam on a meta-gradient."""

from __future__ import annotations

from torch import Tensor

from metarl.config.settings import AdamConfig
from metarl.equations.adam import adam_loaded, adam_start, adam_state_dict, adam_step, clip_norm
from metarl.types import Metrics, Params

MOMENTS = "outer."
"""What the names of its state begin with, beside those of parameters."""


class AdamSteps:
    """Keeps Adam's moments, and leaves everything as it is where a gradient is not finite."""

    def __init__(self, config: AdamConfig, meta: Params):
        self.config, self.moments = config, adam_start(meta)

    def step(self, meta: Params, gradient: Params, loss: Tensor) -> tuple[Params, Metrics]:
        """New meta-parameters; the old ones, and `skipped` 1, where there is no finite way."""
        gradient, norm = clip_norm(gradient, self.config.max_grad_norm)
        if not (norm + loss).isfinite():
            return meta, {"skipped": 1.0}
        meta, self.moments = adam_step(meta, gradient, self.moments, self.config.lr)
        return meta, {"skipped": 0.0, "gradient_norm": float(norm)}

    def state_dict(self) -> Params:
        return adam_state_dict(self.moments, MOMENTS)

    def load_state_dict(self, state: Params) -> None:
        """`state` may hold more."""
        self.moments = adam_loaded(self.moments, state, MOMENTS)
