"""A trained few-shot learner that adapts to examples of a user's own, and what it predicts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents import catalogue as agents
from metarl.agents.supervised import SupervisedAgent, TaskState
from metarl.config import own_code
from metarl.config.checks import check_ranges
from metarl.config.files import overlay
from metarl.config.settings import FewShotConfig
from metarl.deployment import examples, folder
from metarl.deployment.arguments import count, place
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.runs import inputs
from metarl.runs.directory import RunDirectory
from metarl.runs.inputs import Inputs
from metarl.text import shown
from metarl.types import Examples, FewShotSpec


class AdaptedLearner:
    """A few-shot learner after adaptation to one task."""

    def __init__(
        self,
        agent: Any,
        state: Any,
        inputs: Inputs,
        labels: tuple[Hashable, ...],
        facts: Mapping[str, Any],
        flat: bool = False,
    ):
        """
        Args:
            agent: with the weights that the adaptation began from.
            state: the task's, that its `adapt` returned.
            inputs: the form of its inputs.
            labels: those of the classes 0, 1, ...; none where targets are numbers.
            facts: where it comes from, as values for JSON.
            flat: whether targets are [N] and not [N, 1].
        """
        self.agent, self.state, self.inputs = agent, state, inputs
        self.labels, self.facts, self._flat = labels, dict(facts), flat

    def __repr__(self) -> str:
        return f"AdaptedLearner({', '.join(f'{k}={v!r}' for k, v in self.facts.items())})"

    @property
    def device(self) -> torch.device:
        return self.agent.device

    def predict(self, inputs: Any, probabilities: bool = False) -> Any:
        """Returns a prediction for each of N inputs.

        Args:
            inputs: N examples, as `adapt` takes them.
            probabilities: whether to return those of the classes, [N, classes] in the order of
                `labels`.

        Returns:
            A list of labels; for numbers, an array in the shape of the targets.

        Raises:
            UserError: for other inputs than the run's, and probabilities where there are none.
        """
        if probabilities and not self.inputs.classes:
            raise UserError(
                f"{self.inputs.name} has numbers as targets, which have no probabilities\n"
                "leave out probabilities=True"
            )
        rows = examples.prepared(inputs, self.inputs)[None].to(self.device)
        found = self.agent.predict(self.state, rows)[0].cpu()
        if not self.inputs.classes:
            return found[:, 0].numpy() if self._flat else found.numpy()
        if probabilities:
            return found.double().softmax(-1).numpy()
        return [self.labels[i] for i in found.argmax(-1).tolist()]

    def save(self, path: Path | str) -> Path:
        """Writes the learner into a new folder, which `metarl.load_policy` reads without the run.

        Raises:
            UserError: where the path exists or cannot be written, for labels that JSON does not
                have, and for an agent of a user's own.
        """
        if not isinstance(self.agent, SupervisedAgent):
            raise UserError(
                f"{self.facts['agent']} is an agent of your own, and metarl cannot write it\n"
                "save its weights by your own code"
            )
        for label in self.labels:
            if not isinstance(label, str | int | float | None) or (
                isinstance(label, float) and not math.isfinite(label)
            ):
                raise UserError(
                    f"the label {shown(label)} cannot be saved; adapt with labels that are texts "
                    "or numbers"
                )
        document = {
            "kind": folder.LEARNER,
            "made_from": self.facts,
            "agent": asdict(self.agent.config),
            "inputs": self.inputs.as_json(),
            "labels": list(self.labels),
            "flat": self._flat,
        }
        tensors = {name: x.detach().cpu().numpy() for name, x in self.state.params.items()}
        return folder.write(place(path, "the saved learner"), document, tensors)


class LoadedLearner:
    """A trained few-shot learner with the weights of one checkpoint. Nothing changes it."""

    def __init__(self, agent: Any, inputs: Inputs, facts: Mapping[str, Any], steps: int):
        """`steps` are those of `adapt` where it is not told how many."""
        self.agent, self.inputs, self.facts, self.steps = agent, inputs, dict(facts), steps

    def __repr__(self) -> str:
        return f"LoadedLearner({', '.join(f'{k}={v!r}' for k, v in self.facts.items())})"

    def adapt(self, inputs: Any, targets: Any = None, steps: int | None = None) -> AdaptedLearner:
        """Returns the learner after adaptation to the examples of one task.

        Args:
            inputs: N examples: an array or a tensor [N, ...], or a list; see
                `deployment/examples.py`.
            targets: N labels of any hashable type, of as many classes as in training; or numbers
                [N, outputs], or [N] for a single one.
            steps: adaptation steps, all on the same examples; left out, as many as in training.

        Raises:
            UserError: for anything else.
        """
        if targets is None:
            raise UserError(
                f"adapt was given {shown(inputs)} and no targets\n"
                f"{self.facts['agent']} learns from examples: give adapt(inputs, targets)"
            )
        steps = self.steps if steps is None else count("steps", steps)
        x, labels = examples.prepared(inputs, self.inputs), ()
        if self.inputs.classes:
            y, labels = examples.numbered(targets, len(x), self.inputs)
        else:
            y = examples.numbers(targets, len(x), self.inputs)
        support = Examples(*(one[None].to(self.agent.device) for one in (x, y)))
        state = self.agent.begin()
        for _ in range(steps):
            state = self.agent.adapt(state, support)
        facts = {**self.facts, "steps": steps, "examples": len(x)}
        flat = not self.inputs.classes and np.ndim(targets) == 1
        return AdaptedLearner(self.agent, state, self.inputs, labels, facts, flat)


def loaded(
    path: Path,
    config: FewShotConfig,
    checkpoint: str | int,
    device: torch.device,
    given: Any,
    named_agent: str | None,
) -> LoadedLearner:
    """Returns the learner of a run; see `loading.load`.

    Raises:
        UserError: also for a run without a record of its inputs whose data are gone.
    """
    from metarl.deployment.loading import check_place, with_weights

    by_name = given is None or isinstance(given, str)
    if isinstance(given, str):
        check_place(config, given)
    found = inputs.read(RunDirectory(path))
    if found is None or given is not None:
        found = inputs.of(envs.configured(config.env, given) if by_name else given)
    made, iteration = with_weights(path, config, _spec(found), checkpoint, device, named_agent)
    facts = {"agent": config.agent.name, "tasks": config.env.name, "iteration": iteration}
    return LoadedLearner(made, found, facts, max(1, made.steps))


def _spec(found: Inputs) -> FewShotSpec:
    return FewShotSpec(found.name, found.input_shape, found.outputs, found.classes)


def restored(saved: folder.Saved, path: Path) -> AdaptedLearner:
    """Returns a saved learner.

    Raises:
        UserError: for anything that `save` does not write.
    """
    file, document = path / folder.DOCUMENT, saved.document
    try:
        settings, labels = document["agent"], document["labels"]
        if own_code.is_place(settings["name"]):
            raise TypeError(settings["name"])
        config = overlay(agents.default(settings["name"], "examples"), settings, str(file))
        check_ranges(config, str(file))
        form = Inputs.from_json(document["inputs"], str(file))
        facts = document["made_from"]
        fits = isinstance(facts, dict) and isinstance(labels, list)
        if not fits or len(labels) != form.outputs * form.classes:
            raise TypeError(labels)
        kept = tuple(examples._label(x) for x in labels)
    except (KeyError, TypeError, AttributeError) as error:
        raise folder.damaged(file, f"it describes no learner ({error!r:.80})") from None
    cpu = torch.device("cpu")
    agent = agents.build(_spec(form), config, np.random.default_rng(0), cpu)
    params = {name: torch.from_numpy(x.copy()) for name, x in saved.tensors.items()}
    learner = AdaptedLearner(agent, _state(agent, params, file), form, kept, facts)
    learner._flat = document.get("flat") is True
    return learner


def _state(agent: SupervisedAgent, params: dict[str, Tensor], file: Path) -> TaskState:
    """Returns the state of a task with these parameters.

    Raises:
        UserError: where they are none of the agent's.
    """
    state = TaskState(agent, params)
    for name, x in agent.begin().params.items():
        found = tuple(params[name].shape) if name in params else None
        if found not in (shape := tuple(x.shape), (1, *shape)):
            raise folder.damaged(file, f"{name} has the shape {found}, and the agent's {shape}")
    try:
        shape = (1, 1, *agent.spec.input_shape)
        found = agent.predict(state, torch.zeros(shape)).shape
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        raise folder.damaged(file, f"its tensors are no learner's ({error!r:.80})") from None
    if found != (1, 1, agent.spec.outputs):
        raise folder.damaged(file, "its tensors are no learner's")
    return state
