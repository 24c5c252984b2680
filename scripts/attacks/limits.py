"""Attack: settings that no machine can serve, and limits of the operating system."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

from attacks.children import call, in_lanes
from attacks.configs import judged
from attacks.result import Effort, Result, counted
from attacks.runs import train

HUGE = {
    "point-goal": (
        "env.horizon", "sampling.tasks", "sampling.episodes", "agent.policy.hidden",
        "agent.policy.context", "evaluation.tasks", "workers", "threads", "worker-timeout", "seed",
        "iterations", "task-batch", "agent.inner.steps", "checkpoint-every", "actors",
    ),
    "bandit-5x10-rl2": ("env.horizon", "sampling.tasks", "agent.inner.size", "agent.outer.chunk"),
    "point-goal-reptile-ppo": ("agent.inner.epochs", "agent.inner.minibatches", "env.horizon"),
    "sinusoid-maml": ("env.shots", "env.queries", "sampling.tasks", "agent.network.hidden"),
    "digits-protonet": ("env.ways", "env.shots", "sampling.updates", "agent.network.hidden"),
}  # fmt: skip
"""Preset -> settings that get huge values."""
VALUES = ("1000000000", "1" + "0" * 12, "9" * 18, "1" + "0" * 30, "9" * 401, "1e300", "-1")
HARMLESS = {
    "seed", "iterations", "checkpoint-every", "evaluation.tasks", "task-batch",
    "agent.inner.epochs", "agent.outer.chunk", "sampling.updates", "agent.inner.minibatches",
    "agent.inner.steps",
}  # fmt: skip
"""Settings that may be as large as 64 bits have it: they are counts of what is done in turn."""
LIMITS = {
    "open files": (resource.RLIMIT_NOFILE, 16),
    "the size of a file": (resource.RLIMIT_FSIZE, 2000),
    "memory": (resource.RLIMIT_AS, 700 << 20),
}
"""Limit of the operating system -> a value that is too small for a run."""


def beyond_the_machine(effort: Effort, place: Path) -> Result:
    """Huge values of each setting that needs memory, and small limits."""
    cases = [
        (preset, name, value)
        for preset, names in HUGE.items()
        for name in names
        for value in VALUES
        if name not in HARMLESS or len(value) > 18 or not value.isdigit()
    ]
    cases = effort.some(cases, effort.settings)
    answers = in_lanes(cases, _asked, place / "settings")
    limited = in_lanes(list(LIMITS), _limited, place / "limits")
    return counted(
        "settings beyond the machine, and its limits: exit 2, no traceback, under 3 s and 500 MB",
        [*answers, *limited],
    )


def _asked(case: tuple[str, str, str], folder: Path) -> str:
    preset, name, value = case
    argv = [preset, "--device", "cpu", f"--{name}", value, "--run-dir", folder / "run"]
    return judged(
        f"{preset} --{name} {value[:40]}", call("train", argv, folder / "log", longest=20)
    )


def _limited(limit: str, folder: Path) -> str:
    what, value = LIMITS[limit]
    arm = partial(resource.setrlimit, what, (value, value))
    kind = "maml-trpo, worker"
    ended = train(kind, folder / "run", 3, folder / "log", before=arm)
    return judged(f"{limit} limited to {value}", ended)
