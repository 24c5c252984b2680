"""Reads the evaluations of runs into learners: scores over seeds and tasks that may be compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any, Literal, NamedTuple

import numpy as np

from metarl.config.files import read_mapping
from metarl.errors import UserError
from metarl.runs import places, publish
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.directory import Evaluation, RunDirectory, check, existing
from metarl.runs.measures import Measure
from metarl.runs.output import identity
from metarl.runs.plain import plain
from metarl.runs.seeds import seeds_of
from metarl.text import printable, shown

SUCCESS = Measure("success", "episodes solved", of_episodes=True, share=True)
"""Measure of a comparison by success."""

MOST_LEARNERS = 50
"""Learners that are compared at once; each two of them are a pair."""


class Seed(NamedTuple):
    """Run of a learner, with its evaluation."""

    run: Path
    adaptation: Adaptation


class Learner(NamedTuple):
    """Learner with an evaluation of each of its seeds on the same tasks."""

    label: str
    seeds: tuple[Seed, ...]
    scores: np.ndarray  # [N, K] after the compared step, episodes averaged

    @property
    def agent(self) -> str:
        return self.seeds[0].adaptation.agent

    @property
    def used(self) -> list[float]:
        """Environment steps or examples used in one task by each step that all seeds have, as the
        mean over seeds: episodes that end early make seeds differ."""
        used = zip(*(seed.adaptation.env_steps for seed in self.seeds), strict=False)
        return [sum(each) / len(self.seeds) for each in used]


class Field(NamedTuple):
    """Learners that are compared, and what their scores are."""

    learners: tuple[Learner, ...]
    step: int
    """Adaptation step after which they are compared."""
    measure: Measure
    same_tasks: bool
    """Whether all learners were evaluated on equal tasks."""

    @property
    def steps(self) -> str:
        """Returns the step in words."""
        return f"{self.step} adaptation step{'s' if self.step != 1 else ''}"


def read(
    paths: Sequence[Path],
    labels: Sequence[str] = (),
    step: int | Literal["last"] = "last",
    success: bool = False,
    name: str = "",
) -> Field:
    """Reads the evaluations of runs and of folders of seeds.

    Args:
        paths: a run or a folder of seeds for each learner.
        labels: a name for each learner; empty: the shortest distinct ends of the paths.
        step: adaptation step; `last` is the last that all evaluations have.
        success: whether to compare success rates in the place of returns.
        name: name of the evaluation to read; empty: that on held-out tasks.

    Raises:
        UserError: for a run without this evaluation, and for runs that cannot be compared.
    """
    named = labelled(paths, labels)
    if len(named) > MOST_LEARNERS:
        raise UserError(
            f"{len(named)} learners are given; at most {MOST_LEARNERS} can be compared at once\n"
            "compare fewer, or name a folder with seed1, seed2, ... for the seeds of one learner"
        )
    _check_name(name)
    found = {label: _seeds(path, name) for label, path in named.items()}
    _check_distinct(seed.run for seeds in found.values() for seed in seeds)
    everyone = [seed for seeds in found.values() for seed in seeds]
    for other in everyone[1:]:
        _check_alike(everyone[0], other)
    for seeds in found.values():
        _check_same_tasks(seeds, name)
    at = _step(everyone, step)
    learners = tuple(
        Learner(label, seeds, np.stack([_scores(seed, at, success) for seed in seeds]))
        for label, seeds in found.items()
    )
    first = _comparable(learners[0])
    same = all(_comparable(learner) == first for learner in learners[1:])
    measure = SUCCESS if success else everyone[0].adaptation.measure
    return Field(learners, at, measure, same)


def labelled(paths: Sequence[Path], labels: Sequence[str] = ()) -> dict[str, Path]:
    """Returns learners' folders by their names.

    Raises:
        UserError: for names that are too few, too many or not distinct, and a folder given twice.
    """
    if not paths:
        raise UserError("no runs are given; name runs or folders of seeds, such as runs/point-goal")
    for one, other in combinations(paths, 2):
        if os.path.realpath(one) == os.path.realpath(other):
            raise UserError(f"{one} and {other} are the same folder; name each once")
    if not labels:
        labels = [_end(path, paths) for path in paths]
    if len(labels) != len(paths):
        raise UserError(
            f"--label has {len(labels)} names for {len(paths)} runs: {', '.join(labels)}\n"
            "give as many, in the order of the runs"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise UserError(f"two runs have the name {shown(twice)}; give distinct ones with --label")
    return {printable(label): path for label, path in zip(labels, paths, strict=True)}


def _end(path: Path, paths: Sequence[Path]) -> str:
    """Returns the shortest end of a path that no other path has."""
    whole = [Path(os.path.abspath(other)).parts for other in paths]
    own = Path(os.path.abspath(path)).parts
    for count in range(1, len(own)):
        if sum(parts[-count:] == own[-count:] for parts in whole) == 1:
            return "/".join(own[-count:])
    return str(path)


def _check_name(name: str) -> None:
    if name and (name != Path(name).name or name.startswith(".")):
        raise UserError(
            f"--name is {shown(name)}; give the name of an evaluation, a folder in RUN/evaluation"
        )


def _seeds(path: Path, name: str) -> tuple[Seed, ...]:
    return tuple(Seed(run, evaluation_of(run, name)) for run in seeds_of(path))


def evaluation_of(path: Path, name: str = "") -> Adaptation:
    """Returns the evaluation of a run that has a name; "" is that on held-out tasks.

    Raises:
        UserError: for a run without it; it says which command makes it.
    """
    run = existing(path)
    evaluation = Evaluation(run.evaluation.root / name) if name else run.evaluation
    places.check(run.root, [evaluation.root], [evaluation.adaptation_json])
    file = evaluation.adaptation_json
    if not name:
        file = publish.seen(run, "test", file)
    if not file.is_file():
        raise UserError(f"{run.root} has no {_called(name)}\n`{_command(run, name)}` makes it")
    return read_json(file)


def _called(name: str) -> str:
    return f"evaluation {name!r}" if name else "evaluation on held-out tasks"


def _command(run: RunDirectory, name: str) -> str:
    """Returns the command that evaluates a run."""
    words = ["metarl", "evaluate", quote(str(run.root))]
    own = {"train": "--split train", "own": "--task ...", "other": "--env ..."}
    if name in own:
        words.append(own[name])
    elif name:
        words += ["--name", quote(name)]
    for section in ("env", "agent"):  # code of a user's own has to be named
        settings = read_mapping(run.config).get(section)
        value = settings.get("name") if isinstance(settings, dict) else None
        if isinstance(value, str) and "." in value.partition(":")[0]:
            words += [f"--{section}", quote(value)]
    return printable(" ".join(words))


def _check_distinct(runs: Iterable[Path]) -> None:
    """Raises a UserError for a run that is compared twice, also as a copy."""
    known: dict[str, Path] = {}
    for path in runs:
        run = RunDirectory(path)
        check(run)
        before = known.setdefault(identity(run), path)
        if before != path:
            raise UserError(
                f"{before} and {path} are the same run: the first lines of their metrics are equal"
                "\nleave one of them out"
            )


def _check_alike(one: Seed, other: Seed) -> None:
    """Raises a UserError for evaluations whose values mean different things."""
    ours, theirs = (_meaning(seed.adaptation) for seed in (one, other))
    for key, value in ours.items():
        if theirs[key] != value:
            raise UserError(
                f"{one.run} and {other.run} cannot be compared: {key} is {shown(value)} and "
                f"{shown(theirs[key])}\ncompare evaluations of one kind; --name chooses others"
            )


def _meaning(adaptation: Adaptation) -> dict[str, Any]:
    made_from = adaptation.made_from
    return {
        "the measure": adaptation.measure.name,
        "env": adaptation.env,
        "split": adaptation.split,
        "horizon": adaptation.horizon,
        "shots": made_from.get("shots"),
        "whether likeliest actions are reported": adaptation.by_mode,
    }


def _check_same_tasks(seeds: Sequence[Seed], name: str) -> None:
    """Raises a UserError where seeds of one learner were evaluated on different tasks."""
    first = _plain(seeds[0])
    for other in seeds[1:]:
        if _plain(other) != first:
            raise UserError(
                f"{seeds[0].run} and {other.run} are seeds of one learner on different tasks\n"
                f"evaluate them with one --seed and --tasks: "
                f"`{_command(RunDirectory(other.run), name)} --seed 1 --tasks {len(first)}`"
            )


def _comparable(learner: Learner) -> list[Any]:
    return _plain(learner.seeds[0])


def _plain(seed: Seed) -> list[Any]:
    return [plain(task) for task in seed.adaptation.tasks]


def _step(seeds: Sequence[Seed], asked: int | Literal["last"]) -> int:
    """Returns the adaptation step that is compared."""
    fewest = min(seeds, key=lambda seed: len(seed.adaptation.steps))
    last = fewest.adaptation.steps[-1]
    if asked == "last":
        return last
    if asked > last:
        raise UserError(
            f"--steps is {asked}, and the evaluation of {fewest.run} has steps 0 to {last}\n"
            f"give fewer, or `metarl evaluate {quote(str(fewest.run))} --steps {asked}`"
        )
    return asked


def _scores(seed: Seed, step: int, success: bool) -> np.ndarray:
    """Returns a run's scores, [K].

    Raises:
        UserError: for one that is not finite, and for success where it is not defined.
    """
    outcome, measure = seed.adaptation.outcome, seed.adaptation.measure
    if success and outcome.success is None:
        raise UserError(
            f"the evaluation of {seed.run} has no success: {seed.adaptation.env} defines none\n"
            f"leave out --success, which compares the {measure.name}"
        )
    values = outcome.success if success else outcome.values
    assert values is not None
    scores = values[:, step].mean(axis=-1, dtype=np.float64)
    if wrong := int((~np.isfinite(scores)).sum()):
        raise UserError(
            f"{seed.run}: the {measure.name} after {step} steps is not finite in {wrong} of "
            f"{len(scores)} tasks\ncompare after fewer --steps, or leave this run out"
        )
    return scores
