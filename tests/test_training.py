"""Whole runs through the doors: resuming, killing, resampling, evaluating, refusing."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from whole_runs import door, instead, kill, rows, wait_for, weights

from metarl.commands import evaluate as evaluate_door
from metarl.commands import train
from metarl.config.files import dump
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config, EnvConfig
from metarl.envs.arrays.point_goal import PointGoal
from metarl.envs.splits import held_out
from metarl.errors import CheckpointWarning, DivergedError, UserError
from metarl.experiments.assembly import with_agent
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.loop.evaluation import evaluate
from metarl.runs import checkpoint
from metarl.runs.adaptation import read_json
from metarl.sources import episodes

SMALL = [
    "--sampling.tasks", "4", "--sampling.episodes", "5", "--env.horizon", "20",
    "--agent.policy.hidden", "16", "--checkpoint-every", "2", "--device", "cpu",
]  # fmt: skip


def small(run_dir: Path, iterations: int = 4, name: str = "point-goal") -> Config:
    config = preset(name)
    assert isinstance(config, Config)
    policy = replace(config.agent.policy, hidden=(16,))
    return replace(
        config,
        env=replace(config.env, horizon=20),
        sampling=replace(config.sampling, tasks=4, episodes=5),
        agent=replace(config.agent, policy=policy),
        evaluation=replace(config.evaluation, tasks=3, steps=2, episodes=4),
        iterations=iterations,
        checkpoint_every=2,
        device="cpu",
        run_dir=str(run_dir),
    )


@pytest.mark.parametrize("name", ["point-goal", "halfcheetah-vel-maml2017", "ant-dir"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, name):
    """Weights and metrics bit for bit, also with another number of simulation threads."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training.train(replace(small(whole, name=name), workers=2), "x")
    training.train(replace(small(parts, 3, name=name), workers=1), "x")
    training.train(replace(small(parts, name=name), workers=2), "x")
    assert rows(whole) == rows(parts)
    assert weights(whole, 4) == weights(parts, 4)
    assert len(rows(whole)) == 4


