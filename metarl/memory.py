"""Memory that a run needs at least, and memory that there is: what cannot fit is refused at once.

The estimates are lower bounds of what is held at one time, so that nothing that fits is refused.
Episodes of the catalogue's tasks count as long as the horizon. Those of a user's own may all end
early, and rounds that a GPU keeps are not in this memory: only the one that is played counts then.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from metarl.config.settings import AnyConfig, Config
from metarl.config.torso import width
from metarl.errors import UserError

WORKER = 40 << 20
"""Bytes of a worker process that it shares with no other."""
FLOAT = 4


class Found(NamedTuple):
    """Bytes that a process may still take, and what limits them."""

    bytes: int
    limit: str


def available(root: Path = Path("/")) -> Found | None:
    """Returns the memory that this process can get, if the system says it; /proc is in `root`.

    It is the least of what is free on the machine, the limit of its cgroup and RLIMIT_AS.
    """
    found = [*_of_machine(root), *_of_cgroup(root), *_of_addresses(root)]
    return min(found, default=None)


def _of_machine(root: Path) -> Iterator[Found]:
    with suppress(OSError, ValueError, KeyError):
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
        kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M))
        free = int(kilobytes["MemAvailable"]) + int(kilobytes.get("SwapFree", 0))
        yield Found(1024 * free, "free memory of this machine")


def _of_cgroup(root: Path) -> Iterator[Found]:
    """Yields the limits of this process's cgroup and of those above it; see metarl/threads.py."""
    with suppress(OSError, ValueError):
        own = (root / "proc/self/cgroup").read_text(encoding="utf-8")
        for names, place in re.findall(r"^\d+:([^:]*):/(.*)$", own, re.M):
            if names and "memory" not in names.split(","):
                continue
            tree = root / "sys/fs/cgroup" / ("memory" if names else "")
            file = "memory.limit_in_bytes" if names else "memory.max"
            for folder in [tree / place, *(tree / place).parents][: len(Path(place).parts) + 1]:
                with suppress(OSError, ValueError):  # without a limit the file says "max"
                    most = int((folder / file).read_text(encoding="utf-8"))
                    yield Found(most, f"limit of the cgroup, {folder / file}")


def _of_addresses(root: Path) -> Iterator[Found]:
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        used = 0
        with suppress(OSError, ValueError, IndexError):
            pages = (root / "proc/self/statm").read_text(encoding="utf-8").split()[0]
            used = int(pages) * os.sysconf("SC_PAGE_SIZE")
        yield Found(max(0, most - used), "limit of addresses, `ulimit -v`")


def check(needs: Mapping[str, int], found: Found | None = None) -> None:
    """Raises a UserError where needs, settings -> bytes, are more than there is."""
    found = available() if found is None else found
    asked = sum(needs.values())
    if found is None or asked <= found.bytes:
        return
    largest = max(needs, key=lambda name: needs[name])
    which = "one of them" if "," in largest else "it"
    raise UserError(
        f"this takes at least {size(asked)} of memory, and there are {size(found.bytes)} "
        f"({found.limit})\n{size(needs[largest])} are for {largest}; lower {which}"
    )


def size(count: int) -> str:
    """Returns a number of bytes with its unit: 3.5 GiB."""
    if count.bit_length() > 80:
        return "more bytes than any machine has"
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):,.1f} {unit}"
    return f"{count:,} bytes"


def of_training(
    config: AnyConfig, spec: Any, workers: int = 0, kept: bool = True
) -> dict[str, int]:
    """Returns what an iteration of training needs, in bytes, by the settings that decide it; `kept`
    says whether rounds are kept in this memory, each as long as the horizon."""
    steps = getattr(getattr(config.agent, "inner", None), "steps", 0)
    if not isinstance(config, Config):
        shown, sampling = config.env.shots + config.env.queries, config.sampling
        return of_examples(config.agent, spec, sampling.tasks, shown, steps, "sampling.tasks")
    sampling = config.sampling
    policy = getattr(config.agent, "policy", None)
    inputs = spec.obs_dim if policy is None else width(spec, policy) + policy.context
    names = "--env.horizon, --sampling.tasks, --sampling.episodes, --agent.inner.steps"
    return {
        names: of_rounds(spec, sampling.tasks, sampling.episodes, kept * (steps + 1)),
        "--workers": WORKER * min(workers, sampling.tasks * sampling.episodes),
        **_of_weights(config.agent, "policy", inputs, spec.act_dim, sampling.tasks, steps),
        **_of_rule(config.agent),
        **of_replay(config, spec),
        **_of_attention(config),
    }


def of_replay(config: AnyConfig, spec: Any) -> dict[str, int]:
    """Returns the bytes of a full replay, by the settings that decide them."""
    parts = (getattr(config.agent, name, None) for name in ("inner", "outer"))
    return {
        name: count
        for part in parts
        if part is not None
        for name, count in part.replay_needs(config.agent, spec).items()
    }


