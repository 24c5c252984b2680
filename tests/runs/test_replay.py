"""A replay of trials: what is drawn, its files, and a run that is continued with it."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from whole_runs import rows, weights

from metarl import memory
from metarl.config.settings import Config, OwnAgentConfig
from metarl.diagnosis.run import diagnosed
from metarl.errors import CorruptCheckpointError, UserError
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.runs import checkpoint, directory
from metarl.runs.replay import MOST_SEGMENTS, Replay, ReplayState, file_name

SHAPES = {"obs": (3, 2), "rewards": (3,)}


def trials(*numbers: int) -> dict[str, np.ndarray]:
    """Trials whose entries tell which trial they are of, and their place in it."""
    first = np.array(numbers, np.float32)[:, None]
    return {
        "obs": 100 * first[..., None] + np.arange(6, dtype=np.float32).reshape(3, 2),
        "rewards": -first + np.zeros(3, np.float32),
    }


def test_arrays_come_back_as_they_were_added_and_the_oldest_segments_go():
    replay = Replay(SHAPES, 5)
    assert (replay.bytes_of_trial, replay.bytes_needed) == (3 * 3 * 4, 5 * 3 * 3 * 4)
    replay.add(trials(0, 1))
    replay.add(trials(2, 3, 4))
    assert len(replay) == 5
    replay.add(trials(5))
    assert len(replay) == 4  # a segment goes as a whole
    drawn = replay.draw(np.random.default_rng(0), 400)
    seen = sorted(set((-drawn["rewards"][:, 0]).tolist()))
    assert seen == [2, 3, 4, 5]
    for name, expected in trials(*(-drawn["rewards"][:, 0]).tolist()).items():
        np.testing.assert_array_equal(drawn[name], expected)


def test_draws_are_uniform_over_trials_not_segments():
    """Draws 8,000 of 8 trials: each comes 1,000 times, within five standard deviations of 30."""
    replay = Replay(SHAPES, 8)
    for segment in ((0,), (1, 2, 3, 4), (5, 6, 7)):
        replay.add(trials(*segment))
    drawn = replay.draw(np.random.default_rng(1), 8000)["rewards"][:, 0]
    counts = np.bincount((-drawn).astype(int), minlength=8)
    assert abs(counts - 1000).max() < 5 * math.sqrt(1000 * 7 / 8)


def test_wrong_trials_are_refused():
    replay = Replay(SHAPES, 3)
    for wrong in ({"obs": np.zeros((1, 3, 2))}, {**trials(1), "rewards": np.zeros((1, 4))}):
        with pytest.raises(ValueError, match="this replay has those of"):
            replay.add(wrong)
    with pytest.raises(UserError, match="3 trials cannot hold the 4 trials"):
        replay.add(trials(0, 1, 2, 3))
    with pytest.raises(UserError, match=rf"is {MOST_SEGMENTS + 1:,} files"):
        Replay(SHAPES, MOST_SEGMENTS + 1).check_size(1)


def kept_in(folder: Path, *segments: tuple[int, ...], capacity: int = 6) -> Replay:
    replay = Replay(SHAPES, capacity)
    replay.keep_in(folder)
    for segment in segments:
        replay.add(trials(*segment))
    return replay


def test_a_restored_replay_draws_the_same_bits_and_goes_on_alike(tmp_path):
    folder = tmp_path / "replay"
    first = kept_in(folder, (0, 1), (2, 3))
    state = ReplayState.read(first.state().stored(), "here")
    assert state == first.state()
    first.add(trials(4, 5))  # after the checkpoint
    first.add(trials(6))
    second = kept_in(folder)
    second.restore(state)
    second.remove_all_but([])
    assert sorted(os.listdir(folder)) == ["000000.f32", "000001.f32"]
    second.add(trials(4, 5))
    second.add(trials(6))
    draws = [replay.draw(np.random.default_rng(3), 50) for replay in (first, second)]
    for name in SHAPES:
        assert draws[0][name].tobytes() == draws[1][name].tobytes()
    assert second.state() == first.state()
    assert second.state().first == 1


def test_a_file_is_exactly_its_floats(tmp_path):
    replay = kept_in(tmp_path / "replay", (7, 8))
    content = (tmp_path / "replay" / "000000.f32").read_bytes()
    added = trials(7, 8)
    flat = np.concatenate([added["obs"], added["rewards"][..., None]], -1)
    assert content == flat.astype("<f4").tobytes()
    assert replay.state().digests == (hashlib.sha256(content).hexdigest(),)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "000001.f32 is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "000001.f32 is damaged"),
        (lambda path: path.write_bytes(bytes(10_000)), "more than the 216 bytes"),
        (Path.unlink, "000001.f32 is missing"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no regular file"),
    ],
)
def test_a_damaged_segment_is_refused_by_name(tmp_path, damage, said):
    state = kept_in(tmp_path / "replay", (0, 1), (2, 3)).state()
    damage(tmp_path / "replay" / "000001.f32")
    with pytest.raises(UserError, match=said):
        kept_in(tmp_path / "replay").restore(state)


def test_segments_of_another_agent_are_told(tmp_path):
    state = kept_in(tmp_path / "replay", (0,)).state()
    other = Replay({"obs": (5, 2)}, 6)
    other.keep_in(tmp_path / "replay")
    with pytest.raises(UserError, match="no trials of 40"):
        other.restore(state)
    small = kept_in(tmp_path / "replay", capacity=1)
    two = kept_in(tmp_path / "other", (0,), (1,)).state()
    for number in range(2):
        shutil.copy(tmp_path / "other" / file_name(number), tmp_path / "replay")
    with pytest.raises(UserError, match="holds 2 trials, and this agent keeps 1"):
        small.restore(two)


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"first": 0}, {"first": -1, "sha256": ""}, {"first": 0.0, "sha256": ""},
        {"first": 0, "sha256": "ab"}, {"first": 0, "sha256": [1]}, {"first": 2**63, "sha256": ""},
        {"first": 0, "sha256": ("0" * 64 + " ") * (MOST_SEGMENTS + 1)},
        {"first": 0, "sha256": "../x".ljust(64, "0")},
    ],
)  # fmt: skip
def test_a_state_that_is_none_is_refused(value):
    with pytest.raises(CorruptCheckpointError, match="000007"):
        ReplayState.read(value, "000007")


def test_what_a_killed_process_left_is_removed_and_files_of_others_stay(tmp_path):
    replay = kept_in(tmp_path / "replay", (0, 1))
    for name in (".000009.f32.00aa.tmp", "000009.f32", "notes.txt"):
        (tmp_path / "replay" / name).write_text("x")
    replay.remove_all_but([])
    assert sorted(os.listdir(tmp_path / "replay")) == ["000000.f32", "notes.txt"]


def test_the_disk_is_looked_at_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    memory.check_disk(tmp_path / "a" / "b", {"--x": 1 << 20})
    memory.check_disk(tmp_path, {"--x": 3 << 20}, there=2 << 20)
    with pytest.raises(UserError, match=r"takes 3\.0 MiB on the disk of .*1\.0 MiB are free"):
        memory.check_disk(tmp_path / "a" / "b", {"--x": 3 << 20})
    assert not (tmp_path / "a").exists()


def small(run_dir: Path, iterations: int) -> Config:
    """Runs of an agent with a replay of 7 trials, of which each iteration adds 2."""
    config = preset("point-goal")
    assert isinstance(config, Config)
    return replace(
        config,
        agent=OwnAgentConfig(name="replaying:Replaying"),
        env=replace(config.env, horizon=4),
        sampling=replace(config.sampling, tasks=2, episodes=1),
        iterations=iterations,
        checkpoint_every=2,
        device="cpu",
        workers=0,
        run_dir=str(run_dir),
    )


def train(run_dir: Path, iterations: int) -> None:
    training.train(small(run_dir, iterations), "x", named_agent="replaying:Replaying")


def files_of(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "replay").iterdir())


def test_a_run_with_a_replay_is_resumed_to_the_bit(tmp_path):
    """Also from a checkpoint before trials that a killed process had added."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, 8)
    train(parts, 5)
    shutil.rmtree(parts / "checkpoints" / "000005")  # as if killed before it was saved
    for number in (5, 6):
        (parts / "replay" / file_name(number)).write_bytes(b"of the killed process")
    train(parts, 6)
    train(parts, 8)
    assert rows(whole) == rows(parts)
    assert weights(whole, 8) == weights(parts, 8)
    assert [row["kept"] for row in rows(whole)] == [2, 4, 6, 6, 6, 6, 6, 6]
    kept = checkpoint.saved(whole / "checkpoints")
    needed = {file_name(int(path.name) - back) for path in kept for back in (1, 2, 3)}
    assert set(files_of(whole)) == {name for name in needed if int(name[:6]) >= 0}
    assert files_of(whole) == files_of(parts)


