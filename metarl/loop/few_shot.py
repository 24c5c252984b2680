"""Training on supervised tasks: draw tasks and examples, meta-update, log, checkpoint."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.agents import catalogue_few_shot as learners
from metarl.config.settings_few_shot import FewShotConfig, FewShotEnvConfig
from metarl.device import cores
from metarl.envs.supervised import families
from metarl.equations.few_shot import accuracy, cross_entropy, mean_squared_error
from metarl.errors import UserError
from metarl.loop.training import TrainingLoop, to_the_end
from metarl.runs import directory
from metarl.runs.progress import Progress
from metarl.types import Examples, FewShotSpec, FewShotTasks, Learner, Metrics

MEASURED = 10
"""Meta-updates of an iteration, the last ones, before which adaptation is looked at too."""


def train(config: FewShotConfig, preset_name: str, tasks: FewShotTasks | None = None) -> Path:
    """Meta-trains, or continues what `config.run_dir` holds. Returns the run's folder.

    Args:
        config: the whole experiment.
        preset_name: what the progress is headed with.
        tasks: those that `config.env` names; where they are left out, the catalogue's.

    Raises:
        UserError: where the folder cannot be used, or holds a run with other settings.
    """
    known = families.build(config.env) if tasks is None else tasks
    check_named(config.env, known.spec)
    run = directory.create(config.run_dir)
    with directory.Lock(run):
        again = "" if families.is_one(config.env.name) else f" --env {config.env.name}"
        return to_the_end(
            config, run, lambda: FewShotTrainer(config, run, preset_name, known), again
        )


class FewShotTrainer(TrainingLoop):
    """Supervised tasks: an iteration is `sampling.updates` meta-updates."""

    agent: Learner

    def __init__(
        self,
        config: FewShotConfig,
        run: directory.RunDirectory,
        name: str,
        tasks: FewShotTasks,
    ):
        self.config, self.tasks = config, tasks
        super().__init__(config, run, name, {"tasks": 0})

    def _build(self) -> Learner:
        rng = keys.generator(self.config.seed, keys.Purpose.INIT)
        return learners.build(self.tasks.spec, self.config.agent, rng, self.device)

    def _open(self, stack: ExitStack, progress: Progress) -> str:
        for note in getattr(self.tasks, "notes", ()):
            progress.note(note)
        sampling, env = self.config.sampling, self.config.env
        of_each = "of each class" if self.tasks.spec.classes else "of each task"
        return (
            f"{cores()} torch threads on {self.device}, {sampling.updates} meta-updates an "
            f"iteration, {sampling.tasks} tasks in each, {env.shots} examples {of_each}"
        )

    def _iterate(self, progress: Progress) -> Metrics:
        """Meta-updates on fresh tasks; the row has the means over them."""
        config, started = self.config, time.perf_counter()
        updates = config.sampling.updates
        found, curves = [], []
        for update in range(updates):
            support, query = self._draw(update)
            if update >= updates - MEASURED:
                curves.append(
                    adaptation(self.agent, self.tasks.spec, support, query, self.agent.steps)
                )
            found.append(self.agent.meta_update(support, query))
        curve = torch.cat(curves, -1).mean(-1)
        self.iteration += 1
        self.state["tasks"] += updates * config.sampling.tasks
        names = dict.fromkeys(name for x in found for name in x)
        row = {name: float(np.mean([x[name] for x in found if name in x])) for name in names}
        self.state["skipped_in_a_row"] += 1
        if row["skipped"] < 1.0:
            self.state["skipped_in_a_row"] = 0
        spent = time.perf_counter() - started
        self.state["wall_s"] += spent
        self.recent.append(score(self.tasks.spec, curve[:, -1]))
        return {
            "iteration": self.iteration,
            "tasks": self.state["tasks"],
            "wall_s": self.state["wall_s"],
            **named(self.tasks.spec, curve),
            **row,
            "time/update_s": spent,
        }

    def _draw(self, update: int) -> tuple[Examples, Examples]:
        """Support and query of fresh tasks."""
        config = self.config
        rng = keys.generator(config.seed, keys.Purpose.TASKS, self.iteration, update)
        tasks = self.tasks.sample(config.sampling.tasks, rng)
        drawn = self.tasks.draw(tasks, config.env.shots, config.env.queries, rng)
        support, query = (checked(x, self.tasks.spec, len(tasks)) for x in drawn)
        return on(self.device, support), on(self.device, query)


def on(device: torch.device, examples: Examples) -> Examples:
    return Examples(*(x.to(device) for x in examples))


def check_named(env: FewShotEnvConfig, spec: FewShotSpec) -> None:
    """The run's config is what evaluation takes the tasks from, so it must name those given."""
    if families.is_one(env.name) and env.name != spec.name:
        raise UserError(
            f"config.env is {env.name!r}, and the tasks given are {spec.name}; set config.env to "
            "metarl.FewShotEnvConfig('package.module:attribute')"
        )


def checked(examples: Examples, spec: FewShotSpec, num_tasks: int) -> Examples:
    """What tasks drew, as it must be: a user's own may be anything.

    Raises:
        UserError: for other shapes, types or classes than `spec` says.
    """
    inputs, targets = examples
    kinds = {"inputs": torch.float32, "targets": torch.int64 if spec.classes else torch.float32}
    for (name, kind), x in zip(kinds.items(), examples, strict=True):
        if not isinstance(x, Tensor) or x.dtype != kind:
            found = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"{spec.name}: draw() gave {name} of {found}; give a tensor of {kind}")
    number = inputs.shape[1] if inputs.dim() > 1 else 0
    shapes = (num_tasks, number, *spec.input_shape), (num_tasks, number)
    if not spec.classes:
        shapes = shapes[0], (*shapes[1], spec.outputs)
    for name, x, shape in zip(kinds, examples, shapes, strict=True):
        if tuple(x.shape) != shape or not number:
            raise UserError(
                f"{spec.name}: draw() gave {name} of shape {tuple(x.shape)}; expected {shape}"
            )
    if spec.classes and not ((targets >= 0) & (targets < spec.outputs)).all():
        raise UserError(
            f"{spec.name}: draw() gave the class {int(targets.max())}; they are 0 to "
            f"{spec.outputs - 1}"
        )
    return examples


@torch.no_grad()
def adaptation(
    learner: Learner, spec: FewShotSpec, support: Examples, query: Examples, steps: int
) -> Tensor:
    """What the query says of K tasks before adaptation and after each of `steps` steps on the
    support, [measures, steps + 1, K]: the loss, and the accuracy where there are classes."""
    state, found = learner.begin(), []
    for index in range(steps + 1):
        if index:
            state = learner.adapt(state, support)
        predictions = learner.predict(state, query.inputs)
        if spec.classes:
            measures = [f(predictions, query.targets) for f in (cross_entropy, accuracy)]
        else:
            measures = [mean_squared_error(predictions, query.targets)]
        found.append(torch.stack(measures))
    return torch.stack(found, 1)


def named(spec: FewShotSpec, curve: Tensor) -> Metrics:
    """A mean curve [measures, steps + 1] as a row of metrics.jsonl has it."""
    names = ("loss", "accuracy") if spec.classes else ("loss",)
    return {
        f"{name}/step{step}": float(value)
        for name, values in zip(names, curve, strict=True)
        for step, value in enumerate(values)
    }


def score(spec: FewShotSpec, after: Tensor) -> float:
    """The more the better: the accuracy [measures] has after adaptation, or the loss below zero."""
    return float(after[1]) if spec.classes else -float(after[0])
