"""Convolutions before an MLP: torch's, as patches, and in numpy give the same numbers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from metarl import UserError
from metarl.acting.units import Units
from metarl.config.settings import PolicyConfig
from metarl.config.torso import convolutions, width
from metarl.networks.as_numpy import acting_mlp
from metarl.networks.linearised import LinearisedMlp
from metarl.networks.mlp import MlpPolicy
from metarl.networks.torso import Patches
from metarl.networks.value import MlpValue
from metarl.types import EnvSpec

IMAGES = [(3, 7, 7), (1, 5, 9), (2, 13, 16), (1, 3, 3)]
MORE = 2
"""Numbers that follow the pixels."""


def spec_of(image: tuple[int, int, int] | None) -> EnvSpec:
    seen = Box(0.0, 1.0, (MORE + (prod(image) if image else 0),))
    return EnvSpec("pictures", seen, Discrete(3), 5, image=image)


def policy_of(image: tuple[int, int, int], **settings) -> MlpPolicy:
    settings = {"hidden": (6,), "channels": (4, 5), "activation": "tanh", **settings}
    return MlpPolicy(spec_of(image), PolicyConfig(**settings))


def drawn(policy: MlpPolicy, tasks: int = 0, dtype: torch.dtype = torch.float64) -> dict:
    """Random parameters, of each task where there are `tasks`."""
    generator = torch.Generator().manual_seed(0)
    lead = (tasks,) if tasks else ()
    return {
        name: 0.3 * torch.randn(*lead, *shape, generator=generator, dtype=dtype)
        for name, shape in policy.shapes.items()
    }


@pytest.mark.parametrize(
    ("image", "sides", "features"),
    [
        ((3, 84, 84), [(8, 4), (4, 2)], 9 * 9 * 32),  # arXiv:1312.5602, section 4.1
        ((3, 7, 7), [(3, 1), (3, 1)], 3 * 3 * 32),
        ((1, 3, 3), [(3, 1), (1, 1)], 32),
        ((1, 28, 28), [(4, 2), (4, 2)], 5 * 5 * 32),
        ((3, 64, 40), [(8, 4), (3, 1)], 13 * 7 * 32),
    ],
)
def test_filters_follow_from_the_image(image, sides, features):
    found = convolutions(spec_of(image), PolicyConfig())
    assert [(x.side, x.stride) for x in found] == sides
    assert width(spec_of(image), PolicyConfig()) == features + MORE


@pytest.mark.parametrize("torso", ["auto", "flat"])
@pytest.mark.parametrize("image", [None, (1, 2, 9)])
def test_without_an_image_that_holds_a_filter_vectors_are_read(image, torso):
    assert convolutions(spec_of(image), PolicyConfig(torso=torso)) == ()


@pytest.mark.parametrize(("image", "said"), [(None, "are no image"), ((1, 2, 9), "2 x 9 pixels")])
def test_convolutions_that_cannot_be_are_refused(image, said):
    with pytest.raises(UserError, match=f"{said}.*\n.*torso auto"):
        convolutions(spec_of(image), PolicyConfig(torso="conv"))


@pytest.mark.parametrize("tasks", [0, 2])
@pytest.mark.parametrize("image", IMAGES)
def test_convolution_and_patches_give_the_same_numbers(image, tasks):
    policy = policy_of(image)
    params = drawn(policy, tasks)
    obs = torch.rand(2, 5, policy.network.inputs, dtype=torch.float64)
    here = LinearisedMlp.at(policy, params, obs).distribution
    torch.testing.assert_close(policy(params, obs)[0], here[0])


def test_a_task_is_convolved_by_its_own_filters():
    policy, value = policy_of((3, 7, 7)), MlpValue(spec_of((3, 7, 7)), PolicyConfig(channels=(4,)))
    params, obs = drawn(policy, 3), torch.rand(3, 2, 4, 149, dtype=torch.float64)
    together = policy(params, obs)[0]
    for k in range(3):
        alone = policy({name: x[k] for name, x in params.items()}, obs[k])[0]
        torch.testing.assert_close(together[k], alone)
    shared = {name: x.double() for name, x in value.init(np.random.default_rng(0)).items()}
    apart = {name: x.expand(3, *x.shape) for name, x in shared.items()}
    torch.testing.assert_close(value(shared, obs), value(apart, obs))


def test_filters_of_some_layers_may_be_adapted_alone():
    policy = policy_of((3, 7, 7))
    params, obs = drawn(policy), torch.rand(3, 4, 149, dtype=torch.float64)
    one = {n: x.expand(3, *x.shape) if n.startswith("conv1") else x for n, x in params.items()}
    torch.testing.assert_close(policy(one, obs)[0], policy(params, obs)[0])


@pytest.mark.parametrize("image", IMAGES)
def test_patches_have_their_transpose(image):
    """<P h, q> = <h, P^T q>."""
    for plan in convolutions(spec_of(image), PolicyConfig(channels=(4, 5))):
        way = Patches(plan)
        channels, height, wide = plan.before
        h = torch.randn(2, 3 * height * wide, channels, dtype=torch.float64)
        q = torch.randn(2, 3 * plan.places, plan.patch, dtype=torch.float64)
        left, right = (way.of_samples(h) * q).sum(), (h * way.transposed(q)).sum()
        assert float(left) == pytest.approx(float(right))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("tasks", [0, 2])
@pytest.mark.parametrize("image", IMAGES)
def test_numpy_gives_the_numbers_of_torch(image, tasks, activation):
    policy = policy_of(image, activation=activation)
    params = drawn(policy, tasks, torch.float32)
    units = Units.all(2, 4)
    obs = torch.rand(2, 4, policy.network.inputs)
    ready = acting_mlp(policy, params, None).of(units).ready(units)
    rows = obs.numpy().reshape(len(units), units.size, -1)
    noise = np.zeros((len(units), units.size, 3), np.float32)
    _, outputs = ready(rows, rows[..., 0], noise)
    expected = policy.network(params, obs).reshape(outputs.shape)
    np.testing.assert_allclose(outputs, expected.numpy(), atol=2e-6)
