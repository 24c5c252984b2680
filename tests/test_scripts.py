"""The benchmarks run, each on sizes too small to measure anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "bench_update.py": "--tasks 2 --episodes 2 --steps 5 --repeats 1",
    "bench_update.py of others": "--agents promp rl2 reptile-ppo lslr-ppo lslr-trpo --tasks 2 --episodes 2 --steps 5 "
    "--repeats 1",
    "bench_sampling.py": "--only mujoco --tasks 2 --episodes 2 --steps 5 --vector-envs 2 "
    "--repeats 1",
    "bench_metaworld.py": "--name ml1:reach-v3 --tasks 2 --episodes 1 --steps 5 --repeats 1 --hidden 8 --no-async",
}


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_its_ratios(name):
    script = ROOT / "scripts" / name.split()[0]
    done = subprocess.run(
        [sys.executable, str(script), *TINY[name].split()],
        capture_output=True, text=True, cwd=ROOT, timeout=250,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert any(character.isdigit() for character in done.stdout)
