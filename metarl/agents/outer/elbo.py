"""Adam on the evidence lower bound of VariBAD (arXiv:1910.08348, Eq. 5), at many steps of trials.

It learns the encoder and the decoder from trials of a replay. The belief before a step of a trial,
drawn from all steps, predicts rewards of the whole trial, earlier and later ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.outer.belief_ppo import BeliefPpoConfig
from metarl.equations import adam, elbo
from metarl.equations.adam import AdamState
from metarl.networks.belief import DECODER, ENCODER, Decoder, Encoder
from metarl.parallel import even_slices, side_by_side
from metarl.types import Metrics, Params

PART = 5
"""Least number of trials that a thread works on at a time."""


class TrialData(NamedTuple):
    """Steps of N trials; padding is at the end."""

    obs: Tensor  # [N, L, obs_dim]
    reached: Tensor  # [N, L, obs_dim], the observation after each step
    actions: Tensor  # [N, L, n], encoded
    rewards: Tensor  # [N, L], as the encoder reads them
    lengths: Tensor  # [N]

    def rows(self, rows: slice) -> TrialData:
        return TrialData(*(x[rows] for x in self))


class Chances(NamedTuple):
    """Random numbers of a step of Adam."""

    terms: Tensor  # [N, M], steps whose beliefs predict
    predicted: Tensor  # [N, M, D], steps whose rewards they predict
    noise: Tensor  # [N, M, latent], standard normal

    def rows(self, rows: slice) -> Chances:
        return Chances(*(x[rows] for x in self))


class Bound(NamedTuple):
    """Sums over some trials, [] each."""

    loss: Tensor
    reward_error: Tensor
    """Mean squared error of the predicted rewards of a trial."""
    kl: Tensor
    """Mean KL of a trial's terms."""


