"""MiniGrid's observations in a form that agents learn from."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from metarl.errors import UserError

MOST = 10, 5, 3
"""Largest kind, colour and state of a cell in MiniGrid 3; an agent has its direction as state."""


class minigrid_cells(gymnasium.ObservationWrapper):  # noqa: N801  # a function to its users
    """Wraps a MiniGrid environment: image and direction stay, the text of the mission goes.

    The image is a grid of cells, each with a kind, a colour and a state. MiniGrid states their
    bounds as 0 and 255, as of a photograph. Here they are those of the numbers that there are, so
    that agents see them scaled to [0, 1] and not to [0, 0.04].
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
        if not isinstance(image, Box) or len(image.shape) != 3 or image.shape[2] != len(MOST):
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
        high = np.broadcast_to(np.array(MOST, np.uint8), image.shape)
        cells = Box(np.zeros_like(high), high, dtype=np.uint8)
        kept = {"direction": seen["direction"]} if "direction" in seen.spaces else {}
        self.observation_space = Dict({**kept, "image": cells})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {key: observation[key] for key in self.observation_space.keys()}  # noqa: SIM118


def _wrappers(env: gymnasium.Env) -> list[str]:
    found = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(type(env).__name__)
        env = env.env
    return found
