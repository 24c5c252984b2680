"""Defaults that follow from the rest: the folder of a run, the options of an evaluation."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

from metarl.config.options import DataPlace, EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig, FewShotConfig

MAX_NAME = 80
"""Characters of a folder that is named after an experiment."""


def run_folder(label: str, agent: str | None, env: str | None) -> str:
    """Returns a folder's name of parts that may be long, as lists of classes are."""
    label = "_".join(part for part in (label, agent, env) if part)
    name = re.sub(r"[^\w.-]", "-", label)
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return str(Path("runs", name))


def evaluation_options(
    run_dir: Path, config: AnyConfig
) -> EvaluateOptions | EvaluateFewShotOptions:
    """Returns the options of a run's evaluation as the run's own config has them."""
    machine = {"device": config.device, "threads": config.threads}
    common = {"run_dir": run_dir, **machine, **asdict(config.evaluation)}
    if isinstance(config, FewShotConfig):
        return EvaluateFewShotOptions(env=DataPlace(path=config.env.path), **common)
    playing = {name: getattr(config, name) for name in ("workers", "worker_timeout", "act_on")}
    return EvaluateOptions(**playing, **common)
