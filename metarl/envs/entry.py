"""Rows of the catalogue of task distributions."""

from __future__ import annotations

from typing import NamedTuple

from metarl.config.settings import EvaluationConfig

PLACEHOLDERS = {"TASK": "reach-v3", "TRAIN,..|TEST,..": "push-v3,reach-v3|sweep-v3"}
"""Placeholders for variants too many to list, each with an example."""


class Entry(NamedTuple):
    module: str
    builder: str
    """Name of a function in `module`, called with (name, variant, horizon)."""
    variants: dict[str, int]
    """Default horizon of each variant; "" for a family without variants."""
    metaworld: bool = False
    """Whether `builder` also takes a MetaWorldConfig."""
    evaluation: EvaluationConfig | None = None
    """Evaluation protocol of the family, if it has one."""
    summary: str = ""

    @property
    def example(self) -> str:
        """Example of a variant if the catalogue holds a placeholder for many; else empty."""
        return PLACEHOLDERS.get(next(iter(self.variants)), "")
