"""Whole runs whose episodes Ray's actors play, and what is said where it cannot."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_nodes import actors, cluster_of, processes, variables
from whole_runs import door, rows, wait_for, weights

from metarl.agents.catalogue import default
from metarl.commands.train import main
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config, EnvConfig, SamplingConfig
from metarl.device import workers_of
from metarl.errors import UserError
from metarl.loop.training import train
from metarl.sampling import ray_cluster
from metarl.sampling.losses import WorkerWarning
from metarl.sampling.ray_cluster import Connection
from metarl.sampling.ray_facts import compare, facts_function
from metarl.sampling.ray_rounds import RayRounds
from metarl.sampling.sampler import check_place
from metarl.sources import episodes
from metarl.types import Cluster, Workers

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
ITERATIONS = 10
SMALL = Config(
    agent=default("maml-trpo"),
    env=EnvConfig("half-cheetah-vel:maml2017", 100),
    sampling=SamplingConfig(4, 5),
    iterations=ITERATIONS,
)


@pytest.fixture
def variables_set(monkeypatch):
    for name, value in variables().items():
        monkeypatch.setenv(name, value)


@needs_ray
@pytest.mark.slow
def test_ten_losses_change_no_byte_of_a_run(variables_set, tmp_path, monkeypatch):
    """Actors are killed, one hangs, and a node is lost with its actors, each in another round."""
    local, disturbed = str(tmp_path / "local"), str(tmp_path / "ray")
    train(replace(SMALL, workers=0, run_dir=local), "small")
    monkeypatch.setattr(
        episodes, "workers_of", lambda config: workers_of(config)._replace(max_failures=100)
    )
    rng, timers = random.Random(0), []
    with cluster_of(1, 1, 1) as (cluster, folder):

        def disturb(kind: str) -> None:
            if kind == "node":
                node = rng.choice(sorted(cluster.worker_nodes, key=lambda node: node.unique_id))
                cluster.remove_node(node, allow_graceful=False)
            else:
                number = signal.SIGSTOP if kind == "stop" else signal.SIGKILL
                rng.choice(actors(folder)).send_signal(number)

        kinds = [None] * 3 + ["kill"] * 4 + ["node"] + ["kill"] * 2 + ["stop"] + ["kill"] * 2
        plain = RayRounds.play

        def play(self: RayRounds, *arguments: Any) -> None:
            if kinds and (kind := kinds.pop(0)):
                timers.append(threading.Timer(rng.random() / 20, disturb, [kind]))
                timers[-1].start()
            plain(self, *arguments)
            for timer in timers:
                timer.join()

        monkeypatch.setattr(RayRounds, "play", play)
        asked = {"sampler": "ray", "ray_address": cluster.address, "worker_timeout": 3.0}
        with pytest.warns(WorkerWarning) as caught:
            train(replace(SMALL, run_dir=disturbed, **asked), "small")
    assert len(timers) == 10
    losses = [str(one.message) for one in caught if "another plays its share" in str(one.message)]
    assert len(losses) >= 10
    assert any("hung for more than 3 s" in text for text in losses)
    assert rows(Path(disturbed)) == rows(Path(local))
    assert weights(Path(disturbed), ITERATIONS) == weights(Path(local), ITERATIONS)


def listens(process: psutil.Process) -> list[str]:
    """Returns the addresses that a process listens on; none if it has just ended."""
    with suppress(psutil.NoSuchProcess):
        found = process.net_connections("tcp")
        return [x.laddr.ip for x in found if x.status == "LISTEN"]
    return []


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_a_stopped_run_is_left(number, tmp_path):
    """Ray is started for the run, on loopback, and ends with it."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # a socket's path may have 107 characters
    run_dir = tmp_path / "run"
    command = ["metarl.train", "point-goal", "--sampler", "ray", "--actors", "2"]
    small = ["--iterations", "1000", "--env.horizon", "20", "--run-dir", str(run_dir)]
    run = door(*command, *small, environment={**os.environ, "TMPDIR": folder})
    try:
        wait_for(run, run_dir, 2)
        found = processes(folder)
        assert len(actors(folder)) == 2
        listening = [ip for one in found for ip in listens(one)]
        assert listening
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
        run.send_signal(number)
        said, _ = run.communicate(timeout=60)
        if number == signal.SIGINT:
            assert run.returncode == 130
            assert said.splitlines()[-1].startswith("stopped: the same command again continues")
            assert "Traceback" not in said
            assert not list(Path(folder).iterdir())
        # Two helpers of a Ray that was killed first try for a minute to tell the others.
        deadline = time.monotonic() + 100
        while left := [one for one in found if lives(one)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
    finally:
        run.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_without_ray_two_lines_say_how_to_install_it(tmp_path):
    code = (
        "import sys; sys.modules['ray'] = None; sys.argv[1:] = "
        f"['point-goal', '--sampler', 'ray', '--run-dir', {str(tmp_path / 'run')!r}]; "
        "from metarl.commands.train import main; from metarl.config.door import open_door; "
        "open_door(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    said = 'error: --sampler ray: Ray is not installed\ninstall it: pip install "metarl[ray]"\n'
    assert done.stderr == said
    assert not (tmp_path / "run").exists()


@needs_ray
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", r"127.0.0.1:9: no Ray cluster answers there within 3 s\nstart one: ray "),
        ("ray://head:10001", r"expected HOST:PORT, as in 10.0.0.1:6379\nit is the address that"),
    ],
)
def test_an_address_without_a_cluster_is_told_in_two_lines(address, said, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_cluster, "ANSWER_S", 3.0)
    started = time.monotonic()
    command = ["point-goal", "--sampler", "ray", "--ray-address", address]
    with pytest.raises(UserError, match=said) as caught:
        main([*command, "--run-dir", str(tmp_path / "run")])
    assert len(str(caught.value).splitlines()) == 2
    assert time.monotonic() - started < 15.0
    assert Connection.current is None


def test_other_versions_on_a_node_are_told_and_other_processors_warned_of():
    here = facts_function()()
    assert {"Python", "ray", "numpy", "metarl"} < here.keys()
    compare("node a", here, here)
    with pytest.raises(UserError) as caught:
        compare("node a", {**here, "numpy": "2.0.0", "metarl": "is not installed"}, here)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"node a has numpy 2.0.0 (here {here['numpy']}), metarl is not inst")
    assert second == "install the same on every machine"
    with pytest.warns(WorkerWarning, match="processor Haswell"):
        compare("node a", {**here, "processor": "Haswell"}, {**here, "processor": "Zen"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"actors": 2}, "--actors 2 has no effect without --sampler ray"),
        ({"ray_address": "a:1"}, "--ray-address a:1 has no effect without --sampler ray"),
        ({"sampler": "ray", "workers": 2}, "--workers 2 has no effect with --sampler ray"),
    ],
)
def test_settings_without_effect_are_refused(changed, said):
    for config in (SMALL, EvaluateOptions(run_dir=Path())):
        with pytest.raises(UserError, match=said):
            workers_of(replace(config, **changed))
    asked = replace(SMALL, sampler="ray", ray_address="a:1", actors=3)
    assert workers_of(asked).cluster == Cluster("a:1", 3)


@needs_ray
def test_a_policy_that_acts_on_the_device_is_no_work_for_ray():
    with pytest.raises(UserError, match="--sampler ray plays no episodes of this policy"):
        check_place("device", Workers(cluster=Cluster()))
    check_place("workers", Workers(cluster=Cluster()))
    check_place("device", Workers())
