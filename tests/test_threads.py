"""The number of threads: from where it is, and where it holds."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import threadpoolctl
import torch
from whole_runs import rows, weights

from metarl.commands import train
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.device import torch_threads, use_threads, workers_of
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.threads import Threads, cores, threads

EACH = "one for each core"


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch):
    """A process that may run on eight cores; whatever torch has afterwards is undone."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with torch_threads(torch.get_num_threads()), threadpoolctl.threadpool_limits():
        yield


def kernel(root: Path, own: str, files: dict[str, str]) -> Path:
    """Writes what the kernel would show: /proc/self/cgroup, and files of /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": own, **files}.items():
        path = root / (name if name.startswith("proc") else f"sys/fs/cgroup/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "7:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n3:cpuset:/docker/1f\n1:name=systemd:/\n"
QUOTAS = {
    "version 2, in a container": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "rounded up": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "less than one": ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
    "none": ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
    "more than there are cores": ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
    "its own group": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "cpu.max": "max 100000"}, 3),
    "a group above": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 50000"}, 2),
    "another group": ("0::/a\n", {"b/cpu.max": "100000 100000"}, 8),
    "the host's place": ("0::/docker/1f\n", {"cpu.max": "400000 100000"}, 4),
    "version 1": (
        V1,
        {"cpu/docker/1f/cpu.cfs_quota_us": "250000", "cpu/docker/1f/cpu.cfs_period_us": "100000"},
        3,
    ),
    "version 1, in a container": (
        V1, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "25000\n"}, 2
    ),
    "version 1, none": (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "version 1, half a file": (V1, {"cpu/cpu.cfs_quota_us": "100000"}, 8),
    "a tree of cpuset only": ("3:cpuset:/\n", {"cpu/cpu.max": "100000 100000"}, 8),
    "both versions": (f"{V1}0::/\n", {"cpu/cpu.max": "max", "cpu.max": "100000 100000"}, 1),
    "bad numbers": ("0::/\n", {"cpu.max": "many 100000"}, 8),
    "a period of zero": ("0::/\n", {"cpu.max": "100000 0"}, 8),
    "a negative quota": ("0::/\n", {"cpu.max": "-100000 100000"}, 8),
    "three numbers": ("0::/\n", {"cpu.max": "1 2 3"}, 8),
    "no number": ("0::/\n", {"cpu.max": ""}, 8),
    "no such lines": ("what\n", {"cpu.max": "100000 100000"}, 8),
    "no cgroup file": ("", {}, 8),
}  # fmt: skip


@pytest.mark.parametrize("case", QUOTAS)
def test_the_quota_of_a_container(case: str, tmp_path: Path):
    own, files, count = QUOTAS[case]
    assert cores(kernel(tmp_path, own, files)).count == count


def test_what_limits_the_cores_is_said(tmp_path: Path):
    assert cores(tmp_path) == Threads(8, EACH), "there are no files at all"
    root = kernel(tmp_path, "0::/\n", {"cpu.max": "150000 100000"})
    assert str(cores(root)) == "2 torch threads (CPU quota of 1.5 cores)"
    (root / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert cores(root) == Threads(8, EACH)


def test_the_flag_comes_before_the_variable_and_that_before_the_cores(monkeypatch):
    assert threads("auto") == cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads("auto") == Threads(3, "OMP_NUM_THREADS")
    assert threads(2) == Threads(2, "--threads")
    monkeypatch.setenv("OMP_NUM_THREADS", "4, 2")  # nested regions have 2 each
    assert threads("auto") == Threads(4, "OMP_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert threads("auto") == cores()


@pytest.mark.parametrize("text", ["abc", "0", "-2", "1.5", ",2", "1000000", "²"])
def test_a_variable_that_is_no_number_is_refused_by_name(text: str, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(UserError, match=f"OMP_NUM_THREADS is '{text}'; .* or give --threads"):
        train.main(["point-goal", "--run-dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
    assert threads(1).count == 1, "the flag needs no variable"


def test_automatic_workers_are_as_many_as_the_threads(monkeypatch):
    config = preset("point-goal")
    assert isinstance(config, Config)
    assert workers_of(config).count == cores().count
    assert workers_of(replace(config, threads=3)).count == 3
    assert workers_of(replace(config, threads=3, workers=5)).count == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert workers_of(EvaluateOptions(run_dir=Path())).count == 2


def test_torch_and_linear_algebra_get_them():
    for count in (1, 2):
        use_threads(count)
        blas = [x for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas"]
        assert torch.get_num_threads() == count
        assert [x["num_threads"] for x in blas] == [count] * len(blas) != []


SMALL = [
    "point-goal", "--sampling.tasks", "2", "--sampling.episodes", "2", "--env.horizon", "4",
    "--device", "cpu", "--agent.policy.hidden", "4", "--workers", "0",
]  # fmt: skip


def test_a_run_says_and_records_them_and_warns_of_others(tmp_path, capfd):
    def go(*flags: str) -> dict:
        train.main([*SMALL, "--run-dir", str(tmp_path), *flags])
        return json.loads((tmp_path / "environment.json").read_text())["threads"]

    assert go("--threads", "1", "--iterations", "1") == {
        "workers": 0, "torch": 1, "from": "--threads", "act_on": "workers"
    }  # fmt: skip
    assert "no workers, 1 torch thread (--threads) on cpu" in capfd.readouterr().out
    assert torch.get_num_threads() == 1
    with pytest.warns(UserWarning, match="since this run began: torch threads 1 -> 2"):
        go("--threads", "2", "--iterations", "2")


TINY = {
    "maml-trpo": ["halfcheetah-vel-quick", "--sampling.tasks", "3", "--sampling.episodes", "4",
                  "--env.horizon", "12", "--agent.policy.hidden", "100", "100"],
    "rl2": ["point-goal", "--agent", "rl2", "--sampling.tasks", "3", "--sampling.episodes", "4",
            "--env.horizon", "12", "--agent.inner.steps", "1"],
    "varibad": ["point-goal", "--agent", "varibad", "--sampling.tasks", "3",
                "--sampling.episodes", "4", "--env.horizon", "12"],
    "reptile-ppo": ["halfcheetah-vel-quick", "--agent", "reptile-ppo", "--sampling.tasks", "3",
                    "--sampling.episodes", "4", "--env.horizon", "12"],
    "protonet": ["digits-protonet", "--sampling.updates", "1"],
    "maml": ["sinusoid-maml", "--sampling.updates", "1"],
}  # fmt: skip


def trained(folder: Path, name: str, *flags: str) -> tuple[list[dict], dict]:
    """Returns the metrics and the weights of a training of one iteration."""
    argv = [*TINY[name], "--iterations", "1", "--device", "cpu", "--run-dir", str(folder), *flags]
    train.main(argv)
    return rows(folder), weights(folder, 1)


@pytest.mark.parametrize("name", TINY)
def test_the_numbers_of_threads_and_workers_change_nothing(name: str, tmp_path: Path):
    few_shot = name in ("protonet", "maml")
    found = [
        trained(tmp_path / str(workers), name, "--threads", "2", *more)
        for workers in (0, 1, 2)
        for more in [() if few_shot else ("--workers", str(workers))]
    ]
    found += [trained(tmp_path / f"by {n}", name, "--threads", str(n)) for n in (1, 3)]
    assert found[1:] == found[:-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc to keep memory")
def test_freed_tensors_leave_their_memory_to_later_ones():
    """Each new one would else begin with a page fault for every 4 KiB."""
    code = (
        "import resource, torch\n"
        "from metarl.device import use_threads\n"
        "use_threads(1)\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20):\n"
        "        parts = [torch.ones(5 << 20) for _ in range(4)]\n"
        "        del parts\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "first = faults()\n"
        "print(first, faults())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    first, later = map(int, said.stdout.split())
    assert first > 10_000
    assert later < first / 10
