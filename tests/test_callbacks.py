"""Callbacks: when they are called, what they may not do, and what a run keeps if one raises."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from whole_runs import rows, weights

import metarl
from metarl.callbacks.group import Callbacks
from metarl.callbacks.tensorboard import TensorBoard
from metarl.commands import evaluate as evaluate_door
from metarl.commands import train as door
from metarl.errors import UserError
from metarl.loop import evaluation
from metarl.runs import directory
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.board import Board
from metarl.runs.results import Results

SMALL: dict[str, Any] = {
    "settings": {"agent.policy.hidden": [4], "sampling.tasks": 2, "sampling.episodes": 2},
    "env": {"horizon": 5},
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "checkpoint_every": 2,
}


def train(folder: Path, iterations: int, *callbacks: metarl.Callback) -> Path:
    return metarl.meta_train(
        "point-goal", run_dir=folder, iterations=iterations, callbacks=callbacks, **SMALL
    )


class Diary(metarl.Callback):
    def __init__(self):
        self.seen: list[Any] = []

    def on_start(self, start):
        assert start.run_dir.is_dir()
        self.seen.append(("start", start.iteration, start.config.iterations))

    def on_iteration(self, metrics, agent):
        assert agent.state_dict()
        self.seen.append(metrics["iteration"])
        metrics.clear()  # pyright: ignore[reportAttributeAccessIssue]  a copy of the run's

    def on_checkpoint(self, iteration, folder):
        assert (folder / "manifest.json").is_file()
        self.seen.append(("saved", iteration))

    def on_evaluation(self, results):
        self.seen.append(len(results.summary))

    def on_end(self, ending):
        self.seen.append(ending)


def test_a_callback_is_told_of_everything_and_changes_nothing(tmp_path):
    diary = Diary()
    train(tmp_path / "told", 3, diary)
    assert diary.seen == [("start", 0, 3), 1, 2, ("saved", 2), 3, ("saved", 3), "done"]
    train(tmp_path / "alone", 3)
    assert rows(tmp_path / "told") == rows(tmp_path / "alone")
    assert weights(tmp_path / "told", 3) == weights(tmp_path / "alone", 3)
    diary.seen.clear()
    train(tmp_path / "told", 4, diary)
    assert diary.seen == [("start", 3, 4), 4, ("saved", 4), "done"]


class Raising(metarl.Callback):
    def __init__(self, where: str, error: BaseException):
        self.where, self.error, self.ending = where, error, ""

    def on_start(self, start):
        self.at("on_start")

    def on_iteration(self, metrics, agent):
        if metrics["iteration"] == 3:
            self.at("on_iteration")

    def on_checkpoint(self, iteration, folder):
        self.at("on_checkpoint")

    def on_evaluation(self, results):
        self.at("on_evaluation")

    def on_end(self, ending):
        self.ending = ending
        self.at("on_end")

    def at(self, where):
        if where == self.where:
            raise self.error


@pytest.mark.parametrize(
    ("where", "kept"), [("on_start", 0), ("on_iteration", 3), ("on_checkpoint", 2), ("on_end", 4)]
)
def test_an_exception_ends_the_run_and_keeps_its_iterations(where, kept, tmp_path):
    callback = Raising(where, KeyError("boom"))
    with pytest.raises(UserError) as raised:
        train(tmp_path, 4, callback)
    message = f"callback Raising: {where} raised KeyError: 'boom'\ncomplete iterations are kept in "
    assert str(raised.value).startswith(message + str(tmp_path))
    assert isinstance(raised.value.__cause__, KeyError)
    assert callback.ending == ("done" if where == "on_end" else "failed")
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert (saved[-1:] or ["000000"]) == [f"{kept:06d}"]
    train(tmp_path, 4)
    assert [row["iteration"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_ctrl_c_stays_ctrl_c(tmp_path):
    callback = Raising("on_iteration", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 4, callback)
    assert callback.ending == "interrupted"
    assert (tmp_path / "checkpoints" / "000003").is_dir()


class Meddler(metarl.Callback):
    """Changes weights in place, or gives the agent others."""

    def __init__(self, in_place: bool):
        self.in_place = in_place

    def on_iteration(self, metrics, agent):
        state = agent.state_dict()
        name = next(name for name, x in state.items() if x.is_floating_point() and x.numel() > 1)
        if self.in_place:
            state[name].add_(1.0)
        else:
            agent.load_state_dict({**state, name: state[name] + 1.0})


@pytest.mark.parametrize("in_place", [True, False])
def test_a_callback_that_changes_the_agent_ends_the_run(in_place, tmp_path):
    """The checkpoint has the weights from before."""
    with pytest.raises(UserError, match=r"callback Meddler changed the agent .*only read"):
        train(tmp_path / "a", 3, Meddler(in_place))
    train(tmp_path / "b", 1)
    assert weights(tmp_path / "a", 1) == weights(tmp_path / "b", 1)


def test_equal_weights_may_hold_nan():
    """As running statistics may before the first data."""
    state = {"x": torch.tensor([float("nan"), 1.0])}

    class Agent:
        def state_dict(self):
            return state

    Callbacks([Diary()]).iteration({"iteration": 1}, Agent(), state)


def rows_of(*values: float) -> list[dict[str, float]]:
    return [
        {"iteration": n, "return/step0": 9.0, "return/step1": x}
        for n, x in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("values", "options", "stops_at"),
    [
        ([1, 2, 3, 4, 5, 6], {"patience": 2, "window": 1}, None),
        ([1, 5, 4, 4, 9, 9], {"patience": 2, "window": 1}, 4),
        ([1, 5, 4, 6, 4, 4], {"patience": 2, "window": 1}, 6),
        ([1, 1.4, 1.8, 2.2, 2.6], {"patience": 2, "window": 1, "min_delta": 1}, 3),
        ([9, 1, 9, 1, 9, 1], {"patience": 3, "window": 2}, 4),
        ([1, float("nan"), 2, 3], {"patience": 2, "window": 1}, None),
        ([3, 2, 1, 0], {"patience": 2, "window": 1, "metric": "-return/step1"}, None),
    ],
)
def test_training_ends_where_results_get_no_better(values, options, stops_at, tmp_path):
    stopping = metarl.EarlyStopping(**options)
    found = None
    for row in rows_of(*values):
        stopping.on_iteration(row, None)
        if stopping.stop and found is None:
            found = row["iteration"]
    assert found == stops_at


def test_losses_are_better_when_lower():
    stopping = metarl.EarlyStopping(2, window=1)
    for n, loss in enumerate([3.0, 2.0, 1.0, 0.5], start=1):
        stopping.on_iteration({"iteration": n, "loss/step0": 9.0, "loss/step1": loss}, None)
    assert not stopping.stop
    with pytest.raises(UserError, match="has no 'kl'; it has iteration"):
        metarl.EarlyStopping(2, metric="kl").on_iteration({"iteration": 1}, None)
    with pytest.raises(UserError, match="patience is 0; give a whole number"):
        metarl.EarlyStopping(0)


def test_an_early_stop_is_exact_under_resume(tmp_path):
    """Of a run that was cut after each iteration and continued by a new object."""
    train(tmp_path / "whole", 12, metarl.EarlyStopping(2, window=2))
    stopped = len(rows(tmp_path / "whole"))
    assert 3 <= stopped < 12
    for iterations in range(1, 13):
        train(tmp_path / "parts", iterations, metarl.EarlyStopping(2, window=2))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert weights(tmp_path / "parts", stopped) == weights(tmp_path / "whole", stopped)


def test_the_command_stops_early_and_its_config_is_the_same(tmp_path, capsys):
    flags = ["--env.horizon", "5", "--agent.policy.hidden", "4", "--sampling.tasks", "2"]
    flags += ["--sampling.episodes", "2", "--device", "cpu", "--threads", "1", "--workers", "0"]
    flags += ["--iterations", "30", "--checkpoint-every", "2", "--run-dir", str(tmp_path)]
    door.main(["point-goal", *flags, "--stop-after", "2", "--stop-window", "2"])
    said = capsys.readouterr().out
    stopped = len(rows(tmp_path))
    assert stopped < 30
    assert f"ended after iteration {stopped}: EarlyStopping: no better result in 2 iter" in said
    kept = (tmp_path / "config.yaml").read_text().splitlines()
    assert not [line for line in kept if "stop" in line and "run_dir" not in line]
    door.main(["point-goal", *flags, "--stop-after", "2", "--stop-window", "2"])
    assert len(rows(tmp_path)) == stopped
    for wrong, message in {
        "--stop-after none": "--stop-after is 'none'; give a whole number",
        "--stop-after 2.5": "--stop-after is '2.5'",
        "--stop-delta 1": "--stop-delta goes with --stop-after",
        "--stop-after 2 --stop-delta much": "--stop-delta is 'much'; give a number",
    }.items():
        with pytest.raises(UserError, match=message):
            door.main(["point-goal", *flags, *wrong.split()])


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def test_tensorboard_forgets_what_is_taken_anew(tmp_path):
    run, taken = directory.create(tmp_path), []
    for begun, first, last, factor in ((0, 1, 8, 1), (4, 5, 7, 10)):
        board = TensorBoard()
        board.on_start(metarl.Start(run.root, metarl.preset("point-goal"), begun))
        for i in range(first, last + 1):
            board.on_iteration({"iteration": i, "kl": factor * i}, None)
        board.on_end("done")
        # TensorBoard reads files in the order of the second in their names
        [path] = {*run.tensorboard.glob("events*")} - {*taken}
        taken.append(path.rename(path.with_name(path.name.replace(".17", f".1{begun}7"))))
    assert scalars(run.tensorboard, "kl") == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60), (7, 70),
    ]  # fmt: skip


def results_of(run: Path) -> Results:
    values = np.arange(12.0).reshape(2, 3, 2)
    found = Adaptation(
        "point-goal", "maml-trpo", "test", (0, 1, 2), (0, 5, 10), ({"a": 1}, {"a": 2}),
        Outcome(values), controls={"random initialisation": Outcome(-values)},
    )  # fmt: skip
    return Results(run, found)


def test_tensorboard_has_settings_and_adaptation_curves(tmp_path):
    train(tmp_path, 1)
    for _ in range(2):  # the second hides the first
        TensorBoard().on_evaluation(results_of(tmp_path))
    curves = tmp_path / "tensorboard" / "evaluation" / "test"
    assert scalars(curves, "evaluation/test/return/maml-trpo") == [(0, 3.5), (1, 5.5), (2, 7.5)]
    assert scalars(curves, "evaluation/test/return/random initialisation")[2] == (2, -7.5)
    aside = tmp_path / "aside"
    aside.mkdir()
    TensorBoard().on_evaluation(replace(results_of(tmp_path), folder=aside / "x" / ".."))
    assert not (aside / "tensorboard").exists(), "a folder in the run's"
    run = Path(tmp_path / "elsewhere")
    TensorBoard().on_evaluation(replace(results_of(run), folder=aside))
    assert (aside / "tensorboard" / "evaluation").is_dir()
    assert not run.exists(), "a run that is only read"
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    kept = board.PluginTagToContent("hparams")
    assert b"agent.inner.lr" in kept["_hparams_/session_start_info"]


def test_a_figure_that_is_not_finite_is_none_in_tensorboard(tmp_path):
    found = results_of(tmp_path)
    infinite = Outcome(np.full((2, 3, 2), np.inf))
    assert found.evaluation is not None
    broken = replace(found, evaluation=replace(found.evaluation, outcome=infinite, controls={}))
    (tmp_path / "evaluation").mkdir()
    TensorBoard().on_evaluation(broken)
    curve = scalars(tmp_path / "tensorboard/evaluation/test", "evaluation/test/return/maml-trpo")
    assert np.isnan([value for _, value in curve]).all()


def test_a_link_out_of_the_run_is_not_written_through(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / "tensorboard").mkdir(parents=True)
    (run / "tensorboard" / "evaluation").symlink_to(elsewhere)
    with pytest.raises(UserError, match="evaluation"):
        TensorBoard().on_evaluation(results_of(run))
    assert not any(elsewhere.iterdir())


def test_an_evaluation_is_told_to_callbacks_and_to_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "png", lambda figure: b"")  # pictures take their time
    monkeypatch.setattr(evaluation, "adaptation_figure", lambda *_: None)
    train(tmp_path / "run", 1)
    diary = Diary()
    small: dict[str, Any] = {"tasks": 2, "steps": 1, "episodes": 2}
    metarl.evaluate(tmp_path / "run", callbacks=[diary], **small)
    assert diary.seen == [2]
    curves = tmp_path / "run" / "tensorboard" / "evaluation" / "test"
    assert len(scalars(curves, "evaluation/test/return/maml-trpo")) == 2
    words = [f"--{name}={value}" for name, value in small.items()]
    evaluate_door.main([str(tmp_path / "run"), *words, "--split", "train"])
    assert scalars(curves.parent / "train", "evaluation/train/return/maml-trpo")
    evaluate_door.main([str(tmp_path / "run"), *words, "--out", str(tmp_path / "aside")])
    assert not (tmp_path / "aside" / "tensorboard").exists()
    raising = Raising("on_evaluation", KeyError("boom"))
    with pytest.raises(UserError, match=r"on_evaluation raised .*\n.*is kept in .*evaluation$"):
        metarl.evaluate(tmp_path / "run", callbacks=[raising], **small)


def test_all_callbacks_are_told_of_the_end_whatever_one_raises(tmp_path):
    for error in (KeyboardInterrupt(), SystemExit(3)):
        first, last = Raising("on_end", error), Raising("", error)
        with pytest.raises(type(error)):
            train(tmp_path / type(error).__name__, 1, first, last)
        assert last.ending == "done"


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    """The real package writes a run's file; a continued run has the same id."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    for iterations in (1, 2):
        train(tmp_path, iterations, metarl.WandB(mode="offline"))
    metarl.WandB(mode="offline").on_evaluation(results_of(tmp_path))
    made = sorted((tmp_path / "wandb").glob("offline-run-*"))
    own = (tmp_path / "wandb" / "metarl-id").read_text().strip()
    assert len(made) == 3
    assert all(own in path.name for path in made)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "wandb").rglob("*.wandb"))
    assert b"return/step1" in kept
    assert b"point-goal" in kept
    directory.check(directory.RunDirectory(tmp_path))
    train(tmp_path / "alone", 2)
    assert rows(tmp_path) == rows(tmp_path / "alone")


def test_a_missing_wandb_is_an_error_of_two_lines(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"cannot be used: .*wandb.*\n.*metarl\[wandb\]"):
        train(tmp_path / "x", 1, metarl.WandB())


def test_the_board_may_lie_in_a_folder_of_its_kind(tmp_path):
    board = Board(tmp_path / "tensorboard", kind="evaluation")
    board.append(0, {"a": 1.0})
    board.close()
    assert scalars(tmp_path / "tensorboard" / "evaluation", "a") == [(0, 1.0)]
