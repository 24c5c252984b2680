"""A Ray cluster of several nodes on loopback, and the processes of its actors."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
def cluster_of(head_cpus: int, *cpus: int) -> Iterator[Any]:
    """A cluster; `add_node` and `remove_node` change it. Its variables have to be set before."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # a socket's path may have 107 characters
    Path(folder, "ray").mkdir()
    first = {"num_cpus": head_cpus, "include_dashboard": False, "_system_config": QUICK}
    with patch.dict(os.environ, RAY_TMPDIR=folder):
        cluster = Cluster(initialize_head=True, head_node_args=first)
        try:
            for count in cpus:
                cluster.add_node(num_cpus=count)
            yield cluster
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def actors() -> list[psutil.Process]:
    """The actors that are alive, oldest first."""
    return [one for one in processes() if one.cmdline()[:1] and "RayActor" in one.cmdline()[0]]


def processes() -> list[psutil.Process]:
    """Every process of Ray that descends from this one or from its reaped children."""
    found = []
    for one in psutil.process_iter():
        try:
            text = " ".join(one.cmdline())
            if any(word in text for word in ("ray::", "/ray/", "default_worker.py")):
                found.append(one)
        except psutil.Error:
            continue
    return sorted(found, key=lambda one: one.create_time())
