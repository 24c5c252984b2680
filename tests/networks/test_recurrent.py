"""The recurrent policy against its cells' equations, written out step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.device import torch_device
from metarl.networks.attention import Transformer
from metarl.networks.cells import Gates, Memory
from metarl.networks.recurrent import RecurrentPolicy
from metarl.types import EnvSpec, Params

TRIALS, STEPS, OBS, SIZE = 4, 7, 3, 5
SPACES = {
    "box": Box(-1, 1, (2,)),
    "discrete": Discrete(3),
    "multidiscrete": MultiDiscrete([3, 2]),
    "state": Box(np.array([1.5, 0], np.float32), np.array([3.5, np.inf], np.float32)),
}
OPTIONS: dict[str, dict[str, Any]] = {"state": {"std": "state", "scale_to_box": True}}

cells = pytest.mark.parametrize("cell", ["gru", "lstm"])
spaces = pytest.mark.parametrize("space", list(SPACES))


def policy_of(
    cell, space: str = "discrete", hidden: tuple[int, ...] = (6,), **layers: Any
) -> RecurrentPolicy:
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[space], STEPS)
    config = PolicyConfig(hidden, "tanh", **OPTIONS.get(space, {}))
    made = Transformer(8, 2, 2, 4) if cell == "transformer" else Gates(cell, SIZE)
    return RecurrentPolicy(spec, config, made, **layers)


def problem(policy: RecurrentPolicy) -> tuple[Params, Tensor, Memory]:
    """Parameters, what a few steps are inputs, and a memory; float64."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    start = policy.init(np.random.default_rng(0))
    params = {name: x.double() + 0.1 * normal(*x.shape) for name, x in start.items()}
    inputs = normal(TRIALS, STEPS, sum(policy.parts))
    nothing = policy.empty_memory(TRIALS, like=inputs)
    return params, inputs, tuple(x + normal(*x.shape).tanh() for x in nothing)


def by_hand(params: Params, inputs: Tensor, memory: Memory) -> Memory:
    """One step of one encoder layer and the cell: arXiv:1406.1078 with the reset gate on the
    product, or Hochreiter and Schmidhuber's with a forget gate."""
    x = torch.tanh(inputs @ params["encoder0.weight"].mT + params["encoder0.bias"])
    own = x @ params["cell.weight_ih"].mT + params["cell.bias_ih"]
    past = memory[0] @ params["cell.weight_hh"].mT + params["cell.bias_hh"]
    if len(memory) == 1:
        (r_own, z_own, n_own), (r_past, z_past, n_past) = own.chunk(3, -1), past.chunk(3, -1)
        reset, keep = torch.sigmoid(r_own + r_past), torch.sigmoid(z_own + z_past)
        return ((1 - keep) * torch.tanh(n_own + reset * n_past) + keep * memory[0],)
    enter, forget, new, show = (own + past).chunk(4, -1)
    c = torch.sigmoid(forget) * memory[1] + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(show) * torch.tanh(c), c


@cells
def test_a_run_is_the_cells_equations_step_by_step(cell):
    policy = policy_of(cell)
    params, inputs, memory = problem(policy)
    shown, last = policy.run(params, inputs, memory)
    for t in range(STEPS):
        memory = by_hand(params, inputs[:, t], memory)
        torch.testing.assert_close(shown[:, t], memory[0])
    for found, expected in zip(last, memory, strict=True):
        torch.testing.assert_close(found, expected)


@cells
def test_memory_after_sequences_of_their_own_lengths(cell):
    """Each row's last valid step; what follows it may be anything."""
    policy = policy_of(cell)
    params, inputs, memory = problem(policy)
    lengths = torch.tensor([3, 7, 1, 5])
    padded = torch.where(torch.arange(STEPS)[None, :, None] < lengths[:, None, None], inputs, 1e6)
    found = policy.after(params, padded, lengths, memory)
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        _, last = policy.run(params, inputs[own, :length], tuple(x[own] for x in memory))
        for x, y in zip(found, last, strict=True):
            torch.testing.assert_close(x[own], y)


