"""Trial of the meta-update on a GPU: times, launches, waits, memory, and differences from calls.

Temporary. Runs on a processor as well (small sizes).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "own"))
from invented import played

from metarl import graphs
from metarl.agents import catalogue
from metarl.agents.derivatives import by_hand
from metarl.device import torch_device
from metarl.equations.trust_region import ravel
from metarl.graphs import Flat
from metarl.types import EnvSpec

GPU = torch.cuda.is_available()
SIZES = {
    "40x20x100 64-64": (40, 20, 100, (64, 64), 20, 6, "tanh"),
    "40x20x200 100-100": (40, 20, 200, (100, 100), 20, 6, "relu"),
    "20x10x500 512-512": (20, 10, 500, (512, 512), 39, 4, "tanh"),
}
SMALL = {"4x3x12 8-8": (4, 3, 12, (8, 8), 5, 2, "tanh")}


def guarded(label: str, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        print(f"  FAILED {label}")
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()


def built(name: str, size: Any, **outer: Any) -> Any:
    _, _, steps, hidden, obs, act, activation = size
    config = catalogue.default(name)
    policy = replace(config.policy, hidden=hidden, activation=activation)
    config = replace(config, policy=policy, outer=replace(config.outer, **outer))
    spec = EnvSpec("any", Box(-1, 1, (obs,)), Box(-1, 1, (act,)), steps)
    return catalogue.build(spec, config, np.random.default_rng(0), torch_device("auto"))


def episodes(agent: Any, size: Any, seed: int) -> list[Any]:
    state, found = agent.begin(), []
    for index in range(agent.steps + 1):
        found.append(played(agent, state, seed + index, size[0], size[2], size[1]))
        if index < agent.steps:
            state = agent.adapt(state, found[-1])
    return found


def update(agent: Any, data: list[Any]) -> tuple[Any, Any]:
    """The step of the meta-parameters; the agent is put back."""
    before = agent.meta, agent.outer_state
    state = agent.begin()
    for support in data[:-1]:
        state = agent.adapt(state, support)
    metrics = agent.meta_update(state, data[-1], np.random.default_rng(0))
    step = ravel(agent.meta) - ravel(before[0])
    agent.meta, agent.outer_state = before
    return step, metrics


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of each call."""
    found = []
    for _ in range(repeats):
        if GPU:
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if GPU:
            torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - start))
    return sorted(found)


def eagerly(work: Callable[[], Any]) -> Any:
    """Calls without graphs."""
    kept = graphs._Graphs.__call__
    graphs._Graphs.__call__ = lambda self, *a, **k: self.function(*a, **k)
    try:
        return work()
    finally:
        graphs._Graphs.__call__ = kept


def profile(work: Callable[[], Any]) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    events = list(found.events() or [])
    names = [e.name for e in events]
    kernels = [e for e in events if str(e.device_type).endswith("CUDA")]
    busy = sum(e.device_time for e in kernels) / 1e3
    print(
        f"    profile: {len(kernels)} kernels, busy {busy:.1f} ms; launches "
        f"{sum('LaunchKernel' in n for n in names)}, graphs {sum('GraphLaunch' in n for n in names)}"
        f", waits {sum('Synchronize' in n for n in names)}, "
        f"item {sum(n == 'aten::_local_scalar_dense' for n in names)}"
    )
    by_name: dict[str, list[float]] = {}
    for e in kernels:
        by_name.setdefault(e.name[:90], []).append(e.device_time / 1e3)
    for name, times in sorted(by_name.items(), key=lambda x: -sum(x[1]))[:14]:
        print(f"      {sum(times):8.2f} ms {len(times):6d} x {name}")


