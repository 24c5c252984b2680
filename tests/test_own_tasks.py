"""Environments of a user's own through the doors: named, faulty, and their code not run unasked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from family import left_in_shared_memory, workers_alive
from safetensors.torch import load_file
from whole_runs import wait_for

from metarl.commands import check_env, evaluate, train
from metarl.config.settings import Config, EnvConfig
from metarl.envs import catalogue
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.runs import checkpoint

OWN = Path(__file__).resolve().parent / "own"
SMALL = [
    "--sampling.tasks", "3", "--sampling.episodes", "4", "--agent.policy.hidden", "8",
    "--evaluation.tasks", "2", "--evaluation.episodes", "3", "--evaluation.steps", "1",
    "--device", "cpu", "--checkpoint-every", "1",
]  # fmt: skip


def command(target: str, run_dir: Path, *flags: str) -> list[str]:
    return ["point-goal", "--env", target, *SMALL, "--run-dir", str(run_dir), *flags]


def start(door: str, argv: list[str]) -> subprocess.Popen[str]:
    paths = [str(OWN), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", f"metarl.{door}", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        # Where pytest runs in the background its children would inherit an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(door: str, argv: list[str]) -> tuple[int, str]:
    process = start(door, argv)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def weights(run_dir: Path) -> bytes:
    kept = checkpoint.load_latest(run_dir / "checkpoints")
    assert kept is not None
    return b"".join(
        x.numpy().tobytes() for x in load_file(kept.path / "agent.safetensors").values()
    )


@pytest.mark.slow
def test_a_run_on_tasks_of_ones_own(tmp_path, monkeypatch):
    """Trained on worker processes, continued, evaluated; the number of workers changes nothing."""
    target = "strange_envs:walk"
    code, said = run("train", command(target, tmp_path / "a", "--iterations", "2"))
    assert code == 0, said
    assert f"evaluate {tmp_path / 'a'} --env {target}" in said
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the processes that `start` starts
    train.main(command(target, tmp_path / "a", "--iterations", "3", "--workers", "1"))
    train.main(command(target, tmp_path / "b", "--iterations", "3", "--workers", "0"))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    code, said = run("evaluate", [str(tmp_path / "a"), "--env", target])
    assert code == 0, said
    kept = json.loads((tmp_path / "a" / "evaluation" / "adaptation.json").read_text())
    assert kept["env"] == target
    assert set(kept["tasks"][0]) == {"slope"}


def test_code_runs_only_where_the_command_line_names_it(tmp_path, monkeypatch):
    """A config in a run's folder imports nothing, neither in training nor in evaluation."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "trap.py").write_text("raise SystemExit('the trap was imported')")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("env:\n  name: trap:tasks\n  horizon: 5\n")
    refusal = r"trap:tasks, code of your own.*\nadd --env trap:tasks"
    with pytest.raises(UserError, match=refusal):
        evaluate.main([str(folder)])
    with pytest.raises(UserError, match=refusal):
        train.main(["--config", str(folder / "config.yaml")])
    with pytest.raises(UserError, match="other"):  # another's own code, which is not there
        evaluate.main([str(folder), "--env", "other:tasks"])
    assert "trap" not in sys.modules
    with pytest.raises(SystemExit, match="the trap was imported"):
        evaluate.main([str(folder), "--env", "trap:tasks"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.at_all:tasks", "there is no module 'nowhere'"),
        ("strange_envs:wlak", "has no 'wlak'; did you mean 'walk'"),
        ("strange_envs:HORIZON", "is no task distribution but int; it has neither sample, make"),
        ("strange_envs:Walk", "is one environment; metarl.gym_tasks"),
        ("broken:tasks", "importing broken raised ZeroDivisionError: division by zero"),
        ("hungry:tasks", "its module needs 'no_such_thing': pip install it"),
        ("raising:tasks", r"raising:tasks\(\) raised KeyError: 'x'"),
        ("half-cheetah:walk", "is no task distribution; did you mean"),
    ],
)
def test_what_is_no_distribution_is_refused(strange_envs, tmp_path, monkeypatch, target, message):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "hungry.py").write_text("import no_such_thing")
    (tmp_path / "raising.py").write_text("def tasks():\n    return {}['x']")
    with pytest.raises(UserError, match=message):
        catalogue.make(target, 12, named=target)


