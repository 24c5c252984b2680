"""Iterations in which nothing is learned are told, with the likely cause and not too often."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.commands import train
from metarl.errors import UserError
from metarl.loop import stalls
from metarl.loop.stalls import AGAIN, Facts, Stalls
from metarl.runs.metrics import read
from metarl.sampling.collect import returns_of

ROOT = Path(__file__).parents[1]
USUAL = {
    "skipped": 0.0, "return/step0": 1.0, "return/step1": 2.0, "gradient_norm": 0.5, "kl": 0.01,
    "cg/products": 10.0, "cg/residual": 0.4, "line_search/accepted": 1.0,
}  # fmt: skip


def told(rows: list[dict], facts: Facts | None = None) -> list[str]:
    """Returns the notes on some rows, numbered from 1, and the line at the end."""
    notes: list[str] = []
    looking = Stalls(notes.append)
    for number, row in enumerate(rows, 1):
        looking.after({**USUAL, "iteration": number, **row}, facts or Facts(products=10))
    looking.end(len(rows))
    return notes


KINDS = {
    "returns": ({"return/step1": np.nan}, Facts(), "return/step1: not finite", 1),
    "large rewards": ({}, Facts(sizes={"rewards": 1e30}), r"rewards up to 1e\+30", 1),
    "tiny rewards": ({}, Facts(sizes={"rewards": 1e-12}), "no reward is larger than 1e-12", 1),
    "the same": ({}, Facts("every reward is 0"), "every reward is 0, so no action", 3),
    "curvature": (
        {"cg/products": 1.0, "cg/residual": 0.5}, Facts(products=10),
        "ended at its first product.*half precision", 1,
    ),
    "later curvature": (
        {"cg/products": 4.0}, Facts(products=10), "ended at product 4", 1,
    ),
    "residual": ({"cg/residual": 3.0}, Facts(products=10), "left 6.0 times the gradient", 3),
    "no gradient": ({"gradient_norm": 0.0}, Facts(), "gradient is exactly zero", 3),
    "line search": ({"line_search/accepted": 0.0}, Facts(), "line search found no step", 3),
    "weights": ({}, Facts(moved=False), "changed no weight", 3),
    "kl": ({"kl": 0.0}, Facts(), "KL after the update is exactly zero", 3),
    "clip": ({"clip_fraction": 1.0}, Facts(), "100% of the probability ratios", 3),
    "left out": ({"reptile/left_out": 2.0}, Facts(), "2 tasks were left out", 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_and_summed_up(kind: str):
    row, facts, said, patience = KINDS[kind]
    assert told([row] * (patience - 1), facts) == []
    first, end = told([row] * 5, facts)
    assert first.startswith(f"iteration {patience}")
    assert re.search(said, first)
    assert end.startswith("signs of no learning in 5 iterations: 5 ")


def test_what_lasts_is_not_told_in_every_iteration():
    notes = told([{"line_search/accepted": 0.0}] * (2 * AGAIN + 10))
    assert [note.split(",")[0].split(":")[0] for note in notes[:-1]] == [
        "iteration 3", f"iteration {AGAIN + 3}", f"iteration {2 * AGAIN + 3}"
    ]  # fmt: skip


def test_now_and_then_is_no_stall():
    assert told([{"line_search/accepted": 0.0}, {}, {"kl": 0.0}, {}] * 10) == []
    assert told([{}] * 10) == []


def test_a_cause_is_told_and_not_what_follows_from_it():
    """Zero rewards give zero gradients, and a line search that fails."""
    row = {"gradient_norm": 0.0, "kl": 0.0, "line_search/accepted": 0.0, "cg/products": 0.0}
    first, end = told([row] * 3, Facts("every reward is 0", False, 10))
    assert "every reward is 0" in first
    assert end == "signs of no learning in 3 iterations: 3 without a difference between episodes"


def test_a_skipped_update_is_told_elsewhere():
    assert told([{"skipped": 1.0, "clip_fraction": 1.0, "kl": 0.0}] * 5) == []


def test_no_committed_run_is_said_to_stall():
    """Hundreds of iterations of many agents that learned."""
    found = sorted((ROOT / "results").rglob("metrics.jsonl"))
    assert len(found) > 20
    for path in found:
        products = 10 if "cg/products" in path.read_text(encoding="utf-8") else 0
        notes: list[str] = []
        looking = Stalls(notes.append)
        for row in read(path):
            looking.after({"skipped": 0.0, **row}, Facts(products=products))
        looking.end(100)
        assert notes == [], path


def test_weights_move_and_counters_do_not_count():
    weights = {"layer0.weight": torch.ones(2), "outer.count": torch.ones(())}
    same = {name: x.clone() for name, x in weights.items()}
    assert not stalls.moved(weights, {**same, "outer.count": torch.zeros(())})
    assert stalls.moved(weights, {**same, "layer0.weight": torch.zeros(2)})


SMALL = [
    "point-goal", "--env.horizon", "12", "--sampling.tasks", "2", "--sampling.episodes", "3",
    "--agent.policy.hidden", "4", "--workers", "0", "--threads", "1", "--iterations", "3",
    "--device", "cpu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("pays", "said"),
    [
        ("nothing", "iteration 3, 3 in a row: every reward is 0, so no action looks better"),
        ("huge_once", "iteration 1: rewards up to 1e+38, whose squares leave float32"),
        ("huge", "iteration 1: rewards up to"),
    ],
)
def test_a_run_whose_rewards_teach_nothing_says_so(pays: str, said: str, tmp_path, capfd):
    """And its returns are numbers, also where their sum is none of float32."""
    train.main([*SMALL, "--env", f"strange_envs:paid_{pays}", "--run-dir", str(tmp_path)])
    out = capfd.readouterr().out
    assert said in out
    assert "signs of no learning in 3 iterations: 3 with" in out
    rows = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(row["return/step0"] is not None for row in rows)


def test_returns_are_numbers_where_their_sum_is_none_of_float32():
    rewards = torch.full((1, 12, 1), 1e38)
    episodes: Any = SimpleNamespace(rewards=rewards, mask=torch.ones(1, 12, 1, dtype=torch.bool))
    assert float(returns_of(episodes)) == pytest.approx(1.2e39)


def test_rewards_and_not_the_step_size_are_blamed_for_a_policy_of_no_numbers(tmp_path):
    argv = [*SMALL, "--env", "strange_envs:paid_huge_often", "--run-dir", str(tmp_path)]
    with pytest.raises(UserError, match=r"not finite; likely cause: rewards up to 1e\+38; scale"):
        train.main(argv)


def test_skipped_updates_are_blamed_on_the_setting_that_causes_them(tmp_path):
    """Losses are finite before an outer step of this size."""
    argv = [*SMALL, "--agent", "maml-ppo", "--agent.outer.lr", "1e30", "--run-dir", str(tmp_path)]
    argv[argv.index("--iterations") + 1] = "9"
    said = r"5 updates in a row.*\n.*an outer step that is too large \(--agent.outer.lr\)"
    with pytest.raises(UserError, match=said):
        train.main(argv)


def test_skipped_updates_are_blamed_on_data_first():
    usual = {"rewards": 5.0, "observations": 3.0}
    assert stalls.cause(Facts(sizes=usual)) == ""
    assert stalls.cause(Facts(sizes={**usual, "rewards": 1e30})) == "rewards up to 1e+30"
    assert stalls.cause(Facts(sizes={**usual, "observations": 1e20}, heaviest=1e9)) == (
        "observations up to 1e+20"
    )
    assert stalls.cause(Facts(sizes={"targets": 1e20, "inputs": 1.0})) == "targets up to 1e+20"
    assert stalls.cause(Facts(sizes=usual, heaviest=1e6)) == "weights up to 1e+06"
