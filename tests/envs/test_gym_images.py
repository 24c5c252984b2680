"""Images in observations: which spaces have one, and the order and scale of its pixels."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple
from gymnasium.spaces.utils import flatten

from metarl import UserError
from metarl.envs.gym.images import image_shape
from metarl.envs.gym.spaces import flat_observations, observer
from metarl.envs.gym.tasks import gym_tasks
from metarl.errors import EnvFaultError
from metarl.types import Workers

BOOLS: Any = bool
RGB = Box(0, 255, (4, 5, 3), np.uint8)
GRID = Box(0, np.broadcast_to(np.array([10, 5, 2], np.uint8), (7, 7, 3)), dtype=np.uint8)


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (RGB, (3, 4, 5)),
        (Box(0, 255, (3, 4, 5), np.uint8), (3, 4, 5)),
        (Box(0, 255, (6, 6), np.uint8), (1, 6, 6)),
        (Box(0, 255, (6, 6, 1), np.uint8), (1, 6, 6)),
        (Box(-1.0, 1.0, (1, 6, 6), np.float32), (1, 6, 6)),
        (Box(0, 65535, (6, 6, 2), np.uint16), (2, 6, 6)),
        (MultiBinary((5, 5, 4)), (4, 5, 5)),
        (MultiBinary((5, 5, 9)), (9, 5, 5)),
        (MultiBinary((9, 5, 5)), (9, 5, 5)),
        (Box(0, 1, (5, 5, 4), BOOLS), (4, 5, 5)),
        (Dict({"a": Discrete(3), "see": Tuple((RGB, Discrete(2)))}), (3, 4, 5)),
        (Box(-np.inf, np.inf, (4, 5, 3), np.float32), None),
        (Box(-(2**40), 2**40, (4, 5, 3), np.int64), None),
        (Box(-1.0, 1.0, (4, 5), np.float32), None),
        (MultiBinary((4, 5)), None),
        (Box(0, 255, (4, 5, 3, 2), np.uint8), None),
        (Box(0, 255, (4, 2, 2), np.uint8), None),
    ],
    ids=str,
)
def test_a_space_has_an_image_by_its_shape_and_bounds(space, shape):
    assert image_shape(space, "x") == shape


@pytest.mark.parametrize("last", [True, False])
def test_pixels_go_channel_by_channel_from_zero_to_one(last):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    expected = (image.transpose(2, 0, 1) / 255.0).ravel()
    space = RGB if last else Box(0, 255, (3, 4, 5), np.uint8)
    found = observer(space)(image if last else image.transpose(2, 0, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    flat = flat_observations(space, "x")
    assert flat.shape == (60,)
    assert flat.low.min() == 0.0
    assert flat.high.max() == 1.0


def test_each_number_is_scaled_by_its_own_bounds():
    """MiniGrid's cells hold a kind, a colour and a state; 255 would make all of them nearly 0."""
    found = observer(GRID)(np.full((7, 7, 3), 2, np.uint8)).reshape(3, 49)
    np.testing.assert_allclose(found, np.array([[0.2], [0.4], [1.0]]) * np.ones((1, 49)), rtol=1e-6)


def test_other_parts_follow_as_gymnasium_flattens_them():
    parts = {"a": Discrete(3), "t": Tuple((Discrete(2), Box(-2, 2, (2,))))}
    space, rest = Dict({**parts, "image": RGB}), Dict(parts)
    space.seed(0)
    obs: Any = space.sample()
    found = observer(space)(obs)
    others: Any = flatten(rest, {key: obs[key] for key in parts})
    np.testing.assert_allclose(found[60:], others, rtol=1e-6)
    np.testing.assert_allclose(found[:60], observer(RGB)(obs["image"]))
    assert flat_observations(space, "x").shape == found.shape


def test_an_image_in_a_tuple_leaves_the_others_in_order():
    first, last = Discrete(3), Tuple((Discrete(2), Box(-2, 2, (2,))))
    space = Tuple((first, RGB, last))
    space.seed(0)
    obs: Any = space.sample()
    found = observer(space)(obs)
    others: Any = flatten(Tuple((first, last)), (obs[0], obs[2]))
    np.testing.assert_allclose(found[60:], others, rtol=1e-6)


def test_two_images_are_refused():
    with pytest.raises(UserError, match=r"'b' .*networks read one\n.*FilterObservation"):
        flat_observations(Dict({"a": RGB, "b": RGB}), "x")


def test_text_beside_an_image_is_refused_with_the_wrapper_that_leaves_it_out():
    space = Dict({"direction": Discrete(4), "image": RGB, "mission": Text(9)})
    with pytest.raises(UserError, match=r"FilterObservation\(env, \['direction', 'image'\]\)"):
        flat_observations(space, "x")


class Blank(gymnasium.Env):
    action_space = Discrete(2)

    def __init__(self, side: int = 7):
        self.shape = side, side, 3
        self.observation_space = Box(0, 255, (side, side, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.shape, np.uint8), {}

    def step(self, action):
        return np.zeros(self.shape, np.uint8), 0.0, False, False, {}


def test_images_of_two_sizes_are_refused():
    both = [{"side": 7}, {"side": 9}]
    tasks = gym_tasks(Blank, train=both, test=[{"side": 5}], horizon=2)
    assert tasks.spec.image in ((3, 7, 7), (3, 9, 9))
    with pytest.raises(EnvFaultError, match=r"images have channels, height and width .*; pad or"):
        tasks.open(2, 1, Workers(0)).set_tasks(both)
