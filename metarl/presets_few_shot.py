"""Named experiments on supervised tasks: each learner on sinusoids and on digits, and more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metarl.agents import catalogue_few_shot as learners
from metarl.config_few_shot import (
    FewShotConfig,
    FewShotEnvConfig,
    FewShotEvaluationConfig,
    FewShotSamplingConfig,
)

SINUSOID = FewShotConfig(iterations=300)
"""Ten examples of a sinusoid, a network of two layers of 40 (arXiv:1703.03400, section 5.1)."""

DIGITS = FewShotConfig(
    env=FewShotEnvConfig("digits", shots=5, queries=15),
    sampling=FewShotSamplingConfig(tasks=16, updates=20),
    evaluation=FewShotEvaluationConfig(steps=5),
    iterations=60,
)
"""Five examples of each of five digits; the digits in testing are others."""


def _of(base: FewShotConfig, name: str, **settings: Any) -> FewShotConfig:
    """`base` by a learner of the catalogue, with other `settings` of its own."""
    return replace(base, agent=replace(learners.default(name), **settings))


SETTINGS: dict[str, dict[str, Any]] = {}


def _presets(prefix: str, base: FewShotConfig, what: str) -> dict[str, tuple[str, FewShotConfig]]:
    found = {}
    for name in learners.names():
        if name == "protonet" and prefix == "sinusoid":
            continue
        key = f"{prefix}-{name}"
        config = _of(base, name, **SETTINGS.get(key, {}))
        if name == "from-scratch":
            config = replace(config, iterations=1, sampling=replace(base.sampling, updates=1))
        found[key] = (f"{name} on {what}", config)
    return found


FEW_SHOT = {
    **_presets("sinusoid", SINUSOID, "sinusoids, ten examples of each"),
    **_presets("digits", DIGITS, "digits never seen, five examples of each of five"),
}
