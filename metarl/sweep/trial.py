"""One trial of a sweep, in a process of its own: training, and adaptation on validation tasks.

`python -m metarl.sweep.trial RUN_DIR validation|train [--env PLACE] [--agent PLACE]` is started by
`metarl sweep`. The run's folder has its config. Where the process that started it is gone, the
trial ends too, with its last iteration saved.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from metarl.config.command_line import AGENT, ENV, take
from metarl.config.door import open_door
from metarl.errors import UserError

SPLIT = "validation"
"""Name of the evaluation in a trial's folder."""
SEED = 14
"""Seed of the validation tasks and of the episodes in them, which are the same for all trials."""


def main(argv: Sequence[str]) -> None:
    """Trains a run, evaluates it, and writes evaluation/validation/adaptation.json."""
    words = list(argv)
    env, agent = take(words, *ENV), take(words, *AGENT)
    folder, select_on = words
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    from metarl.envs import catalogue as envs
    from metarl.envs.validation import with_validation
    from metarl.experiments.assembly import run_config
    from metarl.loop.training import train

    config: Any = replace(run_config(Path(folder)), run_dir=folder)
    tasks: Any = envs.configured(config.env, env)
    if select_on == "validation":
        tasks = with_validation(tasks)
    train(config, Path(folder).name, tasks, env, agent)
    evaluate(config, tasks, "test" if select_on == "validation" else "train", agent)


def _end_with_parent(parent: int) -> None:
    """Ends this process by SIGTERM, as Ctrl-C would, where its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def evaluate(config: Any, tasks: Any, split: str, named_agent: str | None = None) -> Path:
    """Adapts a trained run to tasks of a split, and writes the evaluation called "validation".

    Args:
        tasks: the distribution; its split "test" may be validation tasks.
        split: the split of `tasks`.

    Raises:
        UserError: for a learner that diverges.
    """
    from metarl.agents import catalogue as agents
    from metarl.device import torch_device, use_threads
    from metarl.loop.evaluation import held_out
    from metarl.loop.learners import trained
    from metarl.runs.adaptation import Adaptation, write_json
    from metarl.runs.directory import RunDirectory

    use_threads(config.threads)
    run, device = RunDirectory(config.run_dir), torch_device(config.device)
    options = options_of(config, split)
    with ExitStack() as stack:
        held = held_out(config, tasks, options, device, stack)
        seen = held.seen_by(agents.observes_task(config.agent))
        agent, iteration = trained(run.root, config, seen, options, device, named_agent)
        outcome = seen.adapt(agent, config.agent.name)
    found = Adaptation(
        env=config.env.name,
        agent=config.agent.name,
        split=SPLIT,
        steps=tuple(range(options.steps + 1)),
        env_steps=outcome.env_steps or held.used,
        tasks=tuple(held.tasks),
        outcome=replace(outcome, env_steps=None),
        made_from={"iteration": iteration, "seed": options.seed, **held.made_from},
        measure=held.measure,
    )
    path = place(run.root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return path


def place(run_dir: Path) -> Path:
    """Returns the path of a trial's evaluation."""
    return run_dir / "evaluation" / SPLIT / "adaptation.json"


def options_of(config: Any, split: str) -> Any:
    """Returns the options by which a trial is evaluated: those of the run's own evaluation."""
    from dataclasses import asdict

    from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
    from metarl.config.settings import FewShotConfig

    common = {
        "run_dir": Path(config.run_dir),
        "split": split,
        "seed": SEED,
        "device": config.device,
        "threads": config.threads,
        **asdict(config.evaluation),
    }
    if isinstance(config, FewShotConfig):
        return EvaluateFewShotOptions(**common)
    playing = {name: getattr(config, name) for name in ("workers", "worker_timeout", "act_on")}
    return EvaluateOptions(**playing, **common)


def run() -> None:
    """Runs the trial that the command line names."""
    open_door(main)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise UserError("metarl.sweep.trial is started by `metarl sweep`")
    run()
