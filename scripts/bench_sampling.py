"""Compares the speed of sampling with the speed of the simulators alone and of gymnasium.

An MLP 100-100 chooses every action. There are two parts:

* mujoco: the half-cheetahs, compared with bare `mujoco.rollout` of the same simulations, and with
  a gymnasium SyncVectorEnv of HalfCheetah-v5.
* pool: 64 environments that step one at a time on worker processes, compared with SyncVectorEnv
  and AsyncVectorEnv. One is CartPole, the other takes about 50 us a step. Their poles never fall,
  so that all play the same number of steps.

The measurements of a ratio alternate within one run. Single timings are noisy, so quote the ratios
only.

    python scripts/bench_sampling.py --only mujoco --tasks 40 --episodes 20 --threads 2
    python scripts/bench_sampling.py --only pool --workers 2
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout
from poles import UnfallingPole, burden_of

from metarl.agents.catalogue import default
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.envs import catalogue
from metarl.envs.gym.parameters import Uniform
from metarl.envs.gym.tasks import gym_tasks
from metarl.envs.mujoco.half_cheetah import HalfCheetahEnv
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Sampler
from metarl.types import Workers

CPU = torch.device("cpu")
VARIANTS = {5: "half-cheetah-vel:gymnasium", 1: "half-cheetah-vel:maml2017"}
"""Frame skip -> the benchmark that has it."""


class Mlp:
    """A Gaussian policy of given widths with unit deviation; functional, without gradients."""

    def __init__(self, obs_dim: int, act_dim: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        widths = [obs_dim, 100, 100, act_dim]
        self.layers = [
            (torch.randn(n_in, n_out, generator=generator) / n_in**0.5, torch.zeros(n_out))
            for n_in, n_out in pairwise(widths)
        ]

    def __call__(self, obs: np.ndarray, noise: torch.Tensor) -> np.ndarray:
        hidden = torch.from_numpy(obs).reshape(-1, obs.shape[-1])
        *inner, (last, bias) = self.layers
        for weight, offset in inner:
            hidden = torch.relu(torch.addmm(offset, hidden, weight))
        return (torch.addmm(bias, hidden, last) + noise).numpy()


class Ours:
    """Episodes as training collects them: batched policy, observations, masks, rewards stored."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.distribution = catalogue.make(name, args.steps)
        spec, shape = self.distribution.spec, (args.tasks, args.episodes)
        self.sampler = Sampler(self.distribution, *shape, Workers(args.workers))
        # Another one, whose first states and whose model the bare simulations need.
        env = self.distribution.open(*shape, Workers(0))
        assert isinstance(env, HalfCheetahEnv)
        self.env = env
        rng = np.random.default_rng(args.seed)
        self.sampler.set_tasks(self.distribution.sample(args.tasks, rng))
        self.agent = PolicyGradientAgent(spec, default("maml-trpo"), rng, CPU)
        self.draws = RoundDraws(shape, *self.agent.noise, (args.seed,), args.steps)
        self.state = self.agent.begin()
        self.first = self.controls = np.empty(0)

    def play(self) -> float:
        """Seconds for an episode of all simulations, the reset and the storing included."""
        start = time.perf_counter()
        played = self.sampler.play(self.agent, self.state, 0, self.draws, CPU)
        seconds = time.perf_counter() - start
        tasks, episodes = self.draws.shape
        places = [(k, e) for k in range(tasks) for e in range(episodes)]
        self.env.reset(self.draws.seeds(places).reshape(self.draws.shape))
        batch = self.env.batch
        self.first = np.hstack([np.zeros((batch.size, 1)), batch.qpos, batch.qvel])
        actions = played.actions.transpose(0, 1).flatten(1, 2).double().numpy()
        self.controls = np.clip(actions, -1.0, 1.0)
        return seconds

    def close(self) -> None:
        self.sampler.close()
        self.env.close()


