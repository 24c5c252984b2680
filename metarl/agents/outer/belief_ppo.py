"""Outer rule of VariBAD (arXiv:1910.08348): PPO for the policy, Adam for encoder and decoder.

The policy reads observations and beliefs, and PPO changes it alone: beliefs are inputs, computed
once for an update. After PPO the encoder and the decoder take steps on the evidence lower bound of
trials from a replay, and the policy's gradient has no part in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.config.ranges import Count, NonNegative, Positive
from metarl.lazy import lazy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from metarl.agents.outer import elbo, step_ppo
    from metarl.agents.outer.elbo import TrialData
    from metarl.agents.outer.step_ppo import Played
    from metarl.agents.outer.trial_ppo import TrialState
    from metarl.config.settings import AdvantageConfig, AnyAgentConfig
    from metarl.equations import adam
    from metarl.equations.adam import AdamState
    from metarl.networks import belief
    from metarl.networks.belief import BeliefPolicy, Decoder, Encoder
    from metarl.types import EnvSpec, Metrics, Params
else:
    np = lazy("numpy")
    elbo, step_ppo = lazy("metarl.agents.outer.elbo"), lazy("metarl.agents.outer.step_ppo")
    adam, belief = lazy("metarl.equations.adam"), lazy("metarl.networks.belief")


@dataclass(frozen=True)
class BeliefPpoConfig(TrialPpoConfig):
    """Outer rule of VariBAD: PPO for the policy, Adam on a lower bound for the belief."""

    fits = ("belief",)

    lr: Positive = 7e-4
    epochs: Count = 2
    minibatches: Count = 8
    clip: Positive = 0.1
    entropy: NonNegative = 0.01
    bootstrap: Literal["never", "trials", "episodes"] = "trials"
    """Time limits at which returns go on with the value of the state that was reached, as if there
    were none: those that end a trial, or those of all episodes. Returns run on across the other
    ends of episodes within a trial."""
    chunk: Count = 50
    """Number of steps of the encoder after which gradients are cut."""
    elbo_lr: Positive = 1e-3
    elbo_steps: Count = 1
    """Steps of Adam on the bound after each update of the policy."""
    elbo_trials: Count = 10
    """Trials from the replay in each of them."""
    elbo_terms: Count = 50
    """Steps of each trial whose beliefs are learned from."""
    predictions: Count = 50
    """Rewards that each of those beliefs predicts, drawn at random from its trial; their mean error
    stands for that of all rewards."""
    kl_weight: NonNegative = 1.0
    """Weight of the KL from the belief a step before."""
    transitions: NonNegative = 0.0
    """Weight of the squared error of predicted next observations; 0: only rewards are predicted."""
    elbo_max_grad_norm: Positive = 1.0
    """Norm at which the gradients of encoder and decoder are clipped, each alone."""
    replay: Count = 10_000
    """Trials that the bound is learned from; the oldest go."""

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = super().without_effect(agent)
        if self.memory != "recomputed":
            found["agent.outer.memory"] = "beliefs are computed once for an update"
        return found

    def replay_needs(self, agent: AnyAgentConfig, spec: Any) -> dict[str, int]:
        widths = row_widths(spec).values()
        rows = (agent.inner.training_steps + 1) * (spec.horizon + 1)
        names = "--agent.outer.replay, --agent.inner.steps, --env.horizon"
        return {names: 4 * self.replay * rows * sum(widths)}


def row_widths(spec: EnvSpec) -> dict[str, int]:
    """Returns the width of each array of a trial in the replay; choices are one-hot."""
    space = spec.action_space
    options = getattr(space, "n", None) or getattr(space, "nvec", spec.act_dim)
    return {"obs": spec.obs_dim, "actions": int(np.sum(options)), "rewards": 1, "mask": 1}


class BeliefBatch(NamedTuple):
    """Trials that the policy learns from, and where those for the belief are drawn."""

    played: Played
    draw: Callable[[np.random.Generator, int], TrialData]


class BeliefState(NamedTuple):
    """State of the rule between meta-batches."""

    policy: TrialState
    elbo: AdamState


ELBO = "elbo."
"""Prefix of the names of the bound's optimiser in saved weights."""


class BeliefPpo:
    """Maximises the return of whole trials, and the evidence lower bound of their rewards."""

    left_behind = ""

    def __init__(
        self,
        policy: BeliefPolicy,
        encoder: Encoder,
        decoder: Decoder,
        config: BeliefPpoConfig,
        advantages: AdvantageConfig,
    ):
        self.config = config
        self.ppo = step_ppo.StepPpo(policy, config, advantages)  # pyright: ignore[reportArgumentType]
        self.ascent = elbo.ElboAscent(encoder, decoder, config)

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        return ()

    def init(self, meta: Params) -> BeliefState:
        of_policy, of_belief = parted(meta)
        return BeliefState(self.ppo.init(of_policy), adam.adam_start(of_belief))

    def step(
        self, meta: Params, state: BeliefState, objective: BeliefBatch, rng: np.random.Generator
    ) -> tuple[Params, BeliefState, Metrics]:
        """Updates the policy on the played trials, then the belief on trials of the replay."""
        of_policy, of_belief = parted(meta)
        of_policy, learned, metrics = self.ppo.step(of_policy, state.policy, objective.played, rng)
        moments, found = state.elbo, []
        for _ in range(0 if metrics["skipped"] else self.config.elbo_steps):
            data = objective.draw(rng, self.config.elbo_trials)
            of_belief, moments, read = self.ascent.step(of_belief, moments, data, rng)
            found.append(read)
        if found:
            metrics |= {name: float(np.mean([x[name] for x in found])) for name in found[0]}
        if metrics["skipped"] or not np.isfinite(list(metrics.values())).all():
            return meta, state, {**metrics, "skipped": 1.0}
        after = {**of_policy, **of_belief}
        return {name: after[name] for name in meta}, BeliefState(learned, moments), metrics

    def state_dict(self, state: BeliefState) -> Params:
        return {
            **self.ppo.state_dict(state.policy),
            **adam.adam_state_dict(state.elbo, ELBO),
        }

    def load(self, state: BeliefState, saved: Params) -> BeliefState:
        return BeliefState(
            self.ppo.load(state.policy, saved), adam.adam_loaded(state.elbo, saved, ELBO)
        )


def parted(meta: Params) -> tuple[Params, Params]:
    """Returns the parameters of the policy and its values, and those of encoder and decoder."""
    prefixes = belief.ENCODER, belief.DECODER
    of_belief = {name: x for name, x in meta.items() if name.startswith(prefixes)}
    return {name: x for name, x in meta.items() if name not in of_belief}, of_belief
