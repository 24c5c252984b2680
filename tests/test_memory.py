"""What cannot fit into the memory is refused with the bytes, before it is allocated."""

from __future__ import annotations

import errno
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from strange_envs import endless

from metarl import memory
from metarl.config.settings import Config, FewShotConfig
from metarl.device import workers_of
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.limits import check_threads, within_the_machine
from metarl.loop.training import train
from metarl.memory import Found

SPEC = SimpleNamespace(obs_dim=2, act_dim=2, horizon=100)
IMAGES = SimpleNamespace(input_shape=(1, 28, 28), outputs=5, classes=True)


def machine(root: Path, available: int, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal: 99999999 kB\nMemAvailable: {available} kB\nSwapFree: 24 kB\n"
    )
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_least_of_the_limits_counts(tmp_path: Path):
    free = machine(tmp_path / "a", 1000, {})
    assert memory.available(free) == Found(1024 * 1024, "free memory of this machine")
    second = {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
        "sys/fs/cgroup/job/memory.max": "5000\n",
    }
    found = memory.available(machine(tmp_path / "b", 1000, second))
    assert found is not None
    assert found.bytes == 5000
    assert "job/memory.max" in found.limit
    first = {
        "proc/self/cgroup": "3:cpu:/x\n4:memory:/docker/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "7000\n",
    }
    found = memory.available(machine(tmp_path / "c", 1000, first))
    assert found is not None
    assert found.bytes == 7000
    assert memory.available(tmp_path / "no") is None


def test_a_limit_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10 << 20, 10 << 20))
    root = machine(tmp_path, 99999, {"proc/self/statm": "256 1 1"})
    used = 256 * resource.getpagesize()
    assert memory.available(root) == Found((10 << 20) - used, "limit of addresses, `ulimit -v`")


def episodes(**sampling: int) -> Config:
    config = preset("point-goal")
    assert isinstance(config, Config)
    return replace(config, sampling=replace(config.sampling, **sampling))


def test_rounds_by_hand():
    """One step: 2 obs, 2 actions, 2 outputs, a reward; each of two rounds has 3 flags too."""
    needs = memory.of_training(episodes(tasks=3, episodes=5), SPEC)
    (rounds, *_) = needs.values()
    assert rounds == 3 * 5 * 100 * (28 + 2 * (28 + 3))


def test_only_what_is_certainly_in_this_memory_counts():
    """Episodes that may end early, and rounds and examples that a GPU keeps."""
    (rounds, *_) = memory.of_training(episodes(tasks=3, episodes=5), SPEC, kept=False).values()
    assert rounds == 3 * 5 * 100 * 28
    some: Any = ("tasks", 50)
    agent = preset("digits-protonet").agent
    here = memory.of_examples(agent, IMAGES, 600, 5, 0, *some)
    there = memory.of_examples(agent, IMAGES, 600, 5, 0, *some, kept=False)
    assert max(here.values()) == 12 * max(there.values()) == 600 * 5 * 5 * 28 * 28 * 4


def test_own_tasks_may_end_long_before_the_horizon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: Found(600 << 20, "all"))
    config = episodes(tasks=4, episodes=4)
    long = replace(config.env, name="strange_envs:endless", horizon=1_000_000)
    config = replace(config, env=long, iterations=1, workers=0, threads=1, run_dir=str(tmp_path))
    assert max(memory.of_training(config, endless.spec).values()) > 600 << 20
    train(config, "x", endless)


def test_what_is_too_large_names_its_settings():
    needs = memory.of_training(episodes(tasks=10**9), SPEC)
    with pytest.raises(UserError, match=r"at least .* TiB .* 16\.0 GiB \(all\)") as told:
        memory.check(needs, Found(16 << 30, "all"))
    assert "--sampling.tasks" in str(told.value)
    memory.check(memory.of_training(episodes(), SPEC), Found(1 << 30, "all"))


