"""Seeds side by side: each is the run that it is alone, and none ends another."""

from __future__ import annotations

import fcntl
import signal
import time
from pathlib import Path

import pytest
from whole_runs import door, instead, kill, rows, wait_for, weights

import metarl
from metarl.commands import train
from metarl.commands.each_seed import of_each_seed
from metarl.config.files import dump
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.loop import side_by_side
from metarl.loop.seed_lines import Board, Said
from metarl.runs.seeds import seeds_of
from metarl.threads import Threads

TINY = [
    *("point-goal", "--iterations", "2", "--sampling.tasks", "3", "--sampling.episodes", "2"),
    *("--env.horizon", "5", "--workers", "0", "--agent.policy.hidden", "4"),
]


@pytest.mark.slow
def test_seeds_equal_the_same_seeds_alone_and_one_that_fails_ends_no_other(tmp_path: Path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    (together / "seed3").mkdir(parents=True)
    (together / "seed3" / "metrics.jsonl").mkdir()  # its run is refused, before any begins
    command = ["metarl", "train", *TINY, "--seeds", "3", "5", "--run-dir", str(together)]
    with pytest.raises(UserError, match=r"metrics\.jsonl is a folder"):
        train.main(command[2:])
    (together / "seed3" / "metrics.jsonl").rmdir()
    (together / "seed3" / "metrics.jsonl").write_text("{}\n" * 99)  # no checkpoint to continue from
    failing = door(*command)
    said = failing.communicate()[0]
    assert failing.returncode == 2
    assert "1 of 2 seeds in" in said
    assert "failed: seed3 (exit code 2)\nseed3: " in said
    assert "has metrics of 99 iterations and no checkpoint" in said
    assert "seed5: done" in said
    train.main([*TINY, "--seed", "5", "--run-dir", str(alone)])
    assert weights(alone, 2) == weights(together / "seed5", 2)
    assert rows(alone) == rows(together / "seed5")
    (together / "seed3" / "metrics.jsonl").unlink()
    again = door(*command)  # trains the one that is missing
    assert again.communicate()[0].count(": done") == 2
    assert again.returncode == 0
    assert [run.name for run in seeds_of(together)] == ["seed3", "seed5"]


@pytest.mark.slow
def test_a_signal_ends_all_seeds_with_their_last_iteration_saved(tmp_path: Path):
    many = instead(TINY, "--iterations", "100000")
    running = door("metarl", "train", *many, "--seeds", "2", "--run-dir", str(tmp_path / "x"))
    folders = [tmp_path / "x" / "seed1", tmp_path / "x" / "seed2"]
    for folder in folders:
        wait_for(running, folder, 3)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[0]
    assert running.returncode == 130
    assert said.count("stopped") == 1, said
    for folder in folders:
        saved = max(int(path.name) for path in (folder / "checkpoints").iterdir())
        assert saved == len(rows(folder)) >= 3


@pytest.mark.slow
def test_seeds_end_after_their_parent_with_their_last_iteration_saved(tmp_path: Path):
    many = instead(TINY, "--iterations", "100000")
    running = door("metarl", "train", *many, "--seeds", "2", "--run-dir", str(tmp_path))
    folders = [tmp_path / "seed1", tmp_path / "seed2"]
    for folder in folders:
        wait_for(running, folder, 2)
    kill(running)
    for folder in folders:
        with open(folder / ".lock", "rb") as lock:
            deadline = time.monotonic() + 60
            while not free(lock.fileno()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        saved = max(int(path.name) for path in (folder / "checkpoints").iterdir())
        assert saved == len(rows(folder)) < 100000


def free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_what_was_said_for_all_seeds_is_not_repeated(capsys: pytest.CaptureFixture[str]):
    """The note is the line that each seed's own command line would tell."""
    note = train.resolved(["point-goal", "--agent", "rl2"]).note
    seeds = {name: Said() for name in ("seed1", "seed2")}
    with Board(Path("x"), 3, seeds, [note]) as board:
        for name in seeds:
            board.line(name, note)
            board.line(name, f"warning: x/{name} is odd")
    assert "--match-budget" in note
    assert capsys.readouterr().out == "seed1: warning: x/seed1 is odd\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--seeds", "--seeds has no value; give how many, as in --seeds 5, or which"),
        ("--seeds x", "--seeds is 'x'; give how many"),
        ("--seeds 0", "--seeds is 0; give 1 to 1000 seeds"),
        ("--seeds 99999999", "--seeds is 99999999; give 1 to"),
        ("--seeds 3 3", "--seeds has 3 twice"),
        ("--seeds 3 --seed 2", "--seed and --seeds are both given"),
        ("--seeds 3 --seeds 4", "--seeds is given twice"),
    ],
)
def test_seeds_that_are_none(flags: str, said: str):
    with pytest.raises(UserError, match=said):
        train.main(["point-goal", *flags.split()])


