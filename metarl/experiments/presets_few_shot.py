"""Named experiments on supervised tasks: each learner on sinusoids and on digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from metarl.agents import catalogue_few_shot as learners
from metarl.config.settings import (
    DescentConfig,
    MappingConfig,
    PrototypesConfig,
    ReptileConfig,
)
from metarl.config.settings_few_shot import (
    FewShotConfig,
    FewShotEnvConfig,
    FewShotEvaluationConfig,
    FewShotSamplingConfig,
    NetworkConfig,
)


class Setting(NamedTuple):
    """What one learner has otherwise than the others on the same tasks."""

    iterations: int | None = None
    agent: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it


SINUSOID = FewShotConfig(iterations=300)
"""Ten examples of a sinusoid, a network of two layers of 40 (arXiv:1703.03400, section 5.1)."""

SINUSOID_SETTINGS = {
    "lomaml": Setting(100),
    "meta-lstm": Setting(100),
    "gbml": Setting(150),
}

DIGITS = FewShotConfig(
    env=FewShotEnvConfig("digits", shots=5, queries=15, rotations="train"),
    sampling=FewShotSamplingConfig(tasks=16, updates=20),
    evaluation=FewShotEvaluationConfig(steps=5),
    iterations=30,
)
"""Five examples of each of five digits; the digits in testing are others. Of only five classes to
learn from, turned ones are further ones."""

BLOCKS = NetworkConfig("conv", (32, 32, 32), batch_norm=True)
"""As published for MAML's images, a block less: digits have 8 x 8 pixels."""

DIGITS_SETTINGS = {
    **{
        name: Setting(
            iterations,
            {
                "inner": replace(
                    learners.default(name).inner, lr=0.4, extra_step_scale=extra_step_scale
                ),
                "network": BLOCKS,
            },
        )
        for name, iterations, extra_step_scale in (
            ("maml", 30, 1.0),
            ("fomaml", 30, 1.0),
            ("anil", 30, 1.0),
            ("meta-sgd", 30, 0.05),
            ("lomaml", 15, 1.0),
            ("meta-lstm", 15, 1.0),
            ("gbml", 20, 1.0),
        )
    },
    "mapping": Setting(agent={"inner": MappingConfig("head"), "network": BLOCKS}),
    "from-scratch": Setting(agent={"network": BLOCKS}),
    "reptile": Setting(
        10,
        {
            "inner": DescentConfig(lr=3e-3, optimizer="adam"),
            "outer": ReptileConfig(lr=0.3),
            "network": BLOCKS,
        },
    ),
    "protonet": Setting(
        10, {"inner": PrototypesConfig(128), "network": NetworkConfig("conv", (64, 64))}
    ),
}


def _presets(
    prefix: str, base: FewShotConfig, settings: dict[str, Setting], what: str
) -> dict[str, tuple[str, FewShotConfig]]:
    found = {}
    for name in learners.names():
        if name == "protonet" and prefix == "sinusoid":
            continue
        setting = settings.get(name, Setting())
        config = replace(
            base,
            agent=replace(learners.default(name), **setting.agent),
            iterations=setting.iterations or base.iterations,
        )
        if name == "from-scratch":  # there is nothing to train
            config = replace(config, iterations=1, sampling=replace(base.sampling, updates=1))
        found[f"{prefix}-{name}"] = (f"{name} on {what}", config)
    return found


FEW_SHOT = {
    **_presets("sinusoid", SINUSOID, SINUSOID_SETTINGS, "sinusoids, ten examples of each"),
    **_presets("digits", DIGITS, DIGITS_SETTINGS, "unseen digits, five examples of each of five"),
}
"""Preset -> what it is, and its config."""
