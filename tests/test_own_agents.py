"""An agent of a user's own, by `--agent package.module:attribute`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from whole_runs import instead

from metarl.commands import evaluate, train
from metarl.config.own_code import at
from metarl.errors import UserError

SMALL = (
    "point-goal --iterations 2 --sampling.tasks 2 --sampling.episodes 2 --env.horizon 5 "
    "--workers 0 --device cpu"
).split()
CODE = """
from metarl.agents import catalogue

def agent(spec, rng, device):
    return catalogue.build(spec, catalogue.default("maml-ppo"), rng, device)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The place of an agent in a module that only this test can import."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:agent"


def test_it_trains_resumes_and_is_evaluated(own, tmp_path):
    run = tmp_path / "run"
    train.main([*SMALL, "--agent", own, "--run-dir", str(run)])
    again = instead(SMALL, "--iterations", "3")
    train.main([*again, "--agent", own, "--run-dir", str(run)])
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert yaml.safe_load((run / "config.yaml").read_text())["agent"] == {"name": own}
    flags = ["--agent", own, "--tasks", "2", "--episodes", "2", "--controls", "random"]
    evaluate.main([str(run), *flags])
    found = json.loads((run / "evaluation" / "adaptation.json").read_text())
    assert found["agent"] == own
    assert set(found["controls"]) == {"random initialisation"}


def test_code_is_run_only_where_the_command_line_names_it(own, tmp_path):
    """A config found in a run's folder has no such power."""
    run = tmp_path / "run"
    train.main([*SMALL, "--agent", own, "--run-dir", str(run)])
    module = own.partition(":")[0]
    del sys.modules[module]
    config = str(run / "config.yaml")
    for door, argv in (
        (train.main, ["--config", config, "--iterations", "3"]),
        (evaluate.main, [str(run), "--tasks", "2", "--episodes", "2"]),
    ):
        with pytest.raises(
            UserError, match=rf"the agent is {own}, code of your own: .*\n.*--agent"
        ):
            door(argv)
        assert module not in sys.modules
    with pytest.raises(UserError, match=r"--agent is 'maml-trpo', and .* is of"):
        evaluate.main([str(run), "--agent", "maml-trpo"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:agent", "there is no module 'no_such_module'"),
        ("json:agnt", "its module has no 'agnt'"),
        ("json.:agent", "'json.' is no module's name"),
    ],
)
def test_a_place_where_nothing_is_is_named(name, said):
    with pytest.raises(UserError, match=said):
        at(name)
