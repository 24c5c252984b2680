"""MAML-TRPO as a loop over tasks, differentiated by plain autograd. Read this file first.

From top to bottom it is Algorithm 3 of MAML (arXiv:1703.03400) with the step of TRPO
(arXiv:1502.05477, App. C) in line 10. The agents compute the same with all tasks in one tensor
axis and derivatives by hand, several times faster (`derivatives/by_hand.py`, `outer/trpo.py`).
Tests compare them with this file, and `scripts/bench_update.py` measures them against it.

A batch is of one task here and has no K axis: obs [N, obs_dim], actions [N, act_dim], advantages
[N], and weights [N] that sum to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from metarl.agents.batch import Batch
from metarl.equations import trust_region
from metarl.equations.distributions import each
from metarl.equations.losses import score_function_loss
from metarl.equations.trust_region import ravel, unravel
from metarl.networks.mlp import MlpPolicy
from metarl.types import Metrics, Params

if TYPE_CHECKING:
    from metarl.agents.outer.trpo import TrpoConfig


class TaskBatches(NamedTuple):
    """The samples that one task gives to a meta-update."""

    supports: Sequence[Batch]  # one for each inner step, collected by the policy before that step
    query: Batch  # collected by the policy after the last step


Adapt: TypeAlias = Callable[[Params, Sequence[Batch]], Params]
"""Maps meta-parameters and one task's supports to the task's own parameters, as `adapt` does."""
Objective: TypeAlias = Callable[[Params], tuple[Tensor, Tensor]]
"""Maps meta-parameters to the gain and the KL, [] each."""
Product: TypeAlias = Callable[[Params], Params]
"""Maps a vector v to H v, where the matrix H is never formed."""


def adapt(
    policy: MlpPolicy,
    params: Params,
    supports: Sequence[Batch],
    lr: float,
    names: Sequence[str],
    first_order: bool = False,
) -> Params:
    """Returns the parameters of one task after one gradient step on each support.

        theta' = theta - alpha grad L(theta)    (arXiv:1703.03400, Algorithm 3, line 7)

    L is the loss whose gradient is the policy gradient, an estimate of that of Eq. 4. The result
    is a function of `params`; where autograd differentiates it, it meets the Hessian of L.

    Args:
        params: theta, and step sizes "lr.NAME" in place of `lr` where there are any: one number
            for each entry of the parameter NAME (Meta-SGD, arXiv:1707.09835).
        names: the parameters that move: all (MAML), the last layer and log_std (ANIL,
            arXiv:1909.09157), or the context inputs (CAVIA, arXiv:1810.03642).
        first_order: take grad L for a constant of that function, which leaves the Hessian out.
    """
    second_order = not first_order and any(x.requires_grad for x in params.values())
    params = policy.begin(params)
    for obs, actions, advantages, weights, _ in supports:
        here = {name: _tracked(params[name]) for name in names}
        loss = score_function_loss(policy({**params, **here}, obs), actions, advantages, weights)
        slope = _grad(loss, here, create_graph=second_order)
        alpha = {name: params.get(f"lr.{name}", lr) for name in names}
        params = {**params, **{name: here[name] - alpha[name] * slope[name] for name in names}}
    return params


def meta_objective(
    policy: MlpPolicy, inner: Adapt, old: Params, tasks: list[TaskBatches]
) -> Objective:
    """Returns the function of the meta-parameters that TRPO maximises, with the KL it bounds:

        mean_i E[pi_i(a|s) / old_i(a|s) A]  and  mean_i E[KL(old_i || pi_i)]    (Eq. 14)

    on the query of task i. pi_i is the policy adapted from the new meta-parameters, and old_i the
    one adapted from `old`, on the same supports. The old ones collected the query.
    """

    def adapted(meta: Params):
        return [policy(inner(meta, task.supports), task.query.obs) for task in tasks]

    old_policies = [each(Tensor.detach, pi) for pi in adapted(old)]

    def objective(meta: Params) -> tuple[Tensor, Tensor]:
        gains, kls = [], []
        for task, old_pi, pi in zip(tasks, old_policies, adapted(meta), strict=True):
            _, actions, advantages, weights, _ = task.query
            gains.append(trust_region.surrogate_gain(pi, old_pi, actions, advantages, weights))
            kls.append((weights * old_pi.kl(pi)).sum())
        return torch.stack(gains).mean(), torch.stack(kls).mean()

    return objective


def derivatives(objective: Objective, meta: Params) -> tuple[float, Params, Product]:
    """Returns the gain, its gradient, and the product v -> H v with the Hessian H of the KL.

    H v = grad (grad KL . v) takes two backward passes and no matrix (App. C.1).
    """
    theta = {name: _tracked(x.detach()) for name, x in meta.items()}
    gain, kl = objective(theta)
    gradient = _grad(gain, theta, retain_graph=True)
    kl_gradient = _grad(kl, theta, create_graph=True)

    def kl_hessian(v: Params) -> Params:
        along = torch.stack([(kl_gradient[name] * v[name]).sum() for name in theta]).sum()
        return _grad(along, theta, retain_graph=True)

    return gain.item(), gradient, kl_hessian


def trust_region_step(gradient: Params, kl_hessian: Product, config: TrpoConfig) -> Tensor:
    """Returns the step s x as one vector: (H + damping) x = gradient, by conjugate gradient, and
    s such that the KL's quadratic model s^2 x.(H + damping) x / 2 is max_kl (App. C)."""

    def product(v: Tensor) -> Tensor:
        return ravel(kl_hessian(unravel(v, gradient)))

    g = ravel(gradient)
    solution = trust_region.conjugate_gradient(product, g, config.cg_iterations, config.damping)
    return trust_region.trust_region_scale(solution, g, config.max_kl) * solution.x


def meta_update(
    policy: MlpPolicy, inner: Adapt, meta: Params, tasks: list[TaskBatches], config: TrpoConfig
) -> tuple[Params, Metrics]:
    """Returns the next meta-parameters: the first of the ever shorter steps that gains within the
    KL bound (App. C), or the old ones where none does."""
    objective = meta_objective(policy, inner, meta, tasks)
    before, gradient, kl_hessian = derivatives(objective, meta)
    step = trust_region_step(gradient, kl_hessian, config)
    for tries in range(config.backtracks):
        candidate = unravel(ravel(meta) + config.backtrack_ratio**tries * step, meta)
        gain, kl = (x.item() for x in objective(candidate))
        if before < gain < torch.inf and kl <= config.max_kl:
            break
    else:
        candidate, gain, kl, tries = meta, before, 0.0, config.backtracks
    return candidate, {
        "surrogate/before": before,
        "surrogate/after": gain,
        "kl": kl,
        "line_search/backtracks": float(tries),
        "line_search/accepted": float(tries < config.backtracks),
    }


def _grad(
    y: Tensor, params: Params, retain_graph: bool | None = None, create_graph: bool = False
) -> Params:
    """Returns the gradient of `y` in each of `params`, zero where `y` does not depend on it."""
    found = torch.autograd.grad(
        y, list(params.values()), None, retain_graph, create_graph, materialize_grads=True
    )
    return dict(zip(params, found, strict=True))


def _tracked(x: Tensor) -> Tensor:
    return x if x.requires_grad else x.detach().requires_grad_()
