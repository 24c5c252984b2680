"""Folders of runs with made-up results, for tests of reports: no training, so they are fast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from metarl.runs import directory, environment
from metarl.runs.adaptation import Adaptation, Outcome, write_json
from metarl.runs.metrics import line

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&$x\u202egnp \x1b[31m"
"""A name that a stranger may give to anything."""
TASKS = 8


def rows(count: int = 40, seed: int = 0) -> list[dict[str, float]]:
    """Returns metrics of a run whose returns rise; `wall_s` differs from seed to seed."""
    rng = np.random.default_rng(seed)
    return [
        {"iteration": i, "env_steps": 1000 * i, "wall_s": (2 + 0.1 * seed) * i, "kl": 0.01,
         "return/step0": -100 + rng.normal(), "return/step1": -90 + i + rng.normal(),
         "success/step0": 0.0, "success/step1": i / count, "gradient_norm": 1 / i,
         "line_search/accepted": 1.0, "line_search/backtracks": i % 3, "cg/residual": 0.1 / i,
         "time/sampling_s": 1.0, "time/update_s": 0.5 + rng.random()}
        for i in range(1, count + 1)
    ]  # fmt: skip


def adaptation(seed: int = 0, env: str = "point-goal", name: str = "maml-trpo") -> Adaptation:
    """Returns an evaluation on 8 tasks, whose last task is the best after adaptation."""
    after = np.arange(TASKS, dtype=float) + seed
    values = np.stack([after * 0 - 50.0, after - 20], axis=1)[..., None].repeat(3, axis=-1)
    tasks = tuple({"goal": [0.1 * k, -0.5], "name": name} for k in range(TASKS))
    made_from = {"iteration": 40, "checkpoint": "latest", "seed": 1}
    return Adaptation(
        env, name, "test", (0, 1), (0, 300), tasks, Outcome(values, values > -15),
        {"random initialisation": Outcome(values - 30)}, made_from=made_from,
    )  # fmt: skip


def make_run(
    root: Path, seed: int = 0, env: str = "point-goal", evaluated: bool = True, lr: float = 0.1
) -> Path:
    """Makes a run's folder."""
    run = directory.create(root)
    run.config.write_text(
        f"env:\n  name: {env}\nagent:\n  name: maml-trpo\n  inner:\n    lr: {lr}\nseed: {seed}\n"
    )
    run.metrics.write_bytes(b"".join(map(line, rows(seed=seed))))
    environment.write(run.environment, {"versions": {"torch": "2"}, "git": None})
    if evaluated:
        write_json(run.evaluation.adaptation_json, adaptation(seed, env))
    return root


def make_hostile(root: Path) -> Path:
    """Makes a run whose names, tasks, metrics and films are a stranger's."""
    make_run(root)
    run = directory.RunDirectory(root)
    write_json(run.evaluation.adaptation_json, adaptation(0, HOSTILE, HOSTILE))
    stored = json.loads(run.evaluation.adaptation_json.read_text())
    stored["tasks"] = [{HOSTILE: [HOSTILE] * 50, "x": {HOSTILE: 1e308}} for _ in range(TASKS)]
    stored["controls"] = {
        f"{HOSTILE}{i}": stored["controls"]["random initialisation"] for i in "ab"
    }
    stored["returns"][0][0][0] = None
    stored["returns"][1][1] = [1e149] * 3
    run.evaluation.adaptation_json.write_text(json.dumps(stored))
    odd = [{**row, HOSTILE: row["iteration"] * 1e147, "kl": 1e-300} for row in rows()]
    run.metrics.write_bytes(b"".join(map(line, odd)))
    run.environment.write_text(json.dumps({"versions": {HOSTILE: HOSTILE * 99}}))
    films = root / "films"
    films.mkdir()
    (films / "a\"><b>'.gif").write_bytes(b"GIF89a" + bytes(4 << 20))  # too large, so it is linked
    (films / "page.gif").write_bytes(b"<html>")
    (films / "page.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    (films / "page.json").write_text(json.dumps({"labels": [HOSTILE], "returns": [[HOSTILE]]}))
    return root
