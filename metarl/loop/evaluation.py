"""Adaptation curves: a trained agent on held-out tasks, from its meta-parameters each time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.files import keys as settings
from metarl.config.settings import Config, EvaluateOptions
from metarl.device import cores, torch_device, workers_of
from metarl.envs import catalogue
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import DivergedError, UserError
from metarl.experiments.assembly import check_same_tasks, labelled, meta_rl_run
from metarl.experiments.published import published
from metarl.loop.episodes_training import build_agent
from metarl.runs import checkpoint, directory
from metarl.runs.adaptation import Adaptation, Outcome, write_csv, write_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.class_success import class_success, write_success
from metarl.runs.class_success import text_table as class_table
from metarl.runs.class_success_plot import success_figure
from metarl.runs.comparison import curves, text_table
from metarl.runs.errors_log import faults_logged
from metarl.runs.plot_style import save
from metarl.runs.report import write_report
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds, greedy_rounds
from metarl.types import Agent, BatchedEnv, Classes, Task, TaskDistribution, Trajectories

CLASS_TASKS_AT_ONCE = 20
"""Goals of class benchmarks that are played together, as in a meta-batch of training."""


class Held(NamedTuple):
    """Held-out tasks, and where they are played."""

    distribution: TaskDistribution
    tasks: Sequence[Task]
    at_once: int
    """Tasks that are played together."""
    env: BatchedEnv
    mode_env: BatchedEnv | None
    options: EvaluateOptions
    device: torch.device

    def seen_by(self, config: Config) -> Held:
        """The same tasks as that run's agent sees them: an oracle is told their numbers."""
        if not agents.told(config.agent):
            return self
        told, options = TaskConditioned(self.distribution), self.options
        env = told.around(self.env, self.at_once, options.episodes)
        mode_env = self.mode_env and told.around(self.mode_env, self.at_once, options.mode_episodes)
        return self._replace(distribution=told, env=env, mode_env=mode_env)

    def close(self) -> None:
        self.env.close()
        if self.mode_env is not None:
            self.mode_env.close()


def evaluate(options: EvaluateOptions, distribution: TaskDistribution | None = None) -> Path:
    """Writes the run's adaptation.json, .csv, .png and report, and prints the table.

    `distribution` is what the run learned from; where it is left out, the catalogue's. Returns
    the picture's path.

    Raises:
        UserError: for a run without weights, or one to compare with on other tasks.
    """
    config = meta_rl_run(options.run_dir)
    run = directory.create(options.run_dir)
    torch.set_num_threads(cores())
    against = labelled(options.against, config.agent.name)
    rivals = {name: (path, meta_rl_run(path)) for name, path in against.items()}
    for name, (_, other) in rivals.items():
        check_same_tasks(name, other, config)
    if distribution is None:
        distribution = catalogue.configured(config.env)
    with faults_logged(run, config.env.name), ExitStack() as stack:
        held = _held_out(distribution, options)
        stack.callback(held.close)
        agent, iteration = _trained(run.root, config, seen := held.seen_by(config))
        outcome = _adapt(agent, seen, config.agent.name)
        controls, others = {}, {}
        if "random" in options.controls:
            controls["random initialisation"] = _adapt(_random(config, seen), seen, "random")
        for name, (path, other) in rivals.items():
            seen = held.seen_by(other)
            others[name] = _adapt(_trained(path, other, seen)[0], seen, name)
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
            "horizon": held.distribution.spec.horizon,
            "mode_episodes": options.mode_episodes,
            "protocol": _protocol(config, options),
        },
    )
    figures = published(config) if options.split == "test" else None
    files = run.evaluation_of(options.split)
    files.root.mkdir(exist_ok=True)
    write_json(files.adaptation_json, adaptation)
    write_csv(files.adaptation_csv, adaptation)
    save(files.adaptation_png, adaptation_figure(adaptation, figures))
    print(text_table(curves(adaptation, figures)))
    pictures = [files.adaptation_png]
    if (success := class_success(adaptation)) is not None:
        write_success(files.success_json, success)
        save(files.success_png, success_figure(success))
        pictures.append(files.success_png)
        print("\n" + class_table(success))
    report = write_report(run.root, published(config))
    print(f"\nnumbers  {files.adaptation_json}")
    print("\n".join(f"picture  {picture}" for picture in pictures))
    print(f"report   {report}")
    return files.adaptation_png


