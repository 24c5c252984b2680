"""Best returns in the tests of memory, of all policies and of those without a memory.

A memoryless policy chooses an action by the current observation alone, perhaps by chance.

T-maze. What the walker sees does not depend on the arm until it visits the cue. From the cue on it
has at best just enough steps: it must go right until the junction, and up or down in the last step.
So a delay that depends on the arm comes too late, and the last action is chosen by the junction's
observation, which is the same for both arms: up with some chance q. A walker that does not visit
the cue (in the active maze) ends in the upper arm with some chance q that does not depend on the
right arm either. Half of the tasks have each arm, so the chance of the right one is at most
q / 2 + (1 - q) / 2 = 1 / 2. Who goes right until the junction and then up is never late: the bound
is attained.

Key to door. After the first phase no observation depends on the colour, and the walker carries
nothing from it but the key. So the doors' observation is the same for both colours, and the chance
of the right door is at most 1 / 2. Key and apples need no memory.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.arrays.key_to_door import APPLE, DOOR
from metarl.types import StepResult

APPLES = 0.5
"""Expected number of apples in a step of the second phase."""
RIGHT, UP, LEFT, DOWN = range(4)
"""Actions of a T-maze."""


def t_maze_best(memory: bool = True) -> float:
    """Returns the best expected return of either T-maze, of any length."""
    return 1.0 if memory else 0.5


def key_to_door_best(length: int, memory: bool = True) -> float:
    """Returns the best expected return with `length` steps with apples."""
    return APPLE * APPLES * length + DOOR * (1.0 if memory else 0.5)


class MazeWalker:
    """Solves T-mazes in K x E trials; implements Scripted. It remembers the cue.

    Args:
        detour: steps from the start back to the cue.
    """

    def __init__(self, detour: int):
        self._detour = detour

    def begin(self, obs: np.ndarray) -> None:
        self._steps, self._obs = 0, obs
        self._cue = np.where(obs[..., 0] == 0, obs[..., 1], 0.0)

    def act(self) -> np.ndarray:
        turn = np.where(self._cue > 0, UP, DOWN)
        way = LEFT if self._steps < self._detour else RIGHT
        return np.where(self._obs[..., 0] == 1, turn, way)[..., None]

    def see(self, step: StepResult) -> None:
        self._steps, self._obs = self._steps + 1, step.obs
        told = np.where(step.obs[..., 0] == 0, step.obs[..., 1], 0.0)
        self._cue = np.where(told != 0, told, self._cue)


class KeyBearer:
    """Solves key to door in K x E trials; implements Scripted. It remembers the colour."""

    def begin(self, obs: np.ndarray) -> None:
        self._obs, self._colour = obs, np.zeros(obs.shape[:2])

    def act(self) -> np.ndarray:
        way = np.where(self._obs[..., 2] == 1, self._colour, without_memory(self._obs))
        return (way + 1).astype(np.int64)[..., None]

    def see(self, step: StepResult) -> None:
        self._obs = step.obs
        self._colour = np.where(step.obs[..., 5] != 0, step.obs[..., 5], self._colour)


def without_memory(obs: np.ndarray) -> np.ndarray:
    """Returns the way that a best memoryless policy takes in key to door, -1, 0 or 1, [K, E]: to
    the key, to each apple, and to the right door."""
    return np.where(obs[..., 2] == 1, 1.0, obs[..., 4] + obs[..., 6])
