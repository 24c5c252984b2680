"""`metarl export RUN_DIR`: adapts a trained agent to one task and saves its policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metarl.config import own_code
from metarl.config.command_line import (
    AGENT,
    ENV,
    once,
    print_help,
    read_flags,
    take,
    take_run,
    wants_help,
)
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.deployment.options import ExportOptions
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import run_config

DESCRIPTION = """Adapts a trained agent to one task, and saves the policy for use without the run:

    metarl export RUN_DIR --env ID --out PATH        a gymnasium environment
    metarl export RUN_DIR --task goal=0.3,-0.2 --out PATH

--env takes an id for gymnasium.make, or package.module:attribute of your own environment, which is
imported. metarl.load_policy(PATH) reads the policy.
If the tasks or the agent of the run are your own code, give --env or --agent
package.module:attribute again: the code is run. So --env may come twice: once for the tasks of the
run, once for the environment."""


def main(argv: Sequence[str]) -> None:
    asked = read(argv)
    from metarl.deployment.export import export  # torch: once the command line is right

    export(*asked)


def read(argv: Sequence[str]) -> tuple[ExportOptions, str | None, str | None, str | None]:
    """Returns the options that a command line asks for, checked; the environment; and the places of
    the run's own tasks and agent, where they are named.

    Raises:
        UserError: for a folder that is no run or has no episodes, and any flag that does not fit.
    """
    argv, named = list(argv), []
    while (word := take(argv, *ENV)) is not None:  # the flag that may come twice
        named.append(word)
    argv = once(argv)
    name = take_run(argv)
    if wants_help(argv):
        print_help(ExportOptions(run_dir=Path("RUN_DIR")), "metarl export RUN_DIR", DESCRIPTION)
    if name is None:
        raise UserError("no run directory given; name it first, such as runs/point-goal")
    config = run_config(Path(name))
    agent = take(argv, *AGENT)
    _check_agent(name, config, agent)
    env, tasks = _environment_and_tasks(name, config, named)
    options = read_flags(argv, ExportOptions(run_dir=Path(name), device=config.device))
    if not options.out:
        raise UserError("no place for the policy is given; add --out PATH, a new folder")
    if not options.task and env is None:
        raise UserError(
            "nothing to adapt to is given\nadd --env ID, a gymnasium environment, or --task "
            "KEY=VALUE, a task of the run's distribution"
        )
    return options, env, tasks, agent


def _environment_and_tasks(
    name: str, config: AnyConfig, named: Sequence[str]
) -> tuple[str | None, str | None]:
    """Returns the environment to adapt to, and the place of the run's own tasks."""
    own = config.env.name
    others = [word for word in named if word != own]
    if len(others) > 1:
        raise UserError(f"--env names {others[0]!r} and {others[1]!r}; give one environment")
    env, tasks = others[0] if others else None, own if own in named else None
    if tasks is None and env is not None and envs.is_own(own):
        raise UserError(
            f"the tasks of {name} are {own}, code of your own: it is run only where the command "
            f"line names it\nadd --env {own} beside --env {env}"
        )
    return env, tasks


def _check_agent(name: str, config: AnyConfig, agent: str | None) -> None:
    if isinstance(config, FewShotConfig):
        raise UserError(
            f"{name} learned from examples of {config.env.name!r}; this command plays episodes\n"
            "in Python: metarl.load(run).adapt(inputs, targets).save(path), see docs/deploy.md"
        )
    if agent is not None:
        own_code.refuse_file(agent, "--agent")
    if agent not in (None, config.agent.name):
        raise UserError(f"--agent is {agent!r}, and {name} is of {config.agent.name!r}")
