"""Learners with and without a memory in a short T-maze, beside its best returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.commands import train
from metarl.envs.arrays.memory_optima import t_maze_best

COMMON = "--sampling.task-draw stratified --workers 0 --threads 1 --checkpoint-every 1000"
LEARNERS = {
    "joint-ppo": (
        "point-goal --agent joint-ppo --env t-maze:passive --env.horizon 4 --iterations 30 "
        "--sampling.tasks 20 --sampling.episodes 20 --agent.policy.hidden 32",
        False,
    ),
    "rl2": (
        "t-maze-passive-rl2 --env.horizon 4 --iterations 40 --agent.inner.size 16 "
        "--agent.outer.lr 0.005 --agent.outer.entropy-half-life 20",
        True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_a_memory_makes_the_difference(name: str, tmp_path: Path):
    """The best mean over five iterations: without a memory half, with one almost all."""
    line, memory = LEARNERS[name]
    train.main([*line.split(), *COMMON.split(), "--run-dir", str(tmp_path / "run")])
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    returns = [json.loads(each)["return/step0"] for each in lines]
    reached = max(sum(returns[i : i + 5]) / 5 for i in range(len(returns) - 4))
    best = t_maze_best(memory)
    assert best - 0.06 <= reached <= best + 0.04