def check_disk(folder: Path, needs: Mapping[str, int], there: int = 0) -> None:
    """Raises a UserError where needs, settings -> bytes, do not fit on the disk of a folder that
    may not exist yet; `there` bytes of them are written already."""
    asked = sum(needs.values())
    place = next(x for x in (folder.absolute(), *folder.absolute().parents) if x.is_dir())
    free = shutil.disk_usage(place).free
    if asked <= free + there:
        return
    held = f", {size(there)} of them already there," if there else ""
    raise UserError(
        f"this takes {size(asked)}{held} on the disk of {place}, and {size(free)} are free there\n"
        f"they are for {', '.join(needs)}; lower it, or give another disk with --run-dir"
    )


def of_rounds(spec: Any, tasks: int, episodes: int, rounds: int) -> int:
    """Returns the bytes of rounds of episodes: one where it is played, and each as tensors."""
    step = FLOAT * (spec.obs_dim + 2 * spec.act_dim + 1)
    flags = 3  # terminated, truncated, mask
    return tasks * episodes * spec.horizon * (step + rounds * (step + flags))


def of_examples(
    agent: Any,
    spec: Any,
    tasks: int,
    shown: int,
    steps: int,
    name: str,
    together: int | None = None,
    kept: bool = True,
) -> dict[str, int]:
    """Returns the bytes of the examples of few-shot tasks, `shown` of each class, and the weights
    adapted to tasks, of which `together` adapt at a time.

    `kept` says whether the examples of all tasks stay in this memory; else those of tasks that
    adapt together are in it at a time.
    """
    inputs = prod(spec.input_shape)
    at_once = tasks if together is None else min(tasks, together)
    examples = (
        (tasks if kept else at_once)
        * shown
        * (spec.outputs if spec.classes else 1)
        * inputs
        * FLOAT
    )
    names = f"--{name}, --env.shots, --env.queries, --env.ways, --env.image-size"
    weights = {}
    if getattr(getattr(agent, "network", None), "kind", "") == "mlp":
        weights = _of_weights(agent, "network", inputs, spec.outputs, at_once, steps)
    elif hasattr(agent, "network"):  # the kernels of 3 x 3 between two blocks of a convolution
        blocks = pairwise(agent.network.hidden)
        weights = {"--agent.network.hidden": 2 * FLOAT * sum(9 * a * b for a, b in blocks)}
    return {names: examples, **weights, **_of_rule(agent)}


def _of_weights(
    agent: Any, section: str, inputs: int, outputs: int, tasks: int, steps: int
) -> dict[str, int]:
    """Returns the bytes of a network's weights, and of each task's own where they are adapted."""
    widths = [inputs, *getattr(getattr(agent, section, None), "hidden", ()), outputs]
    if len(widths) == 2:
        return {}  # an agent of a user's own
    weights = FLOAT * sum(a * b for a, b in pairwise(widths))
    # A rule may adapt a part of the weights, such as a context or the last layer.
    own = tasks * widths[-2] * FLOAT if steps else 0
    settings = f"--agent.{section}.hidden"
    settings += ", --agent.policy.context" if section == "policy" else ""
    return {settings: 2 * weights + own}


def _of_attention(config: Config) -> dict[str, int]:
    """Returns the bytes of the keys and values that a transformer keeps of a trial's episodes."""
    inner: Any = getattr(config.agent, "inner", None)
    sampling = config.sampling
    if getattr(inner, "cell", "") != "transformer":
        return {}
    steps = max(inner.steps, 1) * config.env.horizon
    kept = sampling.tasks * sampling.episodes * steps * 2 * inner.layers * inner.size * FLOAT
    return {"--agent.inner.steps, --agent.inner.layers, --agent.inner.size": kept}


def _of_rule(agent: Any) -> dict[str, int]:
    """Returns the bytes of the weights that an inner rule has itself, with a copy of an optimizer:
    a recurrent cell's, whose gates are at least 3, or those between a hidden layer and others."""
    inner: Any = getattr(agent, "inner", None)
    cell, hidden, embedding, rank = (
        getattr(inner, name, 0) for name in ("size", "hidden", "embedding", "rank")
    )
    gates = "--agent.inner.size", 3 * cell * cell
    if getattr(inner, "cell", "") == "transformer":
        gates = "--agent.inner.size, --agent.inner.layers", 12 * inner.layers * cell * cell
    weights = {
        gates[0]: gates[1],
        "--agent.inner.hidden, --agent.inner.embedding": max(hidden, 1) * embedding,
        "--agent.inner.rank": rank,
    }
    return {name: 2 * FLOAT * count for name, count in weights.items() if count}
