"""The convolutional network against a loop over tasks of torch's own layers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from metarl.config.settings import NetworkConfig
from metarl.networks import conv
from metarl.networks.conv import Conv, normalised
from metarl.networks.mlp import is_adapted

TASKS, SAMPLES = 3, 4


def network(shape=(2, 7, 6), hidden=(3, 5), **config):
    return Conv(shape, 2, NetworkConfig(kind="conv", hidden=hidden, **config))


def some_params(net, rows=(), seed=0):
    """Float64, each a little different; with `rows`, one for each task."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: x.double() + 0.3 * torch.randn(*rows, *x.shape, generator=g).double()
        for name, x in net.init(np.random.default_rng(seed)).items()
    }


def some_images(net_shape, tasks=TASKS, samples=SAMPLES):
    g = torch.Generator().manual_seed(1)
    return torch.randn(tasks, samples, *net_shape, generator=g).double()


def by_torch(net, params, images):
    """One task's outputs [N, outputs] at [N, ...], layer by layer as torch has them."""
    x = images
    for i in range(net.blocks):
        weight = params[f"layer{i}.weight"]
        stride = 2 if net.config.strides and min(x.shape[-2:]) > 1 else 1
        filters = weight.view(len(weight), -1, 3, 3)
        x = F.conv2d(x, filters, params[f"layer{i}.bias"], stride, padding=1)
        if net.config.batch_norm:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            x = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
            scale, shift = params[f"norm{i}.scale"], params[f"norm{i}.shift"]
            x = x * scale[:, None, None] + shift[:, None, None]
        x = x.relu() if net.config.activation == "relu" else x.tanh()
        if min(x.shape[-2:]) > 1 and not net.config.strides:
            x = F.max_pool2d(x, 2)
    return F.linear(x.flatten(1), *(params[f"layer{net.blocks}.{k}"] for k in ("weight", "bias")))


@pytest.mark.parametrize("strides", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("cache", [1, conv.CACHE_BYTES])
def test_each_task_is_convolved_by_its_own_filters(
    activation, batch_norm, strides, cache, monkeypatch
):
    """All tasks at once, and one at a time, as a loop over them finds."""
    monkeypatch.setattr(conv, "CACHE_BYTES", cache)
    net = network(activation=activation, batch_norm=batch_norm, strides=strides)
    params, images = some_params(net, (TASKS,)), some_images((2, 7, 6))
    together = net(params, images)
    assert together.shape == (TASKS, SAMPLES, 2)
    for k in range(TASKS):
        alone = by_torch(net, {name: x[k] for name, x in params.items()}, images[k])
        torch.testing.assert_close(together[k], alone)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("adapted", ["", "layer1", "layer2", "norm0"])
def test_shared_parameters_equal_expanded_ones(batch_norm, adapted):
    """Also where only some have a K, as where inner steps move the last layer alone."""
    net = network(batch_norm=batch_norm)
    params, images = some_params(net), some_images((2, 7, 6))
    expanded = {name: x.expand(TASKS, *x.shape) for name, x in params.items()}
    some = {n: expanded[n] if adapted and n.startswith(adapted) else params[n] for n in params}
    torch.testing.assert_close(net(some, images), net(expanded, images))


@pytest.mark.parametrize("rows", [(), (2,)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_first_and_second_derivatives_are_finite_differences(rows, batch_norm):
    """A meta-gradient goes through both; tanh, for relu has kinks."""
    net = network((1, 4, 4), (2, 2), activation="tanh", batch_norm=batch_norm)
    params = {name: x.requires_grad_() for name, x in some_params(net, rows).items()}
    images = some_images((1, 4, 4), 2, 2)

    def run(*values):
        return net(dict(zip(params, values, strict=True)), images)

    assert gradcheck(run, tuple(params.values()))
    assert gradgradcheck(run, tuple(params.values()))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_are_named_as_is_adapted_has_it(batch_norm):
    net = network(batch_norm=batch_norm)
    params = net.init(np.random.default_rng(0))
    assert {name: tuple(x.shape) for name, x in params.items() if "norm" not in name} == {
        "layer0.weight": (3, 2 * 9),
        "layer0.bias": (3,),
        "layer1.weight": (5, 3 * 9),
        "layer1.bias": (5,),
        "layer2.weight": (2, 5 * 1 * 1),
        "layer2.bias": (2,),
    }
    assert net.layers == 3
    assert any("norm" in name for name in params) == batch_norm
    for name, x in params.items():
        assert not is_adapted(name, x)
        assert is_adapted(name, x.expand(TASKS, *x.shape))


def test_a_side_of_one_is_not_halved():
    """8 x 8 digits take any number of blocks."""
    net = network((1, 8, 8), (4,) * 5)
    assert net.sides == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1), (1, 1)]
    assert net(net.init(np.random.default_rng(0)), torch.rand(2, 3, 1, 8, 8)).shape == (2, 3, 2)


def test_without_blocks_it_is_a_linear_layer():
    net = network(hidden=())
    params, images = some_params(net, (TASKS,)), some_images((2, 7, 6))
    alone = [F.linear(images[k].flatten(1), params["layer0.weight"][k]) for k in range(TASKS)]
    torch.testing.assert_close(
        net(params, images), torch.stack(alone) + params["layer0.bias"][:, None]
    )


def test_a_task_is_normalised_by_its_own_examples():
    """Mean and variance of each task's channel are shift and scale^2, whatever the others hold."""
    images = 3 + some_images((5, 4, 4)).transpose(0, 1)  # [N, K, C, H, W]
    images = images * torch.tensor([1.0, 10.0, 100.0]).view(1, TASKS, 1, 1, 1)
    scale, shift = torch.linspace(1, 2, 5).double(), torch.linspace(-1, 1, 5).double()
    for rows in ((), (TASKS,)):
        found = normalised(images, scale.expand(*rows, 5), shift.expand(*rows, 5))
        over = partial(torch.var_mean, dim=(0, 3, 4), correction=0)
        variance, mean = over(found)
        torch.testing.assert_close(mean, shift.expand(TASKS, 5))
        torch.testing.assert_close(variance, (scale**2).expand(TASKS, 5), rtol=1e-4, atol=0)


def test_strides_keep_the_last_row_of_an_odd_number():
    """As TensorFlow's padding "same", with which the published networks were made."""
    net = network((1, 28, 28), (4,) * 4, strides=True)
    assert net.sides == [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2)]
    assert net(net.init(np.random.default_rng(0)), torch.rand(2, 3, 1, 28, 28)).shape == (2, 3, 2)
    assert network((1, 28, 28), (4,) * 4).multiplications > 3 * net.multiplications
