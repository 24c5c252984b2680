"""Supervised tasks by name, and what every one of them must do."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import families
from metarl.envs.supervised.episodes import Episodes
from metarl.errors import UserError

K, SHOTS, QUERIES = 3, 2, 1


@pytest.fixture(params=families.names())
def tasks(request, tmp_path, monkeypatch):
    """Tasks of every name, on small data where it has none of its own."""
    monkeypatch.setattr("metarl.envs.supervised.images.VINYALS_TRAINED", 5)
    path = ""
    if request.param == "arrays":
        path = tmp_path / "data.npz"
        np.savez(path, inputs=np.arange(40.0)[:, None], labels=np.arange(40) % 10)
    elif request.param.startswith(("images", "omniglot")):
        path = tmp_path
        splits = {
            "images": ("train", "test"),
            "omniglot": ("images_background/A", "images_evaluation/B"),
        }
        for split in splits[request.param.partition(":")[0]]:
            for number in range(30):
                place = (
                    path / split / str(number % 5 + 10 * (split in ("test", "images_evaluation/B")))
                )
                place.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(256, size=(9, 9), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return families.build(FewShotEnvConfig(request.param, SHOTS, QUERIES, path=str(path)))


def test_examples_are_as_the_spec_says(tasks, rng):
    spec = tasks.spec
    assert spec.name in families.names()
    each = spec.outputs if spec.classes else 1
    for split in ("train", "test"):
        drawn = tasks.draw(tasks.sample(K, rng, split), SHOTS, QUERIES, rng)
        for (inputs, targets), count in zip(drawn, (SHOTS, QUERIES), strict=True):
            assert inputs.shape == (K, each * count, *spec.input_shape)
            assert inputs.dtype == torch.float32
            assert inputs.isfinite().all()
            if spec.classes:
                assert targets.shape == (K, each * count)
                assert targets.dtype == torch.int64
                assert targets.min() == 0
                assert targets.max() == spec.outputs - 1
            else:
                assert targets.shape == (K, count, spec.outputs)
                assert targets.dtype == torch.float32


def test_tasks_are_plain_data(tasks, rng):
    """JSON gives back the same task; a few characters describe it."""
    drawn = tasks.sample(K, rng, "test")
    back = json.loads(json.dumps(drawn))
    assert back == drawn
    one, other = (tasks.draw(x, 1, 1, np.random.default_rng(0)) for x in (drawn, back))
    assert torch.equal(one[0].inputs, other[0].inputs)
    assert all(0 < len(tasks.describe(task)) < 60 for task in drawn)


def test_a_split_must_be_one(tasks, rng):
    with pytest.raises(UserError, match="'validation' is no split"):
        tasks.sample(K, rng, "validation")


def test_names_are_known_without_torch():
    """For a command line's --help."""
    code = (
        "import sys; from metarl.envs.supervised import families; assert families.names(); "
        "assert not {'torch', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "sinus"}, "'sinus' is no distribution .*; did you mean 'sinusoid'"),
        ({"name": "polynomial:4"}, "'polynomial:4' is no .*; did you mean 'polynomial:[235]'"),
        ({"name": "digits:5"}, "'digits:5' is no .*; did you mean 'digits'"),
        (
            {"ways": 3},
            "env.ways is 3, and 'sinusoid' has no use for it; .* choose digits, glyphs, arr",
        ),
        ({"path": "x"}, "env.path is 'x', .* choose arrays, omniglot, images"),
        ({"rotations": "all"}, "env.rotations is .all., and 'sinusoid' has no use for it"),
        ({"name": "digits", "image_size": 9}, "env.image_size is 9, .* choose omniglot, images"),
        ({"name": "omniglot"}, "'omniglot' .*: say where, --env.path PATH"),
        ({"name": "digits", "shots": 170}, "class 8 has 174 examples, and a task takes 180"),
        ({"name": "digits", "ways": 6}, "the train split has 5 classes, and a task takes 6"),
    ],
)
def test_what_cannot_be_built_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        families.build(FewShotEnvConfig(**given))


def test_the_family_alone_is_its_first_variant(rng):
    tasks = families.build(FewShotEnvConfig("polynomial"))
    assert len(tasks.sample(1, rng)[0]["coefficients"]) == 3


def test_digits_can_be_turned(rng):
    tasks = families.build(FewShotEnvConfig("digits", ways=20, rotations="all"))
    assert isinstance(tasks, Episodes)
    named = {tuple(name) for name in tasks.sample(1, rng)[0]["classes"]}
    assert named == {(digit, turn) for digit in range(5) for turn in (0, 90, 180, 270)}
