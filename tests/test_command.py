"""`metarl list`, `show`, `completion` and `pretrained`, and what errors suggest."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl.__main__ import _without_command
from metarl.commands import COMMANDS, _placed, completion, listing, pretrained, show, train
from metarl.config.files import dump
from metarl.config.synonyms import SETTINGS, meant
from metarl.errors import UserError, nearest
from metarl.experiments.assembly import run_config
from metarl.experiments.presets import PRESETS, preset
from metarl.runs import archives
from metarl.runs.archives import unpacked
from metarl.runs.pretrained import run_place, shipped

HEAVY = ("torch", "mujoco", "gymnasium", "scipy", "matplotlib", "numpy", "safetensors")
Capture = pytest.CaptureFixture[str]


def said(door: Callable[[list[str]], object], line: str, capsys: Capture) -> str:
    door(line.split())
    return capsys.readouterr().out


@pytest.mark.parametrize("line", ["pretrained", "train --help"])
def test_the_commands_are_light(line: str):
    script = (
        f"import sys; sys.argv = ['metarl', *{line.split()!r}]\n"
        "from metarl.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    print('HEAVY:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("HEAVY: []\n")


@pytest.mark.parametrize("line", ["", "-h", "--help", "--help all", "--help=all", "help train"])
def test_help_names_every_command(line: str, capsys: Capture):
    text = said(_without_command, line, capsys)
    assert [row.split()[0] for row in text.splitlines() if row[:2] == "  "] == list(COMMANDS)


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("evalute", "'evalute' is no command; did you mean 'evaluate'?\n"),
        ("x\x1b[31m", "'x\\x1b[31m' is no command; there are train, evaluate, "),
        ("point-goal", "the command comes first: metarl train point-goal"),
    ],
)
def test_words_that_are_no_commands(word: str, remedy: str):
    with pytest.raises(UserError) as refused:
        _without_command([word])
    assert remedy in str(refused.value)


def test_lists(capsys: Capture):
    rows = {row["name"]: row for row in json.loads(said(listing.main, "agents --json", capsys))}
    promp = {key: rows["promp"][key] for key in ("kind", "inner", "outer")}
    assert promp == {"kind": "episodes", "inner": "sgd", "outer": "ppo"}
    assert rows["reptile"]["kind"] == "examples"
    assert said(listing.main, "presets", capsys).count("\n") == len(PRESETS) + 1
    envs = said(listing.main, "envs --kind examples", capsys)
    assert "sinusoids of random amplitude" in envs
    assert "point-goal" not in envs
    assert all(row["summary"] for what in listing.WHAT for row in listing.rows_of(what))
    with pytest.raises(UserError, match="'env' is nothing to list; did you mean 'envs'"):
        listing.main(["env"])


def test_what_show_prints_is_a_config(tmp_path: Path, capsys: Capture):
    line = "point-goal --agent promp --env bandit --agent.inner.lr 0.3 --seed 9"
    file = tmp_path / "mine.yaml"
    file.write_text(said(show.main, line, capsys))
    shown, _ = train.read(["--config", str(file)])
    asked, _ = train.read([*line.split(), "--run-dir", "runs/mine"])
    assert shown == asked


def test_the_short_help_has_ten_flags(capsys: Capture):
    for line in ("--help", "sinusoid-maml --help"):
        with pytest.raises(SystemExit):
            train.main(line.split())
        text = capsys.readouterr().out
        assert text.startswith("usage: metarl train PRESET")
        assert "  halfcheetah-vel-quick, " in text
        assert "glyphs-20way-1shot-AGENT" in text
        assert "glyphs-20way-1shot-maml" not in text
        flags = text[text.index("The flags that matter first; `--help all` shows") :]
        assert len(re.findall(r"^\W{1,2}--[a-z]", flags, re.M)) == 10


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("maml", "but an agent; name a preset first, as in point-goal --agent maml"),
        ("ant-vel:maml2017", "but tasks; name a preset, such as point-goal --env ant-vel:maml2017"),
        ("sinusoid", "such as sinusoid-maml"),
        ("point-goal --agent MAML_TRPO", "did you mean 'maml-trpo'"),
        ("point-goal --agent reptile", "for that there is 'reptile-ppo'"),
        ("sinusoid-maml --agent maml-trpo", "for those there is 'maml'"),
        ("point-goal --env sinusiod", "did you mean 'sinusoid'?"),
        ("point-goal --env HalfCheetahVel", "did you mean 'half-cheetah-vel'?"),
        ("point-goal --env cheetah", "did you mean 'half-cheetah-vel'?"),
        ("point-goal --env HalfCheetah-v5", "own tasks of it: half-cheetah-vel or half-cheetah-d"),
        ("sinusoid-maml --env Pendulum-v1", "gym_tasks('Pendulum-v1', {\"g\": Uniform(5, 15)}"),
        ("point-goal --learning-rate 3", "did you mean --agent.inner.lr?"),
        ("point-goal --agent promp --learning_rate 3", "--agent.inner.lr or --agent.outer.lr?"),
        ("point-goal --gamma 0.9", "did you mean --agent.advantages.discount?"),
        ("point-goal --num-envs 4", "did you mean --workers"),
        ("point-goal --total-timesteps 4", "did you mean --iterations?"),
        ("point-goal --algo maml", "did you mean --agent?"),
        ("point-goal --dampng 1", "did you mean --agent.outer.damping?"),
    ],
)
def test_errors_suggest_what_is_meant(line: str, remedy: str):
    with pytest.raises(UserError) as refused:
        train.read(line.split())
    assert remedy in str(refused.value)


def test_a_preset_may_be_spelt_as_its_tasks_are():
    one, other = (
        train.read([f"{name}-vel-varibad-rl2"]) for name in ("half-cheetah", "halfcheetah")
    )
    assert one == other


def test_synonyms_lead_to_keys_that_there_are():
    known = {
        flag.removeprefix("--").replace("-", "_") for flag in completion.words_of("train").flags
    }
    evaluated = {"inner_lr", "steps", "shots", "tasks", "episodes", "out"}
    for keys in SETTINGS.values():
        assert set(keys) <= known | evaluated
    assert meant("agent.inner.learning-rate", known) == ["agent.inner.lr"]


BASH = """source {script}
COMP_LINE="{line}" COMP_POINT=${{#COMP_LINE}} COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
_metarl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
COMPLETED = {
    "metarl ev": ["evaluate"],
    "metarl train point-g": [
        "point-goal",
        "point-goal-rl2",
        "point-goal-rl2-sac",
        "point-goal-reptile-ppo",
    ],
    "metarl show tab": ["tabular-mdp-rl2", "tabular-mdp-reptile-ppo"],
    "metarl train point-goal --agent rl": ["rl2", "rl2-sac"],
    "metarl train point-goal --agent=prom": ["promp"],
    "metarl train point-goal --env half-cheetah-vel:v": ["varibad"],
    "metarl train point-goal --env=ml1:push-w": ["push-wall-v3"],
    "metarl train x --device c": ["cpu", "cuda"],
    "metarl train x --agent.inner.first": ["--agent.inner.first-order"],
    "metarl evaluate runs/": ["runs/alone", "runs/seeds", "runs/way/"],
    "metarl evaluate runs/seeds/": ["runs/seeds/seed1"],
    "metarl evaluate pretrained:ml10": ["ml10-maml-trpo"],
    "metarl list pre": ["presets"],
    "metarl train --config my": ["my.yaml"],
}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion(shell: str, tmp_path: Path, capsys: Capture):
    """In bash by the function that it calls; the other shells only read the script."""
    script = tmp_path / "script"
    script.write_text(said(completion.main, shell, capsys))
    if subprocess.run(["which", shell], capture_output=True).returncode:
        pytest.skip(f"no {shell} here")
    assert subprocess.run([shell, "-n", script], capture_output=True).returncode == 0
    if shell != "bash":
        return
    for run in ("alone", "seeds/seed1"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.yaml").touch()
    (tmp_path / "runs" / "way" / "inside").mkdir(parents=True)
    (tmp_path / "my.yaml").touch()
    for line, expected in COMPLETED.items():
        text = BASH.format(script=script, line=line)
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr == ""
        found = [word for word in done.stdout.splitlines() if "no-first" not in word]
        assert sorted(found) == sorted(expected), line


def test_every_command_completes():
    for name in COMMANDS:
        words = completion.words_of(name)
        assert "--help" in words.flags
        assert words.takes_runs is (
            name not in ("train", "list", "completion", "check-env", "pretrained", "sweep")
        )


def test_names_of_runs_that_ship():
    assert run_place("runs/x") == Path("runs/x")
    assert run_place("pretrained:promp") == shipped() / "halfcheetah-vel-agents" / "promp"
    assert run_place("pretrained:few-shot/sinusoid-maml").name == "sinusoid-maml"
    with pytest.raises(UserError, match="did you mean 'ml10-maml-trpo'"):
        run_place("pretrained:ml10-maml-trop")
    with pytest.raises(UserError, match="is no run that ships with metarl"):
        run_place("pretrained:../results")


def tar_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """Members of bytes are files; of text, links to it."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if isinstance(content, str) else 0o100644) << 16
            packed.writestr(info, content)
    return path


MADE = {"x.tar.gz": tar_of, "x.zip": zip_of}


@pytest.mark.parametrize("name", MADE)
def test_runs_that_were_sent(name: str, tmp_path: Path, capsys: Capture):
    run = shipped() / "few-shot" / "sinusoid-maml"
    members = [
        (f"mine/{path.relative_to(run)}", path.read_bytes())
        for path in (run / "config.yaml", *sorted((run / "checkpoints").rglob("*.*")))
    ]
    sent, out = MADE[name](tmp_path / name, *members), tmp_path / "out"
    assert "maml" in said(pretrained.main, f"--from {sent} --out {out}", capsys)
    assert (out / "mine" / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    assert str(out / "mine") in said(pretrained.main, f"--from {out}", capsys)
    with pytest.raises(UserError, match="is there already"):
        pretrained.main(["--from", str(sent), "--out", str(out)])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../x", b"")], "may lie outside"),
        ([("/tmp/x", b"")], "may lie outside"),
        ([("a/../../x", b"")], "may lie outside"),
        ([(".", b"")], "may lie outside"),
        ([("x", "/etc/passwd")], "a link or the like"),
        ([("x", b"0" * 3000)], "more than"),
        ([("x", b"0" * 900), ("y", b"0" * 900)], "more than"),
        ([("x", b"")] * 30, "more than 20 files|twice"),
        ([("a", b"1"), ("a", b"2")], "twice"),
    ],
)
def test_archives_that_are_refused(
    name: str, members: list, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 20)
    if len(members) > 20:
        members = [(f"{i}", b"") for i in range(30)]
    sent = MADE[name](tmp_path / name, *members)
    with pytest.raises(UserError, match=why):
        unpacked(sent, tmp_path / "out" / "here")
    assert list((tmp_path / "out").iterdir()) == []


def test_damaged_archives(tmp_path: Path):
    cut = tar_of(tmp_path / "cut.tar.gz", ("x", bytes(range(256)) * 200))
    cut.write_bytes(cut.read_bytes()[:-100])
    bomb = tmp_path / "bomb.tar.gz"  # a header of 100 MB, which would be read at once
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 100 << 20
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
    (tmp_path / "no.zip").write_bytes(b"no zip")
    (tmp_path / "no.tgz").write_bytes(b"no gzip")
    for name in ("cut.tar.gz", "bomb.tar.gz", "no.zip", "no.tgz"):
        with pytest.raises(UserError, match=r"cannot be unpacked|more than"):
            unpacked(tmp_path / name, tmp_path / "out" / "here")


def test_the_library_knows_runs_that_ship():
    import metarl

    found = metarl.results("pretrained:halfcheetah-vel-maml2017")
    assert found.training is not None


@pytest.mark.parametrize(
    ("command", "line", "placed"),
    [
        ("evaluate", "pretrained:promp", "PROMP --out evaluation-promp"),
        ("evaluate", "pretrained:promp --out x", "PROMP --out x"),
        ("evaluate", "--run-dir pretrained:promp", "--run-dir PROMP --out evaluation-promp"),
        ("evaluate", "--run-dir=pretrained:promp", "--run-dir=PROMP --out evaluation-promp"),
        ("evaluate", "runs/x --against pretrained:promp", "runs/x --against PROMP"),
        ("report", "pretrained:promp", "PROMP --out promp.html"),
        ("doctor", "runs/x pretrained:promp", "runs/x PROMP"),
        ("train", "point-goal --env pretrained_tasks:x", "point-goal --env pretrained_tasks:x"),
    ],
)
def test_runs_that_ship_are_named_in_commands(command: str, line: str, placed: str):
    place = str(run_place("pretrained:promp"))
    assert _placed(line.split(), COMMANDS[command]) == placed.replace("PROMP", place).split()


def test_runs_that_ship_are_not_continued():
    with pytest.raises(UserError, match="are only read"):
        _placed(["point-goal", "--run-dir", "pretrained:promp"], COMMANDS["train"])


def test_long_lists_of_names_are_cut_short():
    names = [f"name{i}" for i in range(40)]
    assert nearest("zzz", names) == (
        "; there are name0, name1, name2, name3, name4, ... (40 in all)"
    )
    assert nearest("zzz", names[:3]) == "; there are name0, name1, name2"


def test_a_folder_of_seeds_is_no_run_to_show(tmp_path):
    for seed in (2, 3):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(dump(preset("point-goal")))
    for read in (lambda: show.main([str(tmp_path)]), lambda: run_config(tmp_path)):
        with pytest.raises(UserError, match=r"holds runs of seeds; .* such as .*seed2"):
            read()
