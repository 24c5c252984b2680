"""The goals of a benchmark's splits and the states after their resets, cached on disk.

metaworld draws a benchmark's goals by resetting every class 50 times from numpy's global generator,
class after class. This, and then a reset to each goal, takes a second per class. So the result is
cached as plain arrays (goals_file.py), in a file whose name depends on everything that the result
depends on.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from metarl.envs.cache_folder import cache_folder
from metarl.envs.metaworld import goals_file
from metarl.envs.metaworld.classes import Split
from metarl.envs.metaworld.snapshots import Snapshot, reference, set_goal, snapshot
from metarl.text import say

GOALS = 50
"""Goals of each class; metaworld's `_N_GOALS`."""
FORMAT = 3
"""Version of the file's format; change it whenever the content changes."""


class ClassGoals:
    """The goals of one class: `rand_vecs` [50, d] and snapshots of their resets."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        """`arrays`: "rand_vecs" and the result of `_stacked`, each [50, ...]. Raises KeyError."""
        self.arrays, self.rand_vecs = arrays, arrays["rand_vecs"]
        self._state, self._obs = arrays["state"], arrays["obs"]
        self._constants, self._model = _group(arrays, "constants"), _group(arrays, "model")

    def snapshot(self, goal: int) -> Snapshot:
        constants = {name: values[goal] for name, values in self._constants.items()}
        model = {name: values[goal] for name, values in self._model.items()}
        return Snapshot(self._state[goal], self._obs[goal], constants, model)


def _group(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    """Returns the arrays named `group`/NAME, by NAME."""
    start = f"{group}/"
    return {name[len(start) :]: x for name, x in arrays.items() if name.startswith(start)}


def goals_of(split: Split) -> dict[str, ClassGoals]:
    """Returns the goals of every class of a split, from the cache if they are there."""
    if (folder := cache_folder()) is None:
        say(
            "there is no home folder, so Meta-World's goals are not cached; set METARL_CACHE",
            error=True,
        )
        return _draw_goals(split)
    made_from = _made_from(split)
    path = folder / f"metaworld-{hashlib.sha256(made_from).hexdigest()[:16]}.goals"
    try:
        arrays = goals_file.read(path, made_from, GOALS)
        return {name: ClassGoals(_group(arrays, name)) for name in split.classes}
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # a damaged file raises many kinds of errors
        why = f"{type(error).__name__}: {error}"
        say(f"{path} is not used ({why}); it is made again", error=True)
    found = _draw_goals(split)
    _write(path, made_from, found)
    return found


def _made_from(split: Split) -> bytes:
    """Returns everything that the goals of a split depend on."""
    depends = [
        FORMAT,
        metadata.version("metaworld"),
        metadata.version("mujoco"),
        list(split.classes),
        split.seed,
    ]
    return json.dumps(depends).encode()


def _draw_goals(split: Split) -> dict[str, ClassGoals]:
    """Draws goals as `metaworld._make_tasks` does; restores numpy's global generator after it."""
    many = f"{len(split.classes)} class{'es' if len(split.classes) > 1 else ''}"
    say(f"resetting the {GOALS} goals of {many} once ...", error=True)
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
    """Stacks the fields of snapshots: field or group/field -> [50, ...]."""
    found = {}
    for name in Snapshot._fields:
        values = [getattr(x, name) for x in snapshots]
        if isinstance(values[0], dict):
            for field in values[0]:
                found[f"{name}/{field}"] = np.stack([value[field] for value in values])
        else:
            found[name] = np.stack(values)
    return found


def _write(path: Path, made_from: bytes, found: dict[str, ClassGoals]) -> None:
    """Writes the file atomically; if that fails, prints why, and the next run draws goals again."""
    arrays = {}
    for name, goals in found.items():
        arrays |= {f"{name}/{field}": values for field, values in goals.arrays.items()}
    try:
        goals_file.write(path, made_from, arrays)
    except OSError as error:
        why = f"{path} cannot be written ({error.strerror}), so the goals are not cached"
        say(f"{why}; set METARL_CACHE to another folder", error=True)
