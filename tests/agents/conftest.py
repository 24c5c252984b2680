"""A small meta-batch with known random numbers, in any precision and action space, and what the
textbook makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.agents.batch import Batch
from metarl.agents.inner.sgd import Sgd
from metarl.agents.objective import AdaptationObjective
from metarl.config.settings import PolicyConfig, SgdConfig
from metarl.equations.distributions import each
from metarl.equations.losses import score_function_loss
from metarl.equations.returns import standardize
from metarl.equations.trust_region import surrogate_gain
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec, Params

TASKS, SAMPLES, OBS, ACTIONS = 3, 40, 4, 2
OPTIONS = {"discrete": [5], "multidiscrete": [5, 3]}
SPACES = {
    "box": Box(-1, 1, (ACTIONS,)),
    "discrete": Discrete(5),
    "multidiscrete": MultiDiscrete([5, 3]),
}


class Problem:
    """A policy, parameters, and batches of K tasks with some padding."""

    def __init__(
        self,
        space: str,
        activation: Any,
        dtype: torch.dtype = torch.float64,
        hidden: tuple[int, ...] = (8, 7),
        context: int = 0,
    ):
        self.spec = spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[space], 10)
        config = PolicyConfig(hidden, activation, init_std=0.8, context=context)
        self.policy = MlpPolicy(spec, config)
        self.options = OPTIONS.get(space)
        self.generator = torch.Generator().manual_seed(3)
        self.dtype = dtype
        start = self.policy.init(np.random.default_rng(0))
        self.params: Params = {
            name: x.to(dtype) + 0.1 * self.normal(*x.shape) for name, x in start.items()
        }

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=self.dtype)

    def batch(self) -> Batch:
        obs = self.normal(TASKS, SAMPLES, OBS)
        if self.options:
            draws = [
                torch.randint(n, obs.shape[:2], generator=self.generator) for n in self.options
            ]
            actions = torch.stack(draws, -1)
        else:
            actions = self.normal(TASKS, SAMPLES, ACTIONS)
        mask = torch.rand(TASKS, SAMPLES, generator=self.generator) < 0.9
        weights = mask.to(self.dtype) / mask.sum(1, keepdim=True)
        advantages = standardize(self.normal(TASKS, SAMPLES), weights)
        return Batch(obs, actions, advantages, weights, self.normal(TASKS, SAMPLES) * mask)

    def objective(
        self, config: SgdConfig, supports: list[Batch], query: Batch
    ) -> AdaptationObjective:
        rule = Sgd(self.policy, config)
        return AdaptationObjective(
            self.policy, rule, self.params, supports, query, query, self.dtype
        )

    def tangent(self) -> Params:
        return {name: self.normal(*x.shape) for name, x in self.params.items()}


class Textbook:
    """The meta-objective in a loop over tasks, for torch.autograd to differentiate twice."""

    def __init__(self, problem: Problem, config: SgdConfig, supports: list[Batch], query: Batch):
        """The old policies are those at the problem's parameters."""
        self.policy, self.config = problem.policy, config
        self.supports, self.query = supports, query
        start = leaf(problem.params)
        self.moved = [name for name in self.policy.begin(start) if self._moves(name)]
        self.olds = [
            each(torch.Tensor.detach, self.policy(self.adapted(start, task), query.obs[task]))
            for task in range(TASKS)
        ]

    def _moves(self, name: str) -> bool:
        head = name in ("layer2.weight", "layer2.bias", "log_std")
        return {"all": not name.startswith("lr."), "head": head, "context": name == "context"}[
            self.config.moved
        ]

    def adapted(self, meta: Params, task: int) -> Params:
        """theta' of one task, one step after another."""
        params = self.policy.begin(meta)
        if "context" in params:
            params["context"].requires_grad_()
        for batch in self.supports:
            obs, *rest, _ = (x[task] for x in batch)
            loss = score_function_loss(self.policy(params, obs), *rest)
            start = [params[name] for name in self.moved]
            gradient = torch.autograd.grad(loss, start, create_graph=not self.config.first_order)
            for name, g in zip(self.moved, gradient, strict=True):
                lr = meta[f"lr.{name}"] if self.config.learn_lr else self.config.lr
                params = {**params, name: params[name] - lr * g}
        return params

    def mean_gain_and_kl(self, meta: Params) -> tuple[torch.Tensor, torch.Tensor]:
        gains, kls = [], []
        for task, old in enumerate(self.olds):
            obs, actions, advantages, weights, _ = (x[task] for x in self.query)
            new = self.policy(self.adapted(meta, task), obs)
            gains.append(surrogate_gain(new, old, actions, advantages, weights))
            kls.append((weights * old.kl(new)).sum())
        return torch.stack(gains).mean(), torch.stack(kls).mean()

    def evaluate(self, meta: Params) -> list[float]:
        return [x.item() for x in self.mean_gain_and_kl(leaf(meta))]

    def derivatives(self, meta: Params, tangent: Params) -> tuple[Params, Params]:
        """The gain's gradient, and the Hessian of the KL times `tangent`."""
        params = leaf(meta)
        gain, kl = self.mean_gain_and_kl(params)
        gradient = torch.autograd.grad(gain, list(params.values()), retain_graph=True)
        slopes = torch.autograd.grad(kl, list(params.values()), create_graph=True)
        pairs = zip(params, slopes, strict=True)
        along = torch.stack([(slope * tangent[name]).sum() for name, slope in pairs]).sum()
        product = torch.autograd.grad(along, list(params.values()))
        return dict(zip(params, gradient, strict=True)), dict(zip(params, product, strict=True))


def leaf(params: Params) -> Params:
    return {name: x.detach().clone().requires_grad_() for name, x in params.items()}


@pytest.fixture(params=["box-tanh", "box-relu", "discrete-tanh", "multidiscrete-tanh"])
def problem(request: pytest.FixtureRequest) -> Problem:
    space, activation = request.param.split("-")
    return Problem(space, activation)


@pytest.fixture
def make_problem() -> type[Problem]:
    return Problem


@pytest.fixture
def textbook() -> type[Textbook]:
    return Textbook
