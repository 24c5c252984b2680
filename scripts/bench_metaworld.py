"""Compares sampling speed on Meta-World with bare MuJoCo and with metaworld's environments.

Episodes are collected as in training, with a policy: before adaptation with one set of parameters,
and after adaptation with a set for each task. They are compared with

* bare: `mujoco.rollout` of the same simulations, through the same states and controls. A step is
  six substeps: five, and one that stands for the `mj_forward` at the end of a step.
* async: `gym.make_vec("Meta-World/ML10-train", vector_strategy="async")` with the same policy.

The measurements of a ratio alternate within one run. Single timings are noisy, so quote the ratios
only. The script also prints the time to the first step, and the memory.

    python scripts/bench_metaworld.py --tasks 20 --episodes 10 --workers 2
    python scripts/bench_metaworld.py --name ml45 --tasks 45 --repeats 1 --no-async
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import metarl  # noqa: F401  # isort: skip  before torch, as the doors do: how its threads wait

import argparse
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import metaworld  # noqa: F401  registers its environments
import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout

from metarl.agents import catalogue as agents
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import PolicyConfig
from metarl.device import torch_threads
from metarl.envs import catalogue
from metarl.envs.metaworld.batched import ClassShare
from metarl.envs.metaworld.simulations import ACTION_SCALE, FRAME_SKIP, UPRIGHT
from metarl.sampling.draws import RoundDraws
from metarl.sampling.executor import InProcess
from metarl.sampling.idle import Idle
from metarl.sampling.pool import Pool
from metarl.sampling.sampler import Sampler
from metarl.types import Workers

SUBSTEPS = FRAME_SKIP + 1
JOB = 20
"""Bare simulations that a thread takes at a time."""
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
CONTROL = (
    mujoco.mjtState.mjSTATE_CTRL.value
    | mujoco.mjtState.mjSTATE_MOCAP_POS.value
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
)


class Ours:
    """Episodes as training collects them, with either kind of parameters."""

    def __init__(self, args: argparse.Namespace):
        started = time.perf_counter()
        self.distribution = catalogue.make(args.name, args.steps)
        shape = args.tasks, args.episodes
        self.sampler = Sampler(self.distribution, *shape, Workers(args.workers))
        rng = np.random.default_rng(args.seed)
        self.tasks = self.distribution.sample(args.tasks, rng)
        self.sampler.set_tasks(self.tasks)
        spec, cpu = self.distribution.spec, torch.device("cpu")
        self.sampler.play(Idle(spec), None, 0, RoundDraws(shape, "zero", 1, (args.seed,), 1), cpu)
        self.start_s = time.perf_counter() - started
        policy = PolicyConfig(hidden=tuple(args.hidden), activation="tanh")
        config = replace(agents.default("maml-trpo"), policy=policy)
        self.agent = PolicyGradientAgent(spec, config, rng, cpu)
        self.draws = RoundDraws(shape, *self.agent.noise, (args.seed,), args.steps)
        self.before: Any = self.agent.begin()
        self.played = self._collect(self.before)
        self.after: Any = self.agent.adapt(self.before, self.played)

    def _collect(self, state: Any) -> Any:
        return self.sampler.play(self.agent, state, 0, self.draws, torch.device("cpu"))

    def play(self, state: Any) -> float:
        """Seconds for an episode of all simulations, the reset and the storing included."""
        self.sampler.set_tasks(self.tasks)
        start = time.perf_counter()
        self.played = self._collect(state)
        return time.perf_counter() - start


class Bare:
    """`mujoco.rollout` through the states and controls of our episodes before adaptation."""

    def __init__(self, ours: Ours, threads: int):
        self.jobs: list[Any] = []
        actions = ours.played.actions.clamp(-1, 1).numpy()  # [K, T, E, 4]
        num_tasks, self.steps, episodes, _ = actions.shape
        # The simulations of one task after the other, as in a pool of one part.
        in_rows = actions.transpose(1, 0, 2, 3).reshape(self.steps, -1, 4)
        env = ours.distribution.open(num_tasks * episodes, 1, Workers(0))
        env.set_tasks([task for task in ours.tasks for _ in range(episodes)])
        env.reset(np.zeros((num_tasks * episodes, 1), np.uint64))
        parts = [
            (rows, simulations, slice(start, min(start + JOB, simulations.size)))
            for rows, simulations in _groups(env)
            for start in range(0, simulations.size, JOB)
        ]
        for rows, simulations, part in parts:
            model, size = simulations.kind.model, part.stop - part.start
            models = []
            for number, snapshot in enumerate(simulations._snapshots[part]):
                if number % episodes == 0 or not models:
                    simulations.kind.wear(snapshot.model)
                    own = copy.copy(model)
                models.append(own)
            state = simulations._states[part, : mujoco.mj_stateSize(model, FULL)].copy()
            played = in_rows[:, rows[part]]
            controls = np.zeros((self.steps, size, SUBSTEPS, 9))  # ctrl, mocap_pos, mocap_quat
            hand = simulations._pull[part].copy()
            constants = simulations._constants
            low, high = constants.mocap_low[part], constants.mocap_high[part]
            for control, action in zip(controls, played, strict=True):
                hand = np.clip(hand + action[:, :3] * ACTION_SCALE, low, high)
                control[:, :, 0], control[:, :, 1] = action[:, 3:], -action[:, 3:]
                control[:, :, 2:5], control[:, :, 5:] = hand[:, None], UPRIGHT
            data = [mujoco.MjData(model)]
            after = np.zeros((size, SUBSTEPS, state.shape[1]))
            self.jobs.append((models, data, state, controls, after))
        self.threads = ThreadPoolExecutor(threads)
        self.rollout = Rollout(nthread=0)

    def play(self) -> float:
        states = [state.copy() for _, _, state, _, _ in self.jobs]

        def step(number: int, t: int) -> None:
            models, data, _, controls, after = self.jobs[number]
            state, control = states[number], controls[t]
            self.rollout.rollout(
                models,
                data,
                state,
                control,
                control_spec=CONTROL,
                skip_checks=True,
                nstep=SUBSTEPS,
                state=after,
            )
            state[:] = after[:, FRAME_SKIP - 1]

        start = time.perf_counter()
        for t in range(self.steps):
            list(self.threads.map(partial(step, t=t), range(len(self.jobs))))
        return time.perf_counter() - start


def _groups(env: Any) -> list[Any]:
    """The simulations of an environment without workers, class by class."""
    assert isinstance(env, Pool)
    assert isinstance(env.executor, InProcess)
    share = env.executor._share
    assert isinstance(share, ClassShare)
    return share.groups


class Async:
    """metaworld's own vector environment, a process for each of its 20 environments."""

    def __init__(self, ours: Ours, seed: int):
        self.agent, self.state = ours.agent, ours.before
        self.env: Any = gymnasium.make_vec(
            "Meta-World/ML10-train", vector_strategy="async", seed=seed
        )
        self.env.call("sample_tasks")
        self.steps = 60
        self.noise = torch.randn(
            self.steps, 1, self.env.num_envs, 4, generator=torch.Generator().manual_seed(seed)
        )

    @torch.no_grad()
    def play(self) -> float:
        """Seconds for a step of one environment."""
        with torch_threads(1):  # its processes want the cores
            return self._play()

    def _play(self) -> float:
        obs, _ = self.env.reset()
        start = time.perf_counter()
        for noise in self.noise:
            seen = torch.from_numpy(np.asarray(obs, np.float32))[None]
            action, _ = self.agent.act(self.state, seen, noise)
            obs, *_ = self.env.step(action[0].clamp(-1, 1).numpy())
        return (time.perf_counter() - start) / (self.steps * self.env.num_envs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="ml10", help="benchmark (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=20, help="K (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=10, help="E (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=100, help="of an episode (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--hidden", type=int, nargs="*", default=[512, 512], help="of the policy (default: 512 512)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--no-async", action="store_true", help="leave out metaworld's own environments"
    )
    args = parser.parse_args()

    ours = Ours(args)
    print(f"{args.name}: {ours.start_s:.1f} s to the first step", flush=True)
    bare = Bare(ours, args.workers)
    peer = None if args.no_async else Async(ours, args.seed)
    steps = args.tasks * args.episodes * args.steps
    rows: dict[str, list[float]] = {"before": [], "after": [], "bare": [], "async": []}
    for _ in range(args.repeats):
        rows["bare"].append(bare.play() / steps)
        rows["before"].append(ours.play(ours.before) / steps)
        rows["after"].append(ours.play(ours.after) / steps)
        if peer is not None:
            rows["async"].append(peer.play())
    taken = {name: np.array(values) for name, values in rows.items() if values}
    for name, seconds in taken.items():
        print(f"{name:<8}{1 / np.median(seconds):>9,.0f} steps/s")
    for kind in ("before", "after"):
        _ratio(f"{kind} adaptation / bare physics", taken["bare"] / taken[kind])
        if peer is not None:
            _ratio(f"{kind} adaptation / async", taken["async"] / taken[kind])
    assert ours.sampler.shards is not None
    workers = getattr(ours.sampler.shards._player, "_workers", [])
    own, theirs = _peak_gb("self"), [_peak_gb(worker.process.pid) for worker in workers]
    print(f"peak memory: {own:.2f} GB here, {sum(theirs):.2f} GB in {len(theirs)} workers")
    if peer is not None:
        peer.env.close()
    ours.sampler.close()


def _peak_gb(pid: Any) -> float:
    """The most memory that a process has had."""
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1e6


def _ratio(label: str, values: np.ndarray) -> None:
    print(f"{label:<36}{np.median(values):.2f}  ({values.min():.2f} to {values.max():.2f})")


if __name__ == "__main__":
    main()
