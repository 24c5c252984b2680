"""Adaptation curves: a trained agent on held-out tasks, from its meta-parameters each time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.config import Config, EvaluateOptions
from metarl.device import cores, torch_device, workers_of
from metarl.envs import catalogue
from metarl.errors import UserError
from metarl.experiment import run_config
from metarl.published import published
from metarl.runs import checkpoint, directory
from metarl.runs.adaptation import Adaptation, Outcome, write_csv, write_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.comparison import curves, text_table
from metarl.runs.errors_log import faults_logged
from metarl.runs.plot_style import save
from metarl.runs.report import write_report
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.training import build_agent
from metarl.types import Agent, BatchedEnv, DivergedError, Task, TaskDistribution


class Held(NamedTuple):
    """Held-out tasks, and where they are played."""

    distribution: TaskDistribution
    tasks: Sequence[Task]
    env: BatchedEnv
    options: EvaluateOptions
    device: torch.device


def evaluate(options: EvaluateOptions, distribution: TaskDistribution | None = None) -> Path:
    """Writes the run's adaptation.json, .csv, .png and report, and prints the table.

    `distribution` is what the run learned from; where it is left out, the catalogue's. Returns
    the picture's path.

    Raises:
        UserError: for a run without weights, or one to compare with on other tasks.
    """
    config = run_config(options.run_dir)
    run = directory.create(options.run_dir)
    torch.set_num_threads(cores())
    rivals = {name: (path, run_config(path)) for name, path in _labels(options.against).items()}
    for name, (_, other) in rivals.items():
        _same_tasks(name, other, config)
    if distribution is None:
        distribution = catalogue.make(config.env.name, config.env.horizon)
    with faults_logged(run, config.env.name), ExitStack() as stack:
        held = _held_out(distribution, options)
        stack.callback(held.env.close)
        agent, iteration = _trained(run.root, config, held)
        outcome = _adapt(agent, held, config.agent.name)
        controls, others = {}, {}
        if "random" in options.controls:
            controls["random initialisation"] = _adapt(_random(config, held), held, "random")
        for name, (path, other) in rivals.items():
            others[name] = _adapt(_trained(path, other, held)[0], held, name)
    adaptation = Adaptation(
        env=config.env.name,
        agent=config.agent.name,
        split=options.split,
        steps=tuple(range(options.steps + 1)),
        env_steps=outcome.env_steps or (),
        tasks=tuple(held.tasks),
        outcome=outcome._replace(env_steps=None),
        controls=controls,
        others=others,
        made_from={
            "iteration": iteration,
            "checkpoint": options.checkpoint,
            "seed": options.seed,
        },
    )
    figures = published(config) if options.split == "test" else None
    write_json(run.adaptation_json, adaptation)
    write_csv(run.adaptation_csv, adaptation)
    save(run.adaptation_png, adaptation_figure(adaptation, figures))
    report = write_report(run.root, figures)
    print(text_table(curves(adaptation, figures)))
    print(f"\nnumbers  {run.adaptation_json}\npicture  {run.adaptation_png}\nreport   {report}")
    return run.adaptation_png


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """Runs by the shortest name that tells them apart."""
    names = [path.resolve().name for path in paths]
    labels = [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]
    if len(set(labels)) < len(labels):
        raise UserError(f"--against names a run twice: {', '.join(map(str, paths))}")
    return dict(zip(labels, paths, strict=True))


def _same_tasks(name: str, other: Config, config: Config) -> None:
    if other.env != config.env:
        raise UserError(
            f"{name} learned {other.env.name} with horizon {other.env.horizon}, this run "
            f"{config.env.name} with {config.env.horizon}; compare runs of the same environment"
        )


def _held_out(distribution: TaskDistribution, options: EvaluateOptions) -> Held:
    """The tasks depend on the seed and their number alone, so every agent meets the same."""
    device = torch_device(options.device)
    rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
    tasks = distribution.sample(options.tasks, rng, options.split)
    env = distribution.open(options.tasks, options.episodes, workers_of(options))
    return Held(distribution, tasks, env, options, device)


def _trained(run_dir: Path, config: Config, held: Held) -> tuple[Agent, int]:
    """The run's agent with its saved weights, and the iteration that they are of."""
    saved = directory.existing(run_dir).checkpoints
    load = checkpoint.best if held.options.checkpoint == "best" else checkpoint.load_latest
    found = load(saved, held.device)
    if found is None:
        raise UserError(
            f"{run_dir} has no checkpoint yet\n`python -m metarl.train --config "
            f"{run_dir / 'config.yaml'}` trains on to its first"
        )
    agent = build_agent(config, held.distribution, held.device)
    try:
        agent.load_state_dict(found.tensors)
    except ValueError as error:
        raise UserError(f"{found.path}: {error}") from None
    return agent, found.iteration


def _random(config: Config, held: Held) -> Agent:
    """The run's agent as if it had never been trained, from other initial weights."""
    rng = keys.generator(held.options.seed, keys.Purpose.CONTROL)
    return build_agent(config, held.distribution, held.device, rng)


def _adapt(agent: Agent, held: Held, name: str) -> Outcome:
    """Returns and success [K, S, E], and the environment steps a task has used at each point."""
    options, spec = held.options, held.distribution.spec
    key = (options.seed, keys.Purpose.EVALUATION)
    print(f"{name}: {options.steps} steps on {options.tasks} tasks ...", flush=True)
    try:
        _, rounds = adaptation_rounds(
            agent,
            held.env,
            spec,
            held.tasks,
            options.episodes,
            options.steps,
            key,
            held.device,
        )
    except DivergedError as error:
        raise UserError(f"{name}: {error}; another --seed draws other tasks") from error
    except UserError as error:
        error.args = (f"{name}: {error}",)
        raise
    returns = np.stack([returns_of(x).cpu().numpy() for x in rounds], axis=1)
    success = np.stack([x.success.cpu().numpy() for x in rounds], axis=1)
    per_task = [float(x.mask.sum()) / options.tasks for x in rounds[:-1]]
    env_steps = tuple(np.concatenate([[0.0], np.cumsum(per_task)]).tolist())
    return Outcome(returns, success if spec.has_success else None, env_steps)