def study(name: str, label: str, size: Any, **outer: Any) -> None:
    print(f"{name}, {label}, {outer}", flush=True)
    agent = built(name, size, **outer)
    one, two = episodes(agent, size, 0), episodes(agent, size, 50)
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    expected = [eagerly(lambda d=d: update(agent, d)) for d in (one, two)]
    print(
        "    eager ms", [f"{x:.1f}" for x in eagerly(lambda: timed(lambda: update(agent, one), 3))]
    )
    if GPU:
        print(f"    eager peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
        torch.cuda.reset_peak_memory_stats()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for turn, (data, (step, metrics)) in enumerate(
            zip([one, two] * 3, expected * 3, strict=True)
        ):
            found, others = update(agent, data)
            cosine = torch.cosine_similarity(found, step, dim=0)
            worst = float((found - step).abs().max() / step.abs().max())
            if turn in (0, 2, 3, 5):
                print(
                    f"    turn {turn}: cosine with eager {float(cosine):.7f}, worst {worst:.1e}, "
                    f"gain {others.get('surrogate/after')} {metrics.get('surrogate/after')}, "
                    f"tries {others.get('line_search/backtracks')}"
                )
    for one_said in {str(w.message)[:300] for w in said}:
        print("    WARNING", one_said)
    print("    graph ms", [f"{x:.1f}" for x in timed(lambda: update(agent, one), 7)])
    if GPU:
        print(
            f"    graph peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB, reserved "
            f"{torch.cuda.max_memory_reserved() / 2**30:.2f}"
        )
        guarded("parts", lambda: parts(agent, one))
        guarded("graph profile", lambda: profile(lambda: update(agent, one)))
    if hasattr(agent.outer, "direction"):
        guarded("sync", lambda: waits(agent, one))
        guarded("cosine", lambda: dtypes(agent, one))
        if GPU:
            torch.backends.cuda.matmul.allow_tf32 = True
            other = built(name, size, **outer)
            work = [update(other, one) for _ in range(3)]
            print(
                "    TF32 in all of it, ms",
                [f"{x:.1f}" for x in timed(lambda: update(other, one), 5)],
                "cosine",
                float(torch.cosine_similarity(work[-1][0], expected[0][0], dim=0)),
            )
            torch.backends.cuda.matmul.allow_tf32 = False


def objective_of(agent: Any, data: list[Any]) -> Any:
    state = agent.begin()
    for support in data[:-1]:
        state = agent.adapt(state, support)
    return agent.objective(state, data[-1])


def parts(agent: Any, data: list[Any]) -> None:
    def show(label: str, work: Callable[[], Any]) -> None:
        print(f"    {label}: {timed(work, 5)[2]:.2f} ms")

    objective = objective_of(agent, data)
    show("batch", lambda: agent.batch(data[-1]))
    if data[:-1]:
        show("adapt with batch", lambda: agent.adapt(agent.begin(), data[0]))
    outer = agent.outer
    if hasattr(outer, "direction"):
        found = outer.direction(objective, agent.meta, None)
        show("direction", lambda: outer.direction(objective, agent.meta, None))
        show("gain_and_kl", lambda: by_hand.gain_and_kl(objective, agent.meta, found.old))
    elif hasattr(outer, "epoch"):
        lr = torch.full((), 0.001, dtype=torch.float64, device=agent.device)
        show("epoch", lambda: outer.epoch(objective, agent.meta, agent.outer_state, lr))


def waits(agent: Any, data: list[Any]) -> None:
    objective = objective_of(agent, data)
    if GPU:
        torch.cuda.set_sync_debug_mode("error")
    try:
        eagerly(lambda: agent.outer.direction(objective, agent.meta, None))
        print("    direction: no wait")
    finally:
        if GPU:
            torch.cuda.set_sync_debug_mode("default")


def dtypes(agent: Any, data: list[Any]) -> None:
    objective, outer, found = objective_of(agent, data), agent.outer, {}
    usual = outer.config
    for dtype in ("float64", "float32", "tf32", "bfloat16"):
        if dtype == "float64" and max(agent.policy.sizes) > 200:
            continue
        outer = type(outer)(replace(usual, product_dtype=dtype))
        work = lambda: eagerly(lambda: outer.direction(objective, agent.meta, None))  # noqa: E731
        found[dtype] = work()
        times = timed(work, 3)
        cosine = torch.cosine_similarity(
            found[dtype].step, found["float32" if "float32" in found else dtype].step, dim=0
        )
        print(
            f"    {dtype}: eager direction {times[1]:.1f} ms, cosine with float32 {float(cosine):.6f}, "
            f"numbers {[f'{x:.4g}' for x in found[dtype].numbers()]}"
        )


def capturable() -> None:
    """Which single operations a graph takes."""
    k, n = (20, 82) if GPU else (2, 3)
    device = torch_device("auto")
    a = torch.randn(k, 4 * n, n, dtype=torch.float64, device=device)
    gram, b = a.mT @ a, torch.randn(k, n, 1, dtype=torch.float64, device=device)

    def by_cholesky(gram: Any, b: Any) -> Any:
        low, _ = torch.linalg.cholesky_ex(gram)
        half = torch.linalg.solve_triangular(low, b, upper=False)
        return torch.linalg.solve_triangular(low.mT, half, upper=True)

    trials = {
        "solve_ex": lambda g, b: torch.linalg.solve_ex(g, b)[0],
        "cholesky": by_cholesky,
        "lu_factor_ex": lambda g, b: torch.linalg.lu_factor_ex(g)[0],
    }
    for label, function in trials.items():
        one = graphs.graphed(function)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(3):
                found = one(gram, b)
        print(
            label,
            "warnings",
            [str(w.message)[:200] for w in said],
            "error",
            float((gram @ found - b).abs().max()) if label != "lu_factor_ex" else "",
            "ms",
            timed(lambda: one(gram, b), 5)[2],
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="all")
    args = parser.parse_args()
    print(torch.__version__, torch.cuda.get_device_name() if GPU else "cpu")
    if GPU:
        torch.zeros(1).cuda()
    sizes = SIZES if GPU else SMALL
    if args.sizes != "all":
        sizes = {n: x for n, x in sizes.items() if args.sizes in n}
    for label, size in sizes.items():
        exact = {"query_fraction": 1.0}
        guarded(label, lambda: study("maml-trpo", label, size, **exact))  # noqa: B023
        if GPU:
            Flat.of(())
            torch.cuda.empty_cache()
    first = next(iter(sizes.values()))
    for name in ("maml-vpg", "lomaml-trpo"):
        guarded(name, lambda: study(name, "first size", first))  # noqa: B023
    for label, size in sizes.items():
        guarded(label, lambda: study("promp", label, size))  # noqa: B023
    guarded("capturable", capturable)


if __name__ == "__main__":
    main()
