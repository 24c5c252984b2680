"""Checks that the arrays of a BatchedEnv keep the contract in types.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from metarl.checking.findings import Finding
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
        fault = next(_faults(subject, env, len(tasks), steps), None)
    return fault or Finding("ok", "shapes, types and ownership of arrays keep the contract")


def _faults(subject: Subject, env: BatchedEnv, num_tasks: int, steps: int) -> Iterator[Finding]:
    """Plays episodes with random actions and yields every fault."""
    shape, draws = (num_tasks, subject.parallel), subject.draws(num_tasks)
    actions = subject.policy.act(draws.noise, draws.noise)[0].numpy()
    flags = dict.fromkeys(("terminated", "truncated", "success"), Promise(shape, np.bool_))
    obs = Promise((*shape, subject.spec.obs_dim), np.float32)
    promised = {"obs": obs, "rewards": Promise(shape, np.float32), **flags}

    returned: Returned = {"obs": env.reset(draws.reset_seeds)}
    yield from _wrong_arrays("reset", returned, {"obs": obs})
    alive = np.ones(shape, dtype=bool)
    for t in range(1, steps + 1):
        copies = {name: array.copy() for name, array in returned.items()}
        step = env.step(actions[t - 1])
        yield from _overwritten(t, returned, copies)
        returned = {name: getattr(step, name) for name in StepResult._fields}
        yield from _wrong_arrays(f"step {t}", returned, promised)
        for k, e in np.argwhere(alive & step.terminated & step.truncated).tolist():
            yield Finding(
                "FAIL",
                f"step {t} of task {k}, episode {e} is both terminated and truncated",
                "set truncated only if the episode is not terminated",
            )
        alive &= ~(step.terminated | step.truncated)
        if not alive.any():
            return


def _wrong_arrays(
    place: str, returned: Returned, promised: dict[str, Promise]
) -> Iterator[Finding]:
    for name, (shape, dtype) in promised.items():
        found = returned[name]
        is_what = f"a {type(found).__name__}"
        if isinstance(found, np.ndarray):
            if found.shape == shape and found.dtype == dtype:
                continue
            is_what = f"of shape {found.shape} and {found.dtype}"
        wanted = f"return a numpy array of shape {shape} and {np.dtype(dtype)}"
        yield Finding("FAIL", f"{name} of {place} is {is_what}", wanted)


def _overwritten(t: int, returned: Returned, copies: Returned) -> Iterator[Finding]:
    for name, array in returned.items():
        if array.tobytes() != copies[name].tobytes():
            yield Finding(
                "FAIL",
                f"step {t} wrote into the {name} that an earlier call returned",
                "return arrays that are not written to again, such as copies",
            )
