"""The policy network and its kept derivatives, against loops and torch.func."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.func import jvp, vjp, vmap

from metarl.config.settings import PolicyConfig
from metarl.equations.distributions import each
from metarl.equations.gaussian import Gaussian, GaussianCurvature
from metarl.errors import UserError
from metarl.networks.linearised import LinearisedMlp, LossHessian, over_samples_product
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec

TASKS, SAMPLES = 3, 5
FAR = Box(np.array([1.5, 0], np.float32), np.array([3.5, np.inf], np.float32))
SPACES = {
    "box": Box(-1, 1, (2,)),
    "discrete": Discrete(3),
    "multidiscrete": MultiDiscrete([3, 2]),
    "state": Box(-1, 1, (2,)),
    "scaled": FAR,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "state": {"std": "state"},
    "scaled": {"std": "state", "scale_to_box": True, "min_std": 1.0},
}


def spec(space):
    return EnvSpec("problem", Box(-1, 1, (4,)), space, 10)


def policy_of(kind, **config):
    settings = {**SETTINGS.get(kind, {}), **config}
    return MlpPolicy(spec(SPACES[kind]), PolicyConfig(hidden=(6, 5), **settings))


def double(params, generator, rows=()):
    """Float64 parameters, each a little different; with `rows`, one for each task."""
    return {
        name: x.double() + 0.1 * torch.randn(*rows, *x.shape, generator=generator).double()
        for name, x in params.items()
    }


kinds = pytest.mark.parametrize("kind", SPACES)
activations = pytest.mark.parametrize("activation", ["relu", "tanh"])


@kinds
def test_adapted_parameters_serve_each_task_its_own(kind):
    """[K, ...] parameters at once equal a loop over tasks, for flat and for [T, E] samples."""
    policy = policy_of(kind)
    g = torch.Generator().manual_seed(0)
    params = double(policy.init(np.random.default_rng(0)), g, (TASKS,))
    for shape in ((TASKS, SAMPLES, 4), (TASKS, 2, SAMPLES, 4)):
        obs = torch.randn(*shape, generator=g).double()
        together = policy(params, obs)
        for k in range(TASKS):
            alone = policy({name: x[k] for name, x in params.items()}, obs[k])
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[k], b.expand_as(a[k]))


@kinds
@activations
@pytest.mark.parametrize("adapted", [False, True])
def test_kept_derivatives_equal_torch_func(kind, activation, adapted):
    policy = policy_of(kind, activation=activation)
    g = torch.Generator().manual_seed(0)
    start = policy.init(np.random.default_rng(0))
    rows = (TASKS,) if adapted else ()
    params, tangent = double(start, g, rows), double(start, g, rows)
    obs = torch.randn(TASKS, SAMPLES, 4, generator=g).double()
    here = LinearisedMlp.at(policy, params, obs)

    def run(p):
        found = policy(p, obs)
        return each(lambda x: x.expand_as(found[0]), found)

    value, derivative, *_ = jvp(run, (params,), (tangent,))
    for ours, theirs in zip(here.jvp(tangent)[0], derivative, strict=True):
        torch.testing.assert_close(ours.expand_as(theirs), theirs)
    cotangent = each(lambda x: torch.randn(x.shape, generator=g).double(), value)
    ours, _ = here.vjp(cotangent)
    (theirs,) = vjp(run, params)[1](cotangent)
    for name in params:
        total = ours[name] if adapted else ours[name].sum(0)
        torch.testing.assert_close(total, theirs[name])


@kinds
def test_vmap_over_tasks_is_the_same_function(kind):
    policy = policy_of(kind)
    g = torch.Generator().manual_seed(0)
    params = double(policy.init(np.random.default_rng(0)), g, (TASKS,))
    obs = torch.randn(TASKS, SAMPLES, 4, generator=g).double()
    for a, b in zip(vmap(policy)(params, obs), policy(params, obs), strict=True):
        torch.testing.assert_close(a.expand_as(b) if a.dim() == b.dim() else a[:, None], b)


@kinds
@activations
def test_the_hessian_of_a_loss_equals_double_backward(kind, activation):
    """Products H v of each task's score-function loss, float64."""
    policy = policy_of(kind, activation=activation)
    g = torch.Generator().manual_seed(0)
    start = policy.init(np.random.default_rng(0))
    params, tangent = double(start, g, (TASKS,)), double(start, g, (TASKS,))
    obs = torch.randn(TASKS, SAMPLES, 4, generator=g).double()
    factor = torch.randn(TASKS, SAMPLES, generator=g).double()
    here = LinearisedMlp.at(policy, params, obs)
    noise = torch.randn(TASKS, SAMPLES, policy.noise_dim, generator=g).double()
    actions = here.distribution.sample(noise)
    gradient, deltas = here.vjp(here.distribution.score(actions, factor))
    curvature = here.distribution.score_curvature(actions, factor)
    found = LossHessian.of(here, deltas, curvature)(tangent)

    leaves = {name: x.clone().requires_grad_() for name, x in params.items()}
    loss = (factor * policy(leaves, obs).log_probs(actions)).sum()
    slope = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    parts = [(x * tangent[n]).sum() for n, x in zip(leaves, slope, strict=True)]
    expected = torch.autograd.grad(torch.stack(parts).sum(), list(leaves.values()))
    torch.testing.assert_close([gradient[n] for n in leaves], list(slope))
    torch.testing.assert_close([found[n] for n in leaves], list(expected))


