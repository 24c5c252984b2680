"""The doors' command lines: what they take, what they refuse, and how fast they answer."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from metarl.agents.inner.learned_optimizer import LearnedOptimizerConfig
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.commands import check_env, evaluate, report, train
from metarl.config.command_line import open_door
from metarl.config.files import dump, keys
from metarl.config.options import EvaluateOptions
from metarl.config.settings import (
    Config,
    EnvConfig,
    EvaluationConfig,
    FewShotConfig,
    FewShotEnvConfig,
)
from metarl.envs.metaworld.classes import CLASSES
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.defaults import MAX_NAME
from metarl.experiments.offered import offered
from metarl.experiments.presets import PRESETS, blank, preset
from metarl.signals import ENDING

HEAVY = (
    "torch", "mujoco", "gymnasium", "scipy", "matplotlib", "stable_baselines3", "numpy", "sklearn",
    "PIL", "safetensors",
)  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder that holds a run's config and nothing else of it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(preset("point-goal")))
    return folder


def asked(line: str) -> tuple[Config, str]:
    """Returns the config and name that a command line on a preset of episodes asks for."""
    config, name = train.read(line.split())
    assert isinstance(config, Config)
    return config, name


@pytest.fixture
def few_shot_run(tmp_path: Path) -> Path:
    """The same of a run on supervised tasks."""
    folder = tmp_path / "few-shot"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(preset("digits-maml")))
    return folder


def spent_by_children() -> float:
    """Processor time: a machine with other work to do makes it no longer."""
    used = os.times()
    return used.children_user + used.children_system


@pytest.mark.parametrize(
    "line",
    [
        "train", "evaluate", "report", "train digits-protonet --env arrays", "evaluate FEW_SHOT",
    ],
)  # fmt: skip
def test_help_is_quick_and_light(line: str, few_shot_run: Path):
    door, *argv = line.replace("FEW_SHOT", str(few_shot_run)).split()
    script = (
        f"import runpy, sys; sys.argv = ['door', *{argv!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module('metarl.{door}', run_name='__main__')\n"
        "finally:\n"
        f"    print('HEAVY:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    start = spent_by_children()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HEAVY: []" in done.stdout
    assert spent_by_children() - start < 2, "0.4 s of a processor"


def test_help_names_every_preset_and_flag(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help", "all"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for name in PRESETS:
        assert name in text
    config = blank("maml-trpo", EnvConfig.name)
    hidden = [key for key, shown in offered(config).items() if shown is None]
    assert set(hidden) == {
        "env.metaworld.engine", "env.metaworld.rewards", "env.metaworld.goals_seed",
        "agent.inner.estimator", "agent.inner.dice_lambda",
    }  # fmt: skip
    flags = set(re.findall(r"--([a-z][\w.-]*)", text))
    for key in keys(config):
        assert (key.replace("_", "-") in flags) is (key not in hidden), key
    for flag in ("--config", "--agent NAME", "--env NAME"):
        assert flag in text


UNUSED = {
    "sinusoid-maml": "env.ways env.path env.image_size env.rotations agent.inner.estimator "
    "agent.inner.dice_lambda agent.network.kind agent.network.batch_norm "
    "agent.network.strides",
    "digits-protonet": "env.path env.image_size",
    "sinusoid-mapping": "env.ways env.path env.image_size env.rotations agent.inner.steps "
    "agent.network.kind agent.network.batch_norm "
    "agent.network.strides",
}


@pytest.mark.parametrize("name", UNUSED)
def test_help_of_a_few_shot_preset_names_its_flags(name: str, capsys: pytest.CaptureFixture[str]):
    """Flags that have an effect there, in words of examples."""
    with pytest.raises(SystemExit) as stopped:
        train.main([name, "--help", "all"])
    assert stopped.value.code == 0
    _, text = capsys.readouterr().out.split("The flags below")
    flags = set(re.findall(r"--([a-z][\w.-]*)", text))
    for key in keys(preset(name)):
        assert (key.replace("_", "-") in flags) is (key not in UNUSED[name].split()), key
    for word in ("workers", "score", "polic", "context", "jointly", "Ant's", "reinforcement"):
        assert word not in text


def test_help_of_evaluation_has_the_words_of_its_run(
    run_dir: Path, few_shot_run: Path, capsys: pytest.CaptureFixture[str]
):
    said = {}
    for folder in (run_dir, few_shot_run):
        with pytest.raises(SystemExit):
            evaluate.main([str(folder), "--help", "all"])
        said[folder] = capsys.readouterr().out
    assert "success.json" in said[run_dir]
    assert "predictions.png" not in said[run_dir]
    assert "success.json" not in said[few_shot_run]
    assert "predictions.png" in said[few_shot_run]
    assert all(word not in said[few_shot_run] for word in ("workers", "episodes", "reinforcement"))


def test_a_preset_and_its_flags():
    line = "point-goal --seed 3 --iterations 5 --device cpu --workers 2 --run-dir /tmp/here"
    config, name = asked(f"{line} --agent.inner.lr=0.2")
    assert name == "point-goal"
    assert (config.seed, config.iterations, config.device, config.workers) == (3, 5, "cpu", 2)
    assert config.run_dir == "/tmp/here"
    assert isinstance(config.agent.inner, SgdConfig)
    assert config.agent.inner.lr == 0.2
    assert config.sampling == preset("point-goal").sampling


def test_metaworld_brings_its_own_protocol_and_takes_it_away_again():
    official, usual = EvaluationConfig(40, 1, 10, 3), EvaluationConfig()
    assert train.read(["point-goal", "--env", "ml45"])[0].evaluation == official
    assert train.read(["ml10-maml-trpo", "--env", "ml1:push-v3"])[0].evaluation == official
    assert train.read(["ml10-maml-trpo", "--env", "point-goal"])[0].evaluation == usual
    kept = train.read(["point-goal", "--env", "half-cheetah-vel"])[0].evaluation
    assert kept == preset("point-goal").evaluation != usual


def test_a_long_name_makes_a_folder_that_can_be_made():
    """Another one for another list."""
    lists = ["metaworld:" + ",".join(CLASSES[:n]) + "|push-v3" for n in (15, 16)]
    folders = [train.read(["point-goal", "--env", each])[0].run_dir for each in lists]
    assert len(set(folders)) == 2
    assert all(len(Path(folder).name) == MAX_NAME for folder in folders)


def test_flags_of_every_type():
    config, _ = asked(
        "point-goal --agent.policy.hidden 32 16 --agent.inner.first-order --workers auto "
        "--agent.outer.damping 1e-3 --agent.policy.activation tanh"
    )
    assert config.agent.policy.hidden == (32, 16)
    assert config.agent.policy.activation == "tanh"
    assert isinstance(config.agent.inner, SgdConfig)
    assert isinstance(config.agent.outer, TrpoConfig)
    assert config.agent.inner.first_order is True
    assert config.agent.outer.damping == 1e-3
    assert config.workers == "auto"


def test_the_preset_comes_first():
    """Elsewhere it could be one more value of a flag that takes several."""
    assert train.read(["point-goal", "--seed", "3"])[1] == "point-goal"
    with pytest.raises(UserError, match="it comes first"):
        train.read(["--agent.policy.hidden", "32", "16"])


def test_a_run_is_kept_under_its_preset_and_what_stands_in_its_place():
    assert train.read(["point-goal"])[0].run_dir == "runs/point-goal"
    config, _ = asked("point-goal --env half-cheetah-vel:promp")
    assert config.run_dir == "runs/point-goal_half-cheetah-vel-promp"
    assert (config.env.name, config.env.horizon) == ("half-cheetah-vel:promp", 100)


def test_agent_name_and_agent_settings_do_not_clash():
    config, _ = train.read("point-goal --agent maml-trpo --agent.inner.lr 0.3".split())
    assert isinstance(config.agent.inner, SgdConfig)
    assert (config.agent.name, config.agent.inner.lr) == ("maml-trpo", 0.3)


def test_a_runs_own_config_brings_it_back(run_dir: Path):
    stored = run_dir / "config.yaml"
    config, _ = train.read(["point-goal", "--run-dir", str(run_dir), "--seed", "9"])
    stored.write_text(dump(config))
    assert train.read(["--config", str(stored)])[0] == config


def test_file_over_preset_and_flag_over_file(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 5\niterations: 7\nagent: {inner: {steps: 2}}\n")
    config, _ = train.read(["point-goal", "--config", str(file), "--seed", "6"])
    assert (config.seed, config.iterations) == (6, 7)
    assert isinstance(config.agent.inner, SgdConfig)
    assert (config.agent.inner.lr, config.agent.inner.steps) == (0.5, 2)


def test_a_few_shot_preset_and_its_flags():
    line = "sinusoid-maml --agent lomaml --agent.inner.steps 5 --env polynomial:3 --env.shots 5"
    config, name = train.read(line.split())
    assert isinstance(config, FewShotConfig)
    assert (name, config.agent.name, config.run_dir) == (
        "sinusoid-maml", "lomaml", "runs/sinusoid-maml_lomaml_polynomial-3"
    )  # fmt: skip
    assert isinstance(config.agent.inner, LearnedOptimizerConfig)
    assert config.agent.inner.steps == 5
    assert config.env == FewShotEnvConfig("polynomial:3", shots=5)


def test_evaluation_starts_from_the_runs_own_settings(run_dir: Path):
    options, config = evaluate.read([str(run_dir)])
    assert config == run_config(run_dir)
    assert isinstance(options, EvaluateOptions)
    assert (options.tasks, options.episodes, options.split) == (40, 40, "test")
    line = "--tasks 5 --steps 2 --episodes 3 --controls random --split train --seed 4"
    options, _ = evaluate.read([str(run_dir), *line.split(), "--against", "a", "b"])
    assert isinstance(options, EvaluateOptions)
    assert (options.tasks, options.steps, options.episodes, options.seed) == (5, 2, 3, 4)
    assert (options.controls, options.split) == (("random",), "train")
    assert options.against == (Path("a"), Path("b"))


BAD_TRAIN = {
    "": "no preset given: it comes first; there are halfcheetah-vel-quick, ",
    "--seed 3": "no preset given",
    "point-gaol": "'point-gaol' is no preset; did you mean 'point-goal' or 'point-goal-rl2' or "
    "'point-goal-rl2-sac'?",
    "zzz": "'zzz' is no preset; there are halfcheetah-vel-quick, ",
    "point-goal more": "'more' belongs to no flag",
    "point-goal --itrations 3": "--itrations is no flag; did you mean --iterations?",
    "point-goal --lr 3": "--lr is no flag; did you mean --agent.inner.lr?",
    "point-goal --agent.inner.lrr 3": "did you mean --agent.inner.lr?",
    "point-goal --agent.inner.lr fast": "--agent.inner.lr is 'fast'; expected a number above 0",
    "point-goal --agent.inner.lr=fast": "--agent.inner.lr is 'fast'; expected a number above 0",
    "point-goal --agent.inner.lr -0.1": "agent.inner.lr is -0.1; it must be above 0",
    "point-goal --sampling.tasks 0": "sampling.tasks is 0; it must be at least 1",
    "point-goal --env.horizon 0": "env.horizon is 0; it must be at least 1",
    "point-goal --iterations 1.5": "--iterations is '1.5'; expected a whole number at least 1",
    "point-goal --seed": "--seed has no value; expected a whole number at least 0",
    "point-goal --seed --device cpu": "--seed has no value",
    "point-goal --device tpu": "--device is 'tpu'; expected 'auto' or 'cpu' or 'cuda'",
    "point-goal --workers some": "--workers is 'some'; expected a whole number at least 0 and at",
    "point-goal --agent.policy.hidden 8 x": "each a whole number at least 1, separated by spaces",
    "point-goal --agent maml-trop": "'maml-trop' is no agent; did you mean 'maml-trpo' or",
    "point-goal --agent": "--agent has no value",
    "point-goal --env half-cheetah-vol:promp": "'half-cheetah-vol:promp' is no task distribution",
    "point-goal --config none.yaml": "none.yaml cannot be read: No such file or directory",
    "point-goal --agent protonet": "'protonet' learns supervised tasks, and 'point-goal' is for",
    "point-goal --env sinusoid": "begin with a preset of theirs, as in `metarl train sin",
    "sinusoid-maml --agent promp": "'promp' learns from reinforcement, and 'sinusoid' are superv",
    "sinusoid-maml --agent mamll": "'mamll' is no agent on supervised tasks; did you mean 'maml'",
    "sinusoid-maml --env point-goal": "begin with a preset of its own, as in `metarl tra",
    "sinusoid-maml --env sinsoid": "supervised tasks; did you mean 'sinusoid'?",
    "sinusoid-maml --env polynomial:4": "supervised tasks; did you mean 'polynomial:",
    "sinusoid-mam": "'sinusoid-mam' is no preset; did you mean 'sinusoid-maml'",
    "sinusoid-maml --env.shot 3": "--env.shot is no flag; did you mean --env.shots?",
    "sinusoid-maml --env.shots 0": "env.shots is 0; it must be at least 1",
    "sinusoid-maml --workers 2": "--workers is no flag",
    "digits-maml --env.rotations on": "expected 'none' or 'train' or 'all'",
    "digits-maml --agent.network.hidden 8 x": "--agent.network.hidden is '8 x'; expected a list",
    "digits-protonet --agent.inner.lr 0.1": "--agent.inner.lr is no flag; did you mean --agent.out",
    "--config FEW_SHOT/config.yaml --agent promp": "'promp' learns from reinforcement",
    "point-goal --run-dir a --run-dir b": "--run-dir is given twice: 'a' and 'b'; give it once",
    "--config a --config b": "--config is given twice: 'a' and 'b'; give it once",
    "point-goal --env ant-dir --env.name bandit": "--env and --env.name set the same: 'ant-d",
    "sinusoid-maml --agent.inner.first-order --agent.inner.no-first-order": "set the same; give",
    "point-goal --agent.inner.lr 1 --seed 3 --agent.inner.lr=2": "--agent.inner.lr is given twice",
    "point-goal --agent.policy.hidden 8 9 --agent.policy.hidden 4": "given twice: '8 9' and '4'",
    "--config FEW_SHOT/config.yaml --env.shots x": "--env.shots is 'x'; expected a whole number",
}
BAD_EVALUATE = {
    "": "no run directory given",
    "no/run": "no/run is no run: it has no config.yaml",
    "RUN --tasks 0": "tasks is 0; it must be at least 1",
    "RUN --controls good": "--controls is 'good'; expected a list, each 'random'",
    "RUN --split all": "--split is 'all'; expected 'train' or 'test'",
    "RUN --task 3": "--task '3': '3' is no KEY=VALUE",
    "RUN --shots 3": "--shots is no flag",
    "FEW_SHOT --shot 3": "--shot is no flag; did you mean --shots?",
    "FEW_SHOT --episodes 3": "--episodes is no flag",
    "FEW_SHOT --steps -1": "steps is -1; it must be at least 0",
    "RUN other": "two run folders are given, 'RUN' and 'other'; give one",
    "RUN --run-dir other": "two run folders are given, 'RUN' and 'other'; give one",
    "--run-dir RUN --run_dir=other": "--run-dir is given twice: 'RUN' and 'other'; give it once",
    "RUN --against a --against b": "--against is given twice: 'a' and 'b'; give it once",
    "FEW_SHOT --seed 1 --seed=1": "--seed is given twice: '1' and '1'; give it once",
}
BAD_REPORT = {
    "": "no run directory given",
    "no/run": "no/run is no run",
    "RUN more": "2 folders are given; name their page with --out FILE.html",
    "RUN more --out a.html": "more is no run, and no folder of seeds: there is no such folder",
    "RUN --run-dir more --out a.html": "more is no run, and no folder of seeds",
    "RUN --out a.html --out b.html": "--out is given twice: 'a.html' and 'b.html'; give it once",
    "RUN --out page.txt": "--out is 'page.txt'; give an .html file",
    "RUN --plot more": "'--plot' belongs to no flag",
}
BAD_CHECK = {
    "point-goal --seed 1 --seed 2": "--seed is given twice: '1' and '2'; give it once",
    "point-goal bandit": "'bandit' belongs to no flag",
}
BAD = [
    (door, line, said)
    for door, table in (
        (train.main, BAD_TRAIN),
        (evaluate.main, BAD_EVALUATE),
        (report.main, BAD_REPORT),
        (check_env.main, BAD_CHECK),
    )
    for line, said in table.items()
]


@pytest.mark.parametrize(
    ("door", "line", "said"), BAD, ids=[f"{d.__module__}-{b}" for d, b, _ in BAD]
)
def test_bad_input_is_answered_in_three_lines(
    door: Callable[[Sequence[str]], None],
    line: str,
    said: str,
    run_dir: Path,
    few_shot_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    line = line.replace("RUN", str(run_dir)).replace("FEW_SHOT", str(few_shot_run))
    monkeypatch.setattr(sys, "argv", ["door", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        open_door(door)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said.replace("RUN", str(run_dir)) in err
    assert len(err.splitlines()) <= 3


def test_a_name_given_twice_is_refused_where_the_two_differ(run_dir: Path):
    line = ["--config", str(run_dir / "config.yaml"), "--env", "half-cheetah-vel:promp"]
    with pytest.raises(UserError, match="leave one of them out"):
        train.read(line)


def test_a_name_without_its_variant_goes_with_a_file(tmp_path: Path):
    """The spelt-out name is not another one that the file gave."""
    file = tmp_path / "mine.yaml"
    file.write_text("iterations: 7\n")
    config, _ = train.read(["--config", str(file), "--env", "bandit"])
    assert (config.env.name, config.iterations) == ("bandit:5", 7)


def test_bad_input_from_a_shell(tmp_path: Path):
    """Once in a process of its own: no traceback, exit code 2, nothing written."""
    done = subprocess.run(
        [sys.executable, "-m", "metarl.train", "point-gaol"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(train.__file__).parents[2])},
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: 'point-gaol' is no preset; did you mean 'point-goal' or 'point-goal-rl2' or "
        "'point-goal-rl2-sac'?\n"
        "`metarl list presets` describes them\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_interrupted_work_says_how_to_go_on(capsys: pytest.CaptureFixture[str]):
    def interrupted(argv: Sequence[str]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        open_door(interrupted, "the same command again continues")
    assert stopped.value.code == 130
    assert "the same command again continues" in capsys.readouterr().err


ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("presets", "choosing", "results", "metaworld")),
]
COMMAND = re.compile(r"^    metarl train ([^#`\n]+)|`metarl train ([^`]+)`", re.M)
ELSEWHERE = ("--config", "--help", "--seeds", "my_tasks", "AGENT", "PRESET")
"""Commands that need a run, a module or a name of the reader's; tested with one elsewhere."""