def test_the_horizon_is_the_distributions_own_unless_it_is_set(strange_envs, tmp_path):
    config, _ = train.read(command("strange_envs:walk", tmp_path))
    assert isinstance(config, Config)
    assert config.env.horizon == strange_envs.HORIZON
    argv = command("strange_envs:walk", tmp_path, "--env.horizon", "5")
    config, _ = train.read(argv)
    assert isinstance(config, Config)
    made = catalogue.make(config.env.name, config.env.horizon, named="strange_envs:walk")
    assert made.spec.horizon == 5


FAULTS = {
    "nan_observation": "the observation is nan at index 1 of 2",
    "infinite_observation": "the observation is inf at index 0 of 2",
    "nan_reward": "the reward is nan",
    "infinite_reward": "the reward is -inf",
    "observation_shape": r"the observation is an array of shape \(1,\)",
    "observation_dtype": "the observation is an array of shape .* and <U1, not in",
    "observation_list": r"the observation is \[.*\(list\), not in Box",
    "reward_shape": r"the reward is ndarray of shape \(1,\), not a number",
    "reward_none": "the reward is NoneType None, not a number",
    "terminated_int": r"terminated is 0 \(int\), not a bool",
    "4_tuple": "step returned a tuple of 4, not",
    "step_raises": "step raised ZeroDivisionError: division by zero",
}
AT_RESET = {
    "constructor": "constructor raised RuntimeError: no licence",
    "reset_raises": "reset raised KeyError: 'map'",
    "reset_returns_obs": r"reset returned ndarray, not \(observation, info\)",
}


BY_A_WORKER = ("nan_observation", "reward_shape", "4_tuple", *AT_RESET)
"""Faults that have to come back from a worker; its share finds all others too, as here."""


@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        *((fault, "0") for fault in (*FAULTS, *AT_RESET)),
        ("step_raises", "2"),
        *(pytest.param(fault, "2", marks=pytest.mark.slow) for fault in BY_A_WORKER),
    ],
)
def test_a_fault_is_one_error_with_its_place(strange_envs, tmp_path, capfd, fault, workers):
    """Environment, task, episode, step and field; the traceback in the run's errors.log."""
    argv = command(f"strange_envs:fault_{fault}", tmp_path, "--workers", workers)
    with pytest.raises(UserError) as caught:
        train.main(argv)
    said = str(caught.value)
    step = 3 if fault in FAULTS else 0
    place = rf"; task {{'slope': [\d.]+}}, episode \d, step {step}"
    assert re.search("Faulty: " + {**FAULTS, **AT_RESET}[fault] + ".*" + place, said), said
    log = tmp_path / "errors.log"
    assert said.count("\n") == 1
    if "raised" in {**FAULTS, **AT_RESET}[fault]:
        assert f"its traceback is in {log}" in said
        assert "strange_envs.py" in log.read_text()
    else:
        assert f"`metarl check-env strange_envs:fault_{fault}` tests" in said
    assert "Traceback" not in capfd.readouterr().err
    assert not workers_alive()


def test_tasks_that_the_config_does_not_name_are_refused(strange_envs, tmp_path):
    """Or evaluation would play others."""
    config = preset("point-goal")
    assert isinstance(config, Config)
    config = replace(config, run_dir=str(tmp_path), iterations=1)
    with pytest.raises(UserError, match=r"config.env is .point-goal.*Walk with horizon 12;"):
        training.train(config, "x", strange_envs.walk)
    config = replace(config, env=EnvConfig("strange_envs:walk", horizon=11))
    with pytest.raises(UserError, match=r"with horizon 11, the tasks given .* horizon 12"):
        training.train(config, "x", strange_envs.walk)


def test_a_file_is_no_module():
    for name in ("mine/tasks.py:walk", "mine.tasks.py:walk", "mine/tasks:walk"):
        with pytest.raises(UserError, match=r"is a file; name its module: --env mine\.tasks:walk"):
            catalogue.default_horizon(name)


def test_a_reset_that_remembers_is_told_before_training(strange_envs, tmp_path):
    with pytest.raises(UserError, match=r"the same seed starts another one.*task .*episode \d, st"):
        train.main(command("strange_envs:remembering", tmp_path))


