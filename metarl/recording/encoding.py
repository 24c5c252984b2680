"""Writes frames as a GIF, a video or a strip of pictures."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metarl.errors import UserError

HELD = 1.5
"""Time that the last frame stays, s."""
SMALL = 2_000_000
"""Bytes that a GIF should not exceed: then it has fewer colours."""
COLOURS = (128, 64, 32)
SAMPLES = 6
"""Frames that the colours of a GIF are chosen from."""
WEIGHT = 0.4
"""Power of the number of a colour's pixels by which it counts."""


def gif(frames: Sequence[Image.Image], fps: int, comment: bytes) -> bytes:
    """Returns a GIF that repeats for ever, with as many colours as keep it small."""
    content = b""
    for colours in COLOURS:
        content = _gif(frames, fps, comment, colours)
        if len(content) <= SMALL:
            break
    return content


def _gif(frames: Sequence[Image.Image], fps: int, comment: bytes, colours: int) -> bytes:
    palette = _palette(frames, colours)
    # Without dithering what does not move stays the same, and costs nothing.
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    each = max(2, round(100 / fps)) * 10  # whole hundredths; viewers slow faster ones down
    durations = [each] * (len(drawn) - 1) + [max(each, round(1000 * HELD))]
    content = io.BytesIO()
    drawn[0].save(
        content, "GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0,
        optimize=False, disposal=1, comment=comment,
    )  # fmt: skip
    return content.getvalue()


def _palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """Returns an image with one palette for all frames, of samples of them.

    A colour counts less than its pixels do, so that small things, such as a mark, keep theirs.
    """
    every = max(1, len(frames) // SAMPLES)
    seen = np.concatenate([np.asarray(frame).reshape(-1, 3) for frame in frames[::every]])
    coarse = (seen >> 3).astype(np.int32) @ (1 << 10, 1 << 5, 1)
    _, place, counts = np.unique(coarse, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(place, seen[:, i]) / counts for i in range(3)], axis=1)
    weights = np.ceil(counts**WEIGHT).astype(int)
    weighed = np.repeat(means.round().astype(np.uint8), weights, axis=0)[None]
    return Image.fromarray(weighed).quantize(colours, method=Image.Quantize.MEDIANCUT)


def mp4(frames: Iterable[Image.Image], fps: int, comment: bytes) -> bytes:
    """Returns a video in H.264 that browsers and players show; its sides must be even.

    Raises:
        UserError: where the installed PyAV has no encoder of H.264.
    """
    import av

    # In a file, since the index is moved to the front at the end: a page then shows it at once.
    with tempfile.TemporaryDirectory(prefix="metarl-film-") as folder:
        place = Path(folder) / "film.mp4"
        with av.open(str(place), "w", options={"movflags": "faststart"}) as film:
            film.metadata["comment"] = comment.decode()
            stream = None
            for frame in _with_the_end(frames, round(HELD * fps)):
                if stream is None:
                    stream = _stream(film, fps, frame.size)
                for packet in stream.encode(av.VideoFrame.from_image(frame)):
                    film.mux(packet)
            if stream is not None:
                film.mux(stream.encode(None))
        return place.read_bytes()


def _stream(film: Any, fps: int, size: tuple[int, int]) -> Any:
    try:
        stream = film.add_stream("libx264", rate=fps)
    except ValueError as error:
        raise UserError(
            "the installed PyAV has no encoder libx264 of H.264\n"
            'pip install --force-reinstall --no-deps "av" gives one that has, or write a .gif'
        ) from error
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "22", "preset": "medium"}
    stream.codec_context.thread_count = 2
    return stream


def _with_the_end(frames: Iterable[Image.Image], more: int) -> Iterator[Image.Image]:
    last = None
    for last in frames:
        yield last
    if last is not None:
        for _ in range(more):
            yield last


def png(picture: Image.Image) -> bytes:
    """Returns a picture as PNG, with at most 256 colours."""
    content = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()
