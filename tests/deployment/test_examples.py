"""Few-shot learners outside of training: the predictions of evaluation, from raw data."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from catalogue_rows import every_rule
from PIL import Image
from saved_runs import saved_examples
from sklearn.datasets import load_digits

import metarl
from metarl.config.options import EvaluateFewShotOptions
from metarl.config.settings import FewShotEnvConfig
from metarl.deployment import examples, folder
from metarl.envs import catalogue as envs
from metarl.experiments.assembly import run_config
from metarl.runs import inputs
from metarl.runs.directory import RunDirectory
from metarl.sources.examples import HeldOutExamples, adapted

QUICK = {"maml", "protonet", "lslr"}
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in every_rule("examples")
]
CPU = torch.device("cpu")
DIGITS = FewShotEnvConfig("digits", shots=2, queries=3, ways=3)
WORDS = ("five", "six", "seven")


def held(run, tasks: Any = None):
    config: Any = run_config(run)
    options = EvaluateFewShotOptions(run_dir=run, tasks=2, steps=2)
    return HeldOutExamples(tasks or envs.configured(config.env), config, options, CPU)


def refused(said: str, call, *args, **kwargs):
    with pytest.raises(metarl.UserError, match=said) as raised:
        call(*args, **kwargs)
    assert len(str(raised.value).splitlines()) <= 3


@pytest.mark.parametrize("env", ["digits", "sinusoid"])
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_evaluation(name, env, tmp_path):
    """On held-out tasks that `metarl evaluate` draws; and after saving and loading, to the bit."""
    if (name, env) == ("protonet", "sinusoid"):
        pytest.skip("prototypes tell classes apart")
    settings = DIGITS if env == "digits" else FewShotEnvConfig(env, shots=4, queries=3)
    run = saved_examples(tmp_path / "run", name, settings)
    learner, classes = metarl.load(run), env == "digits"
    [(support, query)] = held(run).parts
    states = adapted(learner.agent, support, 2)
    expected = learner.agent.predict(states[-1], query.inputs)
    for k in range(2):
        found = learner.adapt(support.inputs[k], support.targets[k], steps=2)
        loaded = metarl.load_policy(found.save(tmp_path / str(k)))
        for one in (found, loaded):
            if classes:
                chances = one.predict(query.inputs[k], probabilities=True)
                np.testing.assert_allclose(chances, expected[k].double().softmax(-1), atol=1e-5)
                assert one.predict(query.inputs[k].numpy()) == expected[k].argmax(-1).tolist()
            else:
                values = one.predict(query.inputs[k])
                np.testing.assert_allclose(values, expected[k], rtol=1e-4, atol=1e-5)
        assert np.array_equal(found.predict(query.inputs[k]), loaded.predict(query.inputs[k]))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return metarl.load(saved_examples(tmp_path_factory.mktemp("digits") / "run", "maml", DIGITS))


def raw(number: int = 2):
    """Whole numbers 0 to 16, [M, 8, 8], and labels."""
    found: Any = load_digits()
    rows = [i for k in range(5, 8) for i in np.flatnonzero(found.target == k)[:number]]
    return found.images[rows].astype(np.uint8), [WORDS[found.target[i] - 5] for i in rows]


def test_raw_digits_become_what_training_saw(digits):
    images, _ = raw()
    tasks: Any = envs.configured(DIGITS)
    own = {x.tobytes() for x in tasks.inputs}
    found = examples.prepared(images, digits.inputs)
    assert all(x.numpy().tobytes() in own for x in found)
    assert torch.equal(examples.prepared(found, digits.inputs), found)
    assert torch.equal(examples.prepared(list(images[:, None]), digits.inputs), found)


def test_labels_are_anything_hashable(digits, tmp_path):
    images, words = raw()
    for labels in (words, [(w, 1) for w in words], [w[0] == "f" or w for w in words]):
        found = digits.adapt(images, labels)
        assert found.labels == tuple(dict.fromkeys(labels))
        assert set(found.predict(images)) <= set(labels)
        best = found.predict(images, probabilities=True).argmax(1)
        assert found.predict(images) == [found.labels[i] for i in best]
    assert digits.adapt(images, np.repeat([7, 3, 5], 2)).labels == (7, 3, 5)
    refused(r"label \('five', 1\) cannot be saved", digits.adapt(
        images, [(w, 1) for w in words]).save, tmp_path / "policy")  # fmt: skip


def test_numbers_have_the_shape_of_the_targets(tmp_path):
    run = saved_examples(tmp_path / "run", "anil", FewShotEnvConfig("sinusoid", shots=4))
    learner, x = metarl.load(run), np.linspace(-1, 1, 5)
    flat, column = learner.adapt(x, np.sin(x)), learner.adapt(x[:, None], np.sin(x)[:, None])
    assert flat.predict(x).shape == (5,)
    assert column.predict(x[:2]).shape == (2, 1)
    assert np.array_equal(flat.predict(x), column.predict(x)[:, 0])
    assert metarl.load_policy(flat.save(tmp_path / "flat")).predict(x).shape == (5,)
    refused("no probabilities", flat.predict, x, probabilities=True)
    refused("targets are float64 of shape", learner.adapt, x, np.sin(x)[1:])
    refused("target is not finite", learner.adapt, x, x * np.nan)


def test_images_need_neither_the_data_nor_their_size(tmp_path):
    """Files, whole images of another size and prepared ones give the same, as in training."""
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for place in ("images_background/a", "images_evaluation/b"):
        for character in "xyz":
            below = data / place / character
            below.mkdir(parents=True)
            for i in range(4):
                pixels = np.where(rng.random((9, 9)) < 0.3, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(below / f"{i}.png")
    env = FewShotEnvConfig("omniglot", 2, 2, ways=3, path=str(data), image_size=6)
    tasks: Any = envs.configured(env)
    run = saved_examples(tmp_path / "run", "maml", env, tasks)
    files = sorted((data / "images_evaluation/b").glob("*/*.png"))
    images, labels = (
        [np.asarray(Image.open(x, formats=["PNG"])) for x in files],
        [x.parent.name for x in files],
    )
    expected = tasks.inputs[12:].astype(np.float32) / 255
    again = metarl.load(run)
    shutil.move(data, tmp_path / "kept")
    learner = metarl.load(run)
    for given in (images, np.stack(images), [torch.from_numpy(x.copy()) for x in images]):
        assert np.array_equal(examples.prepared(given, learner.inputs), expected)
    kept = [tmp_path / "kept" / x.relative_to(data) for x in files]
    assert np.array_equal(examples.prepared(kept, learner.inputs), expected)
    colours = [np.stack([x] * 3, -1) for x in images]
    assert np.array_equal(examples.prepared(colours, learner.inputs), expected)
    assert learner.adapt(images, labels).predict(expected) == again.adapt(kept, labels).predict(
        images
    )
    assert len(learner.adapt(images, labels).predict(images[:1])) == 1
    (run / "inputs.json").unlink()
    refused("no folder|omniglot", metarl.load, run)


def test_what_is_refused(digits):
    images, words = raw()
    refused("no targets", digits.adapt, images)
    refused("steps is 0", digits.adapt, images, words, steps=0)
    refused("6 inputs and 5 targets", digits.adapt, images, words[:5])
    refused("2 classes.*tasks of 3\n.*ways 2", digits.adapt, images[:4], words[:4])
    refused("hashable", digits.adapt, images, [[w] for w in words])
    refused("from 0 to 16, and digits.*between 0 and 1\n", digits.adapt, images * 1.0, words)
    refused("whole numbers from 0 to 200", digits.adapt, images * 0 + (images > 3) * 200, words)
    refused(r"shape \(8, 7\)", digits.adapt, images[..., 1:], words)
    refused("not finite", digits.adapt, images * np.nan, words)
    refused("real numbers", digits.adapt, ["a"] * 6, words)
    found = digits.adapt(images, words)
    refused(r"inputs\[0\] has the shape \(8,\).*\ngive a list", found.predict, images[0])
    refused("at least one example", found.predict, [])


def test_damaged_learners_are_refused(digits, tmp_path):
    images, words = raw()
    path = digits.adapt(images, words).save(tmp_path / "learner")
    document = json.loads((path / folder.DOCUMENT).read_text())
    agent = document["agent"]
    for change in (
        {"labels": ["a"]},
        {"labels": [["a"], "b", "c"]},
        {"agent": {**agent, "name": "my_module:agent"}},
        {"agent": {**agent, "network": {**agent["network"], "hidden": [9]}}},
        {"agent": 3},
        {"inputs": {**document["inputs"], "input_shape": [1, 9, 9]}},
        {"inputs": {**document["inputs"], "outputs": 10**9}},
        {"inputs": {}},
    ):
        text = json.dumps({**document, **change})
        (path / folder.DOCUMENT).write_text(text)
        digests = {name: folder._digest((path / name).read_bytes()) for name in folder.SIZES}
        (path / folder.MANIFEST).write_bytes(folder._manifest(digests))
        with pytest.raises(metarl.UserError, match=r"policy\.json"):
            metarl.load_policy(path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"name": 1}', '{"preprocessing": {"divisor": 0}}']
)
def test_a_damaged_record_of_inputs_is_refused(text, tmp_path):
    run = RunDirectory(tmp_path)
    run.inputs.write_text(text)
    refused("inputs.json", inputs.read, run)


def test_training_records_its_inputs(tmp_path):
    from metarl.commands import train

    size = "--iterations 1 --sampling.updates 1 --sampling.tasks 2 --env.shots 1 --env.queries 1"
    run = tmp_path / "run"
    train.main(["digits-maml", *size.split(), "--run-dir", str(run), "--device", "cpu"])
    found = inputs.read(RunDirectory(run))
    assert found == inputs.of(envs.configured(run_config(run).env))
    assert found
    assert found.preprocessing.divisor == 16
