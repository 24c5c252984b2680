"""What the doors rely on, for every learner of supervised tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import catalogue_few_shot as learners
from metarl.config.settings import (
    AdamConfig,
    DescentConfig,
    LearnedOptimizerConfig,
    MappingConfig,
    ReptileConfig,
    SgdConfig,
)
from metarl.config.settings_few_shot import FewShotEnvConfig, LearnerConfig, NetworkConfig
from metarl.device import torch_device
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.loop.few_shot import adaptation
from metarl.types import Examples, Params

CPU = torch.device("cpu")
TASKS, SHOTS, QUERIES, WAYS = 3, 4, 5, 3
NAMES = learners.names()
MLP = NetworkConfig(hidden=(8,))
KINDS = {
    "regression": (FewShotEnvConfig("sinusoid"), MLP),
    "classification": (FewShotEnvConfig("digits", ways=WAYS), MLP),
    "images": (
        FewShotEnvConfig("digits", ways=WAYS),
        NetworkConfig("conv", hidden=(4, 3), batch_norm=True),
    ),
}
DISTRIBUTIONS = {kind: families.build(env) for kind, (env, _) in KINDS.items()}
VARIANTS = {
    "lomaml-still": ("lomaml", LearnedOptimizerConfig(lr=0.01, learn_start=False), AdamConfig()),
    "maml-of-many-steps": ("maml", SgdConfig(lr=0.01, steps=7), AdamConfig()),
    "reptile-serial": (
        "reptile", DescentConfig(), ReptileConfig(lr=0.01, optimizer="adam", serial=True)
    ),
    "mapping-low-rank": ("mapping", MappingConfig("low-rank"), AdamConfig()),
}  # fmt: skip
"""Beside the catalogue's own."""
SUBJECTS = [
    *((n, kind) for kind in KINDS for n in NAMES if (n, kind) != ("protonet", "regression")),
    *((name, "regression") for name in VARIANTS),
]


class Subject:
    """A learner, and the tasks that it learns."""

    def __init__(self, name: str, kind: str):
        config = learners.default(name) if name in NAMES else LearnerConfig(*VARIANTS[name])
        self.config = replace(config, network=KINDS[kind][1])
        self.distribution = DISTRIBUTIONS[kind]
        self.spec = self.distribution.spec
        self.learner = self.built(0)

    def built(self, seed: int, device: torch.device = CPU):
        return learners.build(self.spec, self.config, np.random.default_rng(seed), device)

    def drawn(self, number: int) -> tuple[Examples, Examples]:
        """Support and query of some tasks."""
        rng = np.random.default_rng(number)
        return self.distribution.draw(self.distribution.sample(TASKS, rng), SHOTS, QUERIES, rng)

    def update(self, number: int, learner=None):
        return (learner or self.learner).meta_update(*self.drawn(number))

    def weights(self, learner=None) -> Params:
        state = (learner or self.learner).state_dict()
        return {name: x.clone() for name, x in state.items()}

    def predicted(self, support: Examples, inputs: torch.Tensor) -> torch.Tensor:
        """After three steps: the first of an Adam knows the signs of a gradient alone."""
        state = self.learner.begin()
        for _ in range(3):
            state = self.learner.adapt(state, support)
        return self.learner.predict(state, inputs)


@pytest.fixture(params=SUBJECTS, ids="-".join)
def subject(request):
    return Subject(*request.param)


@pytest.fixture
def trained(subject):
    """A mapping, and what transforms gradients, say little of their own before some updates."""
    for number in range(5):
        subject.update(number)
    return subject


def some(examples: Examples, rows) -> Examples:
    return Examples(*(x[rows] for x in examples))


