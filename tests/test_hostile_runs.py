"""Folders of runs whose files hold anything: a UserError or success, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.commands.train import main
from metarl.config.options import EvaluateFewShotOptions
from metarl.envs import catalogue as envs
from metarl.errors import CorruptCheckpointError, UserError
from metarl.experiments.assembly import run_config
from metarl.loop import saved_state
from metarl.loop.evaluation import evaluate
from metarl.loop.training import source_of
from metarl.reporting.report import write_report
from metarl.runs import bounds, checkpoint, data, environment, inputs, metrics
from metarl.runs.adaptation import read_json
from metarl.runs.directory import RunDirectory

VALUES = [
    None, True, -1, 10**18, 2**63, 10**400, 1e308, -1e149, "", "\0", "\x1b[31m", "\ud800", "$x",
    "x" * 5000, "/dev/zero", "../..", [], {}, [[]], ["a"], {"a": 1}, [[1, 2], [3]], [[[0.0]]],
    "RAW1e999", "RAW" + "9" * 5000, "RAW" + "[" * 3000, "RAWNaN", "RAW-",
]  # fmt: skip
"""Values to put anywhere; those with RAW are put as they are."""
DATA = '{"sha256": "ab", "places": ["/nowhere"], "from_run": "../nowhere"}'


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Returns a run of two iterations that was evaluated."""
    folder = tmp_path_factory.mktemp("run")
    size = "--iterations 2 --checkpoint-every 1 --sampling.updates 1 --sampling.tasks 2"
    main(["sinusoid-maml", *size.split(), "--threads", "1", "--run-dir", str(folder)])
    evaluate(EvaluateFewShotOptions(run_dir=folder, tasks=2, steps=1, threads=1, inner_lr="own"))
    (folder / "data.json").write_text(DATA)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def resumed(run: RunDirectory) -> saved_state.SavedState:
    """Reads a checkpoint as training does."""
    config = run_config(run.root)
    source = source_of(config, envs.configured(config.env), torch.device("cpu"))
    rng = keys.generator(config.seed, keys.Purpose.INIT)
    agent: Any = agents.build(source.spec, config.agent, rng, source.device, None, 0)
    found = checkpoint.load_latest(run.checkpoints, "cpu", checkpoint.room_for(agent))
    assert found
    state = saved_state.read(found.state, source.counters, found.path)
    found.load_into(agent)
    return state


READERS: dict[str, Callable[[RunDirectory], Any]] = {
    "config.yaml": lambda run: run_config(run.root),
    "metrics.jsonl": lambda run: (metrics.read(run.metrics), metrics.rewind(run.metrics, 1)),
    "environment.json": lambda run: environment.changes(environment.read(run.environment), {}),
    "data.json": lambda run: data.found("/nowhere", run),
    "inputs.json": inputs.read,
    "evaluation/adaptation.json": lambda run: read_json(run.evaluation.adaptation_json),
    "checkpoints/000002/state.json": resumed,
    "checkpoints/000002/agent.safetensors": resumed,
    "checkpoints/000002/manifest.json": resumed,
}


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the places of values in a JSON document."""
    inside = document.items() if isinstance(document, dict) else (
        enumerate(document[:4]) if isinstance(document, list) else ()
    )  # fmt: skip
    return [at, *(place for key, value in inside for place in places(value, (*at, key)))]


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """Returns a JSON document with a value replaced, removed or repeated."""
    document = json.loads(content)
    *way, last = rng.choice(places(document)[1:])
    inside = document
    for key in way:
        inside = inside[key]
    match rng.randrange(4):
        case 0:
            del inside[last]
        case 1:
            inside[last] = [inside[last]] * rng.choice([1, 2, 200])
        case _:
            inside[last] = rng.choice(VALUES)
    return re.sub(r'"RAW([^"]*)"', r"\1", json.dumps(document)).encode()


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes with some replaced, removed or put in."""
    start = rng.randrange(len(content))
    new = rng.choice([b"", b"\0", b"\n", b"\xff", b"{", b"9" * 5000, rng.randbytes(3)])
    return content[:start] + new + content[start + rng.choice([0, 1, 50]) :]


