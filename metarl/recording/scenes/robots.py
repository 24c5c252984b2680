"""Robots of MuJoCo: a camera beside the robot, and a pole that shows what the task asks for.

The pole runs at a task's speed, goes ahead in its direction, or stands at its goal.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

from metarl.envs.mujoco.ant import AntEnv, GoalEnv
from metarl.envs.mujoco.half_cheetah import HalfCheetahEnv
from metarl.envs.mujoco.humanoid import HumanoidEnv
from metarl.envs.mujoco.planar_walkers import PlanarWalkerEnv
from metarl.envs.mujoco.reacher import ReacherEnv, fingertip
from metarl.envs.mujoco.run_tasks import Angle, Place, Runs, Velocity
from metarl.envs.mujoco.tasks import MujocoTasks
from metarl.recording.episodes import Episode
from metarl.recording.scenes.mujoco_view import Drawing, following, lightened
from metarl.recording.scenes.scene import View, check_same
from metarl.types import Task, Workers

AHEAD = 1.5
"""Distance of the pole that shows a direction from the robot, m."""
BESIDE = 0.35
"""Distance of the pole that shows a speed from the robot's path, m."""


class Camera(NamedTuple):
    height: float
    """Height of the place that it looks at, m."""
    distance: float
    elevation: float
    """Angle, degrees; negative from above."""
    follows: bool = True
    """Look at the robot; else at the origin."""


CAMERAS: dict[type[MujocoTasks], Camera] = {
    HalfCheetahEnv: Camera(0.4, 3.6, -12.0),
    GoalEnv: Camera(0.0, 8.5, -50.0, follows=False),
    AntEnv: Camera(0.3, 5.0, -25.0),
    HumanoidEnv: Camera(0.9, 4.0, -12.0),
    PlanarWalkerEnv: Camera(0.8, 3.4, -10.0),
    ReacherEnv: Camera(0.0, 0.75, -90.0, follows=False),
}


class RobotScene:
    """Plays an episode again in one simulation, and draws its states."""

    aspect = 0.75
    notes = True

    def __init__(self, distribution: Runs, width: int):
        self._distribution = distribution
        env = self._opened()
        self._camera = next(camera for kind, camera in CAMERAS.items() if isinstance(env, kind))
        self._arm = isinstance(env, ReacherEnv)
        self._flat = isinstance(env, HalfCheetahEnv | PlanarWalkerEnv)
        self._drawing = Drawing(lightened(env.batch.model), width, round(self.aspect * width))
        self._drawing.without_shadows()

    def _opened(self) -> MujocoTasks:
        env = self._distribution.open(1, 1, Workers(0))
        assert isinstance(env, MujocoTasks)
        return env

    def check(self, tasks: Sequence[Task]) -> None:
        self._image(self._drawing.model.qpos0, [])

    def prepare(self, episodes: Sequence[Episode]) -> None:
        """There is nothing to scale."""

    def views(self, episode: Episode, times: Sequence[int]) -> Iterator[View]:
        env, wanted = self._opened(), set(times)
        env.set_tasks([episode.task])
        obs = env.reset(np.array([[episode.reset_seed]], np.uint64))
        batch = env.batch
        start = batch.qpos[0, :2].copy()
        for step in range(episode.length + 1):
            if step:
                obs = env.step(episode.actions[None, None, step - 1]).obs
            check_same(obs[0, 0], episode, step, self._distribution.spec.name)
            if step in wanted:
                yield self._view(episode, step * batch.seconds_per_step, start, batch.qpos[0])
        env.close()

    def _view(self, episode: Episode, seconds: float, start: np.ndarray, qpos: np.ndarray) -> View:
        family, poles = self._distribution.tasks, []
        goal = family.goals([episode.task])[0]
        place, moved = qpos[:2], qpos[:2] - start
        if isinstance(family, Place):
            away = goal - (fingertip(place) if self._arm else place)
            poles = [] if self._arm else [(float(goal[0]), float(goal[1]))]
            return View(self._image(qpos, poles), f"distance {np.hypot(*away):.2f} m")
        along = moved @ goal if isinstance(family, Angle) else moved[0]
        if isinstance(family, Angle):
            ahead = place + AHEAD * goal
            poles = [(float(ahead[0]), float(ahead[1]))]
        elif isinstance(family, Velocity):
            poles = [(float(start[0] + goal * seconds), BESIDE)]
        speed = along / seconds if seconds else 0.0
        return View(self._image(qpos, poles), f"mean speed {speed:+.2f} m/s")

    def _image(self, qpos: np.ndarray, poles: list[tuple[float, float]]) -> np.ndarray:
        data = self._drawing.data
        data.qpos[:] = qpos
        mujoco.mj_forward(self._drawing.model, data)
        return self._drawing.image(self._look(float(qpos[0]), float(qpos[1])), poles)

    def _look(self, x: float, y: float) -> Any:
        height, distance, elevation, follows = self._camera
        if not follows:
            x, y = 0.0, 0.0
        return following(x, 0.0 if self._flat else y, height, distance, elevation)

    def close(self) -> None:
        self._drawing.close()
