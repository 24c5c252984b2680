"""Checkpoints: whole or not there, proven when read, the last two and the best kept."""

import hashlib
import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch

from metarl.errors import UserError
from metarl.runs import checkpoint
from metarl.runs.checkpoint import CheckpointWarning, CorruptCheckpointError
from metarl.runs.checkpoint_files import STATE, TENSORS


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 2), value), "bias": torch.arange(3.0)}


def save(folder: Path, *iterations: int, score: float = 0.0) -> None:
    for iteration in iterations:
        checkpoint.save(folder, iteration, tensors(iteration), {"env_steps": iteration}, score)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path):
    table = torch.arange(12.0).reshape(3, 4)
    before = {
        "bfloat16": torch.randn(3, 5).bfloat16(),
        "float64": torch.tensor([1e-300, -0.0, math.pi], dtype=torch.float64),
        "int64": torch.tensor(2**62),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 7),
        "not finite": torch.tensor([math.nan, math.inf, -math.inf]),
        "transposed": table.T,
        "shared": table[1],
        "with gradient": torch.randn(2, requires_grad=True),
    }
    state = {"env_steps": 10**12, "third": 1 / 3, "minus zero": -0.0, "text": "é", "none": None}
    path = checkpoint.save(tmp_path, 7, before, state, score=-3.5)
    after = checkpoint.load(path)

    assert path.name == "000007"
    assert (after.iteration, after.state, after.path) == (7, state, path)
    assert json.loads((path / "state.json").read_text())["score"] == -3.5
    assert math.copysign(1, after.state["minus zero"]) == -1
    assert after.tensors.keys() == before.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(
            after.tensors[name], tensor.detach(), rtol=0, atol=0, equal_nan=True
        )
    after.tensors["float64"] += 1  # writable


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, 3)
    for file in ("agent.safetensors", "state.json", "manifest.json"):
        contents = [(tmp_path / name / "000003" / file).read_bytes() for name in ("a", "b")]
        assert contents[0] == contents[1]


def test_loads_onto_a_device(tmp_path):
    save(tmp_path, 1)
    loaded = checkpoint.load_latest(tmp_path, torch.device("meta"))
    assert loaded
    assert loaded.tensors["weight"].device.type == "meta"


def test_nothing_saved_yet(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "missing") is None
    assert checkpoint.best(tmp_path) is None


@pytest.mark.parametrize(
    ("scores", "kept", "best"),
    [
        ([1, 9, 2, 3], [2, 3, 4], 2),
        ([1, 2, 3, 4], [3, 4], 4),
        ([5, 5, 5, 5], [3, 4], 4),
        ([-1.0, -0.0, math.nan, -7], [2, 3, 4], 2),
        ([-9, math.inf, math.nan, math.nan], [1, 3, 4], 1),
        ([math.nan] * 4, [3, 4], 4),
    ],
)
def test_keeps_the_last_two_and_the_best(tmp_path, scores, kept, best):
    for iteration, score in enumerate(scores, start=1):
        save(tmp_path, iteration, score=score)
    assert [int(name) for name in names(tmp_path)] == kept
    found = checkpoint.best(tmp_path)
    assert found
    assert found.iteration == best


def test_a_score_that_is_not_finite_is_saved_as_null(tmp_path):
    save(tmp_path, 1, score=math.inf)
    assert checkpoint.load_latest(tmp_path)
    assert json.loads((tmp_path / "000001/state.json").read_text())["score"] is None


def test_a_later_checkpoint_of_an_abandoned_future_goes(tmp_path):
    save(tmp_path, 50, 75, 100)
    save(tmp_path, 80)
    assert names(tmp_path) == ["000075", "000080"]


def test_saving_an_iteration_again_replaces_it(tmp_path):
    save(tmp_path, 1, 2)
    checkpoint.save(tmp_path, 2, tensors(99.0), {}, 0.0)
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded
    assert loaded.tensors["weight"][0, 0] == 99.0
    assert names(tmp_path) == ["000001", "000002"]


