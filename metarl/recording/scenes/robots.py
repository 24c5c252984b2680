"""Half-cheetahs and ants: the camera follows the robot, and a pole runs at the task's speed."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from metarl.envs.mujoco.run_tasks import Direction, Runs
from metarl.envs.mujoco.tasks import MujocoTasks
from metarl.recording.episodes import Episode
from metarl.recording.scenes.mujoco_view import Drawing, following, lightened
from metarl.recording.scenes.scene import View, check_same
from metarl.types import Task, Workers


class RobotScene:
    """Plays an episode again in one simulation, and draws its states."""

    aspect = 0.75
    notes = True

    def __init__(self, distribution: Runs, width: int):
        self._distribution = distribution
        model = self._opened().batch.model
        self._drawing = Drawing(lightened(model), width, round(self.aspect * width))
        self._drawing.without_shadows()
        self._flat = model.nq == 9  # a half-cheetah moves in a plane

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
        start = float(batch.qpos[0, 0])
        for step in range(episode.length + 1):
            if step:
                obs = env.step(episode.actions[None, None, step - 1]).obs
            check_same(obs[0, 0], episode, step, self._distribution.spec.name)
            if step in wanted:
                yield self._view(episode, step * batch.seconds_per_step, start, batch.qpos[0])
        env.close()

    def _view(self, episode: Episode, seconds: float, start: float, qpos: np.ndarray) -> View:
        family = self._distribution.tasks
        (goal,) = family.goals([episode.task]).tolist()
        speed = (float(qpos[0]) - start) / seconds if seconds else 0.0
        poles = [] if isinstance(family, Direction) else [(start + goal * seconds, 0.35)]
        return View(self._image(qpos, poles), f"mean speed {speed:+.2f} m/s")

    def _image(self, qpos: np.ndarray, poles: list[tuple[float, float]]) -> np.ndarray:
        data = self._drawing.data
        data.qpos[:] = qpos
        mujoco.mj_forward(self._drawing.model, data)
        x, y = float(qpos[0]), 0.0
        if self._flat:
            return self._drawing.image(following(x, y, 0.4, 3.6, -12.0), poles)
        return self._drawing.image(following(x, float(qpos[1]), 0.3, 5.0, -25.0), poles)

    def close(self) -> None:
        self._drawing.close()