def test_embeddings_and_head_are_layers_of_their_own():
    """Each part of the input through its own layer; policy and value each through others."""
    policy = policy_of("gru", "box", (6,), embeddings=(4, 3, 2), head=(7,))
    params, inputs, memory = problem(policy)
    shown, _ = policy.run(params, inputs, memory)

    def layer(name: str, x: Tensor) -> Tensor:
        return torch.tanh(x @ params[f"{name}.weight"].mT + params[f"{name}.bias"])

    parts = zip(("obs", "action", "reward"), inputs.split((OBS, 2, 2), -1), strict=True)
    embedded = torch.cat([layer(f"embedding.{name}0", x) for name, x in parts], -1)
    for t in range(STEPS):
        memory = by_hand(params, embedded[:, t], memory)
        torch.testing.assert_close(shown[:, t], memory[0])
    mean = layer("layer0", shown) @ params["layer1.weight"].mT + params["layer1.bias"]
    torch.testing.assert_close(policy.head(params, shown)[0], mean)
    value = layer("value_layer0", shown) @ params["value.weight"].mT + params["value.bias"]
    torch.testing.assert_close(policy.value(params, shown), value[..., 0])


@pytest.mark.parametrize("cell", ["gru", "lstm", "transformer"])
@spaces
@pytest.mark.parametrize("layers", [{}, {"embeddings": (4, 3, 2), "head": (4, 3)}])
def test_derivatives_of_policy_and_value_against_finite_differences(cell, space, layers):
    policy = policy_of(cell, space, **layers)
    params, inputs, memory = problem(policy)
    names = list(params)

    def outputs(*leaves: Tensor) -> tuple[Tensor, ...]:
        own = dict(zip(names, leaves, strict=True))
        shown, _ = policy.run(own, inputs, memory)
        return (*policy.head(own, shown), policy.value(own, shown))

    leaves = tuple(x.requires_grad_() for x in params.values())
    torch.autograd.gradcheck(outputs, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        ("box", [0.3, -2.0], [0.3, -2.0]),
        ("state", [2.0, 3.0], [-0.5, 3.0]),
        ("discrete", [1], [0, 1, 0]),
        ("multidiscrete", [2, 0], [0, 0, 1, 1, 0]),
    ],
)
def test_a_step_is_told_action_reward_and_end(space, action, expected):
    policy = policy_of("gru", space)
    found = policy.before(torch.tensor([action, action]), torch.tensor([0.7, -7.0]), ended=True)
    assert found.shape == (2, policy.before_dim)
    torch.testing.assert_close(found[0], torch.tensor([*expected, 0.7, 1.0]))
    torch.testing.assert_close(found[1], torch.tensor([*expected, -7.0, 1.0]))


@cells
def test_every_gate_begins_orthogonal_from_memory_to_memory(cell):
    """Also without an encoder; an LSTM begins by remembering."""
    policy = policy_of(cell, hidden=())
    params = policy.init(np.random.default_rng(1))
    assert params["cell.weight_ih"].shape[1] == policy.encoder.sizes[0]
    for gate in params["cell.weight_hh"].split(SIZE):
        torch.testing.assert_close(gate @ gate.mT, torch.eye(SIZE), atol=1e-5, rtol=0)
    bias = (params["cell.bias_ih"] + params["cell.bias_hh"]).split(SIZE)
    assert [float(gate.mean()) for gate in bias] == ([0, 1, 0, 0] if cell == "lstm" else [0, 0, 0])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("error:RNN module weights are not part of single")
@cells
def test_a_gpu_shows_the_same_and_derives_the_same(cell):
    """Values, memories and gradients, in single precision throughout."""
    policy, device = policy_of(cell), torch_device("cuda")
    found = []
    for where in (torch.device("cpu"), device):
        params, inputs, memory = problem(policy)
        leaves = {k: v.float().to(where).requires_grad_() for k, v in params.items()}
        inputs, memory = inputs.float().to(where), tuple(x.float().to(where) for x in memory)
        shown, last = policy.run(leaves, inputs, memory)
        some = policy.after(leaves, inputs, torch.tensor([3, 7, 1, 5]), memory)
        loss = policy.value(leaves, shown).square().mean() + sum(x.square().mean() for x in some)
        gradient = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        found.append([x.cpu() for x in (shown, *last, *some, *gradient) if x is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
