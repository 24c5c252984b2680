"""Run folders that were sent by somebody: what lies in them is looked at before it is used."""

import os
import socket
from pathlib import Path

import pytest

from metarl.commands import report
from metarl.config.files import dump
from metarl.errors import EnvFaultError, UserError
from metarl.experiments.assembly import load_config, run_config
from metarl.experiments.presets import preset
from metarl.reporting.report import PNG, page
from metarl.runs import directory, files, output
from metarl.runs.directory import RunDirectory, locked
from metarl.runs.errors_log import faults_logged
from metarl.runs.metrics import MetricsLog

FILES = (
    ".lock", "config.yaml", "environment.json", "data.json", "inputs.json", "metrics.jsonl",
    "report.html", "errors.log", "checkpoints/000001/state.json",
    "checkpoints/.000001.new/agent.safetensors",
    "evaluation/adaptation.json", "evaluation/predictions.png", "evaluation/train/adaptation.json",
    "evaluation/.publish.lock",
)  # fmt: skip
FOLDERS = (
    "checkpoints", "checkpoints/000001", "checkpoints/.000001.old", "tensorboard", "evaluation",
    "evaluation/train", "evaluation/.test.complete", "evaluation/.train.new",
)  # fmt: skip
SECRET = "the secret"


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    (tmp_path / "outside").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    run = directory.create(tmp_path / "run")
    (run.checkpoints / "000001").mkdir()
    run.config.write_text(dump(preset("point-goal")))
    run.environment.write_text("{}")
    return run


def clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        path.unlink()
    elif path.is_dir():
        path.rename(path.with_name("before"))


def refused_everywhere(run: RunDirectory, said: str) -> None:
    for door in (directory.create, directory.existing, run_config):
        with pytest.raises(UserError, match=said) as error:
            door(run.root)
        assert len(str(error.value).splitlines()) <= 3
    assert (run.root.parent / "secret").read_text() == SECRET


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_link_out_of_a_run_is_refused(run, name):
    """With the path, where it leads, and the remedy."""
    clear(path := run.root / name)
    target = run.root.parent / ("secret" if name in FILES else "outside")
    path.symlink_to(target)
    refused_everywhere(run, f"{name} is a link to {target}, outside of .*\nreplace the link by")


def test_a_config_that_leads_elsewhere_is_not_quoted(run):
    """`--config RUN/config.yaml`: a message about wrong settings shows some of them."""
    run.config.unlink()
    run.config.symlink_to(run.root.parent / "secret")
    with pytest.raises(UserError, match="is a link to") as told:
        load_config(run.config)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_what_is_no_file_is_refused_and_not_waited_for(run, name, kind):
    clear(path := run.root / name)
    make = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "nothing": lambda: path.symlink_to("gone"),
    }
    if kind == "folder" and "000001" in name:
        return  # a folder in a checkpoint is not read
    make[kind]()
    said = {"device": "/dev/zero", "nothing": "which is not there"}.get(kind, f"is a {kind}")
    refused_everywhere(run, said)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_no_folder_is_refused(run, name, monkeypatch):
    clear(path := run.root / name)
    monkeypatch.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
        refused_everywhere(run, f"{name} is a socket, and a folder belongs there")


def test_links_to_a_run_and_within_it_may_stay(run, tmp_path):
    """So may links of other names than metarl's, which are the user's own."""
    (tmp_path / "linked").symlink_to(run.root)
    (run.root / "notes").symlink_to(tmp_path / "secret")
    (run.checkpoints / "best").symlink_to(run.checkpoints / "000001")
    (run.checkpoints / ".DS_Store").touch()
    run.report.symlink_to("environment.json")
    for door in (directory.create, directory.existing, run_config):
        door(tmp_path / "linked")
    with locked(directory.existing(tmp_path / "linked")):
        pass


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_written_to_is_no_link(run, tmp_path, inside):
    """Also if it came after the look: not the lock, metrics or errors; and no pipe is waited at."""
    target = run.config if inside else tmp_path / "secret"
    before = target.read_text()
    log = MetricsLog(run)
    for path in (run.lock, run.metrics, run.errors):
        path.symlink_to(target)
    with pytest.raises(UserError, match=r"\.lock is a symbolic link; replace it"), locked(run):
        pass
    with pytest.raises(UserError, match=r"metrics\.jsonl is a symbolic link"):
        log.append({"iteration": 1})
    fault = EnvFaultError("x", {}, 0, 0, "reset", "wrong", trace="trace")
    with pytest.raises(EnvFaultError, match="could not be written"), faults_logged(run, "x"):
        raise fault
    assert target.read_text() == before
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        files.open_own(tmp_path / "pipe", os.O_RDWR)


