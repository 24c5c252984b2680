"""An installed metarl: what it brings with it, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from shutil import ignore_patterns

import pytest
from whole_runs import tree

import metarl
from metarl.runs.pretrained import described, shipped

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """metarl as users get it: built into a wheel and installed, with none of its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")  # setuptools leaves its build folder behind
    shutil.copytree(ROOT / "metarl", source / "metarl", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "setup.py"):
        shutil.copy(ROOT / name, source)
    for run in ("halfcheetah-vel-maml2017", "few-shot/sinusoid-maml", "few-shot/digits-maml"):
        shutil.copytree(ROOT / "results" / run, source / "results" / run)  # the last: no weights
    for name in ("agents", "envs"):
        (source / name).symlink_to(f"metarl/{name}")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--no-index"]
    done = subprocess.run(
        [*pip, *options, "--target", str(folder), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_only_metarl_is_installed(installed: Path):
    packages = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert packages - {"__pycache__", "bin"} == {"metarl"}
    shipped = {str(path.relative_to(installed)) for path in installed.rglob("metarl/**/*.py")}
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "metarl").rglob("*.py")}
    assert shipped == here


def test_what_the_code_reads_is_shipped_with_it(installed: Path):
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "metarl").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert all((installed / name).is_file() for name in here)


@pytest.mark.slow
def test_runs_with_weights_are_shipped_and_only_read(installed: Path, tmp_path: Path):
    runs = installed / "metarl" / "pretrained_runs"
    before = tree(runs)
    names = {str(path.parents[2].relative_to(runs)) for path in runs.rglob("*.safetensors")}
    assert names == {"halfcheetah-vel-maml2017", "few-shot/sinusoid-maml"}
    assert not list(runs.rglob("digits*"))
    assert not list(runs.rglob("*.png"))

    def metarl_command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "metarl", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert all(name in metarl_command("pretrained") for name in names)
    metarl_command("evaluate", "pretrained:sinusoid-maml", "--tasks", "2", "--steps", "1")
    assert (tmp_path / "evaluation-sinusoid-maml" / "adaptation.json").is_file()
    assert tree(runs) == before


def test_every_run_with_weights_in_the_checkout_is_described():
    found = {run.name: run for run in described(shipped())}
    assert {"halfcheetah-vel-maml2017", "halfcheetah-vel-agents/promp"} <= found.keys()
    assert all(run.agent and run.env and run.adapted and run.experience for run in found.values())
    size = sum(path.stat().st_size for path in shipped().rglob("*") if path.suffix != ".png")
    assert size < 15 << 20, "the wheel is to stay small"


def test_a_users_own_envs_package_is_left_alone(installed: Path, tmp_path: Path):
    """Most RL projects have a package `envs`: theirs is found, though metarl is looked at first."""
    for package in ("envs", "agents"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = True\n")
    script = (
        "import metarl, metarl.envs.catalogue, envs, agents\n"
        "assert envs.MINE and agents.MINE\n"
        f"assert metarl.__file__.startswith({str(installed)!r}), metarl.__file__\n"
        "assert metarl.envs.catalogue.names()\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(installed)!r})\n{script}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={},
    )
    assert done.returncode == 0, done.stderr


def test_the_links_lead_to_the_packages():
    for name in ("agents", "envs"):
        link = ROOT / name
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == ROOT / "metarl" / name


def test_public_names_are_found_when_used():
    for name in metarl.__all__:
        assert getattr(metarl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        metarl.nothing  # noqa: B018


def test_importing_metarl_imports_nothing_heavy():
    script = "import sys, metarl; assert not {'torch', 'mujoco', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
