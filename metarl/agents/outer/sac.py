"""Outer rule of a recurrent actor: soft actor-critic on trials from a replay.

The losses are those of arXiv:1812.05905 (`equations/sac.py`) with memories of the trial in the
place of states, as in arXiv:2110.05038. A gradient step draws trials and runs actor, critics and
target critics over each, from an empty memory.

* A value looks on to the end of the trial, across the ends of episodes: the step after an episode's
  last is the first of the next episode. `end` says what follows a trial's last step.
* All gradients of a step are taken at the same parameters, so each network runs over the trials
  once. The published code updates the critics before it computes the actor's gradient.
* The critics have one memory and many last layers. REDQ (arXiv:2101.05982) is `critics` 10,
  `subset` 2 and more `updates_per_step`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metarl.agents.outer.sac_batches import Batch, Draws, Experience, Reading, SacState
from metarl.config.ranges import (
    BoxEntropy,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    UnitInterval,
)
from metarl.config.settings import OuterSettings
from metarl.errors import UserError
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl import graphs, parallel
    from metarl.agents.outer import trials
    from metarl.config.settings import AdvantageConfig, AnyAgentConfig
    from metarl.equations import adam, sac
    from metarl.equations.adam import AdamState
    from metarl.networks.off_policy import Critics, RecurrentActor
    from metarl.types import EnvSpec, Metrics, Params
else:
    np, torch = lazy("numpy"), lazy("torch")
    graphs, parallel = lazy("metarl.graphs"), lazy("metarl.parallel")
    trials = lazy("metarl.agents.outer.trials")
    adam, sac = lazy("metarl.equations.adam"), lazy("metarl.equations.sac")

ARRAYS = ("rewards", "ended", "terminated", "mask")
"""Arrays of a trial in the replay with one number a step; `obs` and `actions` have more."""
ALONE = 2048
"""Steps of a batch below which it is computed as one part: more parts would take longer."""


@dataclass(frozen=True)
class SacConfig(OuterSettings):
    """Outer rule of a recurrent actor: soft actor-critic on trials from a replay."""

    fits = ("replayed-trial",)
    sources = ("episodes",)

    lr: Positive = 3e-4
    encoder_lr: NonNegative = 0.0
    """Step size of the layers before a GRU and of the GRU; 0: `lr`."""
    updates_per_step: Positive = 0.02
    """Gradient steps for each environment step that was played; at least one a meta-iteration."""
    batch: Count = 32
    """Trials of a gradient step."""
    length: Natural = 0
    """Steps of a trial that a gradient step learns from, from a random one on with an empty memory;
    0: all."""
    replay: Count = 2500
    """Trials that the replay holds; the oldest go."""
    random_trials: Natural = 0
    """Trials with random actions, the first of a run; nothing is learned until they are played."""
    critics: Count = 2
    subset: Natural = 0
    """Critics, drawn at random for each gradient step, of which a target is the least. The actor
    then learns from the mean of all. 0: both from the least of all."""
    polyak: Fraction = 0.005
    """Share of the way that target critics move towards the critics in a gradient step."""
    temperature: Positive = 1.0
    """Weight of the entropy at the beginning."""
    learn_temperature: bool = True
    entropy_per_dimension: BoxEntropy = -1.0
    """Entropy that the temperature is learned for, for each dimension of a Box, in nats, with the
    action in units of half the box."""
    entropy_of_choice: UnitInterval = 0.2
    """Entropy that the temperature is learned for in a Discrete space of n actions, as a share of
    the largest one, log n."""
    max_grad_norm: NonNegative = 0.0
    """Largest norm of the whole gradient; 0: any."""
    end: Literal["truncation", "termination"] = "truncation"
    """Meaning of the end of a trial: at a truncation a value follows its last step, so that values
    depend less on the time; at a termination none, as for RL2. A last episode that terminates has
    no value after it in either case."""

    def check(self, agent: AnyAgentConfig) -> None:
        if self.subset > self.critics:
            raise UserError(
                f"agent.outer.subset is {self.subset}, and there are agent.outer.critics "
                f"{self.critics}\n  give a subset of them, or 0"
            )

    def replay_needs(self, agent: AnyAgentConfig, spec: Any) -> dict[str, int]:
        width = spec.obs_dim + _action_width(spec) + len(ARRAYS)
        rows = rows_of(spec.horizon, agent.inner.training_steps)
        names = "--agent.outer.replay, --agent.inner.steps, --env.horizon"
        return {names: 4 * self.replay * rows * width}


def _action_width(spec: Any) -> int:
    """Returns the width of an action as networks read it: one-hot for a Discrete."""
    return int(getattr(getattr(spec, "action_space", None), "n", spec.act_dim))


def rows_of(horizon: int, steps: int) -> int:
    """Returns the rows of a trial in the replay: its steps, and the observation after the last."""
    return (steps + 1) * horizon + 1


def shapes_of(spec: EnvSpec, steps: int, action_width: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a trial's arrays in the replay."""
    rows = rows_of(spec.horizon, steps)
    wide = {"obs": (rows, spec.obs_dim), "actions": (rows, action_width)}
    return {**wide, **dict.fromkeys(ARRAYS, (rows,))}


