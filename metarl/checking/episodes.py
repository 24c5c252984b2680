"""Checks of episodes: what goes wrong in them, how they end, how fast they are played."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch

from metarl.checking.findings import Finding
from metarl.checking.play import HERE, Subject
from metarl.device import cores
from metarl.runs.progress import short
from metarl.types import Trajectories, Workers

LARGE = 10.0
"""Root mean square of an observation's component above which a policy learns badly."""
TIMED_S = 0.5
"""Steps are counted for as long as this, in seconds, and until the episodes are over."""


def faults(subject: Subject) -> Finding:
    """Plays all episodes; playing raises for what an environment does wrong."""
    returns = subject.returns
    cut = "" if subject.whole else f", cut short at step {subject.steps} (--max-steps)"
    return Finding(
        "ok",
        f"{len(returns)} tasks x {returns.shape[1]} episodes go well{cut}; "
        f"returns from {returns.min():.4g} to {returns.max():.4g}",
    )


def units(subject: Subject) -> Finding:
    """How large the observations are, of living episodes."""
    seen = [one.obs.transpose(1, 2)[one.mask.transpose(1, 2)] for one in subject.rounds]
    size = torch.cat(seen).double().square().mean(0).sqrt()  # [obs_dim]
    largest = int(size.argmax())
    found = f"observation[{largest}] is the largest, {float(size[largest]):.3g} on average"
    if float(size[largest]) <= LARGE:
        return Finding("ok", found)
    return Finding(
        "warning",
        found,
        "networks learn little from large numbers: --agent.normalisation.observations",
    )


def speed(subject: Subject) -> Finding:
    """Environment steps per second, the random policy's time included."""
    asked = subject.options.workers
    count = cores() if asked == "auto" else int(asked)
    said = f"{short(_steps_per_second(subject, HERE))} steps/s in this process"
    if count:
        rate = _steps_per_second(subject, Workers(count))
        said += f", {short(rate)} with {count} worker{'s' if count > 1 else ''}"
    return Finding("ok", f"{said} ({len(subject.tasks) * subject.beside} environments)")


def _steps_per_second(subject: Subject, workers: Workers) -> float:
    tasks = subject.tasks
    steps = subject.steps_of(len(tasks) * subject.beside, 0.1)
    with closing(subject.distribution.open(len(tasks), subject.beside, workers)) as env:
        subject.play(env, tasks, 1)  # whatever is only done once
        draws, played = subject.draws(len(tasks)), 0
        started = time.perf_counter()
        while (seconds := time.perf_counter() - started) < TIMED_S:
            played += int(subject.play_draws(env, tasks, steps, draws).mask.sum())
    return played / seconds


def endings(subject: Subject) -> Finding:
    """How whole episodes end."""
    horizon = subject.spec.horizon
    rounds = subject.rounds
    if not subject.whole:
        if horizon * subject.beside > subject.options.max_steps:
            return Finding(
                "warning",
                f"episodes of {horizon} steps were not played to their end",
                f"--max-steps {horizon * subject.beside} does",
            )
        with closing(subject.distribution.open(1, subject.beside, HERE)) as env:
            rounds = [subject.play(env, subject.tasks[:1], horizon)]
    return _judged(rounds, horizon)


def _judged(rounds: Sequence[Trajectories], horizon: int) -> Finding:
    lengths, terminated, truncated = (
        np.concatenate([getattr(one, field).sum(1).numpy().ravel() for one in rounds])
        for field in ("mask", "terminated", "truncated")
    )
    count = f"of {len(lengths)} episodes"
    if endless := int((terminated + truncated == 0).sum()):
        return Finding(
            "FAIL", f"{endless} {count} are not over after the horizon's {horizon} steps",
            "let step say truncated at spec.horizon steps",
        )  # fmt: skip
    if horizon > 1 and (lengths == 1).all():
        return Finding(
            "FAIL", f"every one {count} is over after its first step",
            "look at what step returns as terminated and truncated",
        )  # fmt: skip
    shortest, mean, longest = lengths.min(), lengths.mean(), lengths.max()
    if early := int((truncated & (lengths < horizon)).sum()):
        first = lengths[(truncated > 0) & (lengths < horizon)].min()
        return Finding(
            "warning",
            f"{early} {count} are truncated before the horizon of {horizon}, first at step {first}",
            f"make the environment without a limit of its own, or give horizon={first}",
        )
    return Finding(
        "ok",
        f"{len(lengths)} episodes last {mean:.1f} steps on average ({shortest} to {longest}) of at "
        f"most {horizon}; {terminated.mean():.0%} terminate, {truncated.mean():.0%} are truncated",
    )