class Bare:
    """`mujoco.rollout` over the states and controls that `ours` went through, nothing else."""

    def __init__(self, ours: Ours, args: argparse.Namespace):
        self.ours, self.batch = ours, ours.env.batch
        self.rollout = Rollout(nthread=args.workers)
        self.data = [mujoco.MjData(self.batch.model) for _ in range(args.workers)]
        self.chunk = max(1, self.batch.size // (4 * args.workers))

    def play(self) -> float:
        model, size, skip = self.batch.model, self.batch.size, self.batch.frame_skip
        state = self.ours.first.copy()
        after = np.zeros((size, skip, state.shape[1]))
        controls = np.repeat(self.ours.controls[:, :, None], skip, axis=2)
        models = [model] * size
        start = time.perf_counter()
        for control in controls:
            self.rollout.rollout(
                models,
                self.data,
                state,
                control,
                skip_checks=True,
                nstep=skip,
                state=after,
                chunk_size=self.chunk,
            )
            state[:] = after[:, -1]
        return time.perf_counter() - start


class Gymnasium:
    """A SyncVectorEnv of HalfCheetah-v5 under the same kind of policy."""

    def __init__(self, count: int, seed: int):
        make: Callable[[], Any] = lambda: gymnasium.make("HalfCheetah-v5")  # noqa: E731
        self.env = gymnasium.vector.SyncVectorEnv([make] * count)
        self.count, self.seed = count, seed
        self.policy = Mlp(17, 6, seed)
        self.noise = torch.randn(100, count, 6, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def play(self) -> float:
        obs, _ = self.env.reset(seed=self.seed)
        start = time.perf_counter()
        for noise in self.noise:
            actions = self.policy(obs.astype(np.float32), noise).clip(-1.0, 1.0)
            obs, *_ = self.env.step(actions)
        return time.perf_counter() - start


class Pooled:
    """The environments on our workers, as training collects them."""

    def __init__(self, make: Callable[..., Any], args: argparse.Namespace):
        parameters = {"gravity": Uniform(5.0, 15.0)}
        self.distribution = gym_tasks(make, parameters, horizon=args.steps, name="pole")
        rng, spec = np.random.default_rng(args.seed), self.distribution.spec
        shape = (8, args.pool_envs // 8)
        self.env = Sampler(self.distribution, *shape, Workers(args.workers))
        self.env.set_tasks(self.distribution.sample(8, rng))
        self.agent = PolicyGradientAgent(spec, default("maml-trpo"), rng, CPU)
        self.draws = RoundDraws(shape, *self.agent.noise, (args.seed,), args.steps)

    def play(self) -> float:
        start = time.perf_counter()
        self.env.play(self.agent, self.agent.begin(), 0, self.draws, CPU)
        return time.perf_counter() - start


class Vectorised:
    """A gymnasium vector environment under the same policy."""

    def __init__(self, env: Any, pooled: Pooled):
        self.env, self.pooled = env, pooled
        self.act = partial(pooled.agent.act, pooled.agent.begin())
        draws, rng = pooled.draws, np.random.default_rng(1)
        shape = (draws.steps, draws.shape[0] * draws.shape[1], draws.width)
        self.noise = torch.from_numpy(rng.gumbel(size=shape).astype(np.float32))

    @torch.no_grad()
    def play(self) -> float:
        start = time.perf_counter()
        obs, _ = self.env.reset(seed=1)
        for noise in self.noise:
            actions, _ = self.act(torch.from_numpy(obs), noise)
            obs, *_ = self.env.step(actions[:, 0].numpy())
        return time.perf_counter() - start


def pool(args: argparse.Namespace) -> None:
    print(f"\n{args.pool_envs} environments, {args.workers} workers, {args.steps} steps")
    makers = {
        "CartPole": UnfallingPole,
        "a step of about 50 us": partial(UnfallingPole, burden_of(50.0)),
    }
    for title, make in makers.items():
        ours = Pooled(make, args)
        contenders: dict[str, Any] = {"worker processes": ours}
        copies = [make] * args.pool_envs
        contenders["SyncVectorEnv"] = Vectorised(gymnasium.vector.SyncVectorEnv(copies), ours)
        contenders["AsyncVectorEnv"] = Vectorised(gymnasium.vector.AsyncVectorEnv(copies), ours)
        played: int = args.pool_envs * args.steps
        steps = dict.fromkeys(contenders, played)
        show(title, measure(contenders, steps, args.repeats))
        for contender in contenders.values():
            contender.env.close()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.torch_threads)
    if args.only in (None, "mujoco"):
        mujoco_families(args)
    if args.only in (None, "pool"):
        pool(args)


def mujoco_families(args: argparse.Namespace) -> None:
    size = args.tasks * args.episodes
    print(f"{args.tasks} tasks x {args.episodes} episodes x {args.steps} steps, ", end="")
    print(f"{args.workers} workers or bare threads, median of {args.repeats} turns")
    reference = Gymnasium(args.vector_envs, args.seed)
    for skip, name in VARIANTS.items():
        ours = Ours(name, args)
        bare = Bare(ours, args)
        contenders = {"policy in the loop": ours, "bare mujoco.rollout": bare}
        if skip == 5:
            contenders["gymnasium SyncVectorEnv"] = reference
        steps = dict.fromkeys(contenders, size * args.steps)
        steps["gymnasium SyncVectorEnv"] = args.vector_envs * 100
        show(f"{name} (frame skip {skip})", measure(contenders, steps, args.repeats))
        ours.close()


def show(title: str, rates: dict[str, np.ndarray]) -> None:
    """The first contender's ratio to each of the others."""
    print(f"\n{title}")
    for label, values in rates.items():
        print(f"  {label:24} {np.median(values):9.0f} env steps/s")
    ours, *others = rates.values()
    for label, values in zip(list(rates)[1:], others, strict=True):
        ratios = ours / values
        low, high = ratios.min(), ratios.max()
        print(f"  ratio to {label:24} {np.median(ratios):.2f}  ({low:.2f} to {high:.2f})")


def measure(contenders: dict, steps: dict[str, int], repeats: int) -> dict[str, np.ndarray]:
    """Environment steps per second of each, [repeats]; by turns, after one to warm up."""
    rates = {label: np.zeros(repeats) for label in contenders}
    for turn in range(-1, repeats):
        for label, contender in contenders.items():
            seconds = contender.play()
            if turn >= 0:
                rates[label][turn] = steps[label] / seconds
    return rates


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("mujoco", "pool"), help="one of the two parts")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--pool-envs", type=int, default=64, help="a multiple of 8 (default: %(default)s)"
    )
    parser.add_argument("--tasks", type=int, default=40, help="K (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="E (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="in a turn (default: %(default)s)")
    parser.add_argument(
        "--torch-threads", type=int, default=1, help="for the policy (default: %(default)s)"
    )
    parser.add_argument(
        "--vector-envs", type=int, default=20, help="gymnasium copies (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="turns (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
