"""The policy network and its kept derivatives, against loops and torch.func."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.func import jvp, vjp, vmap

from metarl.config.settings import PolicyConfig
from metarl.equations.distributions import each
from metarl.equations.gaussian import Gaussian, GaussianCurvature
from metarl.errors import UserError
from metarl.networks.linearised import LinearisedMlp, LossHessian
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec

TASKS, SAMPLES = 3, 5
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3), "multidiscrete": MultiDiscrete([3, 2])}


def spec(space):
    return EnvSpec("problem", Box(-1, 1, (4,)), space, 10)


def policy_of(kind, **config):
    return MlpPolicy(spec(SPACES[kind]), PolicyConfig(hidden=(6, 5), **config))


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


def test_min_std_holds_and_stops_its_gradient():
    policy = policy_of("box", min_std=0.5)
    params = policy.init(np.random.default_rng(0))
    params["log_std"] = torch.tensor([math.log(0.1), math.log(0.9)])
    obs = torch.zeros(TASKS, SAMPLES, 4)
    here = LinearisedMlp.at(policy, params, obs)
    assert isinstance(here.distribution, Gaussian)
    torch.testing.assert_close(here.distribution.log_std.exp(), torch.tensor([0.5, 0.9]))
    ones = torch.ones(TASKS, SAMPLES, 2)
    gradient, _ = here.vjp(Gaussian(ones, ones))
    assert gradient["log_std"].sum(0).tolist() == [0.0, float(TASKS * SAMPLES)]


def test_saturated_tanh_gives_finite_derivatives():
    """The second derivative is zero, not nan, where 1 - tanh^2 rounds to zero."""
    policy = policy_of("box", activation="tanh")
    params = {n: 100 * x for n, x in policy.init(np.random.default_rng(0)).items()}
    obs = torch.full((TASKS, SAMPLES, 4), 10.0)
    here = LinearisedMlp.at(policy, params, obs)
    ones = Gaussian(torch.ones(TASKS, SAMPLES, 2), torch.ones(TASKS, SAMPLES, 2))
    _, deltas = here.vjp(ones)
    found = LossHessian(here, deltas, GaussianCurvature(*ones, ones.mean))(params)
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
