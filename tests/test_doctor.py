"""The doctor: a healthy run has only `ok`, each damage is found with its remedy, none is fatal."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metarl.commands import doctor, evaluate, train
from metarl.config.door import open_door
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding
from metarl.diagnosis.run import diagnosed
from metarl.errors import UserError
from metarl.runs import checkpoint_files

SMALL = (
    "--iterations 3 --checkpoint-every 2 --sampling.tasks 2 --sampling.episodes 2 "
    "--evaluation.tasks 2 --evaluation.episodes 2 --threads 1 --workers 0"
).split()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    train.main(["point-goal", "--run-dir", str(run), *SMALL])
    evaluate.main([str(run), "--steps", "1"])
    return run


@pytest.fixture
def run(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "mine"))


def findings(run: Path) -> tuple[list[Finding], bool, str]:
    told: list[Finding] = []
    whole, following = diagnosed(run, told.append)
    assert whole == all(finding.mark != FAULT for finding in told)
    assert all("\n" not in str(finding) for finding in told)
    assert not [x for x in told if "cannot be checked" in x.text], "no check is surprised"
    return told, whole, following


def test_a_healthy_run_has_only_ok(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    told, whole, following = findings(run)
    assert {finding.mark for finding in told} == {OK}, told
    assert whole
    assert following == f"healthy: trained and evaluated; see {run / 'report.html'}"
    parts = {finding.part for finding in told}
    assert parts >= {"config", "environment", "metrics", "checkpoints", "weights", "report"}
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after == before, "it only reads"


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        assert old in text
        (run / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def flipped(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 1
        (run / name).write_bytes(content)

    return damage


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        found = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(change(found)))

    return damage


def with_values(line: str, **values: float | None) -> str:
    return json.dumps({**json.loads(line), **values}) + "\n"


def other_weights(run: Path) -> None:
    """Weights of another network, of the right digests."""
    shutil.rmtree(run / "checkpoints")
    import torch

    contents = checkpoint_files.written(3, {"policy": torch.zeros(2)}, {"recent": []}, 0.0)
    (run / "checkpoints" / "000003").mkdir(parents=True)
    for name, content in contents.items():
        (run / "checkpoints" / "000003" / name).write_bytes(content)


def old(name: str) -> Callable[[Path], None]:
    return lambda run: os.utime(run / name, (10**9, 10**9))


def removed(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def made(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).mkdir()


BEST = "checkpoints/000003"
DAMAGES = {
    "config": (replaced("config.yaml", "seed:", "sead:"), FAULT, "config", "sead", "copy"),
    "not a config": (replaced("config.yaml", "iterations: 3", "&a [*a]"), FAULT, "config", "", ""),
    "environment": (
        replaced("environment.json", '"torch": "', '"torch": "0'), NOTE, "environment",
        "torch 0", "may differ",
    ),
    "no environment": (removed("environment.json"), NOTE, "environment", "no env", "training"),
    "bad environment": (
        replaced("environment.json", "{", "["), FAULT, "environment", "not JSON", "",
    ),
    "gap": (lines(lambda x: [x[0], x[2]]), FAULT, "metrics", "1 of the lines", "copy"),
    "half line": (lines(lambda x: [*x, '{"iter']), NOTE, "metrics", "half written", "train"),
    "ahead": (
        lines(lambda x: [*x, with_values(x[2], iteration=4)]), NOTE, "metrics",
        "iterations 4 to 4 are in no intact", "metarl train --config",
    ),
    "behind": (lines(lambda x: x[:2]), FAULT, "metrics", "3 to 3 of the newest", "copy"),
    "no line": (lines(lambda x: ["text\n", *x]), FAULT, "metrics", "line 1 holds", "put back"),
    "backwards": (lines(lambda x: [x[1], x[0]]), FAULT, "metrics", "comes after", "put back"),
    "no metrics": (removed("metrics.jsonl"), FAULT, "metrics", "1 to 3 of the newest", "copy"),
    "not finite": (
        lines(lambda x: [*x[:2], with_values(x[2], **{"return/step0": None})]), NOTE, "learning",
        "return/step0 (1)", "",
    ),
    "skipped": (
        lines(lambda x: [with_values(row, skipped=1.0) for row in x]), FAULT, "learning",
        "100.0% of the updates", "--agent.inner.lr",
    ),
    "no step": (
        lines(lambda x: [with_values(row, **{"line_search/accepted": 0}) for row in x]), FAULT,
        "learning", "3 of 3 iterations whose line search", "--agent.outer.max-kl",
    ),
    "weights": (flipped(f"{BEST}/agent.safetensors"), FAULT, "checkpoints", "000003 is corrupt",
                "000002 is used; `rm -r"),
    "state": (flipped(f"{BEST}/state.json"), FAULT, "checkpoints", "000003 is corrupt", "rm -r"),
    "manifest": (removed(f"{BEST}/manifest.json"), FAULT, "checkpoints", "000003 is", "rm -r"),
    "no checkpoint": (
        lambda run: shutil.rmtree(run / "checkpoints"), FAULT, "checkpoints", "there is none",
        "move them",
    ),
    "other weights": (other_weights, FAULT, "weights", "000003", "config.yaml of these"),
    "half checkpoint": (made("checkpoints/.000004.new"), NOTE, "leftovers", "000004.new",
                        "train --config"),
    "half evaluation": (made("evaluation/.test.new"), NOTE, "leftovers", ".test.new", "evaluate"),
    "temporary": (
        lambda run: (run / ".report.html.0.tmp").touch(), NOTE, "leftovers", "report", "train",
    ),
    "numbers": (replaced("evaluation/adaptation.csv", "-", "+"), FAULT, "evaluation", "other numb",
                "metarl evaluate"),
    "no picture": (removed("evaluation/adaptation.png"), FAULT, "evaluation", "png is missing",
                   "metarl evaluate"),
    "old picture": (old("evaluation/adaptation.png"), FAULT, "evaluation", "png is older",
                    "metarl evaluate"),
    "other picture": (
        lambda run: (run / "evaluation/adaptation.png").write_text("text"), FAULT, "evaluation",
        "is no picture", "metarl evaluate",
    ),
    "lonely": (removed("evaluation/adaptation.json"), FAULT, "evaluation", "without adaptation",
               "metarl evaluate"),
    "split": (replaced("evaluation/adaptation.json", '"test"', '"../x"'), FAULT, "evaluation",
              "of the split", "metarl evaluate"),
    "no evaluation": (
        lambda run: (run / "evaluation/adaptation.json").write_text("{}"), FAULT, "evaluation",
        "format", "metarl evaluate",
    ),
    "old report": (old("report.html"), NOTE, "report", "older than", "metarl report"),
    "other report": (
        lambda run: (run / "report.html").write_text("<html>"), FAULT, "report", "not of this",
        "metarl report",
    ),
    "link": (
        lambda run: (run / "errors.log").symlink_to("/etc/passwd"), FAULT, "folder", "is a link",
        "replace the link",
    ),
    "pipe": (
        lambda run: ((run / "report.html").unlink(), os.mkfifo(run / "report.html")), FAULT,
        "folder", "is a pipe", "",
    ),
    "open folder": (lambda run: run.chmod(0o777), NOTE, "permissions", "every user", "chmod"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_with_its_remedy(run, name):
    damage, mark, part, text, remedy = DAMAGES[name]
    damage(run)
    told, whole, following = findings(run)
    found = [x for x in told if (x.mark, x.part) == (mark, part) and text in x.text]
    assert found, told
    assert remedy in str(found[0])
    assert whole == (mark != FAULT)
    assert following.startswith("healthy: " if whole else tuple("123456789"))


def test_an_evaluation_of_older_weights(run):
    made_from = json.loads((run / "evaluation/adaptation.json").read_text())
    made_from["made_from"]["iteration"] = 1
    (run / "evaluation/adaptation.json").write_text(json.dumps(made_from))
    told, *_ = findings(run)
    (found,) = [x for x in told if x.part == "evaluation"]
    assert found.mark == NOTE
    assert "it is of iteration 1" in found.text
    assert "metarl evaluate" in found.remedy


def test_a_run_that_is_not_complete_continues(run):
    replaced("config.yaml", "iterations: 3", "iterations: 9")(run)
    *_, following = findings(run)
    command = f"`metarl train --config {run / 'config.yaml'}`"
    assert following == f"healthy: 3 of 9 iterations; {command} continues"
    shutil.rmtree(run / "evaluation")
    replaced("config.yaml", "iterations: 9", "iterations: 3")(run)
    *_, following = findings(run)
    assert following == f"healthy: `metarl evaluate {run}` evaluates it"


def test_a_run_in_use(run):
    with open(run / ".lock", "w", encoding="utf-8") as held:
        print("process 7 on a machine", file=held, flush=True)
        fcntl.flock(held, fcntl.LOCK_EX)
        told, whole, following = findings(run)
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()
        early, whole_early, _ = findings(run)
    assert whole
    assert any("in use by process 7 on a machine" in finding.text for finding in told)
    assert "wait" in following
    assert whole_early
    assert any(x.part == "checkpoints" and "wait for the first" in x.remedy for x in early)


def test_numbers_without_table_and_picture_are_no_fault(run):
    """Runs that ship have adaptation.json alone."""
    for path in (run / "evaluation").iterdir():
        if path.is_file() and path.name != "adaptation.json":
            path.unlink()
    told, whole, _ = findings(run)
    assert whole
    assert any(x.mark == NOTE and "alone" in x.text for x in told)


def test_a_full_disk(run, monkeypatch):
    usage = shutil.disk_usage(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    told, whole, _ = findings(run)
    assert not whole
    assert any(x.part == "disk" and "1,000 bytes are free" in x.text for x in told)


def test_code_of_a_users_own_is_not_run(run, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    replaced("config.yaml", "name: point-goal", "name: hostile:tasks")(run)
    told, *_ = findings(run)
    assert any(x.part == "config" and "--env hostile:tasks" in x.remedy for x in told)
    assert any(x.part == "weights" and "not run" in x.text for x in told)


def test_an_agent_beyond_the_memory_is_not_built(run):
    replaced("config.yaml", "- 100\n    - 100\n", "- 60000\n    - 60000\n")(run)
    told, *_ = findings(run)
    assert any("may take more than 512.0 MiB" in x.text for x in told), told


def test_a_hostile_folder_gives_no_traceback(run, healthy):
    """Each file in turn is random, changed, cut, empty, a folder or gone."""
    rng = np.random.default_rng(0)
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    for name in (name for name in files if name.parts[0] != "tensorboard"):
        whole = (run / name).read_bytes()
        changed = bytearray(whole or b"x")
        for place in rng.integers(len(changed), size=20):
            changed[place] = rng.integers(256)
        for content in (rng.bytes(500), bytes(changed), whole[: len(whole) // 2], b"", b"{}", None):
            (run / name).unlink()
            if content is not None:
                (run / name).write_bytes(content)
            try:
                findings(run)
            except UserError:  # without a config it is no run
                assert name.name == "config.yaml"
            (run / name).write_bytes(whole)
    findings(run)


def test_the_command(run, capsys, monkeypatch, tmp_path):
    doctor.main([str(run)])
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in said[:-1])
    assert said[-1].startswith("healthy: ")
    shutil.copytree(run, tmp_path / "other\x1b")
    removed("evaluation/adaptation.png")(tmp_path / "other\x1b")
    for folders, code in (
        ([run, tmp_path / "other\x1b"], 1),
        ([run, tmp_path], 2),
        ([tmp_path / "none"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            doctor.main(list(map(str, folders)))
        assert ended.value.code == code
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
    for argv, message in (([], "no run directory given"), (["--mend"], "is no flag")):
        with pytest.raises(UserError, match=message):
            doctor.main(argv)
    monkeypatch.setattr("sys.argv", ["doctor", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        open_door(doctor.main)
    assert ended.value.code == 2
