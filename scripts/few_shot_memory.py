"""Measures the peak memory of a meta-update through many inner steps.

The table also has the memory that the update would take if it kept all steps.

    python scripts/few_shot_memory.py                    # 1, 5, 10 and 20 steps, digits, 16 tasks
    python scripts/few_shot_memory.py --preset sinusoid-lomaml

Each figure is the peak resident size of a process of its own, minus its size before the update.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from dataclasses import replace


def measured(preset_name: str, steps: int, kept: bool) -> float:
    """MB that one meta-update adds to this process's peak."""
    import numpy as np
    import torch

    from metarl.agents import catalogue, supervised
    from metarl.config.settings import FewShotConfig
    from metarl.envs.supervised import families
    from metarl.experiments.presets import preset

    config = preset(preset_name)
    assert isinstance(config, FewShotConfig), preset_name
    supervised.KEPT_STEPS = steps if kept else 0
    agent = replace(config.agent, inner=replace(config.agent.inner, steps=steps))
    tasks, env, rng = families.build(config.env), config.env, np.random.default_rng(0)
    learner = catalogue.build(tasks.spec, agent, rng, torch.device("cpu"))
    sampled = tasks.sample(config.sampling.tasks, rng)
    support, query = tasks.draw(sampled, env.shots, env.queries, rng)
    before, state = peak(), learner.begin()
    for _ in range(learner.steps):
        state = learner.adapt(state, support)
    learner.meta_update(state, query, rng)
    return peak() - before


def peak() -> float:
    """Resident size at most so far, MB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="digits-lomaml", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(measured(args.preset, int(args.one[0]), args.one[1] == "kept"))
        return
    print(f"{args.preset}: MB above what the process had")
    print("steps  step by step  all kept")
    for steps in args.steps:
        found = [
            float(
                subprocess.run(
                    [sys.executable, __file__, "--preset", args.preset, "--one", str(steps), way],
                    check=True, capture_output=True, text=True,
                ).stdout
            )
            for way in ("again", "kept")
        ]  # fmt: skip
        print(f"{steps:5}  {found[0]:12,.0f}  {found[1]:8,.0f}", flush=True)


if __name__ == "__main__":
    main()
