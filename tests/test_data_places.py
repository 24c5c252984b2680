"""Data of a user's own that lie elsewhere now: the same contents go on, others are refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from whole_runs import instead, rows, tree, weights

from metarl.commands import evaluate, report, train
from metarl.config.settings import FewShotConfig, FewShotEnvConfig
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.data import data_of
from metarl.experiments.presets import preset
from metarl.runs import data
from metarl.runs.adaptation import read_json

SMALL = [
    "digits-protonet", "--env.ways", "2", "--env.shots", "1", "--env.queries", "1",
    "--agent.network.kind", "mlp", "--agent.network.hidden", "4",
    "--agent.network.no-batch-norm", "--sampling.tasks", "2", "--sampling.updates", "1",
    "--checkpoint-every", "1", "--device", "cpu",
]  # fmt: skip
PLACES = {"arrays": "data/mine.npz", "images": "data/pictures", "omniglot": "data/alphabets"}
LAYOUT = {
    "images": ("train/ape", "train/bee", "test/cat", "test/dog"),
    "omniglot": tuple(
        f"{split}/Latin/{name}"
        for split in ("images_background", "images_evaluation")
        for name in (f"{split}-a", f"{split}-b")
    ),
}


def make_data(kind: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    if kind == "arrays":
        labels = np.arange(6).repeat(3)
        np.savez(place, inputs=rng.normal(size=(18, 3)), labels=labels)
        return
    for folder in LAYOUT[kind]:
        (place / folder).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 255, (4, 4)).astype(np.uint8)
            Image.fromarray(pixels).save(place / folder / f"{number}.png")


def command(kind: str, *flags: str) -> list[str]:
    argv = [*SMALL, "--env", kind, "--env.path", PLACES[kind], "--iterations", "1"]
    argv += [] if kind == "arrays" else ["--env.image-size", "4"]
    return instead(argv, *flags)


@pytest.fixture(params=PLACES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def project(kind, tmp_path, monkeypatch) -> Path:
    """A folder with data and a run of one iteration, as the working directory."""
    folder = tmp_path / "project"
    make_data(kind, folder / PLACES[kind])
    monkeypatch.chdir(folder)
    train.main(command(kind, "--run-dir", "runs/a"))
    return folder


def recorded(run: str | Path) -> dict:
    return json.loads((Path(run) / "data.json").read_text())


def test_a_run_goes_on_with_its_data_elsewhere(project, kind, tmp_path):
    """To the same weights; the new place is recorded, and found without its name."""
    train.main(command(kind, "--run-dir", "runs/whole", "--iterations", "2"))
    new = tmp_path / "elsewhere" / Path(PLACES[kind]).name
    new.parent.mkdir()
    shutil.move(PLACES[kind], new)
    os.utime(new, (1, 1))
    hashed = recorded("runs/a")["sha256"]
    train.main(command(kind, "--run-dir", "runs/a", "--iterations", "2", "--env.path", str(new)))
    assert weights(Path("runs/a"), 2) == weights(Path("runs/whole"), 2)
    assert recorded("runs/a")["sha256"] == hashed
    assert recorded("runs/a")["places"][0] == str(new)
    assert run_config(Path("runs/a")).env.path == str(new)  # pyright: ignore
    train.main(["--config", "runs/a/config.yaml", "--iterations", "3"])
    assert len(rows(Path("runs/a"))) == 3


def test_a_done_run_records_a_new_place_too(project, kind):
    shutil.move(PLACES[kind], "moved")
    train.main(command(kind, "--run-dir", "runs/a", "--env.path", "moved"))
    assert recorded("runs/a")["places"][0] == str(project / "moved")
    assert len(rows(Path("runs/a"))) == 1
    train.main(["--config", "runs/a/config.yaml"])


def test_an_evaluation_finds_data_elsewhere(project, kind):
    argv = ["runs/a", "--tasks", "3", "--steps", "1"]
    evaluate.main(argv)
    usual = read_json(Path("runs/a/evaluation/adaptation.json")).outcome.values
    shutil.move(PLACES[kind], "moved")
    with pytest.raises(UserError) as gone:
        evaluate.main(argv)
    said = str(gone.value)
    assert f"there is no {'file' if kind == 'arrays' else 'folder'} {PLACES[kind]}" in said
    assert "--env.path PATH says where" in said
    assert f"relative paths begin in {project}" in said
    before = tree(Path("runs/a"))
    evaluate.main([*argv, "--env.path", "moved", "--out", "results"])
    assert tree(Path("runs/a")) == before
    evaluate.main([*argv, "--env.path", "moved"])
    found = read_json(Path("runs/a/evaluation/adaptation.json")).outcome.values
    assert np.array_equal(found, usual)
    assert recorded("runs/a")["places"][0] == str(project / "moved")
    evaluate.main(argv)  # the place is known now


SPOILT = [
    ("arrays", "a number"),
    *((kind, how) for kind in LAYOUT for how in ("a number", "a name", "one more")),
]


def spoil(kind: str, how: str, place: Path) -> None:
    """Makes other data of those at a place."""
    first = place if kind == "arrays" else sorted(place.rglob("*.png"))[0]
    if kind == "arrays":
        found = dict(np.load(first, allow_pickle=False))
        np.savez(first, **{**found, "inputs": found["inputs"] + 1})
    elif how == "a number":
        Image.fromarray(255 - np.asarray(Image.open(first, formats=["PNG"]))).save(first)
    elif how == "a name":
        first.rename(first.with_name("9.png"))
    else:
        shutil.copy(first, first.with_name("8.png"))


@pytest.mark.parametrize(("kind", "how"), SPOILT, indirect=["kind"])
@pytest.mark.parametrize("place", ["data", "other"])
def test_other_contents_are_refused_and_nothing_is_written(project, kind, how, place):
    """Also where they are at the same place; with both places, both hashes and the remedy."""
    if place == "other":
        shutil.copytree("data", "other")
    there = Path(place, Path(PLACES[kind]).name)
    spoil(kind, how, there)
    before, old = tree(project), recorded("runs/a")
    flags = [] if place == "data" else ["--env.path", str(there)]
    for door, argv in (
        (train.main, command(kind, "--run-dir", "runs/a", "--iterations", "2", *flags)),
        (train.main, ["--config", "runs/a/config.yaml", "--iterations", "2", *flags]),
        (evaluate.main, ["runs/a", "--tasks", "2", "--out", "results", *flags]),
        (evaluate.main, ["runs/a", "--tasks", "2", *flags]),
    ):
        with pytest.raises(UserError) as refused:
            door(argv)
        said = str(refused.value)
        assert f"learned from other data: {old['places'][0]} (SHA-256 {old['sha256'][:16]}" in said
        assert f"the data given are {project / there} (SHA-256 " in said
        assert "--env.path" in said
        assert len(said.splitlines()) <= 3
        assert tree(project) == before


def test_data_are_found_from_another_folder_and_after_a_move_of_the_project(
    project, kind, tmp_path, monkeypatch
):
    moved = tmp_path / "moved"
    project.rename(moved)
    monkeypatch.chdir(tmp_path)
    train.main(["--config", "moved/runs/a/config.yaml", "--iterations", "2"])
    assert len(rows(moved / "runs" / "a")) == 2
    assert not (tmp_path / "runs").exists()
    assert recorded(moved / "runs" / "a")["places"][0] == str(moved / PLACES[kind])


@pytest.mark.parametrize("kind", ["arrays", "images"], indirect=True)
def test_a_run_without_a_hash_goes_on(project, kind, recwarn):
    """As earlier ones: compared with what lies at the old place, as long as it does."""
    Path("runs/a/data.json").unlink()
    shutil.copytree("data", "other")
    same = Path("other", Path(PLACES[kind]).name)
    evaluate.main(["runs/a", "--tasks", "2", "--env.path", str(same)])
    assert not Path("runs/a/data.json").exists()  # nobody knows what it began with
    spoil(kind, "a number", same)
    more = command(kind, "--run-dir", "runs/a", "--iterations", "2", "--env.path", str(same))
    with pytest.raises(UserError, match="learned from other data"):
        train.main(more)
    assert not [each for each in recwarn if "hash" in str(each.message)]
    shutil.copytree("runs/a", "runs/b")
    train.main(["--config", "runs/b/config.yaml", "--iterations", "2"])  # at the old place
    assert recorded("runs/b")["places"] == [str(project / PLACES[kind])]
    shutil.rmtree("data")
    with pytest.warns(UserWarning, match=r"no hash of its data, and .* is gone"):
        train.main(more)
    assert recorded("runs/a")["places"] == [str(project / same)]


def test_runs_are_compared_by_the_contents_of_their_data(project, kind):
    shutil.copytree("data", "copy")
    copy = Path("copy", Path(PLACES[kind]).name)
    train.main(command(kind, "--run-dir", "runs/same", "--env.path", str(copy)))
    spoil(kind, "a number", copy)
    argv = ["runs/a", "--tasks", "2", "--against", "runs/same"]
    evaluate.main(argv)  # its own data are gone, and it knows which they were
    assert set(read_json(Path("runs/a/evaluation/adaptation.json")).others) == {"same"}
    train.main(command(kind, "--run-dir", "runs/other", "--env.path", str(copy)))
    with pytest.raises(UserError, match=r"other learned from other data: .*\nthis run learned"):
        evaluate.main([*argv[:-1], "runs/other"])
    Path("runs/other/data.json").unlink()
    with pytest.raises(UserError, match="other learned from other data"):
        evaluate.main([*argv[:-1], "runs/other"])
    shutil.rmtree("copy")
    with pytest.raises(UserError, match="other: there is no f"):
        evaluate.main([*argv[:-1], "runs/other"])


def test_the_hash_is_that_of_sha256sum(tmp_path):
    """Hashes a file, or the sorted list of a folder's images; other files do not count."""
    for kind, place in PLACES.items():
        make_data(kind, tmp_path / place)
    known = {}
    for kind, place in PLACES.items():
        found = data_of(config_of(kind, tmp_path / place))
        assert found is not None
        known[kind] = found.sha256
    content = (tmp_path / PLACES["arrays"]).read_bytes()
    assert known["arrays"] == hashlib.sha256(content).hexdigest()
    root = tmp_path / PLACES["images"]
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{hashlib.sha256((root / x).read_bytes()).hexdigest()}  {x}\n" for x in names]
    assert len(names) == 8
    assert known["images"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    (root / "train/ape/.DS_Store").write_text("x")
    (root / "notes.txt").write_text("x")
    again = data_of(config_of("images", root))
    assert again is not None
    assert again.sha256 == known["images"]


def config_of(kind: str, path: Path) -> FewShotConfig:
    config = preset("digits-protonet")
    assert isinstance(config, FewShotConfig)
    return FewShotConfig(env=FewShotEnvConfig(kind, path=str(path)), agent=config.agent)


def test_tasks_that_ship_with_metarl_have_no_data(tmp_path):
    sinusoid = preset("sinusoid-maml")
    assert isinstance(sinusoid, FewShotConfig)
    assert data_of(sinusoid) is None
    assert families.files(FewShotEnvConfig("digits", path="x")) == {}
    for line in ("sinusoid-maml --env.path x", "digits-maml --env.path x"):
        with pytest.raises(UserError, match=r"env.path is 'x', and '\w+' has no use for it"):
            train.main([*line.split(), "--run-dir", str(tmp_path / "x")])


@pytest.mark.parametrize("kind", ["arrays"], indirect=True)
def test_a_place_of_data_that_a_run_does_not_have_is_refused(project, kind):
    train.main(["sinusoid-maml", "--iterations", "1", "--sampling.updates", "1", "--run-dir", "s"])
    assert not Path("s/data.json").exists()
    with pytest.raises(UserError, match="'sinusoid' has no use for it"):
        evaluate.main(["s", "--env.path", PLACES[kind]])


@pytest.mark.parametrize("kind", ["images"], indirect=True)
def test_long_hashing_says_how_far_it_is_and_happens_once(project, kind, monkeypatch, capsys):
    monkeypatch.setattr(data, "SECONDS", -1.0)
    train.main(["--config", "runs/a/config.yaml", "--iterations", "2"])
    said = capsys.readouterr().err
    assert said.count("images: hashing the data, 0 of 0 MB") == 8  # once for each small image


@pytest.mark.parametrize("kind", ["images"], indirect=True)
def test_the_report_says_which_data(project, kind):
    report.main(["runs/a"])
    page = Path("runs/a/report.html").read_text()
    assert recorded("runs/a")["sha256"] in page
    assert str(recorded("runs/a")["places"][0]) in page


@pytest.mark.parametrize("kind", ["arrays"], indirect=True)
@pytest.mark.parametrize("text", ["{", '{"sha256": "1", "places": [], "from_run": "x"}', "[]"])
def test_a_damaged_record_is_named(project, kind, text):
    Path("runs/a/data.json").write_text(text)
    with pytest.raises(UserError, match=r"runs/a/data\.json is no record .*\nremove it to go on"):
        evaluate.main(["runs/a"])


@pytest.mark.parametrize("kind", ["arrays"], indirect=True)
def test_a_run_without_weights_may_begin_with_other_data(project, kind):
    shutil.rmtree("runs/a/checkpoints")
    spoil(kind, "a number", Path(PLACES[kind]))
    before = recorded("runs/a")["sha256"]
    train.main(command(kind, "--run-dir", "runs/a"))
    assert recorded("runs/a")["sha256"] != before
    assert len(recorded("runs/a")["places"]) == 1