BOUNDED = {
    "min_std": ([0.1, 0.5, 0.9], [0.5, 0.5, 0.9]),
    "max_std": ([0.9, 0.5, 0.1], [0.5, 0.5, 0.1]),
}
"""Deviations beyond the bound 0.5, at it and within it; those that they become."""


@pytest.mark.parametrize("bound", list(BOUNDED))
@pytest.mark.parametrize("std", ["shared", "state"])
def test_a_bound_of_the_deviation_holds_and_stops_its_gradient(std, bound):
    """At the bound it may still move, as with autograd's clamp."""
    space, (given, bounded) = spec(Box(-1, 1, (3,))), BOUNDED[bound]
    config: Any = replace(PolicyConfig(hidden=(6, 5), std=std), **{bound: 0.5})
    policy = MlpPolicy(space, config)
    params = policy.init(np.random.default_rng(0))
    name, ours = ("log_std", slice(None)) if std == "shared" else ("layer2.bias", slice(3, None))
    params[name][ours] = torch.tensor([math.log(x) for x in given])
    obs = torch.randn(TASKS, SAMPLES, 4, generator=torch.Generator().manual_seed(0))
    here = LinearisedMlp.at(policy, params, obs)
    assert isinstance(here.distribution, Gaussian)
    deviation = here.distribution.log_std.exp().expand(TASKS, SAMPLES, 3)
    torch.testing.assert_close(deviation, torch.tensor(bounded).expand(TASKS, SAMPLES, 3))
    ones = torch.ones(TASKS, SAMPLES, 3)
    gradient, _ = here.vjp(Gaussian(ones, ones))
    own = params[name].clone().requires_grad_()
    there: Any = policy({**params, name: own}, obs)
    there.log_std.expand_as(ones).sum().backward()
    assert own.grad is not None
    assert gradient[name].sum(0)[ours].tolist() == own.grad[ours].tolist()
    assert own.grad[ours].tolist() == [0.0, TASKS * SAMPLES, TASKS * SAMPLES]


@pytest.mark.parametrize("hidden", [(6, 5), ()])
@pytest.mark.parametrize("init", ["xavier", "orthogonal"])
def test_a_new_policy_has_the_initial_deviation_everywhere(hidden, init):
    """Whatever it depends on, and the mean has the same weights."""
    g = torch.Generator().manual_seed(0)
    obs = 10.0 * torch.randn(7, 4, generator=g)
    found: list[Any] = []
    for std in ("shared", "state"):
        config = PolicyConfig(hidden, init=init, init_std=0.3, std=std)
        policy = MlpPolicy(spec(Box(-1, 1, (2,))), config)
        params = policy.init(np.random.default_rng(3))
        assert ("log_std" in params) == (std == "shared")
        found.append(policy(params, obs))
    torch.testing.assert_close(found[0].mean, found[1].mean)
    for distribution in found:
        torch.testing.assert_close(distribution.log_std.exp().expand(7, 2), torch.full((7, 2), 0.3))


def test_a_deviation_of_the_state_differs_from_state_to_state():
    """After one gradient step that asks for noise in one state and for none in another."""
    policy = policy_of("state")
    params = policy.init(np.random.default_rng(0))
    obs = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]).expand(TASKS, 2, 4)
    here = LinearisedMlp.at(policy, params, obs)
    asked = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).expand(TASKS, 2, 2)
    gradient, _ = here.vjp(Gaussian(torch.zeros_like(asked), asked))
    after: Any = policy({n: x + gradient[n] for n, x in params.items()}, obs)
    assert bool((after.log_std[:, 0] > after.log_std[:, 1] + 0.1).all())


def test_a_policy_scaled_to_its_box_begins_in_the_middle():
    """Mean and deviation in halves of the width; a dimension without two bounds keeps its units,
    and so does one without width, around its only value."""
    low = np.array([1.5, 2.5, 0.0, -np.inf, 4.0, -np.inf], np.float32)
    high = np.array([3.5, 6.5, np.inf, np.inf, 4.0, 3.0], np.float32)
    config = PolicyConfig(hidden=(6,), init_std=0.5, scale_to_box=True)
    policy = MlpPolicy(spec(Box(low, high)), config)
    params = policy.init(np.random.default_rng(0))
    noise = torch.randn(20000, 6, generator=torch.Generator().manual_seed(0))
    actions = policy(params, torch.zeros(4)).sample(noise)
    middle, half = [2.5, 4.5, 0, 0, 4, 0], [1, 2, 1, 1, 1, 1]
    torch.testing.assert_close(actions.mean(0), torch.tensor(middle).float(), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), 0.5 * torch.tensor(half), atol=0.02, rtol=0)
    torch.testing.assert_close(policy.encoded(actions), 0.5 * noise, atol=1e-5, rtol=0)


