"""Any gymnasium environment that draws itself as `rgb_array`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled

from metarl.envs.gym.makers import ParameterMaker, Registered, arguments_of
from metarl.envs.gym.rows import GymRow, GymRows, Maker, close
from metarl.envs.gym.tasks import GymTasks
from metarl.errors import EnvFaultError, UserError
from metarl.recording.episodes import Episode
from metarl.recording.scenes.scene import View, check_same
from metarl.sampling.rows import USER, RowError, faults_of
from metarl.text import printable
from metarl.types import Task

MODE = "rgb_array"


class Drawn:
    """Maker of environments that draw themselves; implements Maker."""

    def __init__(self, maker: Maker, name: str):
        self._maker, self._name = maker, name
        self._drawing = maker
        if isinstance(maker, ParameterMaker) and _takes_mode(maker.constructor):
            self._drawing = replace(maker, kwargs={**maker.kwargs, "render_mode": MODE})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._maker, name)

    def make(self, task: Task) -> Any:
        """Makes an environment; one that was made to draw nothing is told to draw.

        Raises:
            RowError: for an environment that cannot draw.
        """
        try:
            env = self._drawing.make(task)
        except TypeError:  # arguments that it passes on, and nobody takes
            env = self._maker.make(task)
        if env.render_mode == MODE:
            return env
        modes = list((env.metadata or {}).get("render_modes") or [])
        if env.render_mode is None and MODE in modes:
            env.unwrapped.render_mode = MODE
            return env
        had = f"render_mode is {env.render_mode!r}" if env.render_mode else f"it offers {modes}"
        close(env)
        raise RowError(
            USER,
            f"{self._name} draws no {MODE!r}, of which films are made: {had}\n"
            "give its class metadata = {'render_modes': ['rgb_array']}, an argument render_mode "
            "that it keeps, and render()",
        )


def _takes_mode(constructor: Any) -> bool:
    """Returns whether a constructor may be given the argument `render_mode`."""
    if isinstance(constructor, Registered):
        constructor = constructor.spec.entry_point
        if isinstance(constructor, str):
            constructor = load_env_creator(constructor)
    passed_on = (
        one.kind is one.VAR_KEYWORD for one in inspect.signature(constructor).parameters.values()
    )
    return "render_mode" in arguments_of(constructor) or any(passed_on)


class GymScene:
    """Plays an episode again in an environment of its own, which draws itself."""

    notes = False

    def __init__(self, distribution: GymTasks, width: int):
        del width  # environments have sizes of their own
        if not distribution.spec.deterministic:
            raise UserError(
                f"{distribution.name} is not determined by seeds, and a filmed episode is played "
                "twice\nfilm one with deterministic=True"
            )
        self._distribution, self.aspect = distribution, 0.75
        rows = distribution.rows
        maker: Any = Drawn(rows.maker, distribution.name)
        self._rows: GymRows = replace(rows, maker=maker)

    def check(self, tasks: Sequence[Task]) -> None:
        row = self._rows.make()
        with self._naming(tasks[0], 0):
            row.set_task(tasks[0])
            row.reset(0)
            height, width, _ = self._image(row).shape
        row.close()
        self.aspect = height / width

    def prepare(self, episodes: Sequence[Episode]) -> None:
        """There is nothing to scale."""

    def views(self, episode: Episode, times: Sequence[int]) -> Iterator[View]:
        row, wanted, name = self._rows.make(), set(times), self._distribution.name
        actions = self._rows.decode(episode.actions)
        try:
            with self._naming(episode.task, 0):
                row.set_task(episode.task)
                obs = row.reset(episode.reset_seed)
            for step in range(episode.length + 1):
                with self._naming(episode.task, step):
                    if step:
                        obs = row.step(actions[step - 1])[0]
                    check_same(obs, episode, step, name)
                    view = View(self._image(row)) if step in wanted else None
                if view is not None:
                    yield view
        finally:
            row.close()

    def _image(self, row: GymRow) -> np.ndarray:
        assert row.env is not None
        try:
            with faults_of("render"):
                image = row.env.render()
        except RowError as error:
            if isinstance(missing := error.__cause__, DependencyNotInstalled | ImportError):
                raise RowError(USER, self._not_installed(missing)) from missing
            raise
        if not (
            isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
            and image.shape[2] == 3 and image.size
        ):  # fmt: skip
            what = getattr(image, "shape", None) or type(image).__name__
            raise RowError("render", f"render returned {what}, not a picture [height, width, 3]")
        return image

    def _not_installed(self, missing: Exception) -> str:
        """Returns two lines on a library that is missing; gymnasium's error tells the command."""
        what, _, how = " ".join(printable(str(missing)).split()).partition(", run ")
        remedy = how.strip("`") or "install the library that draws the environment"
        return f"{self._distribution.name} cannot be drawn: {what:.200}\n{remedy:.200}"

    @contextmanager
    def _naming(self, task: Task, step: int) -> Iterator[None]:
        try:
            yield
        except RowError as error:
            if error.field == USER:
                raise UserError(error.what) from error
            name = self._distribution.name
            raise EnvFaultError(
                name, task, 0, step, error.field, error.what, error.trace
            ) from error

    def close(self) -> None:
        """Each row is closed with its episode."""