def test_which_seeds_are_asked_for():
    assert train.take_seeds(["p", "--seeds", "3", "--seed-x"]) == (["p", "--seed-x"], (1, 2, 3))
    assert train.take_seeds(["p", "--seeds=3 7", "--x"]) == (["p", "--x"], (3, 7))
    assert train.take_seeds(["p", "--seed", "3"]) == (["p", "--seed", "3"], ())


def test_a_folder_is_a_run_or_one_of_seeds(tmp_path: Path):
    config, _ = train.read([*TINY, "--run-dir", str(tmp_path / "seed1")])
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1" / "config.yaml").write_text(dump(config))
    with pytest.raises(UserError, match="holds runs of seeds; continue them with --seeds"):
        train.main([*TINY, "--run-dir", str(tmp_path)])
    with pytest.raises(UserError, match="holds runs of seeds; give one of them, or another place"):
        metarl.meta_train("point-goal", run_dir=tmp_path)
    with pytest.raises(UserError, match=r"seed1 is a run itself; give the seeds a folder"):
        train.main([*TINY, "--run-dir", str(tmp_path / "seed1"), "--seeds", "2"])
    with pytest.raises(UserError, match=r"seed1 holds a run with other settings: sampling\.tasks"):
        train.main(
            [*instead(TINY, "--sampling.tasks", "9"), "--run-dir", str(tmp_path), "--seeds", "2"]
        )


def test_seeds_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(side_by_side.threads, "cores", lambda: Threads(16, "here"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config, _ = train.read(["point-goal"])
    assert side_by_side.share(config, 5) == (5, 3)
    assert side_by_side.share(config, 40) == (16, 1)
    config, _ = train.read(["point-goal", "--threads", "4"])
    assert side_by_side.share(config, 5) == (4, 0)
    config, _ = train.read(["point-goal", "--workers", "8"])
    assert side_by_side.share(config, 5) == (2, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert side_by_side.share(preset("sinusoid-maml"), 5) == (2, 0)


def test_a_command_on_a_folder_of_seeds_is_one_on_each_run(tmp_path: Path):
    for seed in (1, 2):
        (tmp_path / f"seed{seed}").mkdir()
        config, _ = train.read([*TINY, "--seed", str(seed)])
        (tmp_path / f"seed{seed}" / "config.yaml").write_text(dump(config))
    one, two = (str(tmp_path / f"seed{seed}") for seed in (1, 2))
    flags = ["--seed", "4"]
    assert of_each_seed([str(tmp_path), *flags]) == [[one, *flags], [two, *flags]]
    assert of_each_seed([str(tmp_path), "--out", "x", *flags]) == [
        [one, *flags, "--out", "x/seed1"],
        [two, *flags, "--out", "x/seed2"],
    ]
    tasks = ["--task", "goal=0,1", "--task=goal=1,0"]
    assert of_each_seed([str(tmp_path), *tasks])[1] == [two, *tasks]
    assert of_each_seed([one, *tasks]) == of_each_seed([]) == []