def test_a_box_of_one_half_width_changes_no_bit():
    """Box(-1, 1) is its own unit."""
    plain, scaled = policy_of("box"), policy_of("box", scale_to_box=True)
    params = plain.init(np.random.default_rng(0))
    g = torch.Generator().manual_seed(0)
    obs, noise = torch.randn(7, 4, generator=g), torch.randn(7, 2, generator=g)
    one, other = plain(params, obs), scaled(params, obs)
    assert torch.equal(one.sample(noise), other.sample(noise))
    actions = one.sample(noise)
    assert torch.equal(one.log_probs(actions), other.log_probs(actions))


@pytest.mark.parametrize(
    "setting",
    [{"std": "state"}, {"scale_to_box": True}, {"init_std": 0.5}, {"min_std": 0.1}, {"max_std": 2}],
    ids=lambda setting: next(iter(setting)),
)
@pytest.mark.parametrize("kind", ["discrete", "multidiscrete"])
def test_settings_of_deviations_are_refused_where_there_is_none(kind, setting):
    said = rf"makes no use of agent\.policy\.{next(iter(setting))}: .*no deviation\n  leave it out"
    with pytest.raises(UserError, match=said):
        policy_of(kind, **setting)


def test_a_box_without_bounds_is_nothing_to_scale_to():
    largest = np.finfo(np.float32).max
    for low, high in ((-np.inf, np.inf), (0.0, np.inf), (-largest, largest)):
        space = Box(np.float32(low), np.float32(high), (2,))
        with pytest.raises(UserError, match=r"scale_to_box: no dimension has two bounds"):
            MlpPolicy(spec(space), PolicyConfig(scale_to_box=True))


def test_a_product_over_samples_is_that_of_its_pieces():
    """As a GPU computes it, with and without a sum to add it to."""
    delta, x, total = torch.randn(3, 40, 5), torch.randn(3, 40, 4), torch.randn(3, 5, 4)
    expected = torch.einsum("kno,kni->koi", delta, x)
    for pieces in (1, 8):
        found = over_samples_product(delta, x, pieces=pieces)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        found = over_samples_product(delta, x, total.clone(), pieces)
        torch.testing.assert_close(found, total + expected, rtol=1e-4, atol=1e-5)


def test_saturated_tanh_gives_finite_derivatives():
    """The second derivative is zero, not nan, where 1 - tanh^2 rounds to zero."""
    policy = policy_of("box", activation="tanh")
    params = {n: 100 * x for n, x in policy.init(np.random.default_rng(0)).items()}
    obs = torch.full((TASKS, SAMPLES, 4), 10.0)
    here = LinearisedMlp.at(policy, params, obs)
    ones = Gaussian(torch.ones(TASKS, SAMPLES, 2), torch.ones(TASKS, SAMPLES, 2))
    _, deltas = here.vjp(ones)
    found = LossHessian.of(here, deltas, GaussianCurvature(*ones, ones.mean))(params)
    assert all(torch.isfinite(x).all() for x in found.values())


def test_orthogonal_weights_are_orthogonal():
    policy = policy_of("box", init="orthogonal")
    weight = policy.init(np.random.default_rng(0))["layer0.weight"]  # [6, 4]
    torch.testing.assert_close(weight.T @ weight, torch.eye(4), atol=1e-5, rtol=0)


def test_an_action_space_without_a_policy_is_refused_by_name():
    boxes = (MultiBinary(3), Box(-1, 1, (2, 2)), MultiDiscrete(np.array([[3, 2], [2, 2]])))
    from_one = (Discrete(3, start=1), MultiDiscrete([3, 2], start=[0, 1]))
    for space in (*boxes, *from_one):
        with pytest.raises(UserError, match=re.escape(str(space))):
            MlpPolicy(spec(space), PolicyConfig())


READ = {
    "numbers": (Box(-1, 1, (2,)), [0.5, -3.0], [0.5, -3.0]),
    "a choice": (Discrete(4), [2.0], [0, 0, 1, 0]),
    "choices": (MultiDiscrete([2, 3]), [1.0, 0.0], [0, 1, 1, 0, 0]),
}


@pytest.mark.parametrize("read", READ)
def test_choices_are_one_hot_and_numbers_as_they_are(read: str):
    """Side by side, whatever axes lead."""
    space, action, expected = READ[read]
    policy = MlpPolicy(spec(space), PolicyConfig())
    found = policy.encoded(torch.tensor(action).expand(3, 2, -1))
    assert policy.noise_dim == len(expected)
    assert found.shape == (3, 2, len(expected))
    assert found[1, 1].tolist() == expected


def test_every_choice_is_told_apart():
    policy = MlpPolicy(spec(MultiDiscrete([2, 3])), PolicyConfig())
    every = torch.from_numpy(np.indices((2, 3)).reshape(2, -1).T)
    assert len(policy.encoded(every).unique(dim=0)) == 6
    assert policy.encoded(every).sum(-1).tolist() == [2] * 6
