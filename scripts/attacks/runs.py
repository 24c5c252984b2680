"""Small runs of seven kinds, and what of a run must not depend on what happened to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from attacks.children import Ended, call

SMALL = (
    "--sampling.tasks 3 --sampling.episodes 3 --env.horizon 20 --agent.policy.hidden 8 "
    "--checkpoint-every 1 --device cpu --threads 1"
)
FEW_SHOT = (
    "--sampling.tasks 2 --sampling.updates 2 --agent.network.hidden 8 "
    "--checkpoint-every 1 --device cpu --threads 1"
)
KINDS = {
    "maml-trpo": f"point-goal --workers 0 {SMALL}",
    "maml-trpo, worker": f"halfcheetah-vel-quick --workers 1 {SMALL}",
    "reptile-ppo": f"point-goal-reptile-ppo --workers 0 {SMALL}",
    "rl2": f"bandit-5x10-rl2 --workers 0 {SMALL}",
    "meta-lstm-ppo": f"point-goal --agent meta-lstm-ppo --workers 0 {SMALL}",
    "maml on sinusoids": f"sinusoid-maml {FEW_SHOT}",
    "protonet on digits": f"digits-protonet {FEW_SHOT} --agent.network.hidden 4 4",
}
"""Kind -> the command line of its training."""


def flags(kind: str, run: Path, iterations: int, *more: str) -> list[str]:
    """Returns the command line of a run of some iterations; `more` replaces flags of the kind."""
    words = KINDS[kind].split()
    for flag in dict.fromkeys(word for word in (*more, *words) if word.startswith("--")):
        places = [i for i, word in enumerate(words) if word == flag]
        if len(places) > (0 if flag in more else 1):
            at = places[0]
            end = next((i for i in range(at + 1, len(words)) if words[i][:2] == "--"), len(words))
            del words[at:end]
    return [*words, *more, "--iterations", str(iterations), "--run-dir", str(run)]


def train(kind: str, run: Path, iterations: int, log: Path, *more: str, **faults: Any) -> Ended:
    """Trains a run in a process of its own."""
    return call("train", flags(kind, run, iterations, *more), log, **faults)


def fingerprint(run: Path) -> str:
    """Returns a hash of a run's metrics and newest weights and state; times are left out."""
    digest = hashlib.sha256()
    for row in metrics(run):
        timeless = {k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time/")}
        digest.update(json.dumps(timeless, sort_keys=True).encode())
    newest = newest_checkpoint(run)
    if newest is not None:
        digest.update((newest / "agent.safetensors").read_bytes())
        state = json.loads((newest / "state.json").read_bytes())
        state["state"].pop("wall_s", None)
        digest.update(json.dumps(state, sort_keys=True).encode())
    return digest.hexdigest()


def metrics(run: Path) -> list[dict[str, Any]]:
    """Returns the complete lines of a run's metrics."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def newest_checkpoint(run: Path) -> Path | None:
    """Returns the folder of the checkpoint of the highest iteration."""
    found = [path for path in (run / "checkpoints").glob("[0-9]*") if path.is_dir()]
    return max(found, key=lambda path: int(path.name), default=None)


def iterations_saved(run: Path) -> int:
    newest = newest_checkpoint(run)
    return 0 if newest is None else int(newest.name)
