"""Draws docs/pictures/before-after.png: a half-cheetah before and after adaptation, several moments
of an episode in each picture.

    python scripts/before_after.py
    metarl record results/halfcheetah-vel-maml2017 --task velocity=1.8 --steps 0 1 3 --size 260 \
        --out docs/pictures/adaptation.gif

The second command makes the film beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from metarl.recording.headless import prepare

prepare(required=True)  # before mujoco is imported

import mujoco  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from metarl.envs import catalogue as envs  # noqa: E402
from metarl.envs.given_tasks import parsed  # noqa: E402
from metarl.envs.mujoco.half_cheetah import load_model  # noqa: E402
from metarl.experiments.assembly import run_config  # noqa: E402
from metarl.recording.canvas import GREY, INK, font  # noqa: E402
from metarl.recording.encoding import png  # noqa: E402
from metarl.recording.episodes import Episode  # noqa: E402
from metarl.recording.film import headings  # noqa: E402
from metarl.recording.options import RecordOptions  # noqa: E402
from metarl.recording.record import played_episodes  # noqa: E402
from metarl.recording.scenes.mujoco_view import Drawing, following, lightened  # noqa: E402
from metarl.types import Workers  # noqa: E402

WIDTH, HEIGHT, LINE = 1000, 200, 26
FIELD = 14.0
"""Angle of view, degrees: small, so that perspective distorts little."""
MOMENTS = (0, 100, 200)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("results/halfcheetah-vel-maml2017"))
    options.add_argument("--velocity", type=float, default=1.8)
    options.add_argument("--out", type=Path, default=Path("docs/pictures/before-after.png"))
    given = options.parse_args()
    config: Any = run_config(given.run)
    tasks = envs.configured(config.env)
    chosen = parsed([f"velocity={given.velocity}"], tasks)
    asked = RecordOptions(run_dir=given.run, steps=(0, 1, 3), workers=0)
    (episodes,), _ = played_episodes(asked, config, tasks, chosen, None)
    picture = drawn(episodes, tasks)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(png(picture))


def drawn(episodes: list[Episode], tasks: Any) -> Image.Image:
    """Returns a row for each episode."""
    model = lightened(load_model())
    model.vis.global_.fovy = FIELD
    drawing = Drawing(model, WIDTH, HEIGHT)
    drawing.without_shadows()
    picture = Image.new("RGB", (WIDTH, len(episodes) * (HEIGHT + LINE)), "white")
    write = ImageDraw.Draw(picture)
    heads = headings([episode.step for episode in episodes])
    for row, (episode, head) in enumerate(zip(episodes, heads, strict=True)):
        states, seconds = moments(episode, tasks)
        goal = episode.task["velocity"] * seconds
        speed = (states[-1][0] - states[0][0]) / seconds
        top = row * (HEIGHT + LINE)
        write.text((8, top + 3), head, fill=INK, font=font(15, bold=True))
        about = (
            f"mean speed {speed:.2f} m/s, the task's is {goal / seconds:.2f}; "
            f"return {episode.returned:.0f}"
        )
        write.text((190, top + 4), about, fill=GREY, font=font(14))
        image = several(drawing, states, float(states[0][0]) + goal)
        picture.paste(Image.fromarray(image), (0, top + LINE))
    drawing.close()
    return picture


def moments(episode: Episode, tasks: Any) -> tuple[list[np.ndarray], float]:
    """Returns positions of the joints at MOMENTS, and the seconds from the first to the last."""
    env = tasks.open(1, 1, Workers(0))
    env.set_tasks([episode.task])
    env.reset(np.array([[episode.reset_seed]], np.uint64))
    states = [env.batch.qpos[0].copy()]
    for action in episode.actions:
        env.step(action[None, None])
        states.append(env.batch.qpos[0].copy())
    seconds = episode.length * env.batch.seconds_per_step
    env.close()
    return [states[min(step, episode.length)] for step in MOMENTS], seconds


def several(drawing: Drawing, states: list[np.ndarray], goal: float) -> np.ndarray:
    """Returns a picture of the robot in all states, the earlier ones paler, and a pole at `goal`,
    where the task's speed would have taken its trunk."""
    camera = following(1.65, 0.0, 0.3, 5.8, -7.0)
    total = None
    for index, qpos in enumerate(states):
        drawing.data.qpos[:] = qpos
        mujoco.mj_forward(drawing.model, drawing.data)  # pyright: ignore[reportAttributeAccessIssue]
        image = drawing.image(camera, [(goal, 0.0)]).astype(float)
        if total is None:
            drawing.data.qpos[:] = qpos
            drawing.data.qpos[1] = 50.0  # out of sight
            mujoco.mj_forward(drawing.model, drawing.data)  # pyright: ignore[reportAttributeAccessIssue]
            empty = drawing.image(camera, [(goal, 0.0)])
            total = empty.astype(float)
        paleness = 0.35 + 0.65 * (index + 1) / len(states)
        there = np.abs(image - empty).sum(axis=-1, keepdims=True) > 0
        total = np.where(there, paleness * image + (1 - paleness) * empty, total)
    assert total is not None
    return total.round().astype(np.uint8)


if __name__ == "__main__":
    main()
