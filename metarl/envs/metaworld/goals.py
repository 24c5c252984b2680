"""The goals of a benchmark's splits, each with the state after its reset, kept on disk.

metaworld draws a benchmark's goals by resetting every class 50 times from numpy's global
generator, class after class. That, and the resets to each of them, take a second a class; so the
outcome is kept as plain arrays, under a name that holds all it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from metarl.envs.metaworld.classes import Split
from metarl.envs.metaworld.snapshots import Snapshot, reference, set_goal, snapshot

GOALS = 50
"""Goals of each class; metaworld's `_N_GOALS`."""
FORMAT = 2
"""Of the file: another one for every change of what is kept."""


class ClassGoals:
    """The goals of one class: `rand_vecs` [50, d] and snapshots of their resets."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        """`arrays`: "rand_vecs" and what `_stacked` gives, each [50, ...]. Raises KeyError."""
        self.arrays, self.rand_vecs = arrays, arrays["rand_vecs"]
        self._state, self._obs = arrays["state"], arrays["obs"]
        self._constants, self._model = _within(arrays, "constants"), _within(arrays, "model")

    def snapshot(self, goal: int) -> Snapshot:
        constants = {name: values[goal] for name, values in self._constants.items()}
        model = {name: values[goal] for name, values in self._model.items()}
        return Snapshot(self._state[goal], self._obs[goal], constants, model)


def _within(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    """What is called group/NAME, by NAME."""
    start = f"{group}/"
    return {name[len(start) :]: x for name, x in arrays.items() if name.startswith(start)}


def goals_of(split: Split) -> dict[str, ClassGoals]:
    """The goals of every class of a split, from the cache where they are in it."""
    path = cache_folder() / f"{_key(split)}.npz"
    try:
        return _read(path, split)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # of a damaged file: whatever zipfile and numpy make of it
        why = f"{type(error).__name__}: {error}"
        print(f"{path} cannot be used ({why}); made anew", file=sys.stderr)
    many = f"{len(split.classes)} class{'es' if len(split.classes) > 1 else ''}"
    print(f"resetting the {GOALS} goals of {many} once ...", file=sys.stderr)
    found = _drawn(split)
    _write(path, found)
    return found


def cache_folder() -> Path:
    """Where derived data is kept: $METARL_CACHE, or the user's own folder for such."""
    if named := os.environ.get("METARL_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "metarl"


def _key(split: Split) -> str:
    """A file's name from all that its content depends on."""
    depends = [
        FORMAT,
        metadata.version("metaworld"),
        metadata.version("mujoco"),
        list(split.classes),
        split.seed,
    ]
    digest = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]
    return f"metaworld-goals-{digest}"


def _drawn(split: Split) -> dict[str, ClassGoals]:
    """As `metaworld._make_tasks` draws them; numpy's global generator is left as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(split.seed)  # noqa: NPY002
    try:
        return {name: _class_goals(reference(name)) for name in split.classes}
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _class_goals(env: SawyerXYZEnv) -> ClassGoals:
    env._freeze_rand_vec = False
    rand_vecs = []
    for _ in range(GOALS):
        env.reset()
        rand_vecs.append(np.array(env._last_rand_vec))
    snapshots = []
    for rand_vec in rand_vecs:
        set_goal(env, rand_vec)
        snapshots.append(snapshot(env))
    env.close()
    return ClassGoals({"rand_vecs": np.stack(rand_vecs), **_stacked(snapshots)})


def _stacked(snapshots: list[Snapshot]) -> dict[str, np.ndarray]:
    """Field, or group/field, -> [50, ...]."""
    found = {}
    for name in Snapshot._fields:
        values = [getattr(x, name) for x in snapshots]
        if isinstance(values[0], dict):
            for field in values[0]:
                found[f"{name}/{field}"] = np.stack([value[field] for value in values])
        else:
            found[name] = np.stack(values)
    return found


def _write(path: Path, found: dict[str, ClassGoals]) -> None:
    """Whole or not at all; where nothing can be kept, the goals are drawn again next time."""
    arrays = {}
    for name, goals in found.items():
        arrays |= {f"{name}/{field}": values for field, values in goals.arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                np.savez(file, **arrays)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        why = f"{path} cannot be written ({error.strerror}); not kept"
        print(f"{why}: METARL_CACHE may name another folder", file=sys.stderr)


def _read(path: Path, split: Split) -> dict[str, ClassGoals]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: ClassGoals(_within(arrays, name)) for name in split.classes}
