"""The goals of a benchmark's splits, each with the state after its reset, kept on disk.

metaworld draws a benchmark's goals by resetting every class 50 times from numpy's global
generator, class after class. That, and the resets to each of them, take a quarter of a second a
class; so the outcome is kept as plain arrays, under a name that holds all it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from importlib import metadata
from pathlib import Path

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

    def __init__(self, rand_vecs: np.ndarray, arrays: dict[str, np.ndarray]):
        """`arrays`: what `_stacked` gives, each [50, ...]."""
        self.rand_vecs, self._arrays = rand_vecs, arrays

    def snapshot(self, goal: int) -> Snapshot:
        parts: dict[str, dict[str, np.ndarray]] = {"constants": {}, "model": {}}
        whole = {}
        for name, values in self._arrays.items():
            group, slash, field = name.partition("/")
            if slash:
                parts[group][field] = values[goal]
            else:
                whole[name] = values[goal]
        return Snapshot(**whole, **parts)


def goals_of(split: Split) -> dict[str, ClassGoals]:
    """The goals of every class of a split, from the cache where they are in it."""
    path = cache_folder() / f"{_key(split)}.npz"
    try:
        return _read(path, split)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"{path} cannot be used ({error}); made anew", file=sys.stderr)
    many = f"{len(split.classes)} class{'es' if len(split.classes) > 1 else ''}"
    print(f"resetting the {GOALS} goals of {many} once, kept for later ...", file=sys.stderr)
    found = _drawn(split)
    _write(path, found)
    return found


def cache_folder() -> Path:
    """Where derived data is kept: $METARL_CACHE, or the user's own folder for such."""
    named = os.environ.get("METARL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "metarl"


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
    return ClassGoals(np.stack(rand_vecs), _stacked(snapshots))


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
        arrays[f"{name}/rand_vecs"] = goals.rand_vecs
        arrays |= {f"{name}/{field}": values for field, values in goals._arrays.items()}
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        print(f"{path} cannot be written ({error.strerror}); not kept", file=sys.stderr)


def _read(path: Path, split: Split) -> dict[str, ClassGoals]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    found = {}
    for name in split.classes:
        prefix = f"{name}/"
        own = {key[len(prefix) :]: x for key, x in arrays.items() if key.startswith(prefix)}
        found[name] = ClassGoals(own.pop("rand_vecs"), own)
    return found