def test_a_replacement_that_was_cut_short_is_undone(tmp_path):
    """Killed when the old one is aside and the new one has not its name yet."""
    save(tmp_path, 1)
    (tmp_path / "000001").rename(tmp_path / ".000001.old")
    (tmp_path / ".000001.new").mkdir()
    checkpoint.clean(tmp_path)
    assert names(tmp_path) == ["000001"]
    assert checkpoint.load(tmp_path / "000001").iteration == 1


def corrupt_tensors(path: Path) -> None:
    file = path / "agent.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


CORRUPTIONS = {
    "a bit of the tensors": corrupt_tensors,
    "tensors cut short": lambda p: (p / "agent.safetensors").write_bytes(b""),
    "no tensors": lambda p: (p / "agent.safetensors").unlink(),
    "another state": lambda p: (p / "state.json").write_text("{}"),
    "no manifest": lambda p: (p / "manifest.json").unlink(),
    "half a manifest": lambda p: (p / "manifest.json").write_text('{"format": 1, "sha'),
    "a manifest of nothing": lambda p: (p / "manifest.json").write_text("[]"),
    "a manifest not of text": lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_passes_over_a_corrupt_checkpoint(tmp_path, corruption):
    save(tmp_path, 1, 2)
    CORRUPTIONS[corruption](tmp_path / "000002")
    with pytest.warns(CheckpointWarning, match="000002"):
        loaded = checkpoint.load_latest(tmp_path)
    assert loaded
    assert loaded.iteration == 1
    assert loaded.tensors["weight"][0, 0] == 1.0


def test_a_corrupt_file_is_named_with_both_digests(tmp_path):
    save(tmp_path, 1)
    expected = json.loads((tmp_path / "000001/manifest.json").read_text())["sha256"]["state.json"]
    (tmp_path / "000001/state.json").write_bytes(b"{}")
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of b"{}"
    with pytest.raises(CorruptCheckpointError) as error:
        checkpoint.load(tmp_path / "000001")
    assert all(part in str(error.value) for part in ("000001/state.json", expected, empty))


def test_all_corrupt_is_an_error(tmp_path):
    save(tmp_path, 1, 2)
    for path in checkpoint.saved(tmp_path):
        corrupt_tensors(path)
    with pytest.warns(CheckpointWarning), pytest.raises(UserError, match="every checkpoint"):
        checkpoint.load_latest(tmp_path)


def test_another_format_is_passed_over_and_stays(tmp_path):
    """Another metarl may read it; a checkpoint that is saved removes only what is intact."""
    save(tmp_path, 1, 2)
    manifest = tmp_path / "000002/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.warns(CheckpointWarning, match="has format 2 and this metarl reads 1"):
        found = checkpoint.load_latest(tmp_path)
    assert found
    assert found.iteration == 1
    save(tmp_path, 3, 4, 5)
    assert names(tmp_path) == ["000002", "000004", "000005"]
    with pytest.warns(CheckpointWarning), pytest.raises(UserError, match="has format 2"):
        checkpoint.load_latest(only(tmp_path, "000002"))


def newest(folder: Path) -> int:
    found = checkpoint.load_latest(folder)
    return found.iteration if found else 0


def only(folder: Path, name: str) -> Path:
    """Removes the other checkpoints of a folder."""
    for path in checkpoint.saved(folder):
        if path.name != name:
            shutil.rmtree(path)
    return folder


def test_any_byte_of_any_file_and_any_cut_is_detected(tmp_path):
    """The checkpoint before is used."""
    rng = random.Random(0)
    for iteration in (1, 2):
        one = {"w": torch.full((2,), float(iteration))}
        checkpoint.save(tmp_path, iteration, one, {"recent": [0.5]}, 0.5)
    tried = 0
    for file in sorted((tmp_path / "000002").iterdir()):
        content = file.read_bytes()
        flips = (
            content[:i] + bytes([content[i] ^ 1 << rng.randrange(8)]) + content[i + 1 :]
            for i in range(len(content))
        )
        cuts = (content[:i] for i in range(len(content)))
        for changed in (*flips, *cuts, content + b"\n", b" " + content):
            file.write_bytes(changed)
            with pytest.raises(CorruptCheckpointError):
                checkpoint.load(tmp_path / "000002")
            tried += 1
        with pytest.warns(CheckpointWarning, match="000002"):
            assert newest(tmp_path) == 1
        file.write_bytes(content)
    assert tried > 700
    assert newest(tmp_path) == 2


def test_scores_of_what_is_not_verified_decide_nothing(tmp_path):
    """A state.json that claims the best score displaces neither the best nor the last two."""
    for iteration, score in ((1, 5.0), (2, 1.0), (3, 1.0)):
        save(tmp_path, iteration, score=score)
    forged = tmp_path / "000002/state.json"
    forged.write_text(forged.read_text().replace('"score": 1.0', '"score": 99.0'))
    corrupt_tensors(tmp_path / "000003")
    save(tmp_path, 4, score=0.0)
    save(tmp_path, 5, score=0.0)
    assert names(tmp_path) == ["000001", "000002", "000003", "000004", "000005"]
    with pytest.warns(CheckpointWarning, match="000002"):
        found = checkpoint.best(tmp_path)
    assert found
    assert found.iteration == 1
    save(tmp_path, 6, score=0.0)
    assert names(tmp_path) == ["000001", "000002", "000003", "000005", "000006"]


def test_only_folders_that_are_named_by_their_iteration_are_checkpoints(tmp_path):
    save(tmp_path, 1)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    for name in ("²", "٣", "2", "0000002", "000000", "9" * 200):
        shutil.copytree(tmp_path / "000001", tmp_path / name)
    (tmp_path / "000007").write_text("a file")
    (tmp_path / "000008").symlink_to(tmp_path / "000001")
    (tmp_path / ".000009.new").symlink_to(outside)
    (tmp_path / ".000009.gone").write_text("a file")
    assert [path.name for path in checkpoint.saved(tmp_path)] == ["000001"]
    os.rename(tmp_path / "2", tmp_path / "000002")  # its manifest is of iteration 1
    with pytest.warns(CheckpointWarning, match="it is of iteration 1"):
        assert newest(tmp_path) == 1
    save(tmp_path, 7, 8, 9)
    assert [path.name for path in checkpoint.saved(tmp_path)][-2:] == ["000008", "000009"]
    assert outside.is_dir()


def forge(path: Path, state: bytes | None = None, tensors: bytes | None = None) -> None:
    """Puts anything into a checkpoint, with a manifest that fits."""
    for name, content in ((STATE, state), (TENSORS, tensors)):
        if content is not None:
            (path / name).write_bytes(content)
    digests = {x: hashlib.sha256((path / x).read_bytes()).hexdigest() for x in (TENSORS, STATE)}
    manifest = {"format": 1, "iteration": int(path.name), "sha256": digests}
    (path / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


FORGED = {
    b"[]": "no JSON object",
    b"{}": "has other keys",
    b'{"iteration": 1, "score": "a", "state": {}}': "score is 'a', no finite number",
    b'{"iteration": 1, "score": 1e999, "state": {}}': "score is inf, no finite number",
    b'{"iteration": 1, "score": true, "state": {}}': "score is True, no finite number",
    b'{"iteration": 1, "score": null, "state": []}': "has other keys",
    b'{"iteration": -5, "score": null, "state": {}}': "is of iteration -5, not 1",
    b'{"iteration": true, "score": null, "state": {}}': "is of iteration True, not 1",
    b'{"iteration": 1' + b"0" * 30 + b', "score": 1, "state": {}}': "is of iteration 1000",
    b'{"iteration": ' + b"9" * 5000 + b"}": "is not JSON",
    b'{"a": ' + b"[" * 5000: "is nested too deeply",
    b'{"a": [' + b"0," * 20_000 + b"0]}": "holds more than the 10,000 values",
}


@pytest.mark.parametrize("state", FORGED, ids=range(len(FORGED)))
def test_a_state_that_fits_its_digest_is_typed(tmp_path, state):
    save(tmp_path, 1)
    forge(tmp_path / "000001", state)
    with pytest.raises(CorruptCheckpointError, match=re.escape(FORGED[state])):
        checkpoint.load(tmp_path / "000001")


def header(text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


NO_TENSORS = {
    "empty": b"",
    "a length": b"\xff" * 8,
    "no JSON": header(b"xx"),
    "offsets": header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"\0" * 8),
    "type": header(b'{"a":{"dtype":"Q99","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8),
    "size": header(b'{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,8]}}'),
    "twice": header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b"\0" * 8,
    ),
    "a long header": header(b"{" + b" " * (1 << 20) + b"}"),
}


@pytest.mark.parametrize("tensors", NO_TENSORS)
def test_tensors_that_fit_their_digest_are_read_with_care(tmp_path, tensors):
    save(tmp_path, 1)
    forge(tmp_path / "000001", tensors=NO_TENSORS[tensors])
    with pytest.raises(CorruptCheckpointError, match=r"holds no tensors|has a header of"):
        checkpoint.load(tmp_path / "000001")


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    """An earlier checkpoint in its place would lose iterations."""

    def full(content):
        raise MemoryError

    for iteration in (1, 2):
        checkpoint.save(tmp_path, iteration, {"w": torch.zeros(1)}, {}, 0.0)
    monkeypatch.setattr(safetensors.torch, "load", full)
    with pytest.raises(MemoryError):
        checkpoint.load_latest(tmp_path)


def test_tensors_of_more_bytes_than_an_agent_has(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CorruptCheckpointError, match="more than the 100 bytes"):
        checkpoint.load(tmp_path / "000001", most=100)
    assert checkpoint.room(10**9) == 4 * 10**9


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["000001"]


KILLED_AT_EVERY_CALL = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from metarl.runs import checkpoint, files

torch.set_num_threads(1)

def save(folder, iteration):
    checkpoint.save(folder, iteration, {"w": torch.full((64,), float(iteration))}, {}, -iteration)

def killing(function):
    def call(*arguments, **named):
        global calls
        calls -= 1
        if calls == 0:
            if function is checkpoint.write_bytes_:
                arguments[0].write_bytes(arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

checkpoint.write_bytes_ = checkpoint.write_bytes
for point in range(1, 60):
    folder = Path(sys.argv[1]) / str(point)
    folder.mkdir()
    for iteration in (1, 2, 3, 4):
        save(folder, iteration)
    child = os.fork()
    if child == 0:
        calls = point
        checkpoint.write_bytes = killing(checkpoint.write_bytes)
        checkpoint.sync_folder = killing(checkpoint.sync_folder)
        os.rename, os.unlink, os.rmdir = map(killing, (os.rename, os.unlink, os.rmdir))
        save(folder, int(sys.argv[2]))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(point)
        sys.exit()
"""


@pytest.mark.parametrize("iteration", [5, 4], ids=["a new one", "one that is there"])
def test_kill_minus_9_at_every_point_of_a_save(tmp_path, iteration):
    """A checkpoint is whole after every point, and the next save leaves nothing behind."""
    command = [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path), str(iteration)]
    points = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert points > 8  # three files, two folders, renames, removals
    for point in range(1, points):
        folder = tmp_path / str(point)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing corrupt is ever seen
            found = checkpoint.load_latest(folder)
        assert found
        assert found.iteration in (iteration - 1, iteration)
        assert (found.tensors["w"] == found.iteration).all()
        for path in checkpoint.saved(folder):
            checkpoint.load(path)
        checkpoint.save(folder, 6, tensors(), {}, -6.0)
        assert names(folder)[-1] == "000006"
        assert not [n for n in names(folder) if n[0] == "."]
