"""Labelled examples of supervised tasks as the source of meta-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.config.options import EvaluateFewShotOptions
from metarl.config.settings import FewShotConfig
from metarl.equations.few_shot import accuracy, cross_entropy, mean_squared_error
from metarl.errors import UserError
from metarl.parallel import in_parts
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.measures import ACCURACY, MEAN_SQUARED_ERROR
from metarl.runs.watch import Unwatched, Watch
from metarl.sources import facts
from metarl.sources.source import Note, Rounds
from metarl.text import say
from metarl.threads import threads
from metarl.types import (
    Curves,
    Examples,
    FewShotSpec,
    FewShotTasks,
    Metrics,
    Progress,
    SupervisedAgent,
    takes_progress,
)

if TYPE_CHECKING:
    from metarl.runs.predictions_plot import Panel

MEASURED = 10
"""Meta-updates of an iteration, the last ones, before which adaptation is measured."""
TASKS_AT_ONCE = 50
"""Held-out tasks that adapt together."""
SHOWN = 4
"""Tasks whose predictions are drawn."""


class ExampleSource:
    """Supervised tasks to learn from in training: an iteration is several meta-updates."""

    workers = 0
    recent: Sequence[float] = ()

    def __init__(self, config: FewShotConfig, tasks: FewShotTasks, device: torch.device):
        self.config, self.tasks, self.device = config, tasks, device
        self.counters: dict[str, Any] = {"tasks": 0}
        self.updates = config.sampling.updates

    @property
    def spec(self) -> FewShotSpec:
        return self.tasks.spec

    def open(self, stack: ExitStack, note: Note) -> str:
        for line in getattr(self.tasks, "notes", ()):
            note(line)
        sampling, env = self.config.sampling, self.config.env
        of_each = "of each class" if self.spec.classes else "of each task"
        examples = "example" if env.shots == 1 else "examples"
        return (
            f"{threads(self.config.threads)} on {self.device}, {sampling.updates} meta-updates an "
            f"iteration, {sampling.tasks} tasks in each, {env.shots} {examples} {of_each}"
        )

    def collect(self, agent: SupervisedAgent, iteration: int, update: int) -> Rounds:
        """Draws fresh tasks, and adapts to the support as often as in training."""
        config = self.config
        rng = keys.generator(config.seed, keys.Purpose.TASKS, iteration, update)
        own: Any = self.tasks  # one with a curriculum has an argument more
        extra = {}
        if takes_progress(own):
            extra["progress"] = Progress(iteration, config.iterations, tuple(self.recent))
        tasks = own.sample(config.sampling.tasks, rng, **extra)
        drawn = self.tasks.draw(tasks, config.env.shots, config.env.queries, rng)
        try:
            support, query = (checked(x, self.spec, len(tasks), self.device) for x in drawn)
        except UserError as error:
            error.args = (f"iteration {iteration + 1}: {error}",)
            raise
        states = adapted(agent, support, agent.steps)
        self.counters["tasks"] += len(tasks)
        curve = None
        if update >= self.updates - MEASURED:
            curve = measure(agent, self.spec, states, query)
        return Rounds(states[-1], query, curve)

    @in_parts()
    def outcomes(self, rounds: Sequence[Rounds]) -> Metrics:
        """Returns mean losses, and accuracies where there are classes."""
        curve = torch.cat([x.curve for x in rounds], -1).mean(-1)
        names = ("loss", "accuracy") if self.spec.classes else ("loss",)
        return {
            f"{name}/step{step}": float(value)
            for name, values in zip(names, curve, strict=True)
            for step, value in enumerate(values)
        }

    def sameness(self, rounds: Sequence[Rounds]) -> str:
        del rounds  # a loss tells better from worse, whatever the targets are
        return ""

    def sizes(self, rounds: Sequence[Rounds]) -> dict[str, float]:
        drawn = [x.query for x in rounds]
        named = {"inputs": [x.inputs for x in drawn]}
        return facts.largest(
            named if self.spec.classes else {"targets": [x.targets for x in drawn], **named}
        )

    def score(self, outcomes: Metrics, steps: int) -> float:
        if self.spec.classes:
            return outcomes[f"accuracy/step{steps}"]
        return -outcomes[f"loss/step{steps}"]


def checked(
    examples: Examples, spec: FewShotSpec, num_tasks: int, device: torch.device
) -> Examples:
    """Returns drawn examples on `device`, looked at: a user's own tasks may draw anything.

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
    return Examples(inputs.to(device), targets.to(device))


def adapted(agent: SupervisedAgent, support: Examples, steps: int) -> list[Any]:
    """Returns the tasks' states before adaptation and after each of `steps` steps."""
    states = [agent.begin()]
    for _ in range(steps):
        states.append(agent.adapt(states[-1], support))
    return states


