"""Checks that an environment can be made and follows its interface."""

from __future__ import annotations

import re
import traceback
import warnings
from contextlib import closing
from pathlib import Path

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import env_checker
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from metarl.checking.findings import Finding, expect
from metarl.checking.play import Subject
from metarl.envs.gym.tasks import GymTasks

MADE_BY_GYMNASIUM = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
"""Wrappers that `gymnasium.make` adds to every environment."""


def opens(subject: Subject) -> Finding:
    """Samples tasks, and makes one environment to read its spaces."""
    tasks, spec = subject.tasks, subject.spec
    _ = subject.policy  # raises if no policy can act in the action space
    image = ""
    if spec.image is not None:
        channels, height, width = spec.image
        image = f" that begin with an image, {height} x {width} in {channels} channels"
    expect(spec.horizon >= 1, f"the horizon is {spec.horizon}", "give at least 1 step")
    return Finding(
        "ok",
        f"observations [{spec.obs_dim}]{image}, actions {spec.action_space}, "
        f"horizon {spec.horizon}; {len(tasks)} tasks such as "
        f"{subject.distribution.describe(tasks[0])}",
    )


def gymnasium_rules(subject: Subject) -> Finding:
    """Runs gymnasium's own checker on the first task's environment."""
    distribution = subject.distribution
    assert isinstance(distribution, GymTasks)
    task, maker = subject.tasks[0], distribution.maker
    with closing(maker.make(task)) as env, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maker.apply(env, maker.originals(env), task)
        env.action_space.seed(subject.options.seed)
        if not subject.spec.deterministic:  # then its steps need not repeat
            env.unwrapped.spec = EnvSpec("declared-v0", nondeterministic=True)
        try:
            # Its check of `close` makes another environment from the spec, which a wrapper's
            # arguments need not be in, and training never does.
            env_checker.check_env(_unwrapped(env), skip_render_check=True, skip_close_check=True)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            return Finding("FAIL", found, "make the environment follow this rule", _trace(error))
        said = [_text(one) for one in caught]
    said += _closing_again(_unwrapped(env))
    said = list(dict.fromkeys(one for one in said if "unwrapped version" not in one))
    if said:
        count = f"{len(said)} warning{'s' if len(said) > 1 else ''} of gymnasium's checker"
        return Finding("warning", count, "\n".join(said))
    return Finding("ok", "gymnasium's checker found nothing")


def _closing_again(env: gymnasium.Env) -> list[str]:
    """Returns what is wrong about closing a closed environment, if anything is."""
    try:
        env.close()
    except Exception as error:
        return [f"close() of a closed environment raised {type(error).__name__}: {error}"]
    return []


def _unwrapped(env: gymnasium.Env) -> gymnasium.Env:
    while isinstance(env, MADE_BY_GYMNASIUM):
        env = env.env
    return env


def _trace(error: Exception) -> str:
    """Returns the error's traceback, or nothing if the checker itself raised it."""
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    if Path(raised).parent == Path(env_checker.__file__).parent:
        return ""
    return "".join(traceback.format_exception(error))


def _text(warning: warnings.WarningMessage) -> str:
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(warning.message))
    return " ".join(plain.split()).removeprefix("WARN: ")
