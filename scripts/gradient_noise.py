"""How much two independent meta-batches agree about the gradient of the meta-parameters.

Takes trained runs of the MAML family or of joint training, with PPO outside. Each plays
meta-batches of new training tasks, by default with its own numbers of tasks and episodes. The
cosine is between their gradients of the surrogate without clipping, a mean over all pairs. It is 1
without noise and near 0 where noise dominates; larger meta-batches raise it.

    python scripts/gradient_noise.py results/halfcheetah-vel-agents/{joint-ppo,promp,maml-ppo}
"""

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

import metarl
from metarl.agents.derivatives.autograd import Autograd
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import Config
from metarl.equations.trust_region import ravel
from metarl.experiments.assembly import run_config
from metarl.sampling.rounds import adaptation_rounds
from metarl.threads import cores
from metarl.types import Workers

SEED = 7
"""First number of the keys of all episodes; those of training begin with the run's seed."""


def gradients(run: Path, args: argparse.Namespace) -> tuple[list[torch.Tensor], int]:
    """Returns the gradients of independent meta-batches, and the environment steps of one.

    Raises:
        SystemExit: for a run whose outer rule does not take this gradient.
    """
    config, agent = run_config(run), (loaded := metarl.load(run)).agent
    if not (
        isinstance(config, Config)
        and isinstance(agent, PolicyGradientAgent)
        and isinstance(agent.inner, Autograd)
    ):
        raise SystemExit(
            f"{run} was trained by {config.agent.name}; give runs of the MAML family or of joint "
            "training with PPO outside"
        )
    tasks = args.tasks or config.sampling.tasks
    episodes = args.episodes or config.sampling.episodes
    found, steps = [], 0
    with closing(loaded.distribution.open(tasks, episodes, Workers(cores().count))) as env:
        for index in range(args.batches):
            rng = np.random.default_rng([SEED, index])
            drawn = loaded.distribution.sample(tasks, rng, "train", config.sampling.task_draw)
            key = (SEED, index)
            state, played = adaptation_rounds(
                agent, env, agent.spec, drawn, episodes, agent.steps, key, agent.device
            )
            steps = sum(int(x.mask.sum()) for x in played)
            gradient, _ = agent.objective(state, played[-1]).gradient(agent.meta)
            found.append(ravel(gradient))
    return found, steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--batches", type=int, default=6, help="(default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=0, help="0: the run's (default)")
    parser.add_argument("--episodes", type=int, default=0, help="0: the run's (default)")
    args = parser.parse_args()
    if args.batches < 2:
        parser.error(f"--batches is {args.batches}; two are the fewest that can agree")
    print("| run | environment steps of a meta-batch | cosine |\n|---|---|---|")
    for run in args.runs:
        found, steps = gradients(run, args)
        pairs = [torch.cosine_similarity(a, b, 0) for a, b in combinations(found, 2)]
        print(f"| {run.name} | {steps:,} | {torch.stack(pairs).mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
