"""MiniGrid's observations in a form that agents learn from."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from metarl.errors import UserError

COUNTS = 11, 6, 4
"""Kinds, colours and states of a cell in MiniGrid 3; an agent has its direction as state."""


class minigrid_cells(gymnasium.ObservationWrapper):  # noqa: N801  # a function to its users
    """Wraps a MiniGrid environment: image and direction stay, the text of the mission goes.

    MiniGrid's image is a grid of cells, each with the number of its kind, of its colour and of its
    state. They are names and no brightness, and the bounds that MiniGrid states, 0 and 255, would
    scale them to nearly 0. Here each is one-hot: an image [height, width, 21] of zeros and ones.
    """

    def __init__(self, env: gymnasium.Env):
        """
        Raises:
            UserError: for an environment without MiniGrid's cells, such as one wrapped to give
                colours of pixels.
        """
        super().__init__(env)
        seen = env.observation_space
        image = seen.get("image") if isinstance(seen, Dict) else None
        if not isinstance(image, Box) or len(image.shape) != 3 or image.shape[2] != len(COUNTS):
            raise UserError(
                f"minigrid_cells was given {type(env.unwrapped).__name__}, which observes {seen}\n"
                "give an environment of MiniGrid whose observations have its cells as `image`"
            )
        if pixels := [x for x in _wrappers(env) if x.startswith("RGB")]:
            raise UserError(
                f"minigrid_cells was given an environment in {pixels[0]}, whose image has colours "
                "of pixels and not cells\nleave minigrid_cells out; "
                "gymnasium.wrappers.FilterObservation drops the mission"
            )
        shape: Any = (*image.shape[:2], sum(COUNTS))
        others = {} if not isinstance(seen, Dict) else seen.spaces
        self._kept = [key for key in others if key == "direction"]
        kept = {key: others[key] for key in self._kept}
        bools: Any = np.bool_
        cells = Box(0, 1, shape, bools)
        self.observation_space = Dict({**kept, "image": cells})
        self._one_hot = [np.eye(count, dtype=bool) for count in COUNTS]

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        numbers = observation["image"]
        planes = [which[numbers[..., i]] for i, which in enumerate(self._one_hot)]
        others = {key: observation[key] for key in self._kept}
        return {**others, "image": np.concatenate(planes, -1)}


def _wrappers(env: gymnasium.Env) -> list[str]:
    found = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(type(env).__name__)
        env = env.env
    return found
