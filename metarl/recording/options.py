"""Options of `metarl record`; imports neither torch nor a simulator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from metarl.config.ranges import Count, Natural, Range, Seconds
from metarl.config.settings import ActOn, Device, ThreadCount, WorkerCount
from metarl.errors import UserError
from metarl.text import shown

MOST_PANELS = 48
"""Panels of a film; more could not be told apart."""

Panels = Annotated[int, Range(least=1, most=MOST_PANELS)]
Pixels = Annotated[int, Range(least=96, most=1920)]
Rate = Annotated[int, Range(least=1, most=60)]
Later = Annotated[int, Range(least=0, most=1000)]


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Options of `metarl record`."""

    run_dir: Path
    """Folder of the run whose meta-parameters adapt."""
    steps: tuple[Later, ...] = (0, 1)
    """Adaptation steps after which an episode is filmed, side by side; 0 is before adaptation."""
    tasks: Panels = 1
    """Tasks, one below the other: the first of those that `metarl evaluate` adapts to."""
    task: tuple[str, ...] = ()
    """Tasks of your own in their place, as `mass=1.7,goal=1.0` or `goal=0.1,-0.2`; the flag may be
    repeated."""
    task_file: str = ""
    """JSON, YAML or CSV file with tasks of your own."""
    split: Literal["train", "test"] = "test"
    """Tasks of training, or held-out ones."""
    episodes: Count = 20
    """Episodes of a task that an adaptation step learns from. They are not filmed."""
    actions: Literal["sampled", "likeliest"] = "sampled"
    """Actions in the filmed episodes: sampled from the policy, or its likeliest ones."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Saved weights to use: the newest, or those with the best result in training."""
    seed: Natural = 1
    """Seed of tasks and all randomness. All panels of a task start from the same reset seed."""
    out: str = ""
    """File of the film, .mp4 or .gif. Empty: RUN_DIR/films/NAME.gif, with a picture and its facts
    beside it."""
    name: str = "adaptation"
    """NAME of a film in the run's folder, where it replaces an earlier one of that name."""
    force: bool = False
    """Replace the file of `--out` if it is a film of metarl."""
    fps: Rate | Literal["auto"] = "auto"
    """Frames per second; `auto` is 25."""
    size: Pixels = 320
    """Width of a panel, pixels."""
    every: Count | Literal["auto"] = "auto"
    """Environment steps from one frame to the next; `auto` gives a .gif at most 75 frames, and
    an .mp4 at most 500."""
    device: Device = "auto"
    threads: ThreadCount = "auto"
    """Threads of torch; `auto` is OMP_NUM_THREADS, else one for each core."""
    workers: WorkerCount = "auto"
    """Processes that play episodes; 0 is this process alone, `auto` as many as `threads`."""
    act_on: ActOn = "auto"
    """Place where the policy acts: in the workers, or on `device`."""
    worker_timeout: Seconds = 60.0
    """Longest time of a step, a reset or a construction before its worker is replaced, s."""


def check(options: RecordOptions) -> None:
    """Raises a UserError for options that contradict each other, and for too many panels."""
    steps = options.steps
    if not steps or list(steps) != sorted(set(steps)):
        raise UserError(
            f"--steps is {' '.join(map(str, steps)) or 'empty'}; give growing numbers of "
            "adaptation steps, such as 0 1 3"
        )
    if options.task and options.task_file:
        raise UserError("--task and --task-file both give tasks; give one of them")
    check_panels(options, len(options.task) or options.tasks)
    if not re.fullmatch(r"[\w][\w.-]{0,79}", options.name, re.ASCII):
        raise UserError(
            f"--name is {shown(options.name)}; give up to 80 letters, digits, '-', '_' and '.'"
        )


def check_panels(options: RecordOptions, tasks: int) -> None:
    """Raises a UserError for more panels than can be told apart."""
    if (panels := tasks * len(options.steps)) > MOST_PANELS:
        raise UserError(
            f"{tasks} tasks by {len(options.steps)} --steps are {panels} panels; "
            f"a film has at most {MOST_PANELS}"
        )