def sealed(folder: Path) -> None:
    """Writes a manifest that fits the files of a checkpoint."""
    names = ("agent.safetensors", "state.json")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = {"format": 1, "iteration": int(folder.name), "sha256": digests}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_holds_anything_is_read_or_refused(copy: Path, name: str):
    rng, file, refused = random.Random(name), copy / name, []
    before = file.read_bytes()
    for number in range(8 if name.startswith("checkpoints") else 30):
        structured = name.endswith(("json", "jsonl")) and number % 3
        lines = before.splitlines(keepends=True)[:1] if name == "metrics.jsonl" else [before]
        change = changed_json if structured else changed_bytes
        file.write_bytes(change(lines[0], rng) + b"\n")
        if name.startswith("checkpoints") and "manifest" not in name:
            sealed(file.parent)
        try:
            READERS[name](RunDirectory(copy))
        except UserError as error:
            refused.append(str(error))
    assert refused or "checkpoints" in name or name == "environment.json"
    assert all(len(text.splitlines()) <= 3 and len(text) < 2000 for text in refused)


@pytest.mark.filterwarnings("ignore")
def test_a_report_of_strange_metrics_and_results(copy: Path):
    """Values of the right types that pictures and tables are easily lost in."""
    run, rng = RunDirectory(copy), random.Random(0)
    known = json.loads(run.evaluation.adaptation_json.read_bytes())
    odd = [None, 0, 5e-324, 1e149, 1e308]
    rows = [{"iteration": i, "tasks": i, "loss/step0": rng.choice(odd)} for i in (1, 2, 9)]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known["values"] = [[[rng.choice(odd)], [rng.choice(odd)]] for _ in range(2)]
    known["agent"] = "\ud800\x00\x1b"
    run.evaluation.adaptation_json.write_text(json.dumps(known))
    write_report(run)
    known["values"] = [[[None], [None]]] * 2
    run.evaluation.adaptation_json.write_text(json.dumps(known))
    run.metrics.write_text('{"iteration": 1}\n')
    write_report(run)


STATES = {
    "an unknown count": {"x": 1},
    "no scores": {"recent": None},
    "many scores": {"recent": [0.0] * 101},
    "a score that is text": {"recent": ["a"]},
    "a score of 400 digits": {"recent": [10**400]},
    "a time that is text": {"wall_s": "a"},
    "a time that ran back": {"wall_s": -1.0},
    "a count below zero": {"tasks": -1},
    "a count beyond 64 bits": {"tasks": 2**63},
    "a count that is true": {"skipped_in_a_row": True},
    "a count with a fraction": {"skipped_in_a_row": 0.5},
}


@pytest.mark.parametrize("fault", STATES)
def test_counts_of_a_checkpoint_have_types(fault: str):
    good = {"tasks": 5, "recent": [0.5, None], "wall_s": 1.0, "skipped_in_a_row": 0}
    with pytest.raises(CorruptCheckpointError, match="counts that no run has"):
        saved_state.read({**good, **STATES[fault]}, {"tasks": 0}, "000001")


def test_counts_are_stored_without_nan_and_come_back():
    state = saved_state.SavedState([0.5, math.nan], 1.5, 2, {"tasks": 3})
    stored = state.stored()
    assert json.loads(json.dumps(stored, allow_nan=False))["recent"] == [0.5, None]
    again = saved_state.read(stored, {"tasks": 0}, "000001")
    assert str(again) == str(state)
    assert saved_state.read({"recent": []}, {"tasks": 0}, "1").counters == {"tasks": 0}


def of_whole_numbers(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.int64)


def of_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.full_like(x, math.nan)


@pytest.mark.parametrize(
    ("change", "fault"),
    [(of_whole_numbers, "not torch.float32"), (of_nan, "not finite"), (torch.ravel, "expected")],
)
def test_weights_that_fit_their_digest_are_this_agents_or_refused(copy: Path, change, fault: str):
    file = copy / "checkpoints/000002/agent.safetensors"
    weights = safetensors.torch.load_file(file)
    name = next(name for name, x in weights.items() if x.dim() > 1)
    safetensors.torch.save_file({**weights, name: change(weights[name]).contiguous()}, file)
    sealed(file.parent)
    with pytest.raises(UserError, match=fault):
        resumed(RunDirectory(copy))


def test_an_evaluation_too_large_to_be_read_is_refused_before_it_begins(copy: Path):
    with pytest.raises(UserError, match="at most 2,000,000 can be read"):
        evaluate(EvaluateFewShotOptions(run_dir=copy, tasks=10**9, steps=1, threads=1))
    bounds.check(tasks=10_000, steps=11, episodes=1, learners=5, arrays=1)
