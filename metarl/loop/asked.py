"""Settles what an evaluation is asked for: on which distribution and tasks, and by which name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from metarl.config.files import keys
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs import given_tasks
from metarl.errors import UserError
from metarl.experiments.assembly import with_data, with_env
from metarl.runs import evaluations
from metarl.runs.directory import RunDirectory
from metarl.runs.evaluations import check_name
from metarl.runs.plain import plain
from metarl.text import shown
from metarl.types import EnvSpec, MetaLearner, Task

Options = EvaluateOptions | EvaluateFewShotOptions
WEIGHTS = "weights"
"""Key of the settings with digests of the learners' weights, which are known last."""


class Asked(NamedTuple):
    """An evaluation that is asked for."""

    config: AnyConfig
    """The run's config, with the tasks that are evaluated on."""
    learned: str
    """Name of the distribution that the run learned from, if it is another; else empty."""
    tasks: Any
    """The distribution."""
    options: Any
    """The options, with all tasks of the user's own in `own_tasks`."""
    name: str
    """Name of the evaluation: of its folder in the folder of evaluations."""
    remarks: tuple[str, ...]
    """Lines about tasks that training would never draw."""

    @property
    def split(self) -> str:
        return "own" if self.options.own_tasks else self.options.split

    @property
    def held_out(self) -> bool:
        """Whether these are held-out tasks of the distribution that the run learned from."""
        return self.split == "test" and not self.learned

    def made_from(self) -> dict[str, Any]:
        """Returns what adaptation.json says of tasks that are not the run's."""
        found: dict[str, Any] = {"learned": self.learned} if self.learned else {}
        return {**found, **({"remarks": list(self.remarks)} if self.remarks else {})}


def asked(options: Options, tasks: Any, config: AnyConfig) -> Asked:
    """Returns what an evaluation is asked for.

    Args:
        tasks: the distribution, if it is made already.
        config: the run's.

    Raises:
        UserError: for another distribution with other spaces, for tasks that it does not have, and
            for a name that metarl itself uses.
    """
    name = check_name(options.name) if options.name else ""
    other = _other(options, config)
    learned = "" if other is None else config.env.name
    now = config if other is None else other
    if tasks is None:
        tasks = envs.configured(now.env, options.env.name or None)
    if other is not None:
        _check_spaces(config, tasks)
    own = _own(options, tasks)
    remarks = given_tasks.remarks(own, tasks) if own else []
    if own:
        options = replace(options, own_tasks=tuple(own), tasks=len(own), task=(), task_file="")
    if not name:
        name = "other" if learned else "own" if own else options.split
    return Asked(now, learned, tasks, options, name, tuple(remarks))


def _other(options: Options, config: AnyConfig) -> AnyConfig | None:
    """Returns the run's config with the other distribution that is asked for, if one is."""
    if not options.env.name:
        return None
    other = with_env(config, options.env.name)
    if other.env.name == config.env.name:
        return None
    if isinstance(other, Config) and isinstance(config, Config):
        if envs.has_metaworld(other.env.name) and envs.has_metaworld(config.env.name):
            return replace(other, env=replace(other.env, metaworld=config.env.metaworld))
        return other
    path = options.env.path if isinstance(options, EvaluateFewShotOptions) else ""
    moved = isinstance(config, FewShotConfig) and path not in ("", config.env.path)
    return with_data(other, path) if moved else other


def _check_spaces(config: AnyConfig, tasks: Any) -> None:
    """Raises a UserError for a distribution with other spaces than the run learned from.

    Code of a user's and data that may be gone are not asked: the weights then have to fit.
    """
    if envs.is_own(config.env.name) or getattr(config.env, "path", ""):
        return
    ours, theirs = envs.configured(config.env).spec, tasks.spec
    if _spaces(ours) == _spaces(theirs) and type(ours) is type(theirs):
        return
    raise UserError(
        f"--env {theirs.name} has {_described(theirs)}\n"
        f"the run learned {ours.name}, which has {_described(ours)}; choose tasks with the same"
    )


def _spaces(spec: Any) -> tuple[Any, ...]:
    if isinstance(spec, EnvSpec):  # bounds of observations matter to no policy
        return spec.observation_space.shape, spec.action_space
    return spec.input_shape, spec.outputs, spec.classes


def _described(spec: Any) -> str:
    if isinstance(spec, EnvSpec):
        return (
            f"observations {shown(spec.observation_space)} and actions {shown(spec.action_space)}"
        )
    what = "classes" if spec.classes else "numbers"
    return f"inputs of shape {spec.input_shape} and {spec.outputs} {what} as targets"


def _own(options: Options, tasks: Any) -> list[Task]:
    """Returns the user's own tasks, from the command line, a file and Python, in this order."""
    if options.split != "test" and (options.task or options.task_file or options.own_tasks):
        raise UserError(
            f"--split is {options.split!r}, and tasks of your own are given, which are of no split"
            "\nleave out --split, or your tasks"
        )
    found = given_tasks.parsed(options.task, tasks) if options.task else []
    if options.task_file:
        found += given_tasks.in_file(options.task_file, tasks)
    if options.own_tasks:
        found += given_tasks.checked(options.own_tasks, tasks)
    return found


def settings(wanted: Asked, against: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all that decides an evaluation's numbers, but for weights and the machine, as JSON
    stores it."""
    options, env = wanted.options, keys(wanted.config.env)
    found = {
        "env": {key: value for key, value in env.items() if key != "path"},
        "split": wanted.split,
        "learners": [wanted.config.agent.name, *sorted(options.controls), *sorted(against)],
        "own_tasks": _digest(json.dumps(plain(list(options.own_tasks))).encode()),
    }
    named = ("tasks", "steps", "episodes", "mode_episodes", "shots", "seed", "inner_lr")
    found |= {name: getattr(options, name) for name in named if hasattr(options, name)}
    return plain(found)


def digest_of(agent: MetaLearner) -> str:
    """Returns a hash of an agent's weights."""
    whole = hashlib.sha256()
    for name, tensor in sorted(agent.state_dict().items()):
        whole.update(name.encode())
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        whole.update(raw.numpy().tobytes())
    return whole.hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def check_free(run: RunDirectory, wanted: Asked, found: Mapping[str, Any]) -> None:
    """Raises a UserError if the evaluation's name is that of another; weights may be unknown."""
    evaluations.check_free(run, wanted.name, found, *(() if WEIGHTS in found else (WEIGHTS,)))
