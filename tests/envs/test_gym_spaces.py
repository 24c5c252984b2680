"""Spaces as vectors and back: gymnasium's own flatten is the other route."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
)
from gymnasium.spaces.utils import flatten, flatten_space

from metarl.envs.gym.spaces import decoder, flat_actions, flat_observations, observer
from metarl.errors import UserError
from metarl.sampling.rows import RowError

BOX = Box(-1.0, 1.0, (3,), np.float32)
OBSERVED = [
    BOX,
    Box(0, 255, (6,), np.uint8),
    Box(-np.inf, np.inf, (4, 5, 3), np.float32),
    Box(-np.inf, 1e300, (2, 2), np.float64),
    Box(-1.0, 1.0, (), np.float32),
    Discrete(5, start=-2),
    MultiDiscrete([3, 2]),
    MultiDiscrete(np.array([[3, 2], [4, 5]])),
    MultiBinary(4),
    MultiBinary((2, 3)),
    Dict({"b": BOX, "a": Discrete(3), "c": Dict({"d": MultiBinary(2)})}),
    Tuple((Discrete(2), BOX, Tuple((Discrete(3),)))),
]


@pytest.mark.parametrize("space", OBSERVED, ids=str)
def test_observations_are_gymnasiums_flattened_ones(space):
    flat, observe = flat_observations(space, "x"), observer(space)
    assert flat.shape == flatten_space(space).shape
    assert len(flat.shape) == 1
    assert flat.dtype == np.float32
    space.seed(1)
    for _ in range(5):
        obs = space.sample()
        np.testing.assert_array_equal(observe(obs), flatten(space, obs))


@pytest.mark.parametrize(
    "space",
    [
        Sequence(Discrete(2)),
        Text(4),
        Graph(BOX, None),
        Dict({"a": BOX, "words": Tuple((Text(3),))}),
    ],
    ids=str,
)
def test_observations_without_a_fixed_length_are_refused_by_name(space):
    with pytest.raises(UserError, match=r"lander: no agent can observe .*(Seq|Text|Graph).*; use"):
        flat_observations(space, "lander")


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (BOX, np.zeros((3, 1), np.float32)),
        (BOX, [0.0, 0.0, 0.0]),
        (BOX, np.array(["a", "b", "c"])),
        (BOX, np.zeros(3, complex)),
        (BOX, np.zeros(3, object)),
        (Discrete(3), 3),
        (Discrete(3), -1),
        (Discrete(3), 1.0),
        (MultiDiscrete([2, 2]), np.array([0, 2])),
        (Dict({"a": Discrete(3)}), {"b": 1}),
        (Dict({"a": BOX}), {"a": np.zeros(2)}),
        (Tuple((Discrete(2), BOX)), (1,)),
    ],
    ids=str,
)
def test_what_is_not_in_the_space_is_a_fault(space, obs):
    with pytest.raises(RowError) as caught:
        observer(space)(obs)
    assert caught.value.field == "observation"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
def test_other_numbers_than_the_spaces_are_taken(dtype):
    """float64 where float32 was promised harms nobody."""
    assert observer(BOX)(np.ones(3, dtype)).shape == (3,)


def test_actions_in_a_box_are_clipped_and_shaped():
    space = Box(np.array([[-1.0, 0.0]]), np.array([[1.0, 0.5]]), dtype=np.float64)
    assert flat_actions(space, "x") == Box(np.array([-1, 0], "f4"), np.array([1, 0.5], "f4"))
    first, second = decoder(space)(np.array([[-3.0, 0.2], [0.5, 7.0]], np.float32))
    assert first.dtype == np.float64
    np.testing.assert_allclose(first, [[-1.0, 0.2]], rtol=1e-7)
    np.testing.assert_allclose(second, [[0.5, 0.5]])


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Discrete(4, start=3),
        MultiDiscrete([3, 2]),
        MultiDiscrete([3, 2], start=[-1, 5]),
        MultiDiscrete(np.array([[3, 2], [4, 5]]), dtype=np.int32),
    ],
    ids=str,
)
def test_every_count_from_zero_is_an_action_of_the_space(space):
    flat = flat_actions(space, "x")
    assert isinstance(flat, Discrete | MultiDiscrete)
    widths = [int(flat.n)] if isinstance(flat, Discrete) else flat.nvec.tolist()
    counts = np.stack([np.arange(12) % n for n in widths], axis=1)
    decoded = decoder(space)(counts)
    assert all(space.contains(action) for action in decoded)
    assert len({str(action) for action in decoded}) == len({str(row) for row in counts})


@pytest.mark.parametrize("space", [MultiBinary(3), Dict({"a": BOX}), Box(0, 5, (2,), np.int64)])
def test_other_actions_are_refused_by_name(space):
    with pytest.raises(UserError, match=r"lander: no policy can act in .*; use Box"):
        flat_actions(space, "lander")
