"""Checks of one environment: that it can be made, and keeps to its interface."""

from __future__ import annotations

import re
import traceback
import warnings
from contextlib import closing
from pathlib import Path

import gymnasium
from gymnasium.utils import env_checker
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from metarl.checking.findings import Finding
from metarl.checking.play import Subject
from metarl.envs.gym.tasks import GymTasks

MADE_BY_GYMNASIUM = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
"""Wrappers that `gymnasium.make` puts around everything."""


def opens(subject: Subject) -> Finding:
    """Samples tasks and, for its spaces, makes one environment."""
    tasks, spec = subject.tasks, subject.spec
    _ = subject.policy  # there is one for these actions
    if spec.horizon < 1:
        return Finding("FAIL", f"the horizon is {spec.horizon}", "give at least 1 step")
    return Finding(
        "ok",
        f"observations [{spec.obs_dim}], actions {spec.action_space}, horizon {spec.horizon}; "
        f"{len(tasks)} tasks such as {subject.distribution.describe(tasks[0])}",
    )


def gymnasium_rules(subject: Subject) -> Finding:
    """gymnasium's own checker, on the first task's environment."""
    distribution = subject.distribution
    assert isinstance(distribution, GymTasks)
    task, maker = subject.tasks[0], distribution.maker
    with closing(maker.make(task)) as env, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maker.apply(env, maker.originals(env), task)
        env.action_space.seed(subject.options.seed)
        try:
            env_checker.check_env(_bare(env), skip_render_check=True)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            return Finding("FAIL", found, "make the environment keep to it", _trace(error))
    said = [_text(one) for one in caught]
    said = list(dict.fromkeys(one for one in said if "unwrapped version" not in one))
    if said:
        count = f"{len(said)} warning{'s' if len(said) > 1 else ''} of gymnasium's checker"
        return Finding("warning", count, "\n".join(said))
    return Finding("ok", "gymnasium's checker has nothing to say")


def _bare(env: gymnasium.Env) -> gymnasium.Env:
    while isinstance(env, MADE_BY_GYMNASIUM):
        env = env.env
    return env


def _trace(error: Exception) -> str:
    """Its traceback, if it was not the checker itself that raised it."""
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    if Path(raised).parent == Path(env_checker.__file__).parent:
        return ""
    return "".join(traceback.format_exception(error))


def _text(warning: warnings.WarningMessage) -> str:
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(warning.message))
    return " ".join(plain.split()).removeprefix("WARN: ")
