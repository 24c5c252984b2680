"""How fast one MAML-TRPO meta-update is, against the usual way of writing it.

The usual way: a Python loop over tasks, autograd with create_graph through the inner step, and
Hessian-vector products of the KL by a second backward pass over its retained graph, on all data.
Ours: all tasks at once, Gauss-Newton products from kept derivatives. Both take the same batch,
the same advantages, 10 CG iterations and the same line search; measured by turns in one run, so
the ratios can be quoted where the seconds cannot.

    python scripts/bench_update.py --tasks 40 --episodes 20 --steps 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch, learning_batch
from metarl.agents.gradient_agent import GradientAgent, TaskState
from metarl.config import AgentConfig, PolicyConfig, TrpoConfig
from metarl.envs import catalogue
from metarl.equations.distributions import each
from metarl.equations.losses import score_function_loss, surrogate_gain
from metarl.equations.trust_region import conjugate_gradient, trust_region_scale
from metarl.equations.vectors import ravel, unravel
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Params, Trajectories, Workers


class TheUsualWay:
    """The same update as most public code writes it."""

    def __init__(self, agent: GradientAgent):
        self.policy, self.meta = agent.policy, agent.meta
        self.lr, self.config = agent.inner.config.lr, agent.outer.config

    def adapted(self, params: Params, support: Batch, task: int, create_graph: bool) -> Params:
        obs, *rest = (x[task] for x in support)
        loss = score_function_loss(self.policy(params, obs), *rest)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
        return {n: p - self.lr * g for (n, p), g in zip(params.items(), grads, strict=True)}

    def gain_and_kl(self, params: Params, support: Batch, query: Batch, olds: list, graph: bool):
        gains, kls = [], []
        for task in range(query.obs.shape[0]):
            obs, actions, advantages, weights = (x[task] for x in query)
            adapted = self.adapted(params, support, task, create_graph=graph)
            new = self.policy(adapted, obs)
            if len(olds) <= task:
                olds.append(each(Tensor.detach, new))
            gains.append(surrogate_gain(new, olds[task], actions, advantages, weights))
            kls.append((weights * olds[task].kl(new)).sum())
        return torch.stack(gains).mean(), torch.stack(kls).mean()

    def direction(self, support: Batch, query: Batch) -> tuple[Tensor, list, float]:
        params = {n: x.clone().requires_grad_() for n, x in self.meta.items()}
        names, leaves, olds = list(params), list(params.values()), []
        gain, kl = self.gain_and_kl(params, support, query, olds, graph=True)
        gradient = torch.autograd.grad(gain, leaves, retain_graph=True)
        slopes = torch.autograd.grad(kl, leaves, create_graph=True)

        def product(vector: Tensor) -> Tensor:
            tangent = unravel(vector, self.meta)
            along = torch.stack(
                [(s * tangent[n]).sum() for n, s in zip(names, slopes, strict=True)]
            ).sum()
            second = torch.autograd.grad(along, leaves, retain_graph=True)
            hv = ravel(dict(zip(names, second, strict=True)))
            return hv + self.config.damping * vector

        flat = ravel(dict(zip(names, gradient, strict=True)))
        solution = conjugate_gradient(product, flat, self.config.cg_iterations)
        scale = trust_region_scale(solution, flat, self.config.max_kl)
        return scale * solution.x, olds, gain.item()

    def update(self, support: Batch, query: Batch) -> None:
        direction, olds, before = self.direction(support, query)
        start = ravel(self.meta)
        for tries in range(self.config.backtracks):
            step = self.config.backtrack_ratio**tries * direction
            candidate = unravel(start + step, self.meta)
            leaves = {n: x.requires_grad_() for n, x in candidate.items()}
            gain, kl = self.gain_and_kl(leaves, support, query, olds, graph=False)
            if gain.item() > before and kl.item() <= self.config.max_kl:
                return


class Ours:
    """The agent's own update, without keeping its result."""

    def __init__(self, agent: GradientAgent, fraction: float, dtype: str):
        outer = replace(agent.outer.config, query_fraction=fraction, product_dtype=dtype)
        config = replace(agent.config, outer=outer)
        spec = agent.spec
        self.agent = GradientAgent(spec, config, np.random.default_rng(0), agent.device)
        self.agent.meta = agent.meta

    def direction(self, state: TaskState, query: Trajectories) -> Tensor:
        objective = self.agent.objective(state, query, np.random.default_rng(0))
        return self.agent.outer.direction(objective)[0]

    def update(self, state: TaskState, query: Trajectories) -> None:
        objective = self.agent.objective(state, query, np.random.default_rng(0))
        self.agent.outer.step(self.agent.meta, objective)


def data(args: argparse.Namespace) -> tuple[GradientAgent, TaskState, Trajectories]:
    """An agent a few updates old, and what its next update learns from."""
    distribution = catalogue.make("half-cheetah-vel:promp", args.steps)
    config = AgentConfig(policy=PolicyConfig(hidden=(64, 64), activation=args.activation))
    device = torch.device(args.device)
    agent = GradientAgent(distribution.spec, config, np.random.default_rng(0), device)
    env = distribution.open(args.tasks, args.episodes, Workers(2))
    tasks = distribution.sample(args.tasks, np.random.default_rng(0))
    state, rounds = None, []
    for index in range(3):
        state, rounds = adaptation_rounds(
            agent, env, distribution.spec, tasks, args.episodes, 1, (0, index), device
        )
        if index < 2:
            agent.meta_update(state, rounds[-1], np.random.default_rng(index))
    env.close()
    assert state is not None
    return agent, state, rounds[-1]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    args = parse()
    agent, state, query = data(args)
    usual = TheUsualWay(agent)
    support = state.supports[0]
    advantages = partial(learning_batch, query, agent.config.advantages)
    default = TrpoConfig()
    contenders = {
        "all data, float32": Ours(agent, 1.0, "float32"),
        "all data, bfloat16 Hessians": Ours(agent, 1.0, "bfloat16"),
        "a tenth of the query, float32": Ours(agent, 0.1, "float32"),
        "a tenth of the query, bfloat16 Hessians": Ours(agent, 0.1, "bfloat16"),
        "the defaults": Ours(agent, default.query_fraction, default.product_dtype),
    }
    print(
        f"{args.tasks} tasks x {args.episodes} episodes x {args.steps} steps, MLP 64-64 "
        f"{args.activation}, {agent.outer.config.cg_iterations} CG iterations, "
        f"{torch.get_num_threads()} torch threads on {args.device}, median of {args.repeats} turns"
    )
    exact = usual.direction(support, advantages())[0]
    times: dict[str, list[float]] = {name: [] for name in ("usual", *contenders)}
    for _ in range(args.repeats):
        times["usual"].append(seconds(lambda: usual.update(support, advantages())))
        for name, ours in contenders.items():
            times[name].append(seconds(lambda ours=ours: ours.update(state, query)))
    slow = median(times["usual"])
    print(f"{'the usual way (loop, double backward)':<42}{slow:7.2f} s")
    for name, ours in contenders.items():
        cosine = float(torch.cosine_similarity(ours.direction(state, query), exact, dim=0))
        own = median(times[name])
        print(f"{name:<42}{own:7.2f} s  {slow / own:5.1f}x faster  direction's cosine {cosine:.5f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--activation", choices=("relu", "tanh"), default="relu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
