"""Checks of episodes: their faults, their endings and their speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from math import prod

import numpy as np
import torch
from gymnasium.spaces import Box

from metarl.checking.findings import Finding, expect
from metarl.checking.play import HERE, Subject
from metarl.equations.box_gaussian import is_bounded
from metarl.runs.progress import short
from metarl.threads import worker_count
from metarl.types import Trajectories, Workers

FAINT = 0.1
"""Largest pixel, of 1, below which a network hardly sees an image."""
LARGE = 10.0
"""Root mean square of an observation's component above which a policy learns badly."""
MOST_CLIPPED = 0.5
"""Share of clipped actions, in any dimension, above which a new policy explores badly."""
TIMED_S = 0.5
"""Shortest time over which steps are counted, s; episodes that began are played to their end."""


def faults(subject: Subject) -> Finding:
    """Plays all episodes; a fault of the environment raises an exception."""
    returns = subject.returns
    cut = "" if subject.whole else f", cut short at step {subject.steps} (--max-steps)"
    return Finding(
        "ok",
        f"{len(returns)} tasks x {returns.shape[1]} episodes without a fault{cut}; "
        f"returns from {returns.min():.4g} to {returns.max():.4g}",
    )


def units(subject: Subject) -> Finding:
    """Checks the size of the observations of running episodes."""
    seen = [one.obs.transpose(1, 2)[one.mask.transpose(1, 2)] for one in subject.rounds]
    size = torch.cat(seen).double().square().mean(0).sqrt()  # [obs_dim]
    largest = int(size.argmax())
    found = f"observation[{largest}] is the largest, with an RMS of {float(size[largest]):.3g}"
    if (image := subject.spec.image) is not None:
        brightest = max(float(one[:, : prod(image)].abs().max()) for one in seen)
        if brightest < FAINT:
            return Finding(
                "warning",
                f"the pixels reach {brightest:.2g}, where 1 is the upper bound of their Box",
                "state the bounds of the numbers that there are; for MiniGrid use "
                "metarl.minigrid_cells",
            )
    if float(size[largest]) <= LARGE:
        return Finding("ok", found)
    scale = "scale them in the environment" if image else "use --agent.normalisation.observations"
    return Finding("warning", found, f"networks learn badly from large numbers; {scale}")


def actions(subject: Subject) -> Finding:
    """Checks how many actions of a new policy, N(0, 1) in each dimension, a Box clips."""
    space = subject.spec.action_space
    if not isinstance(space, Box):
        return Finding("ok", f"actions are {space}: none can be clipped")
    taken = torch.cat(
        [one.actions.transpose(1, 2)[one.mask.transpose(1, 2)] for one in subject.rounds]
    ).numpy()  # [steps, act_dim]
    clipped = ((taken < space.low) | (taken > space.high)).mean(0)
    worst = int(clipped.argmax())
    found = f"{clipped.mean():.0%} of actions drawn from N(0, 1) are clipped to the Box"
    if clipped[worst] <= MOST_CLIPPED:
        return Finding("ok", found)
    return Finding(
        "warning",
        f"{found}, {clipped[worst]:.0%} of action[{worst}] to [{space.low[worst]:g}, "
        f"{space.high[worst]:g}]",
        _remedy(float(space.low[worst]), float(space.high[worst])),
    )


def _remedy(low: float, high: float) -> str:
    """Returns the way to bring a new policy's actions within the bounds."""
    if is_bounded(low, high):
        return (
            "a new policy cannot act there: train with --agent.policy.scale-to-box, or wrap it, "
            "gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)"
        )
    return (
        "a new policy cannot act there, and --agent.policy.scale-to-box needs two bounds: give "
        "both, or let the environment shift its actions"
    )


def speed(subject: Subject) -> Finding:
    """Measures environment steps per second, including the time of the random policy."""
    count = worker_count(subject.options.workers, subject.options.threads)
    said = f"{short(_steps_per_second(subject, HERE))} steps/s in this process"
    if count:
        rate = _steps_per_second(subject, Workers(count))
        said += f", {short(rate)} with {count} worker{'s' if count > 1 else ''}"
    return Finding("ok", f"{said} ({len(subject.tasks) * subject.parallel} environments)")


def _steps_per_second(subject: Subject, workers: Workers) -> float:
    tasks = subject.tasks
    steps = subject.steps_of(len(tasks) * subject.parallel, 0.1)
    with closing(subject.distribution.open(len(tasks), subject.parallel, workers)) as env:
        subject.play(env, tasks, 1)  # excludes work that is done once
        draws, played = subject.draws(len(tasks)), 0
        started = time.perf_counter()
        while (seconds := time.perf_counter() - started) < TIMED_S:
            played += int(subject.play_draws(env, tasks, steps, draws).mask.sum())
    return played / seconds


def endings(subject: Subject) -> Finding:
    """Checks how whole episodes end."""
    horizon = subject.spec.horizon
    rounds = subject.rounds
    if not subject.whole:
        if horizon * subject.parallel > subject.options.max_steps:
            return Finding(
                "warning",
                f"episodes of {horizon} steps were not played to their end",
                f"to play them, give --max-steps {horizon * subject.parallel}",
            )
        with closing(subject.distribution.open(1, subject.parallel, HERE)) as env:
            rounds = [subject.play(env, subject.tasks[:1], horizon)]
    return _judge(rounds, horizon)


def _judge(rounds: Sequence[Trajectories], horizon: int) -> Finding:
    lengths, terminated, truncated = (
        np.concatenate([getattr(one, field).sum(1).numpy().ravel() for one in rounds])
        for field in ("mask", "terminated", "truncated")
    )
    count = f"of {len(lengths)} episodes"
    endless = int((terminated + truncated == 0).sum())
    what = f"{endless} {count} are not over after the horizon's {horizon} steps"
    expect(not endless, what, "let step set truncated after spec.horizon steps")
    what = f"every one {count} is over after its first step"
    remedy = "check terminated and truncated in the result of step"
    expect(horizon == 1 or bool((lengths > 1).any()), what, remedy)
    shortest, mean, longest = lengths.min(), lengths.mean(), lengths.max()
    if early := int((truncated & (lengths < horizon)).sum()):
        first = lengths[(truncated > 0) & (lengths < horizon)].min()
        return Finding(
            "warning",
            f"{early} {count} are truncated before the horizon of {horizon}, first at step {first}",
            f"make the environment without its own limit, or give horizon={first}",
        )
    return Finding(
        "ok",
        f"{len(lengths)} episodes last {mean:.1f} steps on average ({shortest} to {longest}) of at "
        f"most {horizon}; {terminated.mean():.0%} terminate, {truncated.mean():.0%} are truncated",
    )