def test_a_killed_run_goes_on_as_if_nothing_happened(tmp_path, monkeypatch):
    """kill -9 at moments across the run, the same command again, equal weights at the end."""
    command = ["point-goal", *SMALL, "--iterations", "40", "--run-dir"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    rng = np.random.default_rng(time.time_ns())
    for iterations in (3, 8):
        process = door("metarl.train", *command, str(killed))
        wait_for(process, killed, iterations)
        time.sleep(rng.uniform(0.0, 0.1))
        kill(process)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the processes
    train.main([*command, str(killed)])
    train.main([*command, str(whole)])
    assert weights(whole, 40) == weights(killed, 40)
    assert rows(whole) == rows(killed)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_keeps_every_complete_iteration(tmp_path, sent):
    """Ctrl-C, a scheduler's SIGTERM, a closed terminal, also twice: exit 130, a line on how to go
    on, a checkpoint of all lines."""
    command = ["metarl.train", "point-goal", *SMALL, "--iterations", "5000"]
    command = instead(command, "--checkpoint-every", "4000", "--run-dir", str(tmp_path))
    process = door(*command)
    wait_for(process, tmp_path, 3)
    process.send_signal(sent)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command again continues" in said
    assert "Traceback" not in said
    kept = checkpoint.load_latest(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.iteration == len(rows(tmp_path))


def test_another_seed_is_another_run(tmp_path):
    training.train(small(tmp_path / "a", 2), "x")
    training.train(replace(small(tmp_path / "b", 2), seed=2), "x")
    assert weights(tmp_path / "a", 2) != weights(tmp_path / "b", 2)


def test_a_config_that_disagrees_is_refused_by_key(tmp_path):
    training.train(small(tmp_path, 2), "x")
    other = small(tmp_path, 2)
    inner = replace(other.agent.inner, lr=0.3)
    with pytest.raises(UserError, match=r"agent\.inner\.lr 0\.5 \(asked for: 0\.3\)"):
        training.train(replace(other, agent=replace(other.agent, inner=inner)), "x")


def test_a_run_from_before_a_name_meant_other_tasks_is_told_their_name(tmp_path):
    """`half-cheetah-vel:varibad` had 17 observations once; the run goes on under the other name."""
    now, config = "half-cheetah-vel:varibad", small(tmp_path, 1)
    before = replace(config, env=EnvConfig(name="half-cheetah-vel:gymnasium", horizon=20))
    training.train(before, "x")
    path = tmp_path / "config.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("half-cheetah-vel:gymnasium", now))
    message = r"not this agent's: .*\(16, 17\), expected \(16, 20\)[\s\S]*vel:gymnasium; write"
    with pytest.raises(UserError, match=message):
        training.train(replace(before, env=replace(before.env, name=now), iterations=2), "x")
    options = EvaluateOptions(run_dir=tmp_path, tasks=3, steps=1, episodes=4, device="cpu")
    with pytest.raises(UserError, match=message):
        evaluate(options)
    path.write_text(kept)
    evaluate(options)
    training.train(replace(before, iterations=2), "x")
    assert len(rows(tmp_path)) == 2


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    """Continuing from it gives the same end."""
    training.train(small(tmp_path), "x")
    kept = weights(tmp_path, 4)
    path = tmp_path / "checkpoints" / "000004" / "agent.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.warns(CheckpointWarning, match="000004"):
        training.train(small(tmp_path), "x")
    assert weights(tmp_path, 4) == kept
    assert [row["iteration"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_a_diverged_draw_is_thrown_away_counted_and_drawn_anew(tmp_path, monkeypatch, capfd):
    """Nothing of it is learned: the run differs only in that iteration's draw."""
    play = episodes.adaptation_rounds

    def diverging(*args):
        *_, (_, iteration, attempt), _ = args
        if iteration == 1 and attempt == 0:
            raise DivergedError("point-goal", {"goal": [1, 2]}, episode=3, step=7)
        return play(*args)

    monkeypatch.setattr(episodes, "adaptation_rounds", diverging)
    training.train(small(tmp_path), "x")
    assert [row["resampled"] for row in rows(tmp_path)] == [0, 1, 1, 1]
    said = capfd.readouterr().out
    assert "episode 3" in said
    assert "step 7" in said
    assert "[1, 2]" in said


def test_a_run_that_always_diverges_ends_with_a_reason(tmp_path, monkeypatch):
    def diverging(*args):
        raise DivergedError("point-goal", {}, 0, 0)

    monkeypatch.setattr(episodes, "adaptation_rounds", diverging)
    with pytest.raises(UserError, match="10 draws in a row diverged"):
        training.train(small(tmp_path), "x")


def test_what_a_run_and_its_evaluation_leave_behind(tmp_path):
    """Every file of the layout; held-out tasks; the same seed gives the same numbers."""
    training.train(small(tmp_path), "x")
    options = EvaluateOptions(run_dir=tmp_path, tasks=3, steps=2, episodes=4, device="cpu",
                              controls=("random",), against=(tmp_path,))  # fmt: skip
    evaluate(options)
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {"config.yaml", "environment.json", "metrics.jsonl", "report.html"} <= names
    assert {f"evaluation/adaptation.{kind}" for kind in ("json", "csv", "png")} <= names
    assert any(name.startswith("tensorboard/") for name in names)
    first = read_json(tmp_path / "evaluation" / "adaptation.json")
    assert first.outcome.values.shape == (3, 3, 4)
    assert first.env_steps == pytest.approx((0, 80, 160), abs=10)
    assert set(first.controls) == {"random initialisation"}
    assert first.made_from == {
        "iteration": 4,
        "checkpoint": "latest",
        "seed": 1,
        "inner_lr": first.made_from["inner_lr"],  # see test_step_size.py
        "settings": first.made_from["settings"],  # what was asked for
        "horizon": 20,
        "mode_episodes": 0,
        "protocol": None,
    }
    (same,) = first.others.values()
    assert np.array_equal(same.values, first.outcome.values)
    assert same.env_steps == first.env_steps
    assert first.outcome.success is not None
    goals = np.array([task["goal"] for task in first.tasks])
    assert held_out(goals[:, 0] + 0.5).all()
    evaluate(options)
    again = read_json(tmp_path / "evaluation" / "adaptation.json")
    assert np.array_equal(first.outcome.values, again.outcome.values)
    training.train(small(tmp_path), "x")  # done already: changes nothing
    assert len(rows(tmp_path)) == 4


def test_training_meets_no_held_out_task(tmp_path, monkeypatch):
    met = []
    sample = PointGoal.sample

    def recorded(self, *args, **options):
        met.extend(sample(self, *args, **options))
        return met[-args[0] :]

    monkeypatch.setattr(PointGoal, "sample", recorded)
    training.train(small(tmp_path), "x")
    goals = np.array([task["goal"] for task in met])
    assert len(goals) >= 16
    assert not held_out(goals[:, 0] + 0.5).any()


@pytest.mark.parametrize("name", ["point-goal", "halfcheetah-vel-maml2017"])
def test_a_policy_that_is_no_number_any_more_ends_the_run_with_the_remedy(tmp_path, name):
    """And keeps what was learned before."""
    config = small(tmp_path, name=name)
    inner = replace(config.agent.inner, lr=1e38)
    broken = replace(config, agent=replace(config.agent, inner=inner))
    with pytest.raises(UserError, match=r"iteration 1: .*after 1 adaptation steps.*--agent.inner"):
        training.train(broken, "x")


def test_five_updates_without_a_finite_result_end_the_run(tmp_path):
    """With a checkpoint of what was there before; and so they do once it is resumed."""
    config = small(tmp_path / "run", 20, "point-goal-rl2")
    outer = replace(config.agent.outer, lr=1e37, epochs=1, minibatches=1)  # type: ignore[call-arg]
    config = replace(config, agent=replace(config.agent, outer=outer))
    with pytest.raises(UserError, match=r"5 updates in a row.*\n.*\(--agent\.outer\.lr\)"):
        training.train(config, "x")
    assert [row["skipped"] for row in rows(tmp_path / "run")] == [1.0] * 5
    found = load_file(tmp_path / "run" / "checkpoints" / "000005" / "agent.safetensors")
    assert all(bool(x.isfinite().all()) for x in found.values())
    with pytest.raises(UserError, match="6 updates in a row"):
        training.train(config, "x")
    assert len(rows(tmp_path / "run")) == 6


def test_an_oracle_is_told_its_task_at_both_doors(tmp_path):
    config = with_agent(small(tmp_path / "run", 2), "oracle-trpo")
    run = training.train(config, "x")
    found = load_file(run / "checkpoints" / "000002" / "agent.safetensors")
    assert found["layer0.weight"].shape == (16, 2 + 2)  # position and goal
    picture = evaluate(EvaluateOptions(run_dir=run, tasks=3, steps=1, episodes=4))
    assert read_json(picture.with_name("adaptation.json")).agent == "oracle-trpo"


def test_a_trial_adapts_to_one_episode_a_step(tmp_path):
    """Any number of episodes makes steps of one episode; 3 of them are 2 steps."""
    run = training.train(small(tmp_path / "run", 2, "point-goal-rl2"), "x")
    picture = evaluate(EvaluateOptions(run_dir=run, tasks=3, steps=2, episodes=7))
    found = read_json(picture.with_name("adaptation.json"))
    assert 0.0 < found.env_steps[1] <= 20.0 < found.env_steps[2] <= 40.0
    assert found.outcome.values.shape == (3, 3, 7)


def test_rivals_of_one_name_and_of_other_settings_are_told_apart(tmp_path):
    """Two runs called `x`, one of another width, beside the run, on the run's tasks."""
    for folder, width in (("run", 16), ("a/x", 16), ("b/x", 8)):
        config = small(tmp_path / folder, 1)
        policy = replace(config.agent.policy, hidden=(width,))
        training.train(replace(config, agent=replace(config.agent, policy=policy)), "x")
    run, rivals = tmp_path / "run", (tmp_path / "a" / "x", tmp_path / "b" / "x")
    options = EvaluateOptions(run_dir=run, tasks=2, steps=1, episodes=2, against=rivals)
    evaluate(options)
    with pytest.raises(UserError, match="names a run twice"):
        evaluate(replace(options, against=rivals[:1] * 2))


def test_settings_bind_once_something_was_learned(tmp_path):
    """A run that stopped before its first iteration can be started otherwise."""
    config = small(tmp_path, 1)
    (tmp_path / "config.yaml").write_text(dump(replace(config, seed=5)))
    training.train(config, "x")
    assert len(rows(tmp_path)) == 1


def test_a_damaged_best_checkpoint_falls_back_too(tmp_path):
    training.train(small(tmp_path), "x")
    best = checkpoint.best(tmp_path / "checkpoints")
    assert best is not None
    (best.path / "agent.safetensors").write_bytes(b"nothing")
    with pytest.warns(CheckpointWarning):
        other = checkpoint.best(tmp_path / "checkpoints")
    assert other is not None
    assert other.iteration != best.iteration


def test_evaluation_starts_each_time_from_the_meta_parameters(tmp_path):
    """The first point is the same however many steps and tasks follow it."""
    training.train(small(tmp_path, 2), "x")
    found = []
    for steps in (0, 2):
        evaluate(EvaluateOptions(run_dir=tmp_path, tasks=3, steps=steps, episodes=4, device="cpu"))
        found.append(read_json(tmp_path / "evaluation" / "adaptation.json").outcome.values[:, 0])
    assert np.array_equal(*found)


def test_runs_of_other_environments_are_not_compared(tmp_path):
    training.train(small(tmp_path / "a", 1), "x")
    training.train(small(tmp_path / "b", 1, "halfcheetah-vel-promp"), "x")
    with pytest.raises(UserError, match="compare runs of the same tasks"):
        evaluate(EvaluateOptions(run_dir=tmp_path / "a", against=(tmp_path / "b",)))


def test_a_run_without_weights_says_how_to_get_them(tmp_path):
    training.train(small(tmp_path, 1), "x")
    for path in sorted((tmp_path / "checkpoints").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(UserError, match="no checkpoint yet"):
        evaluate(EvaluateOptions(run_dir=tmp_path))


def test_cuda_where_there_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda"):
        training.train(replace(small(tmp_path), device="cuda"), "x")


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch, capsys):
    """And a command that is printed can be pasted, also where a folder's name has a space."""
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    train.main(["point-goal", *SMALL, "--iterations", "1", "--run-dir", "~/run"])
    assert f"next: metarl evaluate '{home / 'run'}'" in capsys.readouterr().out
    small = ["--tasks", "2", "--steps", "1", "--episodes", "2"]
    evaluate_door.main(["~/run", *small, "--against", "~/run"])
    train.main(["--config", "~/run/config.yaml"])
    assert f"{home / 'run'} is done" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["my home"]


def test_config_yaml_is_the_whole_config(tmp_path):
    config = small(tmp_path, 1)
    training.train(config, "x")
    from metarl.experiments.assembly import run_config

    assert run_config(tmp_path) == config


@pytest.mark.slow
def test_point_goal_is_learned(tmp_path):
    """12 iterations of the preset: one step then leaves the untrained -80 far behind."""
    config = preset("point-goal")
    assert isinstance(config, Config)
    config = replace(config, iterations=12, run_dir=str(tmp_path), device="cpu")
    training.train(config, "point-goal")
    last = rows(tmp_path)[-5:]
    after = np.mean([row["return/step1"] for row in last])
    before = np.mean([row["return/step0"] for row in last])
    assert after > -20.0
    assert after - before > 15.0