def test_new_files_follow_no_link(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "new").symlink_to(tmp_path / "secret")
    with pytest.raises(FileExistsError):
        files.write_bytes(tmp_path / "new", b"x")
    files.replace_bytes(tmp_path / "new", b"x")  # the link itself is replaced
    assert (tmp_path / "secret").read_text() == SECRET
    assert not (tmp_path / "new").is_symlink()


@pytest.mark.parametrize(
    "name", ["adaptation.json", "report.html", "run.json", "errors.log", "train"]
)
def test_a_place_for_results_is_looked_at_too(run, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(tmp_path / ("outside" if name == "train" else "secret"))
    with pytest.raises(UserError, match=f"{name} is a link to .*, outside of"):
        output.for_evaluation(run.root, str(out), "test")
    (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises(UserError, match=f"{name} is a pipe"):
        output.for_evaluation(run.root, str(out), "test")


def test_a_page_elsewhere_is_a_file(run, tmp_path):
    os.mkfifo(tmp_path / "page.html")
    with pytest.raises(UserError, match=r"page\.html is no regular file"):
        report.main([str(run.root), "--out", str(tmp_path / "page.html")])


@pytest.mark.parametrize("content", [b"the secret", b"\x89PNG\r\n\x1a\n" + bytes(11 << 20)])
def test_a_page_embeds_only_pictures(run, content, evaluated):
    run.evaluation.predictions_png.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.png (is no PNG|has more than)"):
        page(run)


def test_a_picture_that_a_waiting_set_removes_is_left_out(run, evaluated):
    """A set is moved to its place by whoever may write the run; here nobody may."""
    complete = run.evaluation.root / ".test.complete"
    complete.mkdir()
    (complete / "adaptation.json").write_text(evaluated)
    (complete / "predictions.png").touch()
    run.evaluation.predictions_png.write_bytes(PNG + b"of the last evaluation")
    assert "predictions" not in page(run).lower()


@pytest.fixture
def evaluated(run):
    text = (
        '{"format": 1, "env": "e", "agent": "a", "split": "test", "steps": [0], "env_steps": [0], '
        '"tasks": [{}], "returns": [[[1.0]]], "controls": {}, "others": {}, "made_from": {}}'
    )
    run.evaluation.adaptation_json.write_text(text)
    return text


@pytest.mark.parametrize("split", ["../../secret", "train", ""])
def test_a_page_believes_no_split_but_its_folders(run, split, evaluated):
    run.evaluation.adaptation_json.write_text(evaluated.replace("test", split))
    with pytest.raises(UserError, match=r"adaptation\.json: split is .* this folder is for 'test'"):
        page(run)


def test_a_page_is_bounded_and_printable(run, evaluated):
    hostile = "<script>$\\u202e\\u001b\\ud800_{" + "x" * 3000
    run.evaluation.adaptation_json.write_text(evaluated.replace('"e"', f'"{hostile}"'))
    run.environment.write_text('{"versions": {"%s": "%s"}}' % (hostile, hostile))  # noqa: UP031
    text = page(run)
    assert text.count("<script") == 1  # the page's own
    assert not set("\u202e\x1b\ud800") & set(text)
    assert len(text) < 1_000_000
    files.replace_text(run.report, text)
    assert "x" * 2500 not in run.report.read_text()
