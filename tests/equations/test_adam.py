"""The functional Adam against torch's own, and gradients clipped by norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.equations.adam import (
    AdamState,
    adam_loaded,
    adam_start,
    adam_state_dict,
    adam_step,
    clip_norm,
)

SHAPES = {"weight": (3, 4), "bias": (4,), "log_std": (1,)}


def drawn(generator: torch.Generator, *lead: int) -> dict[str, Tensor]:
    return {
        name: torch.randn(*lead, *shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("settings", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}], ids=["usual", "odd"])
def test_a_run_of_steps_is_torchs(settings):
    g = torch.Generator().manual_seed(0)
    params = drawn(g)
    theirs = {name: x.clone().requires_grad_() for name, x in params.items()}
    optimizer = torch.optim.Adam(theirs.values(), lr=0.03, **settings)
    state = adam_start(params)
    for scale in (1.0, 1e-6, 1e3, 1.0, 0.0):
        gradient = {name: scale * x for name, x in drawn(g).items()}
        params, state = adam_step(params, gradient, state, 0.03, **settings)
        for name, x in theirs.items():
            x.grad = gradient[name]
        optimizer.step()
        for name, x in params.items():
            torch.testing.assert_close(x, theirs[name].detach(), rtol=1e-12, atol=1e-14)


def test_the_first_step_is_the_gradients_sign():
    params = {"x": torch.tensor([1.0, 2.0, 3.0])}
    after, state = adam_step(params, {"x": torch.tensor([5.0, -0.1, 0.0])}, adam_start(params), 0.5)
    torch.testing.assert_close(after["x"], torch.tensor([0.5, 2.5, 3.0]))
    assert params["x"].tolist() == [1.0, 2.0, 3.0]
    assert float(state.count) == 1.0


def test_tasks_side_by_side_are_tasks_alone():
    """Parameters [K, ...] step, and are clipped, as each task's would alone."""
    g = torch.Generator().manual_seed(1)
    together, alone = drawn(g, 3), []
    gradients = [drawn(g, 3) for _ in range(3)]
    for k in range(3):
        params = {name: x[k] for name, x in together.items()}
        state = adam_start(params)
        for gradient in gradients:
            clipped, _ = clip_norm({name: x[k] for name, x in gradient.items()}, 4.0)
            params, state = adam_step(params, clipped, state, 0.1)
        alone.append(params)
    state = adam_start(together)
    for gradient in gradients:
        clipped, norms = clip_norm(gradient, 4.0, tasks=True)
        assert norms.shape == (3,)
        together, state = adam_step(together, clipped, state, 0.1)
    for name, x in together.items():
        torch.testing.assert_close(x, torch.stack([params[name] for params in alone]))


@pytest.mark.parametrize("most", [0.1, 1e6])
def test_clipping_is_torchs(most: float):
    gradient = drawn(torch.Generator().manual_seed(2))
    theirs = [torch.zeros_like(x, requires_grad=True) for x in gradient.values()]
    for x, g in zip(theirs, gradient.values(), strict=True):
        x.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(theirs, most)
    clipped, found = clip_norm(gradient, most)
    torch.testing.assert_close(found, norm)
    for x, g in zip(theirs, clipped.values(), strict=True):
        torch.testing.assert_close(g, x.grad)


def test_a_state_goes_by_name_and_back():
    g = torch.Generator().manual_seed(3)
    params = drawn(g)
    _, state = adam_step(params, drawn(g), adam_start(params), 0.1)
    saved = {"other": torch.zeros(1), **adam_state_dict(state, "outer.")}
    assert "outer.square.weight" in saved
    found: AdamState = adam_loaded(adam_start(params), saved, "outer.")
    assert torch.equal(found.count, state.count)
    for name in params:
        assert torch.equal(found.mean[name], state.mean[name])
        assert torch.equal(found.square[name], state.square[name])
