"""The commands that repeat a run, its evaluation and its page."""

from __future__ import annotations

from shlex import quote
from typing import Any

from metarl.runs.adaptation import Adaptation
from metarl.text import printable

NOTE = (
    "The first line trains anew with these settings into another folder. Equal versions on an "
    "equal machine give equal numbers. Code of your own is named again with --env or --agent."
)
PLAIN = (int, float, str)
"""Types of a setting that a command line can have."""
MOST_LETTERS = 60
"""Characters of a setting."""


def commands(place: str, adaptation: Adaptation | None) -> str:
    """Returns the lines that train, evaluate and report again.

    Args:
        place: the run's folder, as it may be named on a command line.
        adaptation: the evaluation that is repeated, if there is one.
    """
    place = place.rstrip("/") or place
    config, again = (quote(f"{place}{end}") for end in ("/config.yaml", "-again"))
    lines = [f"metarl train --config {config} --run-dir {again}"]
    if adaptation is not None:
        lines.append(f"metarl evaluate {quote(place)}{_flags(adaptation)}")
    return printable("\n".join([*lines, f"metarl report {quote(place)}"]))


def _flags(adaptation: Adaptation) -> str:
    made, values = adaptation.made_from, adaptation.outcome.values
    asked: dict[str, Any] = {} if adaptation.split == "test" else {"split": adaptation.split}
    if not any("class" in task for task in adaptation.tasks):  # else --tasks counts a class's goals
        asked["tasks"] = len(adaptation.tasks)
    asked["steps"] = len(adaptation.steps) - 1
    if adaptation.by_mode:
        asked["mode-episodes"] = made.get("mode_episodes")
    elif adaptation.measure.of_episodes:
        asked["episodes"] = values.shape[-1]
    asked |= {name: made[name] for name in ("shots", "checkpoint", "seed") if name in made}
    if "random initialisation" in adaptation.controls:
        asked["controls"] = "random"
    return "".join(
        f" --{name} {quote(str(value))}"
        for name, value in asked.items()
        if type(value) in PLAIN and len(str(value)) <= MOST_LETTERS
    )
