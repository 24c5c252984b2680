"""Meta-World's robot arms, played again by the batched engine's simulations."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from metarl.envs.metaworld.distribution import MetaWorld
from metarl.envs.metaworld.rules.catalogue import RULES
from metarl.envs.metaworld.simulations import ClassModel, Simulations
from metarl.envs.metaworld.snapshots import WHOLE, Snapshot, model_path
from metarl.recording.episodes import Episode
from metarl.recording.scenes.mujoco_view import Drawing
from metarl.recording.scenes.scene import View, check_same
from metarl.types import Task

CAMERA = "corner2"


class ArmScene:
    """Draws Meta-World's tasks by a model for each class."""

    aspect = 0.75
    notes = True

    def __init__(self, distribution: MetaWorld, width: int):
        self._distribution, self._width = distribution, width
        self._classes: dict[str, tuple[ClassModel, Drawing]] = {}

    def _of(self, task: Task) -> tuple[ClassModel, Drawing, Snapshot]:
        name = task["class"]
        if name not in self._classes:
            kind = ClassModel(name, model_path(name), RULES[name])
            height = round(self.aspect * self._width)
            self._classes[name] = kind, Drawing(kind.model, self._width, height, own_model=False)
        return *self._classes[name], self._distribution.snapshot(task)

    def check(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            kind, drawing, start = self._of(task)
            self._image(kind, drawing, start, start.state)

    def prepare(self, episodes: Sequence[Episode]) -> None:
        """There is nothing to scale."""

    def views(self, episode: Episode, times: Sequence[int]) -> Iterator[View]:
        kind, drawing, start = self._of(episode.task)
        simulation, wanted = Simulations(kind, 1), set(times)
        simulation.set_tasks([start])
        obs = simulation.reset()
        for step in range(episode.length + 1):
            if step:
                kind.wear(start.model)
                obs, _ = simulation.step(np.clip(episode.actions[None, step - 1], -1.0, 1.0))
            check_same(obs[0], episode, step, self._distribution.spec.name)
            if step in wanted:
                solved = 0 < episode.solved_at <= step
                image = self._image(kind, drawing, start, simulation.states[0])
                yield View(image, f"solved at {episode.solved_at}" if solved else " ")

    def _image(
        self, kind: ClassModel, drawing: Drawing, start: Snapshot, state: np.ndarray
    ) -> np.ndarray:
        kind.wear(start.model)  # another panel may be of another task
        mujoco.mj_setState(drawing.model, drawing.data, state, WHOLE)
        mujoco.mj_forward(drawing.model, drawing.data)
        return drawing.image(CAMERA)[::-1, ::-1]  # this camera hangs upside down

    def close(self) -> None:
        for _, drawing in self._classes.values():
            drawing.close()