@torch.no_grad()
@in_parts()
def measure(
    agent: SupervisedAgent, spec: FewShotSpec, states: Sequence[Any], query: Examples
) -> Tensor:
    """Returns how well each state of K tasks predicts the query, [measures, states, K].

    Measures are the loss, and the accuracy where there are classes.
    """
    functions = (cross_entropy, accuracy) if spec.classes else (mean_squared_error,)
    found = []
    for state in states:
        predictions = agent.predict(state, query.inputs)
        found.append(torch.stack([f(predictions, query.targets) for f in functions]))
    return torch.stack(found, 1)


def adaptation(
    agent: SupervisedAgent, spec: FewShotSpec, support: Examples, query: Examples, steps: int
) -> Tensor:
    """Returns the measures before adaptation and after each of `steps` steps, as `measure`."""
    return measure(agent, spec, adapted(agent, support, steps), query)


class HeldOutExamples:
    """Held-out supervised tasks, and the examples that every agent sees of them."""

    def __init__(
        self,
        known: FewShotTasks,
        config: FewShotConfig,
        options: EvaluateFewShotOptions,
        device: torch.device,
    ):
        """Draws them; they depend on the seed and their number alone."""
        self.known, self.options, self.spec = known, options, known.spec
        rng = keys.generator(options.seed, keys.Purpose.EVALUATION_TASKS)
        self.tasks = options.own_tasks or known.sample(options.tasks, rng, options.split)
        self.shots = options.shots or config.env.shots
        self.parts: list[tuple[Examples, Examples]] = []
        for start in range(0, len(self.tasks), TASKS_AT_ONCE):
            drawn = keys.generator(options.seed, keys.Purpose.EVALUATION, start)
            some = self.tasks[start : start + TASKS_AT_ONCE]
            examples = known.draw(some, self.shots, config.env.queries, drawn)
            support, query = (checked(x, self.spec, len(some), device) for x in examples)
            self.parts.append((support, query))
        self.measure = ACCURACY if self.spec.classes else MEAN_SQUARED_ERROR
        self.used = (0, *[self.parts[0][0].inputs.shape[1]] * options.steps)

    @property
    def made_from(self) -> Mapping[str, Any]:
        return {"shots": self.shots}

    def seen_by(self, observes_task: bool) -> HeldOutExamples:
        del observes_task  # no such agent learns from examples
        return self

    def adapt(self, agent: SupervisedAgent, name: str, watch: Watch | None = None) -> Outcome:
        """Returns the accuracy or the mean-squared error, [K, steps + 1, 1]."""
        steps = self.options.steps
        number = f"{len(self.tasks)} task{'s' if len(self.tasks) != 1 else ''}"
        say(f"{name}: {steps} step{'s' if steps != 1 else ''} on {number} ...")
        watch, found = watch or Unwatched(), []
        with watch.adapting(name, len(self.tasks), 1):
            for part in self.parts:
                start = sum(map(len, found))
                found.append(adaptation(agent, self.spec, *part, steps)[-1].T)
                watch.round(start, start + len(found[-1]), 1)
        return Outcome(torch.cat(found).double().cpu().numpy()[..., None])

    def shown(self, agent: SupervisedAgent, found: Adaptation, title: str) -> dict[str, bytes]:
        """Draws what the agent predicts in the first tasks, where they are curves."""
        if not isinstance(self.known, Curves):
            return {}
        from metarl.runs.plot_style import png  # imports matplotlib
        from metarl.runs.predictions_plot import predictions_figure

        panels, steps = self._predictions(agent, self.known)
        return {"predictions.png": png(predictions_figure(panels, steps, title))}

    @torch.no_grad()
    def _predictions(self, agent: SupervisedAgent, known: Curves) -> tuple[list[Panel], list[int]]:
        """Returns predictions before adaptation, after one step and after the last."""
        from metarl.runs.predictions_plot import Panel

        last, support = self.options.steps, Examples(*(x[:SHOWN] for x in self.parts[0][0]))
        low, high = known.interval
        xs = np.linspace(low, high, 200, dtype=np.float32)
        inputs = torch.from_numpy(xs).to(support.inputs.device)[None, :, None]
        inputs = inputs.expand(len(support.inputs), -1, -1)
        states, steps = adapted(agent, support, last), sorted({0, min(1, last), last})
        shown = [agent.predict(states[step], inputs)[..., 0].cpu().numpy() for step in steps]
        by_task = np.stack(shown, 1)
        x, y = (part[..., 0].cpu().numpy() for part in support)
        panels = [
            Panel(known.describe(task), xs, known.curve(task, xs), x[i], y[i], by_task[i])
            for i, task in enumerate(self.tasks[: len(x)])
        ]
        return panels, steps
