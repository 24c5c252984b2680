"""The benchmarks run, each on sizes too small to measure anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UPDATE = "--tasks 2 --episodes 2 --steps 5 --repeats 1"
TINY = {
    "bench_update.py": UPDATE,
    "bench_update.py of others": f"{UPDATE} --agents promp rl2 reptile-ppo lslr-ppo lslr-trpo",
    "bench_sampling.py": f"{UPDATE} --only mujoco --vector-envs 2",
    "bench_metaworld.py": f"{UPDATE} --name ml1:reach-v3 --hidden 8 --no-async",
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
