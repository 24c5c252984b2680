"""Steps of trials, what is to be learned from them, and the parts of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.equations.adam import AdamState
from metarl.networks.cells import Memory
from metarl.parallel import even_slices
from metarl.types import Metrics, Params

PART = 12
"""Least number of trials that a thread works on at a time. With fewer trials most of the time goes
into starting the short operations of each step."""
PARALLEL = 2048
"""Least number of steps that a thread works on at a time, where they are computed together."""
PARTS = 16
"""Largest number of parts."""


def parts_of(inputs: Tensor, parallel: bool = False) -> list[slice]:
    """Returns the parts of the trials of inputs [N, L, ...], by their shape alone; one on a GPU.

    `parallel` says whether a trial's steps are computed together.
    """
    trials, steps = inputs.shape[:2]
    least = -(-PARALLEL // steps) if parallel else PART
    parts = min(max(2, trials // least), PARTS, trials)
    return even_slices(trials, parts if inputs.device.type == "cpu" else 1)


class Steps(NamedTuple):
    """Played steps of N trials."""

    inputs: Tensor  # [N, L, obs_dim + before_dim], the network's inputs
    actions: Tensor  # [N, L, act_dim]
    log_probs: Tensor  # [N, L], under the policy that acted
    rewards: Tensor  # [N, L]
    mask: Tensor  # [N, L] bool
    truncated: Tensor  # [N, L] bool: a time limit ended an episode here

    def compact(self) -> Steps:
        """Returns the steps with all padding moved to the end and cut to the longest trial."""
        longest = int(self.mask.sum(1).max())
        order = (~self.mask).byte().argsort(dim=1, stable=True)[:, :longest]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return Steps(*(x[rows, order] for x in self))

    @property
    def ended(self) -> Tensor:
        """Mask of the last step of each trial, [N, L] bool."""
        return self.mask & ~torch.cat([self.mask[:, 1:], torch.zeros_like(self.mask[:, :1])], 1)


class Lessons(NamedTuple):
    """Inputs of a gradient step, for some trials."""

    inputs: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor  # [N, L], standardised over all trials or in the unit of the returns
    targets: Tensor  # [N, L], for the value function, standardised
    values: Tensor  # [N, L], those of the policy that acted, in the unit of the targets
    weights: Tensor  # [N, L], zero on padding, their sum is one
    memory: Memory = ()
    """Memory before the first step, [N, ...] each; none at the start of a trial."""

    def trials(self, rows: Tensor) -> Lessons:
        """Selects some trials and rescales their weights to sum to one."""
        found = self.rows(rows)
        return found._replace(weights=found.weights / found.weights.sum())

    def rows(self, rows: Tensor | slice) -> Lessons:
        memory = tuple(x[rows] for x in self.memory)
        return Lessons._make([*(x[rows] for x in self[:-1]), memory])

    def span(self, steps: slice) -> Lessons:
        """Selects some steps. Their memory is left out."""
        return Lessons._make([*(x[:, steps] for x in self[:-1]), ()])

    def chunks(self, steps: int, memories: Sequence[Memory]) -> Lessons:
        """Returns a row for each chunk of so many steps of each trial, [rows, steps, ...]; chunks
        of padding alone are left out. `memories` are those before each chunk, [N, ...] each."""
        count = len(memories)

        def cut(x: Tensor) -> Tensor:
            missing = x.new_zeros(len(x), count * steps - x.shape[1], *x.shape[2:])
            return torch.cat([x, missing], 1).unflatten(1, (count, steps)).flatten(0, 1)

        memory = [torch.stack(parts, 1).flatten(0, 1) for parts in zip(*memories, strict=True)]
        found = Lessons._make([*map(cut, self[:-1]), tuple(memory)])
        return found.rows(found.weights.sum(1) > 0.0)  # a minibatch of padding would divide by zero


class Reading(NamedTuple):
    """Weighted sums of the parts of the loss over some steps, [] each."""

    gain: Tensor
    value_loss: Tensor
    entropy: Tensor
    kl: Tensor
    clipped: Tensor

    @classmethod
    def total(cls, readings: Sequence[Reading]) -> Reading:
        """Returns the sums over some readings, in their order."""
        return cls(*(torch.stack(x).sum(0) for x in zip(*readings, strict=True)))

    def metrics(self) -> Metrics:
        _, value_loss, entropy, kl, clipped = torch.stack(self).tolist()
        return {
            "kl": kl, "clip_fraction": clipped, "entropy": entropy, "value/loss": value_loss,
        }  # fmt: skip


class Descent(NamedTuple):
    """State between the minibatches of an update; a GPU need not be awaited for any of it."""

    params: Params
    adam: AdamState
    going: Tensor
    """Whether no minibatch has ended the update yet, [] bool."""
    finite: Tensor
    """Whether all numbers were finite, [] bool."""
    steps: Tensor
    """Number of steps taken, []."""
    norms: Tensor
    """Sum of the norms of their gradients, []."""
    last: Tensor
    """Reading and gradient norm of the last minibatch that was read, [6]."""

    @classmethod
    def start(cls, params: Params, state: AdamState) -> Descent:
        like = next(iter(params.values()))
        yes = torch.ones((), dtype=torch.bool, device=like.device)
        zero, nothing = like.new_zeros(()), like.new_zeros(len(Reading._fields) + 1)
        return cls(params, state, yes, yes, zero, zero, nothing)


class Weighing(NamedTuple):
    """Numbers that an update has for all of its minibatches, [] each."""

    entropy: Tensor
    lr: Tensor
