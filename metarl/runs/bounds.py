"""Bounds of an evaluation's size, so that nobody writes what `metarl report` refuses."""

from __future__ import annotations

from metarl.errors import UserError

MOST_VALUES = 2_000_000
"""Values in an adaptation.json: two or three for each episode of each learner."""
MOST_BYTES = 1 << 26
"""Bytes of an adaptation.json."""
MOST_TASKS = 100_000
MOST_STEPS = 2_000
MOST_LEARNERS = 100
MOST_CLASSES = 100
MOST_RESAMPLED = 150_000
"""Tasks x steps x learners that intervals are computed for; tasks beyond 2,000 cost nothing."""


def check(
    tasks: int, steps: int, episodes: int, learners: int, arrays: int = 3, described: int = 0
) -> None:
    """Raises a UserError for an evaluation whose results are too many to be read.

    Args:
        tasks: their number.
        steps: adaptation steps, with the one before adaptation.
        episodes: per task and step.
        learners: the run, controls and other runs.
        arrays: values that are kept of an episode: return, success, time of success.
        described: values that describe the tasks, if they are known.
    """
    from_steps = (steps + 2) * learners * 8 + max(20 * tasks, described)  # with summaries
    found = {
        "values": (arrays * tasks * steps * (episodes + 1) * learners + from_steps, MOST_VALUES),
        "tasks": (tasks, MOST_TASKS),
        "adaptation steps": (steps, MOST_STEPS),
        "learners": (learners, MOST_LEARNERS),
        "tasks x steps x learners": (min(tasks, 2000) * steps * learners, MOST_RESAMPLED),
    }
    for what, (number, most) in found.items():
        if number > most:
            raise UserError(
                f"an evaluation of {tasks:,} tasks x {steps:,} steps x {episodes:,} episodes x "
                f"{learners:,} learners has {number:,} {what}; at most {most:,} can be read\n"
                "evaluate fewer tasks, steps, episodes or runs at once"
            )
