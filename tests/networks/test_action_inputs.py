"""Actions as a network reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space

from metarl.networks.action_inputs import ActionInputs
from metarl.types import EnvSpec

READ = {
    "numbers": (Box(-1, 1, (2,)), [0.5, -3.0], [0.5, -3.0]),
    "a choice": (Discrete(4), [2.0], [0, 0, 1, 0]),
    "choices": (MultiDiscrete([2, 3]), [1.0, 0.0], [0, 1, 1, 0, 0]),
}


@pytest.mark.parametrize("kind", READ)
def test_choices_are_one_hot_and_numbers_as_they_are(kind: str):
    """Side by side, whatever axes lead."""
    space, action, expected = READ[kind]
    inputs = of(space)
    found = inputs(torch.tensor(action).expand(3, 2, -1))
    assert inputs.width == len(expected)
    assert found.shape == (3, 2, len(expected))
    assert found[1, 1].tolist() == expected


def test_every_choice_is_told_apart():
    inputs = of(MultiDiscrete([2, 3]))
    every = torch.from_numpy(np.indices((2, 3)).reshape(2, -1).T)
    assert len(inputs(every).unique(dim=0)) == 6
    assert inputs(every).sum(-1).tolist() == [2] * 6


def of(space: Space) -> ActionInputs:
    assert isinstance(space, Box | Discrete | MultiDiscrete)
    return ActionInputs(EnvSpec("x", Box(-1, 1, (1,)), space, 5))