def test_a_fault_after_some_iterations_keeps_the_last_checkpoint(strange_envs, tmp_path):
    """The run goes on once the environment is mended."""
    argv = command("strange_envs:walk", tmp_path, "--iterations", "2", "--workers", "0")
    train.main(argv)
    before = weights(tmp_path)
    config = (tmp_path / "config.yaml").read_text().replace(":walk", ":fault_nan_reward")
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match="Faulty: the reward is nan"):
        train.main(command("strange_envs:fault_nan_reward", tmp_path, "--iterations", "4"))
    assert weights(tmp_path) == before


def test_a_fault_at_evaluation_has_its_traceback_in_the_runs_folder_too(strange_envs, tmp_path):
    """Also where it is in the constructor, which the spaces are asked of."""
    train.main(command("strange_envs:walk", tmp_path, "--iterations", "1", "--workers", "0"))
    config = (tmp_path / "config.yaml").read_text().replace(":walk", ":fault_constructor")
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=f"no licence.*\nits traceback is in {tmp_path}"):
        evaluate.main([str(tmp_path), "--env", "strange_envs:fault_constructor"])
    assert "strange_envs.py" in (tmp_path / "errors.log").read_text()


@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_run_with_code_3(tmp_path):
    """After a checkpoint; what was learned stays."""
    train.main(command("strange_envs:walk", tmp_path, "--iterations", "1", "--workers", "0"))
    config = (tmp_path / "config.yaml").read_text().replace(":walk", ":fault_exits")
    (tmp_path / "config.yaml").write_text(config)
    code, said = run("train", command("strange_envs:fault_exits", tmp_path, "--iterations", "3"))
    assert code == 3, said
    assert re.search(r"error: .*Faulty: worker \d exited with code 7 in task .*, step 3", said)
    assert "4 workers lost within 100 iterations" in said
    assert "Traceback" not in said
    assert checkpoint.load_latest(tmp_path / "checkpoints") is not None


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_orphans_however_a_run_ends(tmp_path, sent):
    """Nor anything in /dev/shm. Signals reach all processes, as a terminal or a scheduler sends
    them; the workers wait for the end that their parent gives them."""
    process = start("train", command("strange_envs:walk", tmp_path, "--iterations", "100000"))
    try:
        wait_for(process, tmp_path, 3)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        assert len(family) >= 3, family
        if sent != signal.SIGKILL:
            for member in family[1:]:
                member.send_signal(sent)
        process.send_signal(sent)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(family[1:], timeout=5)
    assert not alive
    if sent != signal.SIGKILL:
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert "warning" not in said
    assert not left_in_shared_memory(*(member.pid for member in family))


def test_code_and_catalogue_are_told_apart():
    assert all(not catalogue.is_own(name) for name in catalogue.names())
    assert catalogue.is_own("a.b:c")
    assert not catalogue.is_own("bandit:other")


@pytest.mark.parametrize("module", ["images", "sinusoid", "bandit"])
@pytest.mark.parametrize(
    "line",
    ["check NAME", "point-goal --env NAME", "sinusoid-maml --env NAME", "point-goal --config FILE"],
)
def test_a_module_with_a_familys_name_is_refused_alike(module, line, tmp_path, monkeypatch):
    """By every command, and never imported."""
    (tmp_path / f"{module}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    name, file = f"{module}:tasks", tmp_path / "mine.yaml"
    file.write_text(f"env: {{name: '{name}'}}\n")
    argv = line.replace("NAME", name).replace("FILE", str(file)).split()
    with pytest.raises(UserError) as caught:
        (train.main if argv[0] != "check" else lambda argv: check_env.main(argv[1:]))(argv)
    assert str(caught.value) == (
        f"'{name}': '{module}' is a family of metarl's own tasks, and has no 'tasks'\n"
        f"if it is a module of yours, give it another name, such as my_{name}"
    )


def test_a_familys_own_words_are_no_module():
    """A class of Meta-World that is none gets the nearest one."""
    with pytest.raises(UserError, match="'reach' in 'ml1:reach' is no Meta-World task"):
        train.main(["point-goal", "--env", "ml1:reach"])
    for name in catalogue.names() + families.names():
        catalogue.refuse_taken(name)
