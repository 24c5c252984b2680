"""metarl: agents that learn to adapt, over distributions of tasks.

The public names, each loaded when it is first used: importing metarl imports neither torch nor
a simulator.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

# Torch's threads that wait for work otherwise spin for milliseconds; where another process wants
# the core, every small operation then waits for the scheduler. With OMP_DYNAMIC torch computes
# wrong batched products of bfloat16. Both are read when torch is imported; workers inherit them.
if "torch" not in sys.modules:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ["OMP_DYNAMIC"] = "FALSE"

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metarl.callbacks.callback import Callback, Start
    from metarl.callbacks.early_stopping import EarlyStopping
    from metarl.callbacks.tensorboard import TensorBoard
    from metarl.callbacks.wandb import WandB
    from metarl.checking.agents import check_agent
    from metarl.comparison.comparing import Comparison, compare
    from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
    from metarl.config.settings import (
        AgentConfig,
        Config,
        EnvConfig,
        FewShotConfig,
        FewShotEnvConfig,
    )
    from metarl.deployment.adapted import AdaptedPolicy
    from metarl.deployment.agent import LoadedAgent
    from metarl.deployment.learner import AdaptedLearner, LoadedLearner
    from metarl.deployment.loading import load
    from metarl.deployment.policy import Policy
    from metarl.deployment.recorded import Episode
    from metarl.deployment.saved import load_policy
    from metarl.envs.gym.minigrid import minigrid_cells
    from metarl.envs.gym.parameters import Choice, Constant, LogUniform, Normal, Uniform
    from metarl.envs.gym.tasks import gym_tasks
    from metarl.envs.supervised.arrays import episodes_from_arrays
    from metarl.errors import DivergedError, EnvFaultError, UserError, WorkersFailedError
    from metarl.experiments.assembly import load_config
    from metarl.experiments.presets import PRESETS, preset
    from metarl.library import evaluate, meta_train, results
    from metarl.runs.results import Results
    from metarl.types import (
        BatchedEnv,
        EnvSpec,
        Examples,
        FewShotSpec,
        FewShotTasks,
        Params,
        Progress,
        StepResult,
        Task,
        TaskDistribution,
        Trajectories,
        Workers,
    )

_HOMES = {
    "metarl.callbacks.callback": ("Callback", "Start"),
    "metarl.callbacks.early_stopping": ("EarlyStopping",),
    "metarl.callbacks.tensorboard": ("TensorBoard",),
    "metarl.callbacks.wandb": ("WandB",),
    "metarl.checking.agents": ("check_agent",),
    "metarl.comparison.comparing": ("Comparison", "compare"),
    "metarl.config.options": ("EvaluateFewShotOptions", "EvaluateOptions"),
    "metarl.config.settings": (
        "AgentConfig",
        "Config",
        "EnvConfig",
        "FewShotConfig",
        "FewShotEnvConfig",
    ),
    "metarl.deployment.adapted": ("AdaptedPolicy",),
    "metarl.deployment.agent": ("LoadedAgent",),
    "metarl.deployment.learner": ("AdaptedLearner", "LoadedLearner"),
    "metarl.deployment.loading": ("load",),
    "metarl.deployment.policy": ("Policy",),
    "metarl.deployment.recorded": ("Episode",),
    "metarl.deployment.saved": ("load_policy",),
    "metarl.envs.gym.minigrid": ("minigrid_cells",),
    "metarl.envs.gym.parameters": ("Choice", "Constant", "LogUniform", "Normal", "Uniform"),
    "metarl.envs.gym.tasks": ("gym_tasks",),
    "metarl.envs.supervised.arrays": ("episodes_from_arrays",),
    "metarl.errors": ("DivergedError", "EnvFaultError", "UserError", "WorkersFailedError"),
    "metarl.experiments.assembly": ("load_config",),
    "metarl.experiments.presets": ("PRESETS", "preset"),
    "metarl.library": ("evaluate", "meta_train", "results"),
    "metarl.runs.results": ("Results",),
    "metarl.types": (
        "BatchedEnv",
        "EnvSpec",
        "Examples",
        "FewShotSpec",
        "FewShotTasks",
        "Params",
        "Progress",
        "StepResult",
        "Task",
        "TaskDistribution",
        "Trajectories",
        "Workers",
    ),
}


__all__ = ["__version__", *(name for names in _HOMES.values() for name in names)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'metarl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
