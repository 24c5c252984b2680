"""The files of an evaluation appear together, whenever a process is killed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.runs import files, publish
from metarl.runs.directory import RunDirectory, create

OLD = {
    "adaptation.json": b"old",
    "success.json": b"old",
    "success.png": b"old",
    "report.html": b"old",
}
NEW = {"adaptation.json": b"new", "adaptation.csv": b"new", "report.html": b"new"}

KILLED_AT_EVERY_EVENT = """
import os, sys
from pathlib import Path
from metarl.runs import publish
from metarl.runs.directory import create

OLD, NEW, split = eval(sys.argv[2]), eval(sys.argv[3]), sys.argv[4]
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "fsync"}
left = 0

def kill(event, *_):
    global left
    if event in EVENTS:
        left -= 1
        if left == 0:
            os._exit(9)

def wrapped(name):
    function = getattr(os, name)
    def call(*arguments):
        kill(name)
        return function(*arguments)
    setattr(os, name, call)

os.fsync = lambda descriptor: None  # a kill loses nothing that was written
for point in range(1, 500):
    run = create(Path(sys.argv[1]) / str(point))
    with publish.publishing(run):
        publish.publish(run, split, OLD)
    child = os.fork()
    if child == 0:
        wrapped("fsync")
        sys.addaudithook(kill)
        left = point
        with publish.publishing(run):
            publish.publish(run, split, NEW)
        left = 0
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(point)
        sys.exit()
"""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


def placed(split: str, named: dict[str, bytes]) -> dict[str, bytes]:
    folder = "evaluation" if split == "test" else f"evaluation/{split}"
    return {
        name if name == "report.html" else f"{folder}/{name}": content
        for name, content in named.items()
    }


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_kill_at_every_event_leaves_the_old_set_or_the_new(tmp_path, split):
    """Once the next command has finished it; then nothing else is left."""
    command = [
        sys.executable,
        "-c",
        KILLED_AT_EVERY_EVENT,
        str(tmp_path),
        str(OLD),
        str(NEW),
        split,
    ]
    points = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert points > 50
    old, new = placed(split, OLD), placed(split, NEW)
    found = []
    for point in range(1, points):
        run = RunDirectory(tmp_path / str(point))
        publish.finish(run)
        found.append(contents(run.root))
        assert found[-1] in (old, new), point
        assert not publish._pending(run)
    assert found == sorted(found, key=lambda files: files == new)  # the old one, then the new one
    assert found[0] == old
    assert found[-1] == new


@pytest.fixture
def run(tmp_path):
    run = create(tmp_path / "run")
    with publish.publishing(run):
        publish.publish(run, "test", OLD)
    return run


def test_files_that_the_new_set_lacks_are_removed(run):
    with publish.publishing(run):
        publish.publish(run, "test", NEW)
    assert contents(run.root) == placed("test", NEW)


def test_a_full_disk_leaves_the_old_set(run, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(publish, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"), publish.publishing(run):
        publish.publish(run, "test", NEW)
    assert contents(run.root) == placed("test", OLD)


def test_an_interrupt_during_the_moves_leaves_the_new_set(run, monkeypatch):
    replace = os.replace

    def interrupted(source, target):
        monkeypatch.setattr(os, "replace", replace)
        os.kill(os.getpid(), signal.SIGINT)
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    # Where tests run in the background, Ctrl-C is ignored.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), publish.publishing(run):
        publish.publish(run, "test", NEW)
    assert contents(run.root) == placed("test", NEW)


def test_what_a_killed_test_of_the_folder_left_goes_too(run):
    left = run.evaluation.root / ".writable.0123.tmp"
    left.touch()
    publish.finish(run)
    assert not left.exists()


def test_two_evaluations_publish_one_after_the_other(run, monkeypatch):
    monkeypatch.setattr(publish, "PATIENCE", 0.1)
    with publish.publishing(run):
        with pytest.raises(UserError, match="is being written by another process"):
            publish.finish(run)
        publish.publish(run, "test", NEW)
    publish.finish(run)
    assert contents(run.root) == placed("test", NEW)


def test_a_run_that_is_only_read_is_seen_whole(run):
    complete = run.evaluation.root / ".test.complete"
    complete.mkdir()
    (complete / "adaptation.json").write_bytes(b"new")
    seen = publish.seen(run, "test", run.evaluation.adaptation_json)
    assert seen.read_bytes() == b"new"
    assert publish.seen(run, "test", run.evaluation.success_json).read_bytes() == b"old"


@pytest.mark.parametrize("what", ["a stranger", "a folder", "a link", "a pipe", "no folder"])
def test_what_is_no_set_is_refused(run, tmp_path, what):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    complete = run.evaluation.root / ".test.complete"
    if what == "no folder":
        complete.symlink_to(tmp_path)
    else:
        complete.mkdir()
        name = complete / ("stranger" if what == "a stranger" else "adaptation.json")
        make = {
            "a stranger": name.touch,
            "a folder": name.mkdir,
            "a link": lambda: name.symlink_to(precious),
            "a pipe": lambda: os.mkfifo(name),
        }
        make[what]()
    with pytest.raises(UserError, match=r"\.test\.complete"):
        publish.finish(run)
    assert run.evaluation.adaptation_json.read_bytes() == b"old"
    assert precious.read_text() == "precious"


def test_a_hidden_link_is_removed_and_not_followed(run, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file.x").touch()
    (run.evaluation.root / ".test.new").symlink_to(tmp_path / "precious")
    publish.finish(run)
    assert (tmp_path / "precious" / "file.x").exists()
    assert not os.path.lexists(run.evaluation.root / ".test.new")


def test_a_temporary_file_goes_once_its_writer_is_dead(tmp_path):
    path = tmp_path / "report.html"
    dead, alive = (tmp_path / f".report.html.{name}.tmp" for name in ("dead", "alive"))
    dead.touch()
    with open(alive, "wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        files.replace_bytes(path, b"new")
        assert sorted(tmp_path.iterdir()) == [alive, path]
    files.replace_bytes(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_locks_can_be_published_to(run, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(publish.fcntl, "flock", none)
    with publish.publishing(run):
        publish.publish(run, "test", NEW)
    assert contents(run.root) == placed("test", NEW)
