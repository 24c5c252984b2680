"""Adapts a run's agent to one task and writes its policy, as `metarl export` does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gymnasium

from metarl.config import own_code
from metarl.deployment import folder
from metarl.deployment.adapted import AdaptedPolicy
from metarl.deployment.agent import LoadedAgent
from metarl.deployment.loading import load
from metarl.deployment.options import ExportOptions
from metarl.envs import given_tasks
from metarl.errors import UserError
from metarl.runs.files import replace_bytes
from metarl.text import say, shown


def export(
    options: ExportOptions,
    env: str | None = None,
    tasks: str | None = None,
    agent: str | None = None,
) -> Path:
    """Writes the adapted policy to `options.out` and returns that path.

    Args:
        options: the run, the task, and the place.
        env: id or place of a gymnasium environment.
        tasks: place of the run's own tasks.
        agent: place of the run's own agent.

    Raises:
        UserError: where the path exists, for an environment that there is not, and as `load`,
            `adapt` and `save`.
    """
    out = Path(options.out).expanduser()
    folder.refuse_taken(out)  # before the episodes are played
    loaded = load(
        options.run_dir, options.checkpoint, device=options.device, tasks=tasks, agent=agent
    )
    made = None if env is None else _environment(env)
    try:
        adapted = _adapted(loaded, options, made)
        if options.format == "policy":
            adapted.save(out)
        else:
            _write_sb3(adapted, made or _Spaces(adapted), out)
    finally:
        if made is not None:
            made.close()
    returns = [sum(x) / len(x) for x in adapted.support_returns]
    say(
        f"{adapted.facts['agent']}, iteration {adapted.facts['iteration']}, adapted in "
        f"{len(returns)} step{'s' if len(returns) > 1 else ''}; mean return of the episodes of "
        f"each: {', '.join(f'{x:.4g}' for x in returns)}"
    )
    say(f"policy  {out}")
    return out


def _adapted(
    loaded: LoadedAgent, options: ExportOptions, env: gymnasium.Env | None
) -> AdaptedPolicy:
    task = None
    if options.task:
        (task,) = given_tasks.parsed([options.task], loaded.base)
    asked: dict[str, Any] = {"seed": options.seed}
    for name in ("episodes", "steps"):
        if (value := getattr(options, name)) != "auto":
            asked[name] = value
    if env is not None:
        return loaded.adapt(env, task=task, **asked)
    return loaded.adapt(task, **asked)


def _environment(name: str) -> gymnasium.Env:
    """Returns the environment of that id, or at that place of a user's code."""
    own_code.refuse_file(name, "--env")
    if own_code.is_place(name):
        found = own_code.at(name)
        if not isinstance(found, gymnasium.Env) and callable(found):
            found = own_code.run(f"{name}()", found)
        if not isinstance(found, gymnasium.Env):
            raise UserError(
                f"{name} is {type(found).__name__}, no gymnasium environment\n"
                "give one, or a function that returns one; tasks are given with --task"
            )
        return found
    try:
        return gymnasium.make(name)
    except Exception as error:  # an environment's constructor may raise anything
        why = " ".join(str(error).split())
        raise UserError(
            f"--env {shown(name)}: gymnasium makes no such environment: {why:.200}\n"
            "give an id, such as CartPole-v1, or package.module:attribute of your own"
        ) from None


def _write_sb3(adapted: AdaptedPolicy, env: gymnasium.Env, out: Path) -> None:
    content = io.BytesIO()
    adapted.to_sb3(env).save(content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(out, content.getvalue())
    except OSError as error:
        raise UserError(f"no policy can be written to {out}: {error.strerror}") from error


class _Spaces(gymnasium.Env):
    """Spaces alone, for a PPO that does not learn."""

    def __init__(self, adapted: AdaptedPolicy):
        self.observation_space = adapted.interface.observation_space
        self.action_space = adapted.interface.action_space
