"""Checks that the arrays of a BatchedEnv keep the contract in types.py."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from metarl.checking.findings import Broken, Finding, expect
from metarl.checking.play import HERE, Subject
from metarl.types import BatchedEnv, StepResult

Returned = dict[str, Any]
"""The arrays that a call returned, by name."""


class Promise(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any


def contract(subject: Subject) -> Finding:
    """Checks shapes, types and ownership of the arrays, and the flags that end an episode."""
    tasks = subject.tasks[:2]
    steps = subject.steps_of(len(tasks) * subject.parallel, 0.1)
    with closing(subject.distribution.open(len(tasks), subject.parallel, HERE)) as env:
        env.set_tasks(tasks)
        _play_checked(subject, env, len(tasks), steps)
    return Finding("ok", "shapes, types and ownership of arrays keep the contract")


def _play_checked(subject: Subject, env: BatchedEnv, num_tasks: int, steps: int) -> None:
    """Plays episodes with random actions and raises Broken at the first fault."""
    shape, draws = (num_tasks, subject.parallel), subject.draws(num_tasks)
    noise = draws.noise.first(steps)
    actions = subject.policy.act(noise, noise)[0].numpy()
    flags = dict.fromkeys(("terminated", "truncated", "success"), Promise(shape, np.bool_))
    obs = Promise((*shape, subject.spec.obs_dim), np.float32)
    promised = {"obs": obs, "rewards": Promise(shape, np.float32), **flags}

    returned: Returned = {"obs": env.reset(draws.reset_seeds)}
    _expect_arrays("reset", returned, {"obs": obs})
    alive = np.ones(shape, dtype=bool)
    for t in range(1, steps + 1):
        copies = {name: array.copy() for name, array in returned.items()}
        step = env.step(actions[t - 1])
        _expect_kept(t, returned, copies)
        returned = {name: getattr(step, name) for name in StepResult._fields}
        _expect_arrays(f"step {t}", returned, promised)
        for k, e in np.argwhere(alive & step.terminated & step.truncated).tolist():
            raise Broken(
                f"step {t} of task {k}, episode {e} is both terminated and truncated",
                "set truncated only if the episode is not terminated",
            )
        alive &= ~(step.terminated | step.truncated)
        if not alive.any():
            return


def _expect_arrays(place: str, returned: Returned, promised: dict[str, Promise]) -> None:
    for name, (shape, dtype) in promised.items():
        found = returned[name]
        is_what = f"a {type(found).__name__}"
        if isinstance(found, np.ndarray):
            if found.shape == shape and found.dtype == dtype:
                continue
            is_what = f"of shape {found.shape} and {found.dtype}"
        wanted = f"return a numpy array of shape {shape} and {np.dtype(dtype)}"
        raise Broken(f"{name} of {place} is {is_what}", wanted)


def _expect_kept(t: int, returned: Returned, copies: Returned) -> None:
    for name, array in returned.items():
        what = f"step {t} wrote into the {name} that an earlier call returned"
        remedy = "return arrays that are not written to again, such as copies"
        expect(array.tobytes() == copies[name].tobytes(), what, remedy)