class ElboAscent:
    """Maximises the bound of an encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder, config: BeliefPpoConfig):
        self.encoder, self.decoder, self.config = encoder, decoder, config

    def step(
        self, meta: Params, state: AdamState, data: TrialData, rng: np.random.Generator
    ) -> tuple[Params, AdamState, Metrics]:
        """Takes a step of Adam on some trials; `meta` are the encoder's and decoder's parameters.
        The gradients of the two are clipped apart, as in the paper's code."""
        gradient, bound = self.gradient(meta, data, self.chances(data, rng))
        norms = {}
        for prefix in (ENCODER, DECODER):
            own = {name: x for name, x in gradient.items() if name.startswith(prefix)}
            own, norms[prefix] = adam.clip_norm(own, self.config.elbo_max_grad_norm)
            gradient |= own
        meta, state = adam.adam_step(meta, gradient, state, self.config.elbo_lr)
        read = torch.stack([*bound, norms[ENCODER], norms[DECODER]])
        loss, reward_error, kl, of_encoder, _ = read.tolist()
        metrics = {"elbo/loss": loss, "elbo/reward_error": reward_error, "elbo/kl": kl}
        return meta, state, {**metrics, "elbo/gradient_norm": of_encoder}

    def chances(self, data: TrialData, rng: np.random.Generator) -> Chances:
        """Draws the terms, the steps that they predict, and the noise of the beliefs' samples."""
        config, trials = self.config, len(data.lengths)
        lengths = data.lengths.cpu().numpy()
        terms = rng.random((trials, config.elbo_terms)) * (lengths[:, None] + 1)
        shape = trials, config.elbo_terms, config.predictions
        predicted = rng.random(shape, np.float32) * lengths[:, None, None]
        # A float32 below 1, times a length, may round up to the length.
        predicted = np.minimum(predicted.astype(np.int64), lengths[:, None, None] - 1)
        noise = rng.standard_normal((*shape[:2], self.encoder.latent), np.float32)
        drawn = (terms.astype(np.int64), predicted, noise)
        return Chances(*(torch.from_numpy(x).to(data.rewards.device) for x in drawn))

    def gradient(self, meta: Params, data: TrialData, chances: Chances) -> tuple[Params, Bound]:
        """Returns the gradient of the loss, the mean over trials, and what the loss consists of."""
        trials = len(data.lengths)

        def one(rows: slice) -> tuple[Params, Bound]:
            leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}
            bound = self.bound(leaves, data.rows(rows), chances.rows(rows))
            found = torch.autograd.grad(bound.loss / trials, list(leaves.values()))
            return dict(zip(leaves, found, strict=True)), Bound(*(x.detach() for x in bound))

        parts = max(1, trials // PART) if data.rewards.device.type == "cpu" else 1
        gradients, bounds = zip(*side_by_side(one, even_slices(trials, parts)), strict=True)
        total = {name: torch.stack([x[name] for x in gradients]).sum(0) for name in meta}
        sums = (torch.stack(x).sum(0) / trials for x in zip(*bounds, strict=True))
        return total, Bound(*sums)

    def bound(self, params: Params, data: TrialData, chances: Chances) -> Bound:
        """Returns the sums over these trials."""
        beliefs = elbo.belief(self.beliefs(params, data))
        terms = chances.terms
        divergences = elbo.sequential_kl(beliefs).gather(1, terms)
        chosen = (x.gather(1, terms[..., None].expand_as(chances.noise)) for x in beliefs)
        sample = type(beliefs)(*chosen).sample(chances.noise)
        known = data.obs, data.reached, data.actions
        predicted = self.decoder.rewards(params, sample, *known, chances.predicted)
        rewards = data.rewards[:, None].expand(-1, terms.shape[1], -1)
        errors = (predicted - rewards.gather(2, chances.predicted)).square()
        off = errors + self._transition_errors(params, sample, data, chances)
        lengths = data.lengths.to(errors)
        loss = elbo.negative_elbo(off, divergences, lengths, self.config.kl_weight)
        return Bound(loss.sum(), errors.mean((1, 2)).sum(), divergences.mean(1).sum())

    def _transition_errors(
        self, params: Params, sample: Tensor, data: TrialData, chances: Chances
    ) -> Tensor | float:
        """Returns the weighted squared errors of predicted observations, a mean over their
        numbers, [N, M, D]."""
        if not (weight := self.config.transitions):
            return 0.0
        steps = chances.predicted
        predicted = self.decoder.next_obs(params, sample, data.obs, data.actions, steps)
        rows = torch.arange(len(steps), device=steps.device)[:, None, None]
        return weight * (predicted - data.reached[rows, steps]).square().mean(-1)

    def beliefs(self, params: Params, data: TrialData) -> Tensor:
        """Returns means and log-variances before each step and after the last, [N, L + 1, 2 d]."""
        start = data.rewards.new_zeros(len(data.rewards), self.encoder.size)
        read = data.reached, data.actions, data.rewards
        states = self.encoder.run(params, *read, start, self.config.chunk)
        return self.encoder.beliefs(params, torch.cat([start[:, None], states], 1))


def stored(
    obs: Tensor, final_obs: Tensor, actions: Tensor, rewards: Tensor, mask: Tensor, length: int
) -> dict[str, np.ndarray]:
    """Returns one episode of N trials for a replay, padded to `length` + 1 rows, [N, rows, ...].

    Row t has the observation before step t, the action, the reward and mask 1; the row after the
    last step has the observation that it reached, and zeros.

    Args:
        obs: [N, T, obs_dim].
        final_obs: [N, obs_dim].
        actions: encoded, [N, T, n].
        rewards: [N, T].
        mask: [N, T] bool.
        length: longest episode.
    """
    trials = torch.arange(len(obs), device=obs.device)
    found = {}
    for name, x in (("obs", obs), ("actions", actions), ("rewards", rewards[..., None])):
        rows = x.new_zeros(len(x), length + 1, x.shape[-1], dtype=torch.float32)
        rows[:, : x.shape[1]] = x * mask[..., None]
        found[name] = rows
    found["obs"][trials, mask.sum(1)] = final_obs
    flags = torch.zeros_like(found["rewards"])
    flags[:, : mask.shape[1], 0] = mask.float()
    return {name: x.cpu().numpy() for name, x in {**found, "mask": flags}.items()}


def taken(drawn: Mapping[str, np.ndarray], device: torch.device) -> TrialData:
    """Returns trials drawn from a replay, whose rows are those of `stored`, all padding moved to
    the end and cut to the longest trial."""
    mask = drawn["mask"][..., 0] > 0
    lengths = mask.sum(1)
    order = (~mask).argsort(1, kind="stable")[:, : lengths.max()]
    rows = np.arange(len(mask))[:, None]
    # Padded steps have a row after them too: an episode's last row is no step.
    after = np.minimum(order + 1, mask.shape[1] - 1)
    parts = (
        drawn["obs"][rows, order],
        drawn["obs"][rows, after],
        drawn["actions"][rows, order],
        drawn["rewards"][rows, order, 0],
        lengths,
    )
    return TrialData(*(torch.from_numpy(x).to(device) for x in parts))
