"""Learners of an evaluation: the run's agent, controls, and other runs beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.config.settings import AnyConfig, Config
from metarl.envs import catalogue as envs
from metarl.loop import step_size
from metarl.loop.step_size import Options, StepSize
from metarl.runs import checkpoint, directory
from metarl.runs.watch import Watch
from metarl.sources.source import HeldOut

RANDOM = "random initialisation"
"""Name of the control with the run's agent as it was before training."""


class Learner(NamedTuple):
    """Learner of an evaluation."""

    name: str
    config: Any
    """Settings of its agent."""
    make: Callable[[Any, HeldOut], Any]
    """Returns the agent that such settings describe, for those tasks, with its weights."""
    searched: bool
    """Whether its inner step size is searched for."""

    def search(self, held: HeldOut, watch: Watch) -> StepSize:
        """Returns its best step size on training tasks."""
        seen = held.seen_by(agents.observes_task(self.config))
        return step_size.search(
            self.name, self.config, lambda config: self.make(config, seen), seen, watch
        )

    def made(self, held: HeldOut, sizes: Mapping[str, StepSize]) -> tuple[Any, HeldOut]:
        """Returns the agent with its step size, and the held-out tasks as it sees them."""
        seen, sized = held.seen_by(agents.observes_task(self.config)), self.config
        if self.searched:
            sized = step_size.with_lr(sized, sizes[self.name].lr)
        return self.make(sized, seen), seen


def learners_of(
    config: AnyConfig,
    rivals: Mapping[str, tuple[Path, AnyConfig]],
    options: Options,
    device: torch.device,
    named_agent: str | None,
) -> list[Learner]:
    """Returns the run's agent, the controls that are asked for, and the runs beside it."""
    search = options.inner_lr != "own" and options.steps > 0
    everyone = options.inner_lr == "search"
    if everyone:
        step_size.check_decides(config.agent, "search")

    def saved(path: Path, config: AnyConfig, agent: Any, held: HeldOut) -> Any:
        asked: Any = replace(config, agent=agent)
        return trained(path, asked, held, options, device, named_agent)[0]

    def drawn(agent: Any, held: HeldOut) -> Any:
        rng = keys.generator(options.seed, keys.Purpose.CONTROL)
        group = config.task_batch if isinstance(config, Config) else 0
        return agents.build(held.spec, agent, rng, device, named_agent, group)

    def of_run(name: str, path: Path, config: AnyConfig) -> Learner:
        control = agents.is_control(config.agent) and step_size.has_one(config.agent)
        searched = search and (control or (everyone and agents.no_inner_lr(config.agent) is None))
        return Learner(name, config.agent, partial(saved, path, config), searched)

    learner = of_run(config.agent.name, options.run_dir, config)
    if not isinstance(options.inner_lr, str):
        given = step_size.given(config.agent, options.inner_lr)
        learner = learner._replace(config=given, searched=False)
    found = [learner]
    if "random" in options.controls:
        found.append(
            Learner(RANDOM, config.agent, drawn, search and step_size.has_one(config.agent))
        )
    return [*found, *(of_run(name, path, other) for name, (path, other) in rivals.items())]


def trained(
    run_dir: Path,
    config: AnyConfig,
    held: HeldOut,
    options: Options,
    device: torch.device,
    named_agent: str | None = None,
) -> tuple[Any, int]:
    """Returns a run's agent with its saved weights, and the iteration that they are of."""
    rng = keys.generator(config.seed, keys.Purpose.INIT)
    group = config.task_batch if isinstance(config, Config) else 0
    agent = agents.build(held.spec, config.agent, rng, device, named_agent, group)
    room = checkpoint.room_for(agent)
    found = checkpoint.chosen(directory.existing(run_dir), options.checkpoint, device, room)
    found.load_into(agent, envs.meant_before(config.env.name))
    return agent, found.iteration