def _protocol(config: Config, options: EvaluateOptions) -> str | None:
    """Whose way to evaluate this is, so that their figure may be set beside ours."""
    laid_down = catalogue.protocol(config.env.name)
    if laid_down is None:
        return None
    official = settings(laid_down)
    asked = {name: getattr(options, name) for name in official}
    usual = catalogue.default_horizon(config.env.name), "v2"
    if (config.env.horizon, config.env.metaworld.rewards) == usual and asked == official:
        return "metaworld"
    numbers = ", ".join(f"--{name.replace('_', '-')} {x}" for name, x in official.items())
    print(
        f"not metaworld's own protocol ({numbers}, horizon {usual[0]}, rewards v2): "
        "what its evaluation would count is left out"
    )
    return None


def _held_out(distribution: TaskDistribution, options: EvaluateOptions) -> Held:
    """The tasks depend on the seed and their number alone, so every agent meets the same."""
    device = torch_device(options.device)
    for note in getattr(distribution, "notes", ()):
        print(note)
    if isinstance(distribution, Classes):
        tasks = distribution.held_out(options.tasks, options.split)
        at_once = min(len(tasks), CLASS_TASKS_AT_ONCE)
    else:
        rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
        tasks = distribution.sample(options.tasks, rng, options.split)
        at_once = len(tasks)
    workers = workers_of(options)
    env, mode_env = distribution.open(at_once, options.episodes, workers), None
    if options.mode_episodes:
        mode_env = distribution.open(at_once, options.mode_episodes, workers)
    return Held(distribution, tasks, at_once, env, mode_env, options, device)


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
    options, spec, num_tasks = held.options, held.distribution.spec, len(held.tasks)
    steps = f"{options.steps} step{'s' if options.steps != 1 else ''}"
    print(f"{name}: {steps} on {num_tasks} tasks ...", flush=True)
    returns, solved_at, used = [], [], np.zeros(options.steps)
    for start in range(0, num_tasks, held.at_once):
        try:
            learned, shown = _rounds(agent, held, start)
        except DivergedError as error:
            raise UserError(f"{name}: {error}; another --seed draws other episodes") from error
        except UserError as error:
            error.args = (f"{name}: {error}",)
            raise
        done = min(start + held.at_once, num_tasks)
        own = slice(0, done - start)
        returns.append(np.stack([returns_of(x)[own].cpu().numpy() for x in shown], axis=1))
        solved_at.append(np.stack([x.solved_at[own].cpu().numpy() for x in shown], axis=1))
        # A trial goes through one episode a step; the others beside it are other trials.
        share = getattr(agent, "episodes_per_step", options.episodes) / options.episodes
        used += [share * float(x.mask[own].sum()) for x in learned]
        if held.at_once < num_tasks:
            print(f"{name}: {done} of {num_tasks} tasks", flush=True)
    env_steps = tuple(np.concatenate([[0.0], np.cumsum(used / num_tasks)]).tolist())
    at = np.concatenate(solved_at) if spec.has_success else None
    success = None if at is None else at > 0
    return Outcome(np.concatenate(returns), success, env_steps, at)


def _rounds(
    agent: Agent, held: Held, start: int
) -> tuple[Sequence[Trajectories], Sequence[Trajectories]]:
    """What the tasks from `start` on learned from, and what is reported of them. The last few are
    played beside others that nobody looks at, since environments are opened for a fixed number."""
    options, spec = held.options, held.distribution.spec
    tasks = held.tasks[start : start + held.at_once]
    tasks = [*tasks, *held.tasks[: held.at_once - len(tasks)]]
    key = (options.seed, keys.Purpose.EVALUATION)
    if held.at_once < len(held.tasks):
        key = (*key, start)
    asked = (options.steps, key, held.device)
    if held.mode_env is None:
        _, rounds = adaptation_rounds(agent, held.env, spec, tasks, options.episodes, *asked)
        return rounds[:-1], rounds
    numbers = (options.episodes, options.mode_episodes)
    return greedy_rounds(agent, held.env, held.mode_env, spec, tasks, *numbers, *asked)
