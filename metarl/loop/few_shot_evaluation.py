"""Adaptation curves of a learner of supervised tasks, on held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue_few_shot as learners
from metarl.config.settings_few_shot import EvaluateFewShotOptions, FewShotConfig
from metarl.device import cores, torch_device
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.assembly import check_same_tasks, few_shot_run, labelled
from metarl.loop.few_shot import adaptation, check_named, checked, on
from metarl.runs import checkpoint, directory
from metarl.runs.adaptation import Adaptation, Outcome, write_csv, write_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.comparison import curves, text_table
from metarl.runs.measures import ACCURACY, MEAN_SQUARED_ERROR
from metarl.runs.plot_style import save
from metarl.runs.predictions_plot import Panel, predictions_figure
from metarl.runs.report import write_report
from metarl.types import Curves, Examples, FewShotTasks, Learner, Task

TASKS_AT_ONCE = 50
"""Held-out tasks that adapt together."""
SHOWN = 4
"""Tasks whose predictions are drawn."""


class Held(NamedTuple):
    """Held-out tasks, and the examples that every learner sees of them."""

    tasks: Sequence[Task]
    parts: list[tuple[Examples, Examples]]
    """Support and query of `TASKS_AT_ONCE` of them after others."""
    shots: int


def evaluate(options: EvaluateFewShotOptions, tasks: FewShotTasks | None = None) -> Path:
    """Writes the run's adaptation.json, .csv, .png and report, and prints the table.

    `tasks` are what the run learned from; where they are left out, the catalogue's. Of regression
    in one dimension predictions.png shows the first few. Returns the picture's path.

    Raises:
        UserError: for a run without weights, or one to compare with on other tasks.
    """
    config = few_shot_run(options.run_dir)
    run = directory.create(options.run_dir)
    torch.set_num_threads(cores())
    against = labelled(options.against, config.agent.name)
    rivals = {name: (path, few_shot_run(path)) for name, path in against.items()}
    for name, (_, other) in rivals.items():
        check_same_tasks(name, other, config)
    known = families.build(config.env) if tasks is None else tasks
    check_named(config.env, known.spec)
    device = torch_device(options.device)
    held = _held_out(known, config, options, device)
    learner, iteration = _trained(run.root, config, known, options, device)
    outcome = _adapt(learner, known, held, options.steps, config.agent.name)
    controls, others = {}, {}
    if "random" in options.controls:
        rng = keys.generator(options.seed, keys.Purpose.CONTROL)
        drawn = learners.build(known.spec, config.agent, rng, device)
        controls["random initialisation"] = _adapt(drawn, known, held, options.steps, "random")
    for name, (path, other) in rivals.items():
        rival, _ = _trained(path, other, known, options, device)
        others[name] = _adapt(rival, known, held, options.steps, name)
    found = Adaptation(
        env=config.env.name,
        agent=config.agent.name,
        split=options.split,
        steps=tuple(range(options.steps + 1)),
        env_steps=(0, *[held.parts[0][0].inputs.shape[1]] * options.steps),
        tasks=tuple(held.tasks),
        outcome=outcome,
        controls=controls,
        others=others,
        made_from={
            "iteration": iteration,
            "checkpoint": options.checkpoint,
            "seed": options.seed,
            "shots": held.shots,
        },
        measure=ACCURACY if known.spec.classes else MEAN_SQUARED_ERROR,
    )
    files = run.evaluation_of(options.split)
    files.root.mkdir(exist_ok=True)
    write_json(files.adaptation_json, found)
    write_csv(files.adaptation_csv, found)
    save(files.adaptation_png, adaptation_figure(found))
    pictures = [files.adaptation_png]
    if isinstance(known, Curves):
        panels, steps = _predictions(learner, known, held, options.steps)
        title = f"{config.agent.name} on {config.env.name}, {options.split} tasks"
        save(files.predictions_png, predictions_figure(panels, steps, title))
        pictures.append(files.predictions_png)
    print(text_table(curves(found)))
    report = write_report(run.root)
    print(f"\nnumbers  {files.adaptation_json}")
    print("\n".join(f"picture  {picture}" for picture in pictures))
    print(f"report   {report}")
    return files.adaptation_png


def _held_out(
    known: FewShotTasks,
    config: FewShotConfig,
    options: EvaluateFewShotOptions,
    device: torch.device,
) -> Held:
    """They depend on the seed and their number alone, so every learner meets the same."""
    rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
    tasks = known.sample(options.tasks, rng, options.split)
    shots, parts = options.shots or config.env.shots, []
    for start in range(0, len(tasks), TASKS_AT_ONCE):
        drawn = keys.generator(options.seed, keys.Purpose.EVALUATION, start)
        some = tasks[start : start + TASKS_AT_ONCE]
        examples = known.draw(some, shots, config.env.queries, drawn)
        support, query = (checked(x, known.spec, len(some)) for x in examples)
        parts.append((on(device, support), on(device, query)))
    return Held(tasks, parts, shots)


def _trained(
    run_dir: Path,
    config: FewShotConfig,
    known: FewShotTasks,
    options: EvaluateFewShotOptions,
    device: torch.device,
) -> tuple[Learner, int]:
    """The run's learner with its saved weights, and the iteration that they are of."""
    saved = directory.existing(run_dir).checkpoints
    load = checkpoint.best if options.checkpoint == "best" else checkpoint.load_latest
    found = load(saved, device)
    if found is None:
        raise UserError(
            f"{run_dir} has no checkpoint yet\n`python -m metarl.train --config "
            f"{run_dir / 'config.yaml'}` trains on to its first"
        )
    rng = keys.generator(config.seed, keys.Purpose.INIT)
    learner = learners.build(known.spec, config.agent, rng, device)
    try:
        learner.load_state_dict(found.tensors)
    except ValueError as error:
        raise UserError(f"{found.path}: {error}") from None
    return learner, found.iteration


def _adapt(learner: Learner, known: FewShotTasks, held: Held, steps: int, name: str) -> Outcome:
    """[K, steps + 1, 1]: the accuracy, or the mean-squared error."""
    print(f"{name}: {steps} step{'s' if steps != 1 else ''} on {len(held.tasks)} tasks ...")
    found = [adaptation(learner, known.spec, *part, steps)[-1].T for part in held.parts]
    return Outcome(torch.cat(found).double().cpu().numpy()[..., None])


@torch.no_grad()
def _predictions(
    learner: Learner, known: Curves, held: Held, last: int
) -> tuple[list[Panel], list[int]]:
    """What the learner draws of the first tasks, before adaptation, after one step and the last."""
    support = Examples(*(x[:SHOWN] for x in held.parts[0][0]))
    low, high = known.interval
    xs = np.linspace(low, high, 200, dtype=np.float32)
    inputs = torch.from_numpy(xs).to(support.inputs.device)[None, :, None]
    inputs = inputs.expand(len(support.inputs), -1, -1)
    state, shown, steps = learner.begin(), [], sorted({0, 1, last} - ({1} if last < 1 else set()))
    for step in range(last + 1):
        if step:
            state = learner.adapt(state, support)
        if step in steps:
            shown.append(learner.predict(state, inputs)[..., 0].cpu().numpy())
    by_task = np.stack(shown, 1)
    x, y = (part[..., 0].cpu().numpy() for part in support)
    panels = [
        Panel(known.describe(task), xs, known.curve(task, xs), x[i], y[i], by_task[i])
        for i, task in enumerate(held.tasks[: len(x)])
    ]
    return panels, steps