class Sac:
    """Maximises the return and the entropy of whole trials."""

    left_behind = ""
    ADAM, TARGETS, PLAYED = "outer.adam.", "outer.target.", "outer.played"

    def __init__(
        self,
        actor: RecurrentActor,
        critics: Critics,
        config: SacConfig,
        advantages: AdvantageConfig,
    ):
        self.actor, self.critics, self.config = actor, critics, config
        self.discount = advantages.discount
        self.descend = graphs.graphed(self._descend)
        choices, dimensions = actor.choices, actor.noise_dim
        self.target_entropy = config.entropy_per_dimension * dimensions
        if choices:
            self.target_entropy = config.entropy_of_choice * math.log(choices)

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        return ()

    def init(self, meta: Params) -> SacState:
        like = next(iter(meta.values()))
        played = torch.zeros((), dtype=torch.float64, device=like.device)
        return SacState(adam.adam_start(meta), self._of_critics(meta), played)

    def _of_critics(self, meta: Params) -> Params:
        return {name: x for name, x in meta.items() if name.startswith(self.critics.prefix)}

    def is_random(self, state: SacState) -> bool:
        """Returns whether the next trials have random actions."""
        return bool(state.played < self.config.random_trials)

    def step(
        self, meta: Params, state: SacState, objective: Experience, rng: np.random.Generator
    ) -> tuple[Params, SacState, Metrics]:
        """Takes gradient steps on trials of the replay; `rng` draws all that is random."""
        state = state._replace(played=state.played + objective.played)
        if self.is_random(state):
            return meta, state, {"skipped": 0.0, "updates": 0.0}
        count = max(1, round(self.config.updates_per_step * objective.env_steps))
        after, state_after, found = meta, state, []
        for _ in range(count):
            batch = objective.draw(rng)
            draws = self.draws(batch, rng)
            after, state_after, reading = self.descend(after, state_after, batch, draws)
            found.append(torch.stack(reading))
        means = torch.stack(found).mean(0)
        metrics = Reading(*means.unbind()).metrics(self.config.critics)
        metrics["temperature"] = float(after["log_temperature"].exp())
        finite = [x.isfinite().all() for x in after.values()]
        if not (means.isfinite().all() and torch.stack(finite).all()):
            return meta, state, {**metrics, "updates": 0.0, "skipped": 1.0}
        return after, state_after, {**metrics, "updates": float(count), "skipped": 0.0}

    def draws(self, batch: Batch, rng: np.random.Generator) -> Draws:
        """Returns the random numbers of a gradient step."""
        shape = (*batch.obs.shape[:2], self.actor.noise_dim)
        if self.actor.choices:
            shape = (len(batch.obs), 1, 0)  # sums over all choices need no draw
        noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
        size = self.config.subset or self.config.critics
        chosen = torch.from_numpy(rng.permutation(self.config.critics)[:size])
        return Draws(noise.to(batch.obs.device), chosen.to(batch.obs.device))

    def _descend(
        self, meta: Params, state: SacState, batch: Batch, draws: Draws
    ) -> tuple[Params, SacState, Reading]:
        """Takes one gradient step of all networks and of the temperature."""
        gradient, reading = self.gradient(meta, state.targets, batch, draws)
        if self.config.max_grad_norm:
            gradient, norm = adam.clip_norm(gradient, self.config.max_grad_norm)
        else:
            norm = torch.stack([x.square().sum() for x in gradient.values()]).sum().sqrt()
        params, adam_state = self.adam_step(meta, gradient, state.adam)
        targets = sac.polyak(state.targets, self._of_critics(params), self.config.polyak)
        return params, SacState(adam_state, targets, state.played), reading._replace(norm=norm)

    def adam_step(
        self, meta: Params, gradient: Params, state: AdamState
    ) -> tuple[Params, AdamState]:
        """Takes a step of Adam with the encoders' own step size."""
        params, mean, square, count = {}, {}, {}, state.count
        encoders = {name for name in meta if is_encoder(name)}
        for names, lr in (
            (encoders, self.config.encoder_lr or self.config.lr),
            (meta.keys() - encoders, self.config.lr),
        ):
            some = [n for n in meta if n in names]
            own = adam.AdamState(
                state.count, {n: state.mean[n] for n in some}, {n: state.square[n] for n in some}
            )
            after, (count, *moments) = adam.adam_step(
                {n: meta[n] for n in some}, {n: gradient[n] for n in some}, own, lr
            )
            params |= after
            mean |= moments[0]
            square |= moments[1]
        order = list(meta)
        return {n: params[n] for n in order}, adam.AdamState(
            count, {n: mean[n] for n in order}, {n: square[n] for n in order}
        )

    def gradient(
        self, meta: Params, targets: Params, batch: Batch, draws: Draws
    ) -> tuple[Params, Reading]:
        """Returns the gradient of all losses and their parts, summed over parts of the batch."""

        def one(rows: slice) -> tuple[Params, Reading]:
            own = draws._replace(noise=draws.noise[rows])
            leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}
            loss, reading = self.loss(leaves, targets, batch.rows(rows), own)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            return {
                name: torch.zeros_like(x) if x_gradient is None else x_gradient
                for (name, x), x_gradient in zip(leaves.items(), found, strict=True)
            }, reading

        number, length = batch.rewards.shape
        parts = [slice(0, number)]
        if number * length >= ALONE:
            parts = trials.parts_of(batch.obs)
        gradients, readings = zip(*parallel.side_by_side(one, parts), strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in meta}
        return total, Reading(*(torch.stack(x).sum(0) for x in zip(*readings, strict=True)))

    def loss(
        self, params: Params, targets: Params, batch: Batch, draws: Draws
    ) -> tuple[Tensor, Reading]:
        """Returns the sum of the losses, whose gradients touch disjoint parameters, and its parts.

        `targets` and the other networks' parameters are constants of each loss.
        """
        log_temperature = params["log_temperature"].squeeze()
        temperature = log_temperature.exp().detach()
        actions, log_probs, entropy = self.acted(params, batch, draws)
        memory = self.remembered(params, batch, self.critics.encoder)
        with torch.no_grad():
            slow = self.remembered(targets, batch, self.critics.encoder)
            slow_q = self.critics.q(targets, batch.obs, slow, actions)
            values = self.values(slow_q[draws.chosen], log_probs, temperature, True)
            beyond = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
            goal = sac.td_targets(batch.rewards, batch.continues, beyond, self.discount)
        q = self.critics.q(params, batch.obs, memory, batch.actions)
        if self.actor.choices:
            q = (q * batch.actions).sum(-1)
        critic_loss = sac.critic_loss(q, goal, batch.weights)
        constant = {name: x.detach() for name, x in self._of_critics(params).items()}
        own_q = self.critics.q(constant, batch.obs, memory.detach(), actions)
        own = self.values(own_q, log_probs, temperature, not self.config.subset)
        actor_loss = sac.actor_loss(own, batch.weights)
        loss = critic_loss + actor_loss
        if self.config.learn_temperature:
            loss = loss + sac.temperature_loss(
                log_temperature, entropy, self.target_entropy, batch.weights
            )
        means = ((x * batch.weights).sum() for x in (entropy, goal, goal.square()))
        read = (critic_loss, actor_loss, *means, torch.zeros_like(actor_loss))
        return loss, Reading(*(x.detach() for x in read))

    def acted(self, params: Params, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the policy's own actions, their log-probabilities and an estimate of the entropy
        [N, L]. Of a Discrete the log-probabilities are those of all choices, [N, L, n]."""
        memory = self.remembered(params, batch, self.actor.encoder)
        distribution = self.actor.distribution(self.actor.outputs(params, batch.obs, memory))
        if self.actor.choices:
            log_probs = distribution.logits.log_softmax(-1)
            return batch.actions, log_probs, -(log_probs.exp() * log_probs).sum(-1)
        actions, log_probs = distribution.units_and_log_probs(draws.noise)
        return actions, log_probs, -log_probs

    def values(self, q: Tensor, log_probs: Tensor, temperature: Tensor, least: bool) -> Tensor:
        """Returns soft values [N, L] of the policy at action values [C, N, L] or [C, N, L, n]."""
        value = sac.soft_value_of_choices if self.actor.choices else sac.soft_value
        return value(q, log_probs, temperature, least)

    def remembered(self, params: Params, batch: Batch, encoder: Any) -> Tensor:
        """Returns an encoder's memory at each step, [N, L, size]."""
        empty = batch.obs.new_zeros(len(batch.obs), encoder.size)
        return encoder(params, batch.inputs, empty)

    def state_dict(self, state: SacState) -> Params:
        targets = {f"{self.TARGETS}{name}": x for name, x in state.targets.items()}
        moments = adam.adam_state_dict(state.adam, self.ADAM)
        return {**moments, **targets, self.PLAYED: state.played}

    def load(self, state: SacState, saved: Params) -> SacState:
        targets = {name: saved[f"{self.TARGETS}{name}"] for name in state.targets}
        return SacState(adam.adam_loaded(state.adam, saved, self.ADAM), targets, saved[self.PLAYED])


def is_encoder(name: str) -> bool:
    """Returns whether a parameter is of a GRU or of the layers before it."""
    return name.split(".")[1].startswith(("conv", "embed", "cell")) if "." in name else False