def test_a_run_whose_replay_is_damaged_is_not_continued(tmp_path):
    train(tmp_path, 2)
    before = directory.RunDirectory(tmp_path)
    lines = before.metrics.read_bytes()
    (before.replay / "000001.f32").write_bytes(bytes(32))
    with pytest.raises(UserError, match=r"replay/000001\.f32 is damaged: its SHA-256"):
        train(tmp_path, 4)
    assert before.metrics.read_bytes() == lines
    assert files_of(tmp_path) == ["000000.f32", "000001.f32"]


def test_a_link_in_the_replay_is_refused(tmp_path):
    train(tmp_path / "run", 2)
    (tmp_path / "run" / "replay" / "000009.f32").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"000009\.f32 is a link"):
        train(tmp_path / "run", 4)


def test_the_doctor_finds_a_missing_and_a_damaged_segment(tmp_path):
    train(tmp_path, 3)

    def found() -> dict[str, str]:
        told: list[str] = []
        diagnosed(tmp_path, lambda finding: told.append(str(finding)))
        return {line.split()[0]: line for line in told if " replay: " in line}

    assert found() == {"ok": "ok     replay: 3 files of trials, each as it was saved"}
    (tmp_path / "replay" / "000001.f32").write_bytes(bytes(32))
    assert "000001.f32 is damaged" in found()["fault"]
    (tmp_path / "replay" / "000001.f32").unlink()
    assert "000001.f32 is missing" in found()["fault"]
    assert "put back a copy" in found()["fault"]