def tensors(state) -> Iterator[torch.Tensor]:
    """Whatever lies within."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for inside in state.values() if isinstance(state, dict) else state:
            yield from tensors(inside)


def assert_same(one: Params, other: Params):
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x, other[name]), name


def test_only_a_meta_update_changes_a_learner(subject):
    """And what `state_dict` gave out before it stays as it was: a checkpoint may yet be made."""
    kept, before = subject.learner.state_dict(), subject.weights()
    support, query = subject.drawn(0)
    state = subject.learner.adapt(subject.learner.begin(), support)
    subject.learner.predict(subject.learner.adapt(state, support), query.inputs)
    assert_same(before, subject.weights())
    for number in range(2):
        metrics = subject.update(number)
        assert metrics["skipped"] == 0.0
        assert all(np.isfinite(value) for value in metrics.values())
    assert_same(before, kept)
    after = subject.weights()
    changed = any(not torch.equal(after[name], before[name]) for name in before)
    assert changed == (subject.config.name != "from-scratch")


def test_adaptation_is_a_function_of_what_it_is_given(trained):
    """The same support twice gives the same predictions, where gradients are off too, and leaves
    the state before as it was."""
    learner, (support, query) = trained.learner, trained.drawn(9)
    state = learner.adapt(learner.begin(), support)
    before = learner.predict(state, query.inputs)
    first, second = (learner.predict(learner.adapt(state, query), query.inputs) for _ in range(2))
    assert torch.equal(first, second)
    with torch.no_grad():
        assert torch.equal(learner.predict(learner.adapt(state, query), query.inputs), first)
    assert torch.equal(learner.predict(state, query.inputs), before)
    assert not torch.equal(before, first)
    assert not any(x.requires_grad for x in tensors([state, learner.adapt(state, query)]))
    outputs = trained.spec.outputs
    assert first.shape == before.shape == (*query.targets.shape[:2], outputs)
    assert learner.predict(learner.begin(), query.inputs).shape == first.shape


def test_tasks_do_not_touch_each_other(trained):
    """Another support of one task changes that task alone, and one alone is learned as beside
    others."""
    support, query = trained.drawn(9)
    other, _ = trained.drawn(10)
    mixed = Examples(*(x.clone() for x in support))
    for ours, theirs in zip(mixed, other, strict=True):
        ours[1] = theirs[1]
    one, two = (trained.predicted(given, query.inputs) for given in (support, mixed))
    assert not torch.allclose(one[1], two[1], atol=1e-4)
    for task in (0, 2):
        torch.testing.assert_close(one[task], two[task], rtol=0, atol=1e-6)
        rows = slice(task, task + 1)
        alone = trained.predicted(some(support, rows), query.inputs[rows])
        torch.testing.assert_close(alone[0], one[task], rtol=1e-4, atol=1e-5)


def test_the_order_of_examples_means_nothing(trained):
    """Nor that of those to predict."""
    support, query = trained.drawn(9)
    order = torch.randperm(support.inputs.shape[1], generator=torch.Generator().manual_seed(0))
    mixed = Examples(*(x[:, order] for x in support))
    expected = trained.predicted(support, query.inputs)
    found = trained.predicted(mixed, query.inputs.flip(1)).flip(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_adapts_as_long_as_is_asked(trained):
    """Longer than it trained, from the meta-parameters each time."""
    support, query = trained.drawn(9)
    steps = trained.learner.steps + 2
    longer, shorter = (
        adaptation(trained.learner, trained.spec, support, query, count) for count in (steps, 1)
    )
    assert longer.shape == (1 + trained.spec.classes, steps + 1, TASKS)
    assert longer.isfinite().all()
    assert torch.equal(longer[:, :2], shorter)


def test_a_resumed_run_is_the_same_to_the_bit(subject):
    subject.update(0)
    other = subject.built(5)
    other.load_state_dict(subject.weights())
    assert_same(subject.weights(), subject.weights(other))
    for number in (1, 2):
        assert subject.update(number) == subject.update(number, other)
    assert_same(subject.weights(), subject.weights(other))


def test_other_weights_are_refused(subject):
    weights = subject.weights()
    name = next(iter(weights))
    for wrong in ({**weights, "more": torch.zeros(1)}, {name: torch.zeros(99)}):
        with pytest.raises(ValueError, match="these weights"):
            subject.learner.load_state_dict(wrong)
    assert_same(weights, subject.weights())


@pytest.mark.parametrize("place", ["support", "query"])
def test_what_is_not_finite_leaves_everything_as_it_is(subject, place):
    """The moments too: the next update is that of a learner who never met it."""
    if subject.config.name == "from-scratch":
        pytest.skip("it learns nothing that could be spoilt")
    subject.update(0)
    other, before = subject.built(0), subject.weights()
    other.load_state_dict(before)
    support, query = subject.drawn(1)
    (support if place == "support" else query).inputs[0, 0] = torch.inf
    assert subject.learner.meta_update(support, query)["skipped"] == 1.0
    assert_same(before, subject.weights())
    subject.update(2)
    subject.update(2, other)
    assert_same(subject.weights(other), subject.weights())


def test_prototypes_of_numbers_are_refused():
    with pytest.raises(UserError, match=r"'protonet' tells classes apart.*sinusoid are numbers"):
        Subject("protonet", "regression")


REFUSED = {
    "maml": {"estimator": "dice"},
    "anil": {"moved": "context"},
    "meta-sgd": {"steps": 0},
    "mapping": {"steps": 2},
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_without_effect_are_refused(name):
    config = learners.default(name)
    inner = replace(config.inner, **REFUSED[name])
    spec = DISTRIBUTIONS["regression"].spec
    said = rf"'{name}' makes no use of agent\.inner\.{next(iter(REFUSED[name]))}: .*\n  leave it"
    with pytest.raises(UserError, match=said):
        learners.build(spec, replace(config, inner=inner), np.random.default_rng(0), CPU)


def test_an_unknown_learner_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'protonets' is no learner .* did you mean 'protonet'"):
        learners.default("protonets")


def test_the_readmes_table_has_every_learner():
    lines = learners.table().splitlines()
    assert len(lines) == 2 + len(NAMES)
    for name, line in zip(NAMES, lines[2:], strict=True):
        assert line.startswith(f"| `{name}` | ")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_each_runs_on_a_gpu(subject):
    """And saves weights that a processor takes back."""
    device = torch_device("cuda")
    learner = subject.built(0, device)
    support, query = (Examples(*(x.to(device) for x in part)) for part in subject.drawn(0))
    curve = adaptation(learner, subject.spec, support, query, steps=2)
    expected = adaptation(subject.learner, subject.spec, *subject.drawn(0), steps=2)
    torch.testing.assert_close(curve.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert learner.meta_update(support, query)["skipped"] == 0.0
    assert all(x.device.type == device.type for x in learner.state_dict().values())
    subject.learner.load_state_dict(learner.state_dict())
