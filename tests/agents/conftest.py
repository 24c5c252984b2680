"""A small meta-batch with known random numbers, in any precision and action space, and its
meta-objective by the reference."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.agents import reference
from metarl.agents.batch import Batch
from metarl.agents.derivatives.by_hand import ByHand, LinearisedObjective, gain_and_kl
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.rule import InnerRule, NetworkShape, RuleSettings
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.policy_gradient import MetaBatch
from metarl.agents.reference import Adapt, TaskBatches
from metarl.config.settings import PolicyConfig
from metarl.equations.returns import standardize
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec, Metrics, Params

TASKS, SAMPLES, OBS, ACTIONS = 3, 40, 4, 2
IMAGE = 2, 4, 5
"""Image that observations of the problem "image" begin with; OBS numbers follow."""
OPTIONS = {"discrete": [5], "multidiscrete": [5, 3], "image": [5]}
SPACES = {
    "box": Box(-1, 1, (ACTIONS,)),
    "discrete": Discrete(5),
    "image": Discrete(5),
    "multidiscrete": MultiDiscrete([5, 3]),
    "state": Box(-1, 1, (ACTIONS,)),
    "scaled": Box(np.array([1.5, 0.0]), np.array([3.5, np.inf]), dtype=np.float32),
}
GAUSSIANS: dict[str, dict[str, Any]] = {
    "box": {"init_std": 0.8},
    # Wider than the actions: else steps of these sizes lead to deviations of nearly zero.
    "state": {"init_std": 2.0, "std": "state"},
    # The floor is within the range of the deviations.
    "scaled": {"init_std": 1.6, "std": "state", "scale_to_box": True, "min_std": 1.5},
}
"""Settings of policies over a Box."""


class Objective(LinearisedObjective):
    """The meta-objective, with the values that a line search asks for."""

    def evaluate(self, meta: Params) -> tuple[float, float]:
        gain, kl = gain_and_kl(self.data, meta, self.old).tolist()
        return gain, kl


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
        image = IMAGE if space == "image" else None
        seen = Box(-1, 1, (OBS + (prod(image) if image else 0),))
        self.spec = spec = EnvSpec("problem", seen, SPACES[space], 10, image=image)
        settings = {"context": context, "channels": (3, 2), **GAUSSIANS.get(space, {})}
        config = PolicyConfig(hidden, activation, **settings)
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
        obs = self.normal(TASKS, SAMPLES, self.spec.obs_dim)
        if self.options:
            draws = [
                torch.randint(n, obs.shape[:2], generator=self.generator) for n in self.options
            ]
            actions = torch.stack(draws, -1)
        else:
            noise = self.normal(TASKS, SAMPLES, ACTIONS)
            actions = self.policy.kind(0.0 * noise, 0.0 * noise).sample(noise)
        mask = torch.rand(TASKS, SAMPLES, generator=self.generator) < 0.9
        weights = mask.to(self.dtype) / mask.sum(1, keepdim=True)
        advantages = standardize(self.normal(TASKS, SAMPLES), weights)
        return Batch(obs, actions, advantages, weights, self.normal(TASKS, SAMPLES) * mask)

    def loss(self, estimator: str = "score", ratio: bool = False) -> PolicyLoss:
        return PolicyLoss(self.spec, self.policy, "ratio" if ratio else estimator)

    def rule(self, config: RuleSettings) -> InnerRule:
        policy, sample_dim = self.policy, self.loss().sample_dim
        context = policy.config.context
        return config.build(NetworkShape(policy.shapes, policy.layers, sample_dim, context))

    def by_hand(self, config: RuleSettings) -> ByHand:
        """Steps with kept derivatives."""
        return ByHand(self.rule(config), self.loss())

    def objective(self, config: RuleSettings, supports: list[Batch], query: Batch) -> Objective:
        return self.linearised(self.by_hand(config), supports, query, self.params)

    def linearised(
        self, inner: ByHand, supports: list[Batch], query: Batch, meta: Params, fixed: Any = None
    ) -> Objective:
        """The meta-objective at `meta`, on the whole query and in the parameters' own precision."""
        data = MetaBatch(self.policy, inner, supports, query, fixed or {})
        dtype = next(iter(meta.values())).dtype
        return Objective(data, meta, query, dtype)

    def tangent(self) -> Params:
        return {name: self.normal(*x.shape) for name, x in self.params.items()}


class Textbook:
    """The meta-objective of `reference.py` on a problem: a loop over tasks, by autograd."""

    def __init__(
        self,
        problem: Problem,
        inner: SgdConfig | Adapt,
        supports: list[Batch],
        query: Batch,
        old: Params | None = None,
    ):
        """`old`: meta-parameters of the old policies, the problem's own by default."""
        self.policy = problem.policy
        self.inner = gradient_steps(self.policy, inner) if isinstance(inner, SgdConfig) else inner
        self.tasks = [
            TaskBatches([of_task(batch, task) for batch in supports], of_task(query, task))
            for task in range(TASKS)
        ]
        self.objective = reference.meta_objective(
            self.policy, self.inner, problem.params if old is None else old, self.tasks
        )

    def evaluate(self, meta: Params) -> list[float]:
        return [x.item() for x in self.objective(meta)]

    def derivatives(self, meta: Params, tangent: Params) -> tuple[Params, Params]:
        """The gain's gradient, and the Hessian of the KL times `tangent`."""
        _, gradient, kl_hessian = reference.derivatives(self.objective, meta)
        return gradient, kl_hessian(tangent)

    def meta_update(self, meta: Params, config: TrpoConfig) -> tuple[Params, Metrics]:
        return reference.meta_update(self.policy, self.inner, meta, self.tasks, config)


def of_task(batch: Batch, task: int) -> Batch:
    """The batch of one task, without K."""
    return Batch(*(x[task] for x in batch))


def gradient_steps(policy: MlpPolicy, config: SgdConfig) -> Adapt:
    """`reference.adapt` under an agent's settings."""
    every, last = list(policy.shapes), f"layer{policy.layers - 1}."
    head = [name for name in every if name.startswith(last) or name == "log_std"]
    names = {"all": every, "head": head, "context": ["context"]}[config.adapted]
    return partial(
        reference.adapt, policy, lr=config.lr, names=names, first_order=config.first_order
    )


@pytest.fixture(
    params=[
        "box-tanh",
        "box-relu",
        "discrete-tanh",
        "multidiscrete-tanh",
        "state-tanh",
        "state-relu",
        "scaled-tanh",
        "image-tanh",
        "image-relu",
    ]
)
def problem(request: pytest.FixtureRequest) -> Problem:
    space, activation = request.param.split("-")
    return Problem(space, activation)


@pytest.fixture
def make_problem() -> type[Problem]:
    return Problem


@pytest.fixture
def textbook() -> type[Textbook]:
    return Textbook
