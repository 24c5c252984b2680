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
from metarl.errors import UserError
from metarl.experiments.assembly import run_config

DESCRIPTION = """Adapts a trained agent to one task, and saves the policy for use without the run:

    metarl export RUN_DIR --env ID --out PATH        a gymnasium environment
    metarl export RUN_DIR --task goal=0.3,-0.2 --out PATH

--env takes an id for gymnasium.make, or package.module:attribute of your own environment, which is
imported. metarl.load_policy(PATH) reads the policy.
If the tasks or the agent of the run are your own code, give --env or --agent
package.module:attribute again: the code is run."""


def main(argv: Sequence[str]) -> None:
    options, env, agent = read(argv)
    from metarl.deployment.export import export  # torch: once the command line is right

    export(options, env, agent)


def read(argv: Sequence[str]) -> tuple[ExportOptions, str | None, str | None]:
    """Returns the options that a command line asks for, checked, and the values of --env and
    --agent.

    Raises:
        UserError: for a folder that is no run or has no episodes, and any flag that does not fit.
    """
    argv = once(argv)
    name = take_run(argv)
    if wants_help(argv):
        print_help(ExportOptions(run_dir=Path("RUN_DIR")), "metarl export RUN_DIR", DESCRIPTION)
    if name is None:
        raise UserError("no run directory given; name it first, such as runs/point-goal")
    config = run_config(Path(name))
    env, agent = take(argv, *ENV), take(argv, *AGENT)
    _check_agent(name, config, agent)
    options = read_flags(argv, ExportOptions(run_dir=Path(name), device=config.device))
    if not options.out:
        raise UserError("no place for the policy is given; add --out PATH, a new folder")
    if not options.task and env in (None, config.env.name):
        raise UserError(
            "nothing to adapt to is given\nadd --env ID, a gymnasium environment, or --task "
            "KEY=VALUE, a task of the run's distribution"
        )
    return options, env, agent


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
