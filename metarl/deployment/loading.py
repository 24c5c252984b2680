"""Loads a run's agent, or a saved policy, to use it outside of metarl's own commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.settings import AnyConfig, Config, Device, FewShotConfig
from metarl.deployment.agent import LoadedAgent
from metarl.deployment.arguments import is_distribution, place, positive
from metarl.device import torch_device
from metarl.envs import catalogue as envs
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.loop import step_size
from metarl.loop.training import check_named
from metarl.runs import checkpoint, directory
from metarl.runs.pretrained import is_pretrained, run_place
from metarl.runs.seeds import is_folder_of_seeds, seeds_of
from metarl.text import shown
from metarl.types import TaskDistribution


def load(
    run_dir: Path | str,
    checkpoint: str | int = "last",
    *,
    device: str = "auto",
    tasks: Any = None,
    agent: str | None = None,
    inner_lr: float | None = None,
) -> Any:
    """Returns the trained agent of a run, ready to `adapt`: a LoadedAgent, or a LoadedLearner of a
    few-shot run.

    Args:
        run_dir: the run's folder, or `pretrained:NAME`.
        checkpoint: "last", "best", or the iteration of a checkpoint that is kept.
        device: "auto", "cpu" or "cuda".
        tasks: those of your own, by their place `package.module:attribute`, which is imported,
            or the distribution itself. For a run of the catalogue it is not needed.
        agent: for an agent of your own, its place, which is then imported.
        inner_lr: another inner step size than the run's.

    Raises:
        UserError: for a folder that is no run, a checkpoint that is not there, and code of your own
            that is not named.
    """
    if device not in get_args(Device):
        raise UserError(f"device is {shown(device)}; give one of {', '.join(get_args(Device))}")
    path = run_place(run_dir if is_pretrained(run_dir) else place(run_dir, "the run"))
    if is_folder_of_seeds(path):
        raise UserError(
            f"{path} holds the runs of several seeds; load one of them, such as {seeds_of(path)[0]}"
        )
    config = run_config(path)
    if inner_lr is not None:
        size = positive("inner_lr", inner_lr)
        sized: Any = replace(config, agent=step_size.given(config.agent, size))
        config = sized
    on = torch_device(device)
    if isinstance(config, FewShotConfig):
        from metarl.deployment.learner import loaded

        return loaded(path, config, checkpoint, on, tasks, agent)
    base = _tasks(config, tasks)
    seen = TaskConditioned(base) if agents.observes_task(config.agent) else base
    made, iteration = with_weights(path, config, seen.spec, checkpoint, on, agent)
    facts = {"agent": config.agent.name, "tasks": config.env.name, "iteration": iteration}
    return LoadedAgent(made, seen, base, config.sampling.episodes, facts, on)


def _tasks(config: Config, given: Any) -> TaskDistribution:
    """Returns the tasks of a run, a user's own by their place or as they are given."""
    if given is None or isinstance(given, str):
        check_place(config, given)
        return envs.configured(config.env, given)
    if not is_distribution(given):
        raise UserError(
            f"tasks is {shown(given)}; give the run's distribution of tasks, or its place "
            "'package.module:attribute'; an environment is for agent.adapt(env)"
        )
    check_named(config, given.spec)
    return given


def check_place(config: AnyConfig, named: str | None) -> None:
    """Raises a UserError for the place of other tasks than those that a run learned."""
    if named not in (None, own := config.env.name):
        remedy = f"give tasks={own!r}" if envs.is_own(own) else "leave tasks out"
        raise UserError(
            f"tasks is {shown(named)}, and the run learned {own!r}\n"
            f"{remedy}; agent.adapt(gymnasium.make(ID)) adapts to an environment"
        )


def with_weights(
    path: Path,
    config: AnyConfig,
    spec: Any,
    which: str | int,
    device: torch.device,
    named_agent: str | None,
) -> tuple[Any, int]:
    """Returns a run's agent with saved weights, and the iteration that they are of.

    Raises:
        UserError: as `load`.
    """
    rng = keys.generator(config.seed, keys.Purpose.INIT)
    agent = agents.build(spec, config.agent, rng, device, named_agent)
    found = _checkpoint(path, which, device, checkpoint.room_for(agent))
    found.load_into(agent, envs.meant_before(config.env.name))
    return agent, found.iteration


def _checkpoint(
    path: Path, which: str | int, device: torch.device, room: int
) -> checkpoint.Checkpoint:
    run = directory.existing(path)
    kept = {int(place.name): place for place in checkpoint.saved(run.checkpoints)}
    if not kept or which in ("last", "latest", "best"):
        return checkpoint.chosen(run, "best" if which == "best" else "latest", device, room)
    whole = isinstance(which, int | np.integer) and not isinstance(which, bool)
    if not whole or which not in kept:
        there = ", ".join(map(str, kept))
        raise UserError(
            f"checkpoint is {shown(which)}, and {path} keeps those of the iterations {there}\n"
            'give one of them, "last" or "best"'
        )
    return checkpoint.load(kept[int(which)], device, room)
