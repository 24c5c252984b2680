"""A Ray cluster of several nodes on loopback, and the processes of its actors."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from metarl.sampling.ray_cluster import ONLY_LOOPBACK

QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}
"""Notices a lost node within two seconds."""


def variables() -> dict[str, str]:
    """Variables for Ray's processes on loopback, where tests/own is on the path."""
    own = str(Path(__file__).parent)
    paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return {**ONLY_LOOPBACK, **quiet, "PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def cluster_of(head_cpus: int, *cpus: int) -> Iterator[tuple[Any, str]]:
    """A cluster with as many CPUs on each node, and the folder of its logs. `add_node` and
    `remove_node` change it. Its variables have to be set before."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path may have 107 characters
    Path(folder, "ray").mkdir()
    first = {"num_cpus": head_cpus, "include_dashboard": False, "_system_config": QUICK}
    with patch.dict(os.environ, RAY_TMPDIR=folder):
        cluster = Cluster(initialize_head=True, head_node_args=first)
        try:
            for count in cpus:
                cluster.add_node(num_cpus=count)
            yield cluster, folder
        finally:
            cluster.shutdown()
            left = processes(folder)
            shutil.rmtree(folder, ignore_errors=True)
    assert not left, left


def processes(folder: str) -> list[psutil.Process]:
    """Ray's processes whose logs are under `folder`, oldest first; not this process."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            words, opened = " ".join(one.cmdline()), [x.path for x in one.open_files()]
            if (
                one.pid != os.getpid()
                and "ray" in words
                and any(x.startswith(folder) for x in opened)
            ):
                found.append(one)
    return sorted(found, key=lambda one: one.create_time())


def actors(folder: str) -> list[psutil.Process]:
    """The actors among them. A process that an actor forks has its name until it runs another."""
    found = []
    for one in processes(folder):
        with suppress(psutil.Error):
            if one.cmdline()[0].startswith("ray::RayActor"):
                found.append(one)
    return [one for one in found if parent(one) not in {actor.pid for actor in found}]


def parent(process: psutil.Process) -> int:
    """The id of the process that started it; 0 if it has ended."""
    with suppress(psutil.Error):
        return process.ppid()
    return 0


def exactly(number: int, folder: str) -> list[psutil.Process]:
    """So many actors, or those that there are after ten seconds: one may be just ending."""
    deadline = time.monotonic() + 10
    while len(found := actors(folder)) != number and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def ended(folder: str) -> bool:
    """Whether no actor is left, after at most ten seconds: Ray ends them in the background."""
    deadline = time.monotonic() + 10
    while actors(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
