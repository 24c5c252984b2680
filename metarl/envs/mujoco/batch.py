"""Many simulations of a MuJoCo model, stepped in one call on a pool of threads.

`mujoco.rollout` steps simulations in C++, without the GIL and with one MjData per *thread*, since
hundreds of MjData would not fit the cache. Every call starts with a zero warmstart, so a step
depends on state and control alone: the number of threads and the other simulations in the batch do
not change results.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco.rollout import Rollout

import metarl.envs.mujoco.warnings  # noqa: F401  sends MuJoCo's warnings to Python's log

CHUNKS_PER_THREAD = 4
"""Jobs per thread and call: few, as starting a job costs time; enough to balance the load."""

_NONE = np.empty(0, dtype=np.intp)


class MujocoBatch:
    """The physics states of `size` simulations of `model`, all stepped together.

    Attributes:
        qpos: [size, nq] float64, positions; always a view of the current state.
        qvel: [size, nv] float64, velocities; always a view of the current state.
        seconds_per_step: simulated time of one step, s.
    """

    def __init__(self, model: mujoco.MjModel, size: int, frame_skip: int, threads: int):
        width = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        if width != 1 + model.nq + model.nv:
            raise ValueError("MujocoBatch needs a model without activations and plugins")
        self.model, self.size, self.frame_skip = model, size, frame_skip
        self.seconds_per_step = frame_skip * float(model.opt.timestep)
        # Without a pool the calling thread does the work and saves the cost of starting jobs.
        pooled = threads > 1 and size > 1
        self._rollout = Rollout(nthread=threads if pooled else 0)
        self._workers = threads if pooled else 1
        self._data = self.data_per_thread(model)
        self._chunk = max(1, -(-size // (CHUNKS_PER_THREAD * self._workers)))
        self._models = np.full(size, model, dtype=object)

        self._state = np.zeros((size, width))
        self._substates = np.zeros((size, frame_skip, width))
        self._control = np.zeros((size, frame_skip, model.nu))
        self.qpos = self._state[:, 1 : 1 + model.nq]
        self.qvel = self._state[:, 1 + model.nq :]
        # MuJoCo resets an unstable state to time zero. Our clock starts later than one call can
        # reach from zero, so every such reset shows as a jump.
        self._start_time = (frame_skip + 1) * float(model.opt.timestep)
        self._time = self._start_time

    def data_per_thread(self, model: mujoco.MjModel) -> list[mujoco.MjData]:
        """Makes the scratch space for `sense`, one MjData for each thread."""
        return [mujoco.MjData(model) for _ in range(self._workers)]

    def reset(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Sets all simulations to `qpos` [size, nq] and `qvel` [size, nv], and resets the clock."""
        self._state[:, 0] = self._time = self._start_time
        self.qpos[:] = qpos
        self.qvel[:] = qvel
        self._control[:] = 0.0

    def use_models(self, models: Sequence[mujoco.MjModel]) -> None:
        """Gives each simulation a model of its own: [size] copies of `model`, with other numbers.

        The sizes and the timestep have to stay those of `model`.
        """
        self._models[:] = models

    def step(self, control: np.ndarray, live: np.ndarray | None = None) -> np.ndarray:
        """Steps by `frame_skip` substeps under a constant control.

        Args:
            control: [size, nu], within the model's control range.
            live: rows to step; the others do not change. None: all.

        Returns:
            Rows whose simulation became unstable, usually none: [n] int.
        """
        if live is not None and not len(live):
            return _NONE
        self._time += self.seconds_per_step
        self._control[:] = control[:, None]
        if live is None:
            before, controls, substates = self._state, self._control, self._substates
            models = self._models
        else:
            before, controls = self._state[live], self._control[live]
            substates, models = self._substates[: len(live)], self._models[live]
        self._rollout.rollout(
            models.tolist(),
            self._data,
            before,
            controls,
            skip_checks=True,
            nstep=self.frame_skip,
            state=substates,
            chunk_size=self._chunk,
        )
        after = substates[:, -1]
        unstable = self._unstable(after)
        if live is None:
            self._state[:] = after
            return unstable
        self._state[live] = after
        return live[unstable]

    def sense(
        self,
        model: mujoco.MjModel,
        data: list[mujoco.MjData],
        live: np.ndarray | None,
        out: np.ndarray,
    ) -> np.ndarray:
        """Returns sensor readings of another model at the current states and last controls.

        Steps `model` once, which evaluates the sensors before the step, and discards its state.
        `model` must have the same coordinates as the batch's model; the Euler integrator makes the
        step cheap.

        Args:
            data: the result of `data_per_thread(model)`.
            live: as in `step`.
            out: [size, 1, nsensordata], overwritten.

        Returns:
            [N, nsensordata], a view of `out`; N is the number of `live` rows.
        """
        rows = slice(None) if live is None else live
        states = np.ascontiguousarray(self._state[rows])
        controls = np.ascontiguousarray(self._control[rows, :1])
        readings = out[: len(states)]
        if len(states):
            self._rollout.rollout(
                [model] * len(states),
                data,
                states,
                controls,
                skip_checks=True,
                nstep=1,
                sensordata=readings,
                chunk_size=self._chunk,
            )
        return readings[:, 0]

    def _unstable(self, state: np.ndarray) -> np.ndarray:
        lost_time = np.abs(state[:, 0] - self._time) > 0.5 * float(self.model.opt.timestep)
        if not lost_time.any() and np.isfinite(state).all():
            return _NONE
        return np.flatnonzero(lost_time | ~np.isfinite(state).all(axis=1))

    def close(self) -> None:
        """Stops the threads."""
        self._rollout.close()
