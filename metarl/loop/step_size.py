"""Search for an inner step size, on training tasks.

An agent such as MAML learns parameters that suit the step size of its training. A control has no
such size: it learned nothing through inner steps. The code of arXiv:1703.03400 adapts the jointly
trained policy by steps of 0.02 where it adapts MAML's by 0.1. `--inner-lr search` gives every
learner the same search, since a size that served in training need not be the best in a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.checks import in_range
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyAgentConfig
from metarl.errors import UnstableError, UserError
from metarl.runs.watch import Watch
from metarl.sources.source import HeldOut
from metarl.text import say
from metarl.types import Classes

FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Step sizes that are tried, as multiples of the configured one."""
TASKS = {"episodes": 40, "examples": 200}
"""Most training tasks that they are tried on, by source."""

Options = EvaluateOptions | EvaluateFewShotOptions


class StepSize(NamedTuple):
    """Inner step size of a learner, and how it was found."""

    lr: float
    tried: dict[float, float | None] | None = None
    """Size -> mean outcome after the steps, on training tasks; None: it diverged."""

    def recorded(self) -> dict[str, Any]:
        """Returns the entry of adaptation.json."""
        if self.tried is None:
            return {"lr": self.lr}
        return {"lr": self.lr, "tried": {f"{lr:g}": mean for lr, mean in self.tried.items()}}


def given(config: Any, lr: float) -> Any:
    """Returns the config of a trained agent with the inner step size of `--inner-lr`.

    Raises:
        UserError: where it would change nothing.
    """
    check_decides(config, f"{lr:g}")
    return with_lr(config, lr)


def check_decides(config: Any, asked: str) -> None:
    """Raises a UserError where `--inner-lr` as `asked` would change nothing."""
    if (reason := agents.no_inner_lr(config)) is not None:
        raise UserError(f"--inner-lr {asked}: agent {config.name!r} {reason}\n  leave it out")


def with_lr(config: Any, lr: float) -> Any:
    """Returns an agent's config with another inner step size."""
    return replace(config, inner=replace(config.inner, lr=lr))


def has_one(config: Any) -> bool:
    """Returns whether an agent's config has an inner step size."""
    return hasattr(getattr(config, "inner", None), "lr")


def training_tasks(options: Options, config: AnyAgentConfig, distribution: Any) -> Options:
    """Returns the options of an evaluation on training tasks other than its own."""
    seed = keys.sequence(options.seed, keys.Purpose.STEP_SIZE).generate_state(1, np.uint32)[0]
    number = TASKS[config.source]
    if isinstance(distribution, Classes):  # the number is that of each class
        number = -(-number // distribution.spread("train"))
    tasks = number if options.own_tasks else min(number, options.tasks)
    asked: Any = replace(options, split="train", tasks=tasks, seed=int(seed), own_tasks=())
    return replace(asked, mode_episodes=0) if isinstance(asked, EvaluateOptions) else asked


def search(
    name: str, config: Any, make: Callable[[Any], Any], held: HeldOut, watch: Watch
) -> StepSize:
    """Returns the size with the best outcome on training tasks, on average over all steps.

    Args:
        name: the learner's.
        config: its agent's.
        make: returns the agent of such a config, with its weights.
        held: the training tasks.
        watch: shows how far it is.

    Raises:
        UserError: where the learner diverges by each size.
    """
    tried: dict[float, float | None] = {}
    for factor in FACTORS:
        lr = float(f"{factor * config.inner.lr:.6g}")
        asked = with_lr(config, lr)
        if in_range(asked):
            tried[lr] = _mean(held, make(asked), f"{name} with step size {lr:g}", watch)
    finite = {lr: mean for lr, mean in tried.items() if mean is not None}
    if not finite:
        sizes = ", ".join(f"{lr:g}" for lr in tried)
        raise UserError(
            f"{name} diverged on training tasks with each of the step sizes {sizes}\n"
            "  --inner-lr own takes its own size without a search"
        )
    best = min if held.measure.lower_is_better else max
    lr = best(finite, key=lambda lr: finite[lr])
    edge = {min(tried): ", the smallest", max(tried): ", the largest"}.get(lr, "")
    say(
        f"{name}: step size {lr:g}, the best of {len(tried)}{edge}, on {len(held.tasks)} training "
        "tasks"
    )
    return StepSize(lr, tried)


def _mean(held: HeldOut, agent: Any, name: str, watch: Watch) -> float | None:
    """Returns the mean outcome after each step, averaged over the steps; None if it diverged."""
    try:
        mean = held.adapt(agent, name, watch).values[:, 1:].mean()
    except UnstableError:
        return None
    return float(mean) if np.isfinite(mean) else None
