"""Folders of seeds: what counts as one, and which runs may lie in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metarl.config.files import dump
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.runs.seeds import is_folder_of_seeds, seeds_of


def written(folder: Path, **changes: object) -> Path:
    config = replace(preset("point-goal"), **changes)  # pyright: ignore[reportArgumentType]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    return folder


def test_seeds_come_in_the_order_of_their_numbers(tmp_path: Path):
    for seed in (10, 2, 1):
        written(tmp_path / f"seed{seed}", seed=seed, run_dir=f"x/seed{seed}", workers=seed)
    (tmp_path / "seed3").mkdir()  # not begun
    (tmp_path / "seed04").mkdir()
    written(tmp_path / "other", seed=7, iterations=3)
    assert [run.name for run in seeds_of(tmp_path)] == ["seed1", "seed2", "seed10"]
    assert is_folder_of_seeds(str(tmp_path))
    one = tmp_path / "seed1"
    assert seeds_of(one) == [one]
    assert not is_folder_of_seeds(one)


def test_runs_that_differ_are_no_seeds_of_one_experiment(tmp_path: Path):
    written(tmp_path / "seed1", seed=1)
    written(tmp_path / "seed2", seed=2, iterations=3)
    with pytest.raises(UserError, match=r"seed1 and seed2 are no.*: iterations is \d+ and 3\n"):
        seeds_of(tmp_path)


def test_settings_that_older_files_lack_are_no_difference(tmp_path: Path):
    written(tmp_path / "seed1", seed=1)
    file = written(tmp_path / "seed2", seed=2) / "config.yaml"
    file.write_text(file.read_text().replace("task_batch: 0\n", ""))
    assert len(seeds_of(tmp_path)) == 2


def test_what_is_neither_is_refused(tmp_path: Path):
    (tmp_path / "seed1").mkdir()
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="is no run, and no folder of seeds"):
            seeds_of(place)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    elsewhere = written(tmp_path / "elsewhere", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "seed1").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"is a link to .*, outside of the folder"):
        seeds_of(tmp_path / "mine")
