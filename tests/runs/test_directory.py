"""A run's folder: made, refused while in use, free again after a death."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.runs import directory, environment, files
from metarl.runs.directory import locked
from metarl.runs.files import open_own

HOLD = """
import sys, time
from metarl.runs.directory import RunDirectory, locked
from pathlib import Path
with locked(RunDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_layout(tmp_path):
    run = directory.create(tmp_path / "runs" / "x")
    assert run.checkpoints.is_dir()
    assert run.evaluation.root.is_dir()
    assert run.evaluation.adaptation_json == tmp_path / "runs/x/evaluation/adaptation.json"
    assert run.evaluation_of("test") == run.evaluation
    train = run.evaluation_of("train")
    assert train.success_png == tmp_path / "runs/x/evaluation/train/success.png"
    assert not list(run.root.glob(".*"))
    assert directory.create(run.root).root == run.root


def test_another_process_is_refused_until_the_holder_dies(tmp_path):
    run = directory.create(tmp_path / "x")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError) as refusal, locked(run):
        pass
    message = str(refusal.value)
    assert str(run.root) in message
    assert f"process {holder.pid}" in message
    assert "--run-dir" in message
    assert len(message.splitlines()) <= 3
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(run):
        assert f"process {os.getpid()}" in run.lock.read_text()


def test_the_lock_is_released(tmp_path):
    run = directory.create(tmp_path / "x")
    with locked(run), pytest.raises(UserError, match="in use"), locked(run):
        pass
    with locked(run):
        pass


def sleep(started):
    started.set()
    time.sleep(60)


@pytest.mark.filterwarnings("ignore:This process")  # Python's own warning against fork
def test_a_forked_worker_does_not_keep_its_parents_lock(tmp_path):
    run = directory.create(tmp_path / "x")
    context = multiprocessing.get_context("fork")
    started = context.Event()
    worker = context.Process(target=sleep, args=(started,))
    try:
        with locked(run):
            worker.start()
            assert started.wait(10)
            with pytest.raises(UserError), locked(run):
                pass  # the child's close leaves the parent's lock alone
        with locked(run):
            pass
    finally:
        worker.kill()
        worker.join()


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_place_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as error:
        directory.create(tmp_path / place)
    assert "--run-dir" in str(error.value)


def test_a_read_only_file_system(tmp_path, monkeypatch):
    """Only writing shows it where folders stand already; also to root."""
    run = directory.create(tmp_path / "x")

    def refuses(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuses)
    with pytest.raises(UserError, match="Read-only file system"):
        directory.create(run.root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "x").mkdir(mode=0o500)
    with pytest.raises(UserError, match="Permission denied"):
        directory.create(tmp_path / "x")


def test_an_existing_run_has_a_config(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        directory.existing(tmp_path / "missing")
    with pytest.raises(UserError, match=r"has no config\.yaml"):
        directory.existing(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert directory.existing(tmp_path).root == tmp_path


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    files.replace_text(path, "old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        files.replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_is_written_and_read(tmp_path):
    described = environment.describe("cpu", {"simulation": 2})
    assert described["versions"].keys() >= {"python", "torch", "mujoco", "numpy"}
    assert described["machine"]["cpus"] >= 1
    assert described["threads"] == {"simulation": 2}
    environment.write(tmp_path / "environment.json", described)
    assert environment.read(tmp_path / "environment.json") == described


def test_what_changed_is_told_with_what_it_means():
    before = {"versions": {"mujoco": "3.3.0", "torch": "2.13.0"}, "threads": {"torch": 2}}
    now = {"versions": {"mujoco": "3.4.0", "torch": "2.13.0", "scipy": "1.0"}}
    expected = "mujoco 3.3.0 -> 3.4.0, scipy missing -> 1.0 (other versions may round differently"
    (said,) = environment.changes(before, {**now, "threads": {"torch": 2}})
    assert said.startswith(expected)
    (said,) = environment.changes(before, {**before, "threads": {"torch": 1}})
    assert said.startswith("torch threads 2 -> 1 (")


OTHERS = {
    "commit 1 -> 1 with changes": {"git": {"commit": "1", "changed": True}},
    "commit 1 -> 2": {"git": {"commit": "2", "changed": False}},
    "processor A -> B": {"machine": {"processor": "B", "vectors": "AVX2", "device": "cpu"}},
    "vectors AVX2 -> AVX512": {"machine": {"processor": "A", "vectors": "AVX512", "device": "cpu"}},
    "device cpu -> cuda": {"machine": {"processor": "A", "vectors": "AVX2", "device": "cuda"}},
    "MKL_CBWR missing -> AVX": {"variables": {"MKL_CBWR": "AVX"}},
}


@pytest.mark.parametrize("said", OTHERS)
def test_another_commit_machine_or_variable_is_told(said):
    """And nothing is told of what an older run did not record."""
    before = {
        "git": {"commit": "1", "changed": False}, "variables": {},
        "machine": {"processor": "A", "vectors": "AVX2", "device": "cpu"},
    }  # fmt: skip
    (found,) = environment.changes(before, {**before, **OTHERS[said]})
    assert found.startswith(said + " (")
    assert environment.changes({}, {**before, **OTHERS[said]}) == []


def test_the_environment_keeps_its_history(tmp_path):
    """Each other description, and the iteration at which it began; a bounded number."""
    path = tmp_path / "environment.json"

    def of(torch: int, workers: int = 0) -> dict:
        return {"versions": {"python": "3"}, "threads": {"torch": torch, "workers": workers}}

    assert environment.record(path, of(1), 1) == []
    assert environment.read(path) == of(1), "as it always was"
    assert environment.record(path, of(1, workers=2), 5) == []
    assert environment.read(path) == of(1, workers=2), "results do not depend on workers"
    (said,) = environment.record(path, of(2), 9)
    assert said.startswith("torch threads 1 -> 2")
    assert environment.record(path, of(2), 11) == []
    found = environment.read(path)
    assert (found["from_iteration"], found["threads"]["torch"]) == (9, 2)
    assert found["history"] == {"from iteration 1": "python 3, torch threads 1"}
    for iteration in range(20, 200):
        environment.record(path, of(iteration), iteration)
    history = environment.read(path)["history"]
    assert len(history) == environment.KEPT
    assert "from iteration 198" in history


def test_a_commit_is_the_packages_own_only(tmp_path):
    """A package installed inside somebody's checkout is not of that checkout's commit."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "environment.py").touch()
    assert environment._git(tmp_path) is None


def test_a_writer_does_not_wait_at_a_pipe_and_follows_no_link(tmp_path: Path):
    def late(*_):
        raise AssertionError("it waited")

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    try:
        for name in ("pipe", "link"):
            for flags in (os.O_WRONLY | os.O_APPEND | os.O_CREAT, os.O_RDWR | os.O_CREAT):
                with pytest.raises((OSError, UserError)):
                    open_own(tmp_path / name, flags)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not (tmp_path / "elsewhere").exists()
