"""Checks that a run is continued, evaluated and compared on the data that it learned from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.assembly import run_config, with_data
from metarl.runs import data
from metarl.runs.data import Data
from metarl.runs.directory import RunDirectory


def data_of(config: FewShotConfig) -> Data | None:
    """Returns the data at `config.env.path`; None for tasks that need no data of a user's own.

    Raises:
        UserError: if the data are not there.
    """
    if not config.env.path or not families.is_one(config.env.name):
        return None
    files = families.files(config.env)
    place = Path(config.env.path).expanduser()
    return data.hashed(config.env.name, place, files) if files else None


def checked_data(config: FewShotConfig) -> Data | None:
    """Returns the data at `config.env.path`, as `data_of`.

    Raises:
        UserError: if the data are not there, or if the run in `config.run_dir` has weights and
            learned from others.
    """
    now, run = data_of(config), RunDirectory(config.run_dir)
    if now is None or not run.config.is_file() or not any(run.checkpoints.glob("[0-9]*")):
        return now
    stored = run_config(run.root)
    if not isinstance(stored, FewShotConfig) or stored.env.name != config.env.name:
        return now  # a setting that must not change, which is refused elsewhere
    before = data.read(run) or _unrecorded(stored, now, run)
    if before.sha256 != now.sha256:
        raise UserError(
            f"{run.root} learned from other data: {before}\nthe data given are {now}\n"
            "give the place of the run's own data with --env.path, or other data to a new run"
        )
    return now


def _unrecorded(stored: FewShotConfig, now: Data, run: RunDirectory) -> Data:
    """Returns the data of a run without a record, which an earlier metarl began.

    If they are gone they are taken for those that were given, with a warning.
    """
    try:
        before = now if _place(stored) == now.places[0] else data_of(stored)
    except UserError:
        before = None
    if before is None:
        warnings.warn(
            f"{run.root} has no hash of its data, and {_place(stored)} is gone: nobody can tell "
            f"whether {now.places[0]} holds the same",
            stacklevel=2,
        )
    return before or now


def _place(config: FewShotConfig) -> str:
    return os.path.abspath(Path(config.env.path).expanduser())


def placed(config: AnyConfig, options: EvaluateOptions | EvaluateFewShotOptions) -> AnyConfig:
    """Returns a run's config with its data where the options of an evaluation say, if they do."""
    if isinstance(config, FewShotConfig) and isinstance(options, EvaluateFewShotOptions):
        return with_data(config, options.env.path or config.env.path)
    return config


def same_data(
    config: AnyConfig, run_dir: Path, rivals: Mapping[str, tuple[Path, AnyConfig]]
) -> Data | None:
    """Returns the data at `config.env.path`, which are those that several runs learned from.

    Args:
        config: the config of the run in `run_dir`.
        rivals: other runs on the same tasks: name -> folder, config. Their own data need not be
            there any more, unless the run has no record of them.

    Raises:
        UserError: if the data are not there, or if a run learned from others.
    """
    if not isinstance(config, FewShotConfig):
        return None
    ours = checked_data(replace(config, run_dir=str(run_dir)))
    for name, (path, other) in rivals.items():
        if ours is None or not isinstance(other, FewShotConfig):
            continue
        try:
            theirs = data.read(RunDirectory(path)) or data_of(other)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if theirs is not None and theirs.sha256 != ours.sha256:
            raise UserError(
                f"{name} learned from other data: {theirs}\nthis run learned from {ours}\n"
                "compare runs of the same tasks"
            )
    return ours
