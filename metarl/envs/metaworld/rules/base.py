"""The rules of one Meta-World class: what is observed, what is rewarded, what counts as solved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, Sensed


class Terms(NamedTuple):
    """The verdict on one step of N simulations; names are those of the reference's info. [N]."""

    reward: np.ndarray
    success: np.ndarray  # bool
    near_object: np.ndarray
    grasp_reward: np.ndarray
    in_place_reward: np.ndarray
    obj_to_target: np.ndarray


class Rules(ABC):
    """A class's own part of the environment, for N simulations at once; it keeps nothing.

    Reward version v2. `sensed` says what `objects` and `judge` read of the model.
    """

    sensed: Sequence[Sensed] = ()

    @abstractmethod
    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        """Returns the observation's parts about objects, in order: each [N, 3] or [N, 4] and so on,
        together at most 14 wide; zeros fill the rest."""

    @abstractmethod
    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        """The verdict on a step.

        Args:
            obs: [N, 39] float64, clipped as the reference clips it: 0:3 the hand, 3 how far the
                gripper is open, 4:18 objects, then the same of the step before, then zeros.
            action: [N, 4] in [-1, 1].
        """