def test_numbers_beyond_floats_are_told():
    needs = memory.of_training(episodes(tasks=10**400), SPEC)
    with pytest.raises(UserError, match="more bytes than any machine has"):
        memory.check(needs, Found(1, "all"))


def test_examples_by_hand():
    config = preset("digits-maml")
    assert isinstance(config, FewShotConfig)
    config = replace(config, env=replace(config.env, shots=2, queries=3))
    needs = memory.of_training(config, IMAGES)
    assert max(needs.values()) == config.sampling.tasks * 5 * 5 * 28 * 28 * 4


@pytest.mark.parametrize(
    ("name", "agent", "field", "setting"),
    [
        ("bandit-5x10-rl2", "inner", "size", "--agent.inner.size"),
        (
            "bandit-5x10-rl2 transformer",
            "inner",
            "size",
            "--agent.inner.size, --agent.inner.layers",
        ),
        ("bandit-5x10-rl2 transformer", "inner", "layers", "--agent.inner.layers"),
        ("sinusoid-mapping", "inner", "hidden", "--agent.inner.hidden"),
        ("digits-protonet", "inner", "embedding", "--agent.inner.hidden, --agent.inner.embedding"),
        ("digits-maml", "network", "hidden", "--agent.network.hidden"),
    ],
)
def test_networks_of_every_kind_are_counted(name: str, agent: str, field: str, setting: str):
    name, _, cell = name.partition(" ")
    config = preset(name)
    part = getattr(config.agent, agent)
    part = replace(part, cell=cell) if cell else part
    huge = (10**9, 10**9) if field == "hidden" and agent == "network" else 10**12
    changed: Any = replace(config.agent, **{agent: replace(part, **{field: huge})})
    needs = memory.of_training(
        replace(config, agent=changed), SPEC if isinstance(config, Config) else IMAGES
    )
    with pytest.raises(UserError, match=setting):
        memory.check(needs, Found(16 << 30, "all"))
    memory.check(
        memory.of_training(config, SPEC if isinstance(config, Config) else IMAGES),
        Found(1 << 30, "all"),
    )


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: np.zeros((1 << 40, 1 << 20)), "memory does not suffice"),
        (lambda: np.zeros(10**30), "memory does not suffice"),
        (lambda: np.zeros((1 << 62, 1 << 62), np.uint8), "memory does not suffice"),
        (lambda: torch.zeros(1 << 55), "memory does not suffice"),
        (lambda: torch.zeros(1 << 62, 1 << 62), "memory does not suffice"),
        (lambda: bytearray(1 << 60), "memory does not suffice"),
        (lambda: np.dtype((np.float32, (1 << 30, 4))), "memory does not suffice"),
    ],
)
def test_an_allocation_that_fails_is_an_error_of_the_users(work: Any, said: str):
    with pytest.raises(UserError, match=said), within_the_machine():
        work()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "--workers"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (ImportError("lib.so: failed to map segment from shared object"), "ulimit -v"),
        (ImportError("lib.so: cannot map zero-fill pages"), "ulimit -v"),
        (OSError("lib.so: failed to map segment from shared object"), "ulimit -v"),  # of ctypes
    ],
)
def test_limits_of_a_shell_are_named(error: Exception, said: str):
    with pytest.raises(UserError, match=said), within_the_machine():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault"),
        ImportError("No module named 'x'"),
        OSError(errno.ENOENT, "no", "x"),
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 0),
    ],
)
def test_other_errors_stay(error: Exception):
    with pytest.raises(type(error)) as found, within_the_machine():
        raise error
    assert found.value is error


def test_more_workers_than_any_machine_should_have():
    with pytest.raises(UserError, match=r"--workers is 100000 on .* cores; give at most"):
        workers_of(replace(episodes(), workers=100000))


def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch):
    check_threads(4)

    def refused(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refused)
    with pytest.raises(UserError, match="4 threads cannot be started"):
        check_threads(4)
