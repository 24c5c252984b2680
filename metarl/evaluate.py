"""`python -m metarl.evaluate RUN_DIR`: adapts a trained agent to held-out tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from metarl.config.command_line import (
    open_door,
    print_help,
    read_flags,
    take_env,
    take_positional,
    wants_help,
)
from metarl.config.settings import EvaluateOptions
from metarl.config.settings_few_shot import EvaluateFewShotOptions, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.assembly import few_shot_run, meta_rl_run, run_config

DESCRIPTION = """Adapts a trained agent to held-out tasks, from its meta-parameters each time.

Writes RUN_DIR/evaluation/adaptation.json, .csv and .png; success.json and .png where tasks of
reinforcement are of classes, predictions.png of regression. Of training tasks that goes to
RUN_DIR/evaluation/train. Defaults are the run's own.
A run on tasks of your own needs --env package.module:attribute again: their code is run."""


def main(argv: Sequence[str]) -> None:
    options = read(argv)
    # torch and the simulators: only once they are needed
    if isinstance(options, EvaluateFewShotOptions):
        from metarl.loop.few_shot_evaluation import evaluate as evaluate_few_shot

        env = few_shot_run(options.run_dir).env
        evaluate_few_shot(options, families.configured(env, take_env(list(argv))))
        return
    from metarl.loop.evaluation import evaluate

    env = meta_rl_run(options.run_dir).env
    evaluate(options, envs.configured(env, take_env(list(argv))))


def read(argv: Sequence[str]) -> EvaluateOptions | EvaluateFewShotOptions:
    """The options that a command line asks for, checked; the run's config gives the defaults.

    Raises:
        UserError: for a folder that is no run, and any flag that does not fit.
    """
    argv = list(argv)
    run_dir = take_positional(argv)
    if wants_help(argv):
        print_help(
            _defaults(Path(run_dir)) if run_dir else EvaluateOptions(run_dir=Path("RUN_DIR")),
            "metarl.evaluate RUN_DIR",
            DESCRIPTION,
        )
    if run_dir is None:
        raise UserError("no run directory given; name it first, such as runs/point-goal")
    config = run_config(Path(run_dir))
    named = take_env(argv)
    if named not in (None, config.env.name):
        raise UserError(f"--env is {named!r}, and {run_dir} learned {config.env.name!r}")
    return read_flags(argv, _defaults(Path(run_dir)))


def _defaults(run_dir: Path) -> EvaluateOptions | EvaluateFewShotOptions:
    """As the run's own config has them."""
    config = run_config(run_dir)
    if isinstance(config, FewShotConfig):
        return EvaluateFewShotOptions(
            run_dir=run_dir, device=config.device, **asdict(config.evaluation)
        )
    return EvaluateOptions(
        run_dir=run_dir,
        device=config.device,
        workers=config.workers,
        worker_timeout=config.worker_timeout,
        **asdict(config.evaluation),
    )


if __name__ == "__main__":
    open_door(main, "an evaluation is written only when it is whole")
