"""Evaluations by name: what is there is kept or refused, whenever a process is killed."""

import json
import os

import numpy as np
import pytest
from file_events import at_file_event, count_events

from metarl.errors import UserError
from metarl.runs import evaluations, publish
from metarl.runs.adaptation import Adaptation, Outcome, as_csv, as_json, read_json
from metarl.runs.directory import RunDirectory, check, create


def settings(seed: int, weights: str = "a") -> dict:
    return {"seed": seed, "steps": 1, "weights": {"maml": weights}}


def contents(seed: int, weights: str = "a") -> dict[str, bytes]:
    found = Adaptation(
        "point-goal", "maml", "test", (0, 1), (0, 10), ({"goal": [0.0, 1.0]},) * 2,
        Outcome(np.full((2, 2, 1), float(seed))), made_from={"settings": settings(seed, weights)},
    )  # fmt: skip
    return {"adaptation.json": as_json(found), "adaptation.csv": as_csv(found)}


def put(run: RunDirectory, name: str, seed: int, weights: str = "a") -> str:
    """Does as an evaluation does that ends with such numbers."""
    with publish.publishing(run):
        kept = evaluations.make_room(run, name, settings(seed, weights))
        publish.publish(run, name, contents(seed, weights))
    return kept


def seeds(run: RunDirectory) -> dict[str, int]:
    """Name of each evaluation -> its seed; all of its files are of it."""
    found = {}
    for name, files in evaluations.evaluations_of(run):
        adaptation = read_json(files.adaptation_json)
        assert files.adaptation_csv.read_bytes() == as_csv(adaptation)
        found[name] = adaptation.made_from["settings"]["seed"]
    return found


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return create(tmp_path / "run")


@pytest.mark.parametrize("name", ["test", "train", "own", "other"])
def test_one_without_a_name_is_kept_unless_it_is_the_same(run, name):
    assert put(run, name, 1) == ""
    assert put(run, name, 1) == ""
    assert put(run, name, 2) == "earlier-1"
    assert put(run, name, 2, weights="b") == "earlier-2"
    assert seeds(run) == {name: 2, "earlier-1": 1, "earlier-2": 2}
    check(run)


def test_a_name_is_for_one_evaluation(run):
    put(run, "mine", 1)
    put(run, "mine", 1)
    for asked in ((2, "a"), (1, "b")):
        with pytest.raises(UserError, match=r"mine holds another evaluation: .*asked for") as no:
            put(run, "mine", *asked)
        assert "rm -r" in str(no.value)
    evaluations.check_free(run, "mine", {"seed": 1, "steps": 1}, "weights")
    assert seeds(run) == {"mine": 1}
    run.evaluation_of("mine").adaptation_json.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        put(run, "mine", 1)


def test_what_cannot_be_read_and_what_has_no_numbers_is_kept_too(run):
    run.evaluation.adaptation_json.write_bytes(b"{")
    assert put(run, "test", 1) == "earlier-1"
    assert (run.evaluation.root / "earlier-1" / "adaptation.json").read_bytes() == b"{"
    run.evaluation.adaptation_json.unlink()
    assert put(run, "test", 1) == "earlier-2"
    assert (run.evaluation.root / "earlier-2" / "adaptation.csv").exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".x", "a/b", "a b", "a.json", "-x", "x" * 65, "é", "train", "TEST", "own",
     "other", "earlier-1", "Earlier-x", "a\n"],
)  # fmt: skip
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="--name") as refused:
        evaluations.check_name(name)
    assert str(refused.value).count("\n") == 1


def test_the_order_and_what_is_none(run, tmp_path):
    for name in ("earlier-10", "zeta", "own", "test", "earlier-2", "Alpha"):
        with publish.publishing(run):
            publish.publish(run, name, contents(1))
    root = run.evaluation.root
    (root / "plots").mkdir()
    (root / "linked").symlink_to(root / "zeta")
    (root / "of another run").mkdir()
    for folder in ("other-out", "no name"):
        (root / folder).mkdir()
        (root / folder / "adaptation.json").write_bytes(contents(1)["adaptation.json"])
    (root / "other-out" / "run.json").write_text("{}")
    assert list(seeds(run)) == ["test", "own", "Alpha", "zeta", "earlier-2", "earlier-10"]


def test_a_link_out_of_the_run_is_refused(run, tmp_path):
    put(run, "mine", 1)
    json_file = run.evaluation_of("mine").adaptation_json
    json_file.unlink()
    json_file.symlink_to("/etc/hostname")
    with pytest.raises(UserError, match="outside of the folder"):
        check(run)


@pytest.mark.slow
def test_a_kill_at_every_event_loses_nothing(tmp_path):
    """Of the old one and the new one: the old stands, is kept, or both; each is whole."""
    make = lambda at: create(tmp_path / str(at))  # noqa: E731
    first = make(0)
    put(first, "test", 1)
    with count_events() as events:
        put(first, "test", 2)
    seen = set()
    for number in range(1, len(events) + 1):
        run = make(number)
        put(run, "test", 1)
        child = os.fork()
        if child == 0:
            with at_file_event(number, lambda: os._exit(9)):
                put(run, "test", 2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        publish.finish(run)
        there = tuple(sorted(seeds(run).items()))
        seen.add(there)
        put(run, "test", 2)
        assert seeds(run) == {"test": 2, "earlier-1": 1}
        assert [path.name for path in run.evaluation.root.glob(".*")] == []
    assert seen == {
        (("test", 1),),
        (("earlier-1", 1), ("test", 1)),
        (("earlier-1", 1), ("test", 2)),
    }


def test_a_full_disk_keeps_the_old_one(run, monkeypatch):
    put(run, "test", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        put(run, "test", 2)
    assert seeds(run) == {"test": 1}


def test_hidden_folders_of_others_stay(run):
    """A folder elsewhere may hold anything, as with --out."""
    for name in (".git.new", ".x.complete", ".evaluation-a b.new"):
        (run.evaluation.root / name).mkdir()
    put(run, "test", 1)
    assert len(list(run.evaluation.root.glob(".*"))) == 3


def test_one_task_has_no_interval_and_json_says_null():
    found = Adaptation("x", "maml", "own", (0,), (0,), ({"a": 1.0},), Outcome(np.ones((1, 1, 3))))
    summary = json.loads(as_json(found))["summary"]
    assert summary == {"mean": [1.0], "stderr": [None], "iqm": [1.0], "ci95": [[None, None]]}


@pytest.mark.parametrize(
    ("key", "value"), [("learned", 3), ("learned", "x" * 9999), ("remarks", "x"), ("remarks", [3])]
)
def test_a_damaged_mark_of_other_tasks_is_refused(run, key, value):
    document = json.loads(contents(1)["adaptation.json"])
    document["made_from"][key] = value
    run.evaluation.adaptation_json.write_text(json.dumps(document))
    with pytest.raises(UserError, match=key):
        read_json(run.evaluation.adaptation_json)
