"""Reads and writes inputs.json: the inputs of a few-shot run, and how training made them of raw
data. So a trained learner can be used without the data that it learned from."""

from __future__ import annotations

import json
from math import prod
from typing import Any, NamedTuple

from metarl import found
from metarl.errors import UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.files import replace_text
from metarl.text import shown

MOST_NUMBERS = 1 << 24
"""Numbers of an example."""


class Preprocessing(NamedTuple):
    """How raw data become inputs of a network.

    Whole numbers are raw: they are divided. Other numbers are taken as they are.
    """

    divisor: float = 1.0
    """Whole numbers are divided by it: 255 for images of 8 bits."""
    low: float | None = None
    high: float | None = None
    """Bounds of inputs after it; None: there are none."""
    inverted: bool = False
    """Whether raw images have white paper, and inputs have paper 0 and ink 1."""
    image_size: int = 0
    """Pixels along each side that raw images are resized to; 0: they have that size already."""


class Inputs(NamedTuple):
    """The tasks of a few-shot run as its network sees them."""

    name: str
    input_shape: tuple[int, ...]
    outputs: int
    classes: bool
    preprocessing: Preprocessing

    def as_json(self) -> dict[str, Any]:
        found = self._asdict()
        return {**found, "preprocessing": self.preprocessing._asdict()}

    @classmethod
    def from_json(cls, document: Any, place: str) -> Inputs:
        """Returns the inputs that `as_json` described.

        Raises:
            UserError: for anything else; it names `place`.
        """
        try:
            given = dict(document)
            how = Preprocessing(**given.pop("preprocessing"))
            inputs = cls(**given, preprocessing=how)
            inputs = inputs._replace(input_shape=tuple(inputs.input_shape))
        except (TypeError, ValueError, KeyError):
            raise _no_record(place, document) from None
        whole = (*inputs.input_shape, inputs.outputs)
        numbers = [x for x in (how.divisor, how.low, how.high) if x is not None]
        if not (
            isinstance(inputs.name, str)
            and all(type(x) is int and 0 < x <= MOST_NUMBERS for x in whole)
            and prod(whole) <= MOST_NUMBERS
            and all(type(x) in (int, float) for x in numbers)
            and how.divisor > 0
            and type(how.image_size) is int
            and 0 <= how.image_size <= 1 << 12
            and (not how.image_size or inputs.input_shape[1:] == (how.image_size,) * 2)
            and all(type(x) is bool for x in (inputs.classes, how.inverted))
        ):
            raise _no_record(place, document)
        return inputs


def _no_record(place: str, document: Any) -> UserError:
    return UserError(
        f"{place} is no record of a few-shot run's inputs: {shown(document, 80)}\n"
        "remove it; then metarl asks the run's tasks"
    )


def of(tasks: Any) -> Inputs:
    """Returns the inputs of few-shot tasks; a user's own may have the attribute `preprocessing`."""
    how = getattr(tasks, "preprocessing", None)
    how = how if isinstance(how, Preprocessing) else Preprocessing()
    name, shape, outputs, classes = tasks.spec
    return Inputs(name, tuple(map(int, shape)), int(outputs), bool(classes), how)


def write(run: RunDirectory, inputs: Inputs) -> None:
    """Writes a run's record of its inputs."""
    replace_text(run.inputs, json.dumps(inputs.as_json(), indent=2) + "\n")


def read(run: RunDirectory) -> Inputs | None:
    """Returns a run's record of its inputs; None for a run without one.

    Raises:
        UserError: for anything else in its place.
    """
    try:
        document = found.json_object(run.inputs, values=1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{run.inputs} cannot be read: {error.strerror}") from None
    return Inputs.from_json(document, str(run.inputs))
