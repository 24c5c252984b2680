"""Progress as the user sees it, on a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from metarl.runs import progress
from metarl.runs.progress import Progress

ROW = {
    "env_steps": 640_000,
    "return/step0": -254.14,
    "return/step1": -240.0,
    "success/step0": 0.0,
    "success/step1": 0.125,
    "kl": 0.00981,
    "line_search/backtracks": 2,
    "time/sampling_s": 6.0,
    "time/update_s": 2.0,
}


FEW_SHOT = {
    "iteration": 3,
    "tasks": 7500,
    "loss/step0": 4.3139,
    "loss/step1": 0.05123,
    "accuracy/step0": 0.2,
    "accuracy/step1": 0.8651,
    "gradient_norm": 1.0,
    "time/update_s": 2.0,
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_elsewhere():
    clock, console = Clock(), Console(file=io.StringIO(), width=60)
    bar = Progress(console, clock)
    bar.note("point-goal [seed 1]")
    bar.start(iterations=100, done=2, used=320_000, facts="2 threads")
    assert shown(console).splitlines() == [
        "point-goal [seed 1]",
        "2 threads",
        "continuing after iteration 2 of 100",
    ]
    clock.now = 10.0
    bar.update(3, ROW)
    bar.close()
    assert shown(console).splitlines()[-1] == (
        "iteration 3/100  env steps 640k  steps/s 32.0k  return -254.1 -> -240.0  "
        "success 0% -> 12%  kl 0.0098  backtracks 2  sampling 6.00 s  update 2.00 s  ETA 16:10"
    )


def test_a_few_shot_run_counts_tasks():
    clock, console = Clock(), Console(file=io.StringIO(), width=60)
    bar = Progress(console, clock)
    bar.start(iterations=100, done=2, used=5000)
    clock.now = 10.0
    bar.update(3, FEW_SHOT)
    assert shown(console).splitlines()[-1] == (
        "iteration 3/100  tasks 7.50k  tasks/s 250  loss 4.31 -> 0.0512  "
        "accuracy 20.0% -> 86.5%  update 2.00 s  ETA 16:10"
    )
    clock.now = 20.0
    bar.update(4, {**FEW_SHOT, "tasks": 10_000})
    assert "tasks/s 250 " in shown(console).splitlines()[-1]


@pytest.mark.parametrize(("width", "left"), [(42, ""), (50, "tasks"), (80, "tasks tasks/s update")])
def test_a_narrow_table_keeps_what_was_learned(width, left):
    row = {"iteration": "3", **progress.cells(FEW_SHOT, 250.0)}
    (found,) = progress.fitting([row], width)
    assert found.keys() == {"iteration", "loss", "accuracy", *left.split()}


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_live_table_on_a_terminal(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, _environ={})
    bar = Progress(console, Clock())
    bar.start(iterations=20)
    for iteration in range(1, 16):
        bar.update(iteration, {**ROW, "return/step1": -iteration})
    bar.note("checkpoint")
    bar.close()
    bar.close()
    last = shown(console).split("checkpoint")[-1]
    assert "-254.1 -> -15.0" in last
    assert "15/20" in last
    assert "-254.1 -> -3.0" not in last  # scrolled out
    assert ("update" in last) == (width == 160)


def test_what_was_not_measured_is_left_out():
    assert progress.cells({"env_steps": 5}, 7.0) == {"env steps": "5", "steps/s": "7"}


def test_many_steps_are_shortened():
    row = {f"return/step{i}": float(i) for i in range(11)}
    assert progress.cells(row, 1.0)["return"] == "0.0 -> 1.0 -> ... -> 10.0"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (1e3, "1.00k"), (31_240, "31.2k"), (152e6, "152M"), (2e9, "2.00G")],
)
def test_counts_are_short(number, text):
    assert progress.short(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (247, "4:07"), (3731, "1:02:11")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text
