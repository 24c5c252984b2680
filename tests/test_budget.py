"""Environment steps of agents in place of a preset's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from whole_runs import rows

from metarl.commands.train import read
from metarl.config.files import dump
from metarl.errors import UserError
from metarl.loop import training

PRESET = "halfcheetah-vel-maml2017"


@pytest.mark.parametrize(
    ("line", "as_asked", "matched"),
    [
        ("--agent joint-trpo --iterations 60", 60, 120),
        ("--agent joint-ppo", 475, 950),
        ("--agent oracle-trpo --iterations 3", 3, 6),
        ("--agent reptile-ppo --iterations 60", 60, 40),
        ("--agent promp --agent.inner.steps 3 --iterations 60", 60, 30),
        ("--agent anil-trpo", 475, 475),
        ("--agent reptile-ppo --iterations 1", 1, 1),
        ("--agent random --iterations 1", 1, 1),
        ("--agent sb3-ppo --iterations 1", 1, 1),
    ],
)
def test_the_budget_of_the_presets_agent(capfd, line, as_asked, matched):
    """As many environment steps as the preset's agent; else the difference is told."""
    words = [PRESET, *line.split()]
    assert read(words)[0].iterations == as_asked
    said = capfd.readouterr().out
    assert ("--match-budget" in said) == (as_asked != matched)
    assert as_asked == matched or f"that {matched} iterations" in said
    assert read([*words, "--match-budget"])[0].iterations == matched
    assert capfd.readouterr().out == ""


def test_a_matched_run_plays_as_many_steps(tmp_path):
    words = (
        "point-goal --sampling.tasks 4 --sampling.episodes 2 --env.horizon 10 --device cpu "
        f"--iterations 3 --match-budget --workers 0 --run-dir {tmp_path}"
    ).split()
    steps = []
    for agent in ("maml-trpo", "joint-trpo", "reptile-ppo"):
        config, name = read([*words, "--agent", agent])
        training.train(replace(config, run_dir=str(tmp_path / agent)), name)
        steps.append(rows(tmp_path / agent)[-1]["env_steps"])
    assert steps == pytest.approx([3 * 2 * 4 * 2 * 10] * 3, rel=0.02)  # goals end a few episodes


def test_a_runs_own_file_is_not_doubled_again(tmp_path, capfd):
    config, _ = read([PRESET, "--agent", "joint-trpo", "--match-budget"])
    file = tmp_path / "config.yaml"
    file.write_text(dump(config))
    assert read(["--config", str(file)])[0].iterations == 950
    with pytest.raises(UserError, match=r"--match-budget is .* name a preset"):
        read(["--config", str(file), "--match-budget"])
    assert capfd.readouterr().out == ""


def test_supervised_agents_have_the_same_budget_already():
    with pytest.raises(UserError, match="--match-budget is for agents that play episodes"):
        read(["sinusoid-maml", "--match-budget"])


def test_an_agent_of_your_own_has_no_budget_that_is_known():
    with pytest.raises(UserError, match="rounds of an agent of your own, 'mine:Agent'; give --it"):
        read([PRESET, "--agent", "mine:Agent", "--match-budget"])


def test_the_flag_takes_no_value_and_either_spelling():
    assert read([PRESET, "--agent", "joint-trpo", "--match_budget"])[0].iterations == 950
    with pytest.raises(
        UserError, match="'--match-budget=no' has a value; --match-budget takes none"
    ):
        read([PRESET, "--agent", "joint-trpo", "--match-budget=no"])