def commands() -> list[str]:
    """Returns the training commands of the pages."""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    found = {(block or inline).strip() for block, inline in COMMAND.findall(text)}
    return sorted(line for line in found if not any(word in line for word in ELSEWHERE))


def test_the_pages_have_training_commands():
    assert len(commands()) > 10


@pytest.mark.parametrize("line", commands())
def test_every_training_command_of_the_pages_is_one(line: str):
    config, _ = train.read(shlex.split(line))
    assert config.run_dir


def test_flags_of_the_pages_exist():
    """Each is in the help of some command: flags differ between agents and kinds of tasks."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES[:3])
    flags = set(re.findall(r"`?(--[a-z][\w.-]+)", text))
    promp, arrays = "train point-goal --agent promp", "train digits-maml --env arrays"
    rl2 = "train point-goal-rl2"
    text = "".join(
        subprocess.run(
            [sys.executable, "-m", "metarl", *f"{command} --help all".split()],
            capture_output=True, text=True, check=True,
        ).stdout
        for command in (
            *("train", promp, arrays, rl2, "evaluate", "sweep point-goal", "record", "compare"),
        )
    )  # fmt: skip
    others = {"--directory"}  # of `python -m http.server`
    assert {flag for flag in flags if flag not in text} == others


@pytest.mark.parametrize("given", [[], ["--sampler", "ray"]])
def test_a_file_does_not_decide_which_cluster_is_joined(tmp_path, given):
    """Its processes could run code on this machine."""
    config = replace(preset("point-goal"), sampler="ray", ray_address="10.0.0.9:1")
    (tmp_path / "config.yaml").write_text(dump(config))
    argv = ["--config", str(tmp_path / "config.yaml"), *given]
    with pytest.raises(UserError, match=r"names the Ray cluster 10\.0\.0\.9:1, which can run code"):
        train.read(argv)
    for flag in (["--ray-address", "10.0.0.9:1"], ["--ray_address=10.0.0.9:1"]):
        assert "ray_address: 10.0.0.9:1\n" in dump(train.read([*argv, *flag])[0])
