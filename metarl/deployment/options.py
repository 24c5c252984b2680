"""Options of `metarl export`; imports neither torch nor a simulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metarl.config.ranges import Count, Natural
from metarl.config.settings import Device


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `metarl export`."""

    run_dir: Path
    """Folder of the run whose meta-parameters adapt."""
    out: str = ""
    """New folder of the policy; with `--format sb3`, new file, such as policy.zip."""
    task: str = ""
    """Task of the run's distribution, such as goal=0.3,-0.2; with `--env`, what is known of its
    task, for an agent that observes that."""
    episodes: Count | Literal["auto"] = "auto"
    """Episodes that each adaptation step learns from; `auto`: as many as in training."""
    steps: Count | Literal["auto"] = "auto"
    """Adaptation steps; `auto`: as many as in training."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Saved weights to use: the newest, or those with the best result in training."""
    format: Literal["policy", "sb3"] = "policy"
    """`policy` is metarl's own, for metarl.load_policy; `sb3` a model of Stable-Baselines3's PPO,
    for PPO.load."""
    seed: Natural = 1
    """Seed of all randomness."""
    device: Device = "auto"
