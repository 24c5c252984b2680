"""Chooses the scene that draws a distribution's tasks."""

from __future__ import annotations

from typing import Any

from metarl.envs.arrays.bandit import Bandit
from metarl.envs.arrays.grid_navigation import GridNavigation
from metarl.envs.arrays.key_to_door import KeyToDoor
from metarl.envs.arrays.point_goal import PointGoal
from metarl.envs.arrays.sparse_point import SparsePoint
from metarl.envs.arrays.t_maze import TMaze
from metarl.envs.arrays.tabular import TabularMdp
from metarl.envs.arrays.wind import Wind
from metarl.envs.gym.tasks import GymTasks
from metarl.errors import UserError
from metarl.recording.scenes.drawn import BanditScene, MdpScene, PointScene
from metarl.recording.scenes.drawn_rooms import (
    GridScene,
    HalfCircleScene,
    KeyScene,
    MazeScene,
    WindScene,
)
from metarl.recording.scenes.scene import Scene

ARRAYS = {
    PointGoal: PointScene,
    Bandit: BanditScene,
    TabularMdp: MdpScene,
    SparsePoint: HalfCircleScene,
    GridNavigation: GridScene,
    Wind: WindScene,
    KeyToDoor: KeyScene,
}


def scene_of(distribution: Any, width: int) -> Scene:
    """Returns the scene that draws a distribution's tasks, `width` pixels wide.

    Raises:
        UserError: for tasks that cannot be drawn.
    """
    for kind, drawn in ARRAYS.items():
        if type(distribution) is kind:
            return drawn(width)
    if type(distribution) is TMaze:
        return MazeScene(width, distribution)
    if isinstance(distribution, GymTasks):
        from metarl.recording.scenes.gym import GymScene

        return GymScene(distribution, width)
    module = type(distribution).__module__
    if module == "metarl.envs.mujoco.run_tasks":
        from metarl.recording.scenes.robots import RobotScene  # mujoco

        return RobotScene(distribution, width)
    if module == "metarl.envs.metaworld.distribution":
        from metarl.recording.scenes.arms import ArmScene  # metaworld

        return ArmScene(distribution, width)
    raise UserError(
        f"{distribution.spec.name} are tasks of your own class, {type(distribution).__name__}, "
        "which metarl cannot draw\nfilms are of metarl.gym_tasks(...), whose environments draw "
        "themselves, and of the catalogue's tasks"
    )
