"""Examples of a user's own as a few-shot learner's inputs and targets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.runs.inputs import Inputs
from metarl.text import shown

COLOURS = (1, 3, 4)
"""Channels of an image: gray, RGB, RGB with transparency."""


def prepared(given: Any, spec: Inputs) -> Tensor:
    """Returns examples [N, *input_shape] float32, made as training made its own.

    Args:
        given: an array or a tensor [N, ...], or a list of examples. Whole numbers are raw and are
            scaled as in training; other numbers are taken as they are. For a run on images, also
            images of any size, [H, W] or [H, W, channels], and paths of image files.
        spec: the run's inputs.

    Raises:
        UserError: for another shape, for numbers that training never saw, and what is no number.
    """
    how = spec.preprocessing
    if how.image_size and (files := _files(given)) is not None:
        from metarl.envs.supervised.picture import picture

        gray = spec.input_shape[0] == 1
        images = [_channels(picture(x, how.image_size, gray), spec) for x in files]
        return _scaled(np.stack(images), spec)
    rows = [_plain(x, i) for i, x in enumerate(_rows(given))]
    whole = all(x.dtype.kind in "iub" for x in rows)
    if how.image_size and whole:
        return _scaled(np.stack([_image(x, i, spec) for i, x in enumerate(rows)]), spec)
    found = np.stack([_shaped(x, i, spec) for i, x in enumerate(rows)])
    if whole:
        return _scaled(found, spec)
    with np.errstate(over="ignore"):
        return _checked(found.astype(np.float32), spec)


def _files(given: Any) -> list[Path] | None:
    """Returns paths, where those are given."""
    if isinstance(given, str | Path):
        given = [given]
    if isinstance(given, Sequence) and given and all(isinstance(x, str | Path) for x in given):
        return [Path(x) for x in given]
    return None


def _rows(given: Any) -> Any:
    """Returns the examples in a list or along the first axis."""
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    fits = isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim)
    if not fits or not len(given):
        raise UserError(
            f"the inputs are {shown(given)}; give at least one example: an array [N, ...] or a list"
        )
    return given


def as_array(x: Any) -> np.ndarray:
    """Returns a list, a tensor or an array as an array; what is none, as an array of objects."""
    if isinstance(x, Tensor):
        x = x.detach().cpu().numpy()
    try:
        return np.asarray(x)
    except ValueError:  # lists of unequal length
        return np.array(None)


def _plain(x: Any, index: int) -> np.ndarray:
    found = as_array(x)
    if found.dtype.kind not in "biuf":
        raise UserError(f"inputs[{index}] is {shown(x)}; give an array of real numbers")
    return found


def _shaped(x: np.ndarray, index: int, spec: Inputs) -> np.ndarray:
    """Returns an example [*input_shape]; a single channel or number may lack its axis."""
    shape = spec.input_shape
    if x.shape == shape or (shape[0] == 1 and x.shape == shape[1:]):
        return x.reshape(shape)
    if len(shape) == 3 and x.shape == (*shape[1:], shape[0]):
        return x.transpose(2, 0, 1)
    batch = "\ngive a list or an array of examples, also for a single one" if index == 0 else ""
    raise UserError(
        f"inputs[{index}] has the shape {x.shape}, and the run learned from examples of {shape}, "
        f"those of {spec.name}{batch}"
    )


def _image(x: np.ndarray, index: int, spec: Inputs) -> np.ndarray:
    """Returns a raw image [channels, size, size], resized as training resized its files."""
    from PIL import Image

    size = spec.preprocessing.image_size
    if x.dtype == bool:
        x = x * np.uint8(255)
    if x.ndim == 3 and x.shape[2] not in COLOURS and x.shape[0] in COLOURS:
        x = x.transpose(1, 2, 0)
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    fits = x.ndim == 2 or (x.ndim == 3 and x.shape[2] in COLOURS)
    if not fits or not x.size or x.min() < 0 or x.max() > 255:
        raise UserError(
            f"inputs[{index}], of shape {x.shape} and {x.dtype}, is no image; give whole numbers "
            "0 to 255, [H, W] or [H, W, channels]"
        )
    image = Image.fromarray(np.ascontiguousarray(x, np.uint8))
    if image.mode == "RGBA":
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    if spec.input_shape[0] == 1 or image.mode != "L":
        image = image.convert("L" if spec.input_shape[0] == 1 else "RGB")
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    return _channels(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), spec)


def _channels(image: np.ndarray, spec: Inputs) -> np.ndarray:
    """Returns an image with the channels of the run; a gray one is repeated."""
    return np.broadcast_to(image, spec.input_shape)


def _scaled(raw: np.ndarray, spec: Inputs) -> Tensor:
    """Returns whole numbers as inputs, in the same arithmetic as training."""
    how = spec.preprocessing
    if how.low is not None and how.high is not None:
        low, high = how.low * how.divisor, how.high * how.divisor
        if raw.min() < low or raw.max() > high:
            raise UserError(
                f"the inputs are whole numbers from {raw.min()} to {raw.max()}, and those of "
                f"{spec.name} lie between {low:g} and {high:g}\ngive raw data as training had them"
            )
    if how.inverted:
        raw = how.divisor - raw
    if how.divisor == 255:
        found = raw.astype(np.float32)
        found /= 255
    else:
        found = (raw / how.divisor).astype(np.float32)
    return _checked(found, spec)


def _checked(x: np.ndarray, spec: Inputs) -> Tensor:
    how = spec.preprocessing
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    if len(bad):
        raise UserError(f"inputs[{bad[0]}] has a number that is not finite; leave it out")
    if how.low is not None and how.high is not None and (x.min() < how.low or x.max() > how.high):
        raise UserError(
            f"the inputs are from {x.min():g} to {x.max():g}, and {spec.name} learned numbers "
            f"between {how.low:g} and {how.high:g}\n"
            "give whole numbers, such as inputs.astype('uint8'), and metarl scales them as training"
        )
    return torch.from_numpy(np.ascontiguousarray(x))


def numbered(targets: Any, count: int, spec: Inputs) -> tuple[Tensor, tuple[Hashable, ...]]:
    """Returns labels as classes [N] int64, numbered as they first appear, and the labels.

    Raises:
        UserError: for another number of labels or of classes than the learner tells apart.
    """
    if isinstance(targets, Tensor | np.ndarray):
        targets = targets.tolist()
    labels = list(targets) if isinstance(targets, Sequence) and not isinstance(targets, str) else []
    if len(labels) != count:
        raise UserError(
            f"there are {count} inputs and {len(labels)} targets ({shown(targets)}); give a label "
            "for each input"
        )
    known: dict[Hashable, int] = {}
    try:
        classes = [known.setdefault(_label(x), len(known)) for x in labels]
    except TypeError:
        raise UserError(
            f"the targets hold {shown(labels)}; a label may be anything that is hashable, such as "
            "a text or a number"
        ) from None
    if len(known) != spec.outputs:
        raise UserError(
            f"the targets have {len(known)} classes ({shown(list(known))}), and the run learned "
            f"tasks of {spec.outputs}\ngive as many, or train with --env.ways {max(2, len(known))}"
        )
    return torch.tensor(classes), tuple(known)


def _label(x: Any) -> Hashable:
    """Returns a label as Python's own type."""
    x = x.item() if isinstance(x, np.generic) else x
    hash(x)
    return x


def numbers(targets: Any, count: int, spec: Inputs) -> Tensor:
    """Returns targets [N, outputs] float32; [N] is read too for a single output.

    Raises:
        UserError: for another shape, and for what is not finite.
    """
    found = as_array(targets)
    allowed = [(count, spec.outputs)] + [(count,)] * (spec.outputs == 1)
    if found.dtype.kind not in "biuf" or found.shape not in allowed:
        raise UserError(
            f"the targets are {found.dtype} of shape {found.shape}; give numbers of shape "
            f"{allowed[-1]} for {count} inputs"
        )
    with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused
        found = found.astype(np.float32).reshape(count, spec.outputs)
    if not np.isfinite(found).all():
        raise UserError("a target is not finite; leave its example out")
    return torch.from_numpy(found)
