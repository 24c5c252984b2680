"""Rounds of K x E episodes: played in the shards, or step by step with the policy in this process.

A policy in numpy acts where the environments are (`shards.py`). A policy that torch must evaluate,
on a GPU or because it is a user's own, acts here: then each step of all environments is awaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from metarl.config.settings import ActOn, AgentConfig
from metarl.config.torso import convolutions, width
from metarl.device import torch_sleeps, torch_threads
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UnstableError, UserError
from metarl.sampling.collect import collect, draw
from metarl.sampling.draws import RoundDraws
from metarl.sampling.play import too_large
from metarl.sampling.shards import Shards
from metarl.types import Actor, BatchedEnv, EnvSpec, Task, TaskDistribution, Trajectories, Workers

Place = Literal["workers", "device"]
"""Place where a policy is evaluated."""


WIDE = 500_000
"""Weights of a policy from which on a GPU evaluates it faster than workers do; docs/performance.md
has the measurement."""


def place_to_act(asked: ActOn, agent: Any, spec: EnvSpec, device: torch.device) -> Place:
    """Returns where the policy of an agent's config acts; `auto` decides by its size.

    A user's own agent acts on the device, since metarl cannot evaluate it in numpy.

    Raises:
        UserError: where such an agent is asked to act in the workers.
    """
    if not isinstance(agent, AgentConfig):
        if asked == "workers":
            raise UserError(
                "--act-on workers: an agent of your own acts on the device, since workers have no "
                "torch\n  leave it out"
            )
        return "device"
    if asked != "auto":
        return asked
    return "device" if device.type == "cuda" and weights(agent, spec) >= WIDE else "workers"


def check_place(act_on: Place, workers: Workers) -> None:
    """Raises a UserError where a cluster should play, and cannot: without Ray, or where the policy
    does not act there."""
    if workers.cluster is None:
        return
    from metarl.sampling.ray_cluster import check_installed

    check_installed()
    if act_on == "device":
        raise UserError(
            "--sampler ray plays no episodes of this policy, which acts on the device\n"
            "give --act-on workers, which a wide policy and a GPU need, or --sampler local; "
            "agents of your own act here"
        )


def weights(agent: AgentConfig, spec: EnvSpec) -> int:
    """Returns about how many weights a policy multiplies its inputs by, to choose an action."""
    filters = convolutions(spec, agent.policy)
    widths = [width(spec, agent.policy), *agent.policy.hidden]
    cell = getattr(agent.inner, "size", 0) if hasattr(agent.inner, "cell") else 0
    gates = 4 * cell * (widths[-1] + cell)
    convolved = sum(x.places * x.patch * x.after[0] for x in filters)
    return sum(a * b for a, b in pairwise([*widths, spec.act_dim])) + gates + convolved


def acts_in_numpy(agent: Any) -> bool:
    """Returns whether workers may act by `agent.acting`: not where a class of a user's own acts in
    another way than the class that it inherits this method from."""
    for kind in type(agent).__mro__:
        if "acting" in vars(kind):
            return True
        if "act" in vars(kind) or "actor" in vars(kind):
            return False
    return hasattr(agent, "acting")


class Sampler:
    """Plays rounds of K x E episodes of a distribution's tasks."""

    def __init__(
        self,
        distribution: TaskDistribution,
        num_tasks: int,
        episodes: int,
        workers: Workers,
        act_on: Place = "workers",
    ):
        """Starts worker processes where the policy acts in them.

        Raises:
            UserError: where the environments cannot be sent to worker processes.
        """
        check_place(act_on, workers)
        self._open = partial(distribution.open, num_tasks, episodes, workers)
        self._tasks: Sequence[Task] = ()
        self._env: BatchedEnv | None = None
        """Environments for agents that act here; opened for the first of them."""
        self.spec = distribution.spec
        self.shards = (
            Shards(distribution, num_tasks, episodes, workers) if act_on == "workers" else None
        )

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the tasks of the next rounds."""
        self._tasks = tasks
        if self.shards is None and self._env is None:
            self._env = self._open()
        if self.shards is not None:
            self.shards.set_tasks(tasks)
        if self._env is not None:
            self._env.set_tasks(tasks)

    def play(
        self, agent: Any, state: Any, index: int, draws: RoundDraws, device: torch.device
    ) -> Trajectories:
        """Plays one episode in each environment, by the policy after `index` adaptation steps.

        Raises:
            DivergedError: if a simulation became unstable.
            EnvFaultError: for a fault of an environment.
            UnstableError: if the policy's actions are no longer finite.
        """
        if self.shards is None or not acts_in_numpy(agent):
            if self._env is None:
                self._env = self._open()
                self._env.set_tasks(self._tasks)
            return play_stepwise(
                self._env, agent, state, index, draws, self.spec, device, self._tasks
            )
        behaviour = partial(agent.behaviour, state)
        try:
            return self.shards.play(agent.acting(state), behaviour, draws, device)
        except FloatingPointError as error:
            raise unstable(index, str(error)) from error

    def close(self) -> None:
        for opened in (self.shards, self._env):
            if opened is not None:
                opened.close()


def play_stepwise(
    env: BatchedEnv,
    agent: Any,
    state: Any,
    index: int,
    draws: RoundDraws,
    spec: Any,
    device: torch.device,
    tasks: Sequence[Task],
) -> Trajectories:
    """Plays a round with the policy in this process, which steps all environments together."""
    drawn = draw(spec, *draws.shape, (draws.kind, draws.width), *draws.key)
    # While simulations run, more torch threads would spin on their cores.
    idle = getattr(env, "idle_while_acting", False) and torch_sleeps()
    with nullcontext() if idle else torch_threads(1):
        return collect(
            env,
            lambda episodes: _FiniteActor(agent.actor(state, episodes), index),
            drawn._replace(steps=draws.steps),
            spec,
            device,
            tasks,
        )


class _FiniteActor:
    """Actor that checks the outputs of a policy after `steps` adaptation steps."""

    def __init__(self, actor: Actor, steps: int):
        self._actor, self._steps = actor, steps

    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        actions, distribution = self._actor(obs, rewards, noise)
        if not all(bool(x.isfinite().all()) for x in (actions, *distribution)):
            raise unstable(self._steps, too_large(float(obs.abs().max())))
        return actions, distribution


def unstable(steps: int, cause: str = "") -> UnstableError:
    """Returns the error of a policy after `steps` adaptation steps that is no longer finite, with
    the cause if it is known."""
    lower = "--agent.inner.lr" if steps else "the outer step size"
    remedy = f"lower {lower}, or raise a very small deviation of actions (--agent.policy.min-std)"
    if cause:
        remedy = f"likely cause: {cause}; scale them in the tasks"
    return UnstableError(
        f"the policy after {steps} adaptation steps gives numbers that are not finite; {remedy}"
    )
