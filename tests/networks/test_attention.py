"""A transformer as a memory: its equations by loops, and the routes that must agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.networks.attention import Transformer
from metarl.networks.cells import Memory
from metarl.types import Params

TRIALS, STEPS, INPUTS, SIZE, HEADS = 3, 7, 4, 8, 2


def problem(layers: int = 2, window: int = 100) -> tuple[Transformer, Params, Tensor]:
    """A transformer, its parameters with noise on all of them, and inputs; float64."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    cell = Transformer(SIZE, layers, HEADS, window)
    start = cell.init(np.random.default_rng(0), INPUTS, "xavier")
    params = {name: x.double() + 0.2 * normal(*x.shape) for name, x in start.items()}
    return cell, params, normal(TRIALS, STEPS, INPUTS)


def step_by_step(
    cell: Transformer, params: Params, x: Tensor, memory: Memory
) -> tuple[Tensor, Memory]:
    outputs = []
    for t in range(x.shape[1]):
        shown, memory = cell.run(params, x[:, t : t + 1], memory)
        outputs.append(shown)
    return torch.cat(outputs, 1), memory


def by_hand(params: Params, x: Tensor, window: int) -> Tensor:
    """One layer on one trial x [T, I], number by number: pairs of a query and a key are turned as
    complex numbers, whose product depends on the difference of their angles."""

    def linear(name: str, value: Tensor) -> Tensor:
        return params[f"cell.{name}.weight"] @ value + params[f"cell.{name}.bias"]

    def norm(name: str, value: Tensor) -> Tensor:
        unit = (value - value.mean()) / (value.var(correction=0) + 1e-5).sqrt()
        return unit * params[f"cell.{name}.weight"] + params[f"cell.{name}.bias"]

    def score(query: Tensor, key: Tensor, ago: int) -> Tensor:
        half = len(query) // 2
        pairs = torch.complex(query[:half], query[half:]), torch.complex(key[:half], key[half:])
        rates = [10_000.0 ** (-i / half) for i in range(half)]
        turns = torch.tensor([complex(math.cos(ago * r), math.sin(ago * r)) for r in rates])
        return (pairs[0] * pairs[1].conj() * turns).real.sum() / math.sqrt(len(query))

    h = [linear("in", value) for value in x]
    qkv = [linear("layer0.qkv", norm("layer0.norm0", value)) for value in h]
    outputs = []
    for t, value in enumerate(h):
        found = []
        for head in range(HEADS):
            q, k, v = (
                [one[part * SIZE :][:SIZE].chunk(HEADS)[head] for one in qkv] for part in range(3)
            )
            seen = range(max(0, t - window + 1), t + 1)
            weights = torch.stack([score(q[t], k[j], t - j) for j in seen]).softmax(0)
            found.append(sum(w * v[j] for w, j in zip(weights, seen, strict=True)))
        value = value + linear("layer0.out", torch.cat(found))
        wide = linear("layer0.up", norm("layer0.norm1", value)).relu()
        outputs.append(norm("norm", value + linear("layer0.down", wide)))
    return torch.stack(outputs)


@pytest.mark.parametrize("window", [3, 100])
def test_a_layer_is_its_equations(window):
    cell, params, x = problem(1, window)
    found, _ = cell.run(params, x, cell.empty(TRIALS, like=x))
    for row in range(TRIALS):
        torch.testing.assert_close(found[row], by_hand(params, x[row], window))


@pytest.mark.parametrize("window", [2, 5, 100])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_keys_that_were_kept_give_what_the_whole_sequence_gives(window, cut):
    """In one run, in two, and in a run for each step."""
    cell, params, x = problem(window=window)
    nothing = cell.empty(TRIALS, like=x)
    whole, _ = cell.run(params, x, nothing)
    steps, _ = step_by_step(cell, params, x, nothing)
    torch.testing.assert_close(steps, whole)
    first, memory = cell.run(params, x[:, :cut], nothing)
    second, _ = cell.run(params, x[:, cut:], memory)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


@pytest.mark.parametrize("window", [3, 100])
def test_short_episodes_leave_gaps_that_nobody_attends_to(window):
    """Two episodes of lengths of their own in each trial: the second is as if it followed the first
    at once, whatever stands in the gap."""
    cell, params, x = problem(window=window)
    lengths, after = torch.tensor([3, 7, 1]), x.flip(0)
    padded = torch.where(torch.arange(STEPS)[None, :, None] < lengths[:, None, None], x, 1e3)
    memory = cell.after(params, padded, lengths, cell.empty(TRIALS, like=x))
    later = cell.after(params, after, torch.tensor([2, 2, 2]), memory)
    found, _ = cell.run(params, after[:, 2:], later)
    for row, length in enumerate(lengths):
        own = torch.cat([x[row, :length], after[row]])[None]
        expected, _ = cell.run(params, own, cell.empty(1, like=x))
        torch.testing.assert_close(found[row], expected[0, length + 2 :])


def test_beyond_its_window_a_layer_forgets_and_counts_no_steps():
    """With one layer the output after many steps is that after the last ones alone."""
    cell, params, x = problem(1, window=3)
    whole, _ = cell.run(params, x, cell.empty(TRIALS, like=x))
    last, _ = cell.run(params, x[:, -3:], cell.empty(TRIALS, like=x))
    torch.testing.assert_close(whole[:, -1], last[:, -1])
    wider, _ = Transformer(SIZE, 1, HEADS, 4).run(params, x, cell.empty(TRIALS, like=x))
    assert not torch.isclose(wider[:, -1], last[:, -1]).all(-1).any()


def test_a_memory_takes_what_is_stated():
    cell, params, x = problem()
    kept, mask = cell.after(params, x, torch.tensor([7, 2, 3]), cell.empty(TRIALS, like=x))
    assert kept.shape == (TRIALS, 2, 2, HEADS, STEPS, SIZE // HEADS)
    assert mask.sum(1).tolist() == [7, 2, 3]
