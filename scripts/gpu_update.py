"""Times of the exact meta-update, on synthetic episodes that are already on the device.

Exact means all data and ten iterations of conjugate gradient. `update` is what a meta-iteration
learns: the advantages of both rounds, an inner step and the outer step. `outer step` begins where
the advantages are known, and has the inner step's derivative in it, as an implementation with
prepared batches. The cosine is that of the change of the meta-parameters with float32's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import torch
from bench_update import build
from gymnasium.spaces import Box
from torch import Tensor

from metarl.agents import catalogue as agents
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.device import use_threads
from metarl.equations.gaussian import Gaussian
from metarl.equations.trust_region import ravel
from metarl.types import EnvSpec, Metrics, Trajectories


class Size(NamedTuple):
    """A meta-batch and the policy that learns from it."""

    tasks: int
    episodes: int
    steps: int
    hidden: tuple[int, ...]
    activation: str
    obs_dim: int
    act_dim: int

    def __str__(self) -> str:
        widths = "-".join(map(str, self.hidden))
        return f"{self.tasks} x {self.episodes} x {self.steps}, MLP {widths} {self.activation}"


SIZES = (
    Size(40, 20, 100, (64, 64), "tanh", 20, 6),  # halfcheetah-vel-promp-maml-trpo
    Size(40, 20, 200, (100, 100), "relu", 20, 6),  # halfcheetah-vel-maml2017
    Size(20, 10, 500, (512, 512), "tanh", 39, 4),  # ml10-maml-trpo
)
SMALL = (Size(4, 2, 10, (8, 8), "tanh", 20, 6),)
WARM_UP = 3
MOST = 30
"""Repeats of an update, if the time is enough."""


def precisions() -> list[str]:
    """Returns the settings of `product_dtype`, float32 first."""
    offered = get_args(get_type_hints(TrpoConfig)["product_dtype"])
    return ["float32", *(name for name in offered if name not in ("float32", "float64"))]


def agent_of(size: Size, precision: str, device: torch.device) -> PolicyGradientAgent:
    config = agents.default("maml-trpo")
    outer: Any = replace(
        config.outer, query_fraction=1.0, cg_iterations=10, product_dtype=precision
    )  # pyright: ignore[reportCallIssue]
    activation: Any = size.activation
    policy = replace(config.policy, hidden=size.hidden, activation=activation)
    box = [Box(-1.0, 1.0, (n,), np.float32) for n in (size.obs_dim, size.act_dim)]
    spec = EnvSpec("synthetic", box[0], box[1], size.steps)
    agent = build(spec, replace(config, outer=outer, policy=policy), device)
    assert isinstance(agent, PolicyGradientAgent)
    return agent


def episodes_of(size: Size, seed: int, device: torch.device) -> Trajectories:
    """Returns whole episodes in which an action is the better the nearer it is to a task's own."""
    generator = torch.Generator().manual_seed(seed)
    grid = (size.tasks, size.steps, size.episodes)
    obs, actions = (
        torch.randn(*grid, n, generator=generator).to(device) for n in (size.obs_dim, size.act_dim)
    )
    best = torch.randn(size.tasks, 1, 1, size.act_dim, generator=generator).to(device)
    truncated = torch.zeros(grid, dtype=torch.bool, device=device)
    truncated[:, -1] = True
    return Trajectories(
        obs,
        actions,
        -(actions - best).square().mean(-1),
        terminated=torch.zeros_like(truncated),
        truncated=truncated,
        mask=torch.ones_like(truncated),
        final_obs=obs[:, -1],
        solved_at=torch.zeros(size.tasks, size.episodes, dtype=torch.int32, device=device),
        behaviour=Gaussian(torch.zeros_like(actions), torch.zeros_like(actions)),
    )


def timed(
    work: Callable[[], Any], restore: Callable[[], Any], device: torch.device, limit_s: float
) -> list[float]:
    """Returns the milliseconds of up to MOST calls; `restore` follows each, and does not count."""
    found, started = [], time.perf_counter()
    while len(found) < WARM_UP + MOST:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        found.append(1e3 * (time.perf_counter() - start))
        restore()
        if len(found) > WARM_UP and time.perf_counter() - started > limit_s:
            break
    return found[WARM_UP:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Repeated:
    """An agent that takes the same update again and again, from the same meta-parameters."""

    def __init__(self, size: Size, precision: str, device: torch.device):
        self.agent = agent_of(size, precision, device)
        self.support, self.query = (episodes_of(size, seed, device) for seed in (1, 2))
        self.before, self.rng = self.agent.state_dict(), np.random.default_rng(0)
        adapted = self.agent.adapt(self.agent.begin(), self.support)
        self.objective = self.agent.objective(adapted, self.query)

    def update(self) -> Metrics:
        agent = self.agent
        return agent.meta_update(agent.adapt(agent.begin(), self.support), self.query, self.rng)

    def outer_step(self) -> None:
        agent = self.agent
        agent.outer.step(agent.meta, agent.outer_state, self.objective, self.rng)

    def restore(self) -> None:
        self.agent.load_state_dict(self.before)

    def change(self) -> tuple[Tensor, Metrics]:
        """Returns the change of the meta-parameters by an update, and its metrics."""
        start = ravel(self.agent.meta)
        metrics = self.update()
        found = ravel(self.agent.meta) - start
        self.restore()
        return found, metrics


def measure(size: Size, device: torch.device, limit_s: float) -> Iterator[dict[str, Any]]:
    """Yields a row for each precision of the products, each measured for about `limit_s`."""
    exact = None
    for precision in precisions():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        repeated = Repeated(size, precision, device)
        change, metrics = repeated.change()
        exact = change if exact is None else exact
        whole = timed(repeated.update, repeated.restore, device, limit_s / 2)
        peak = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None
        alone = timed(repeated.outer_step, repeated.restore, device, limit_s / 2)
        yield {
            "size": str(size),
            "precision": precision,
            "update_ms": whole,
            "outer_step_ms": alone,
            "cosine": float(torch.cosine_similarity(change, exact, dim=0)),
            "accepted": metrics["line_search/accepted"],
            "backtracks": metrics["line_search/backtracks"],
            "peak_mb": peak,
        }


def report(device: torch.device, small: bool, limit_s: float) -> Iterator[dict[str, Any]]:
    """Prints the table of all sizes and yields its rows."""
    use_threads("auto")
    sizes = SMALL if small else SIZES
    print(
        f"{'exact meta-update':<34}{'products':>10}{'update (ms)':>13}{'outer step (ms)':>17}"
        f"{'cosine':>9}{'backtracks':>12}{'peak (MB)':>11}"
    )
    for size in sizes:
        for row in measure(size, device, limit_s / len(sizes) / len(precisions())):
            peak = "-" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}"
            print(
                f"{row['size']:<34}{row['precision']:>10}{median(row['update_ms']):>13.1f}"
                f"{median(row['outer_step_ms']):>17.1f}{row['cosine']:>9.5f}"
                f"{row['backtracks']:>12.0f}{peak:>11}",
                flush=True,
            )
            yield row
