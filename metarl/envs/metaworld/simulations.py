"""N simulations of one Meta-World class, stepped in C++, with rewards computed as arrays."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby

import mujoco
import numpy as np

from metarl.envs.metaworld.readings import ALWAYS, Constants, Readings, add_sensors
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.snapshots import MODEL_FIELDS, WHOLE, Snapshot

FRAME_SKIP = 5
_STATE = mujoco.mjtState
ACTION_SCALE = 1.0 / 100
"""The distance by which an action of 1 moves the hand's target in a step, m."""
UPRIGHT = (1.0, 0.0, 1.0, 0.0)
"""The hand's orientation, which every step of metaworld's environments sets."""
HAND_LOW = np.array([-0.525, 0.348, -0.0525])
HAND_HIGH = np.array([0.525, 1.025, 0.7])
"""Bounds of the hand in observations, m; `SawyerXYZEnv._HAND_SPACE`."""
OBS_DIM, CURRENT = 39, 18

RowViews = tuple[np.ndarray, np.ndarray]
"""Views of one simulation's state [nstate] and sensor readings [nsensordata]."""


class ClassModel:
    """A class's model with sensors for its rules' inputs, set to one task at a time."""

    def __init__(self, name: str, path: str, rules: Rules):
        self.name, self.rules = name, rules
        self.wanted = tuple(dict.fromkeys((*ALWAYS, *rules.sensed)))
        spec = mujoco.MjSpec.from_file(path)
        add_sensors(spec, self.wanted)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        """Scratch space; only states are kept between steps."""
        self._fields = {name: getattr(self.model, name) for name in MODEL_FIELDS}
        self._current: Mapping[str, np.ndarray] | None = None

    def wear(self, fields: Mapping[str, np.ndarray]) -> None:
        """Sets the model's fields to those after a task's reset, `Snapshot.model`."""
        if fields is not self._current:
            self._current = None  # an interrupt may come between two fields
            for name, values in fields.items():
                self._fields[name][:] = values
            self._current = fields


def touching(
    kind: ClassModel,
    states: np.ndarray,
    snapshots: Sequence[Snapshot],
    geom: str,
    rows: np.ndarray,
) -> np.ndarray:
    """Returns whether both pads press on `geom` in each of `rows` of the states [N, nstate] after a
    step, [len(rows)] bool; `touching_object` of metaworld."""
    model, data = kind.model, kind.data
    found = np.zeros(len(rows), dtype=bool)
    for place, row in enumerate(rows.tolist()):
        kind.wear(snapshots[row].model)
        mujoco.mj_setState(model, data, states[row], WHOLE)
        mujoco.mj_forward(model, data)
        pair, object_id = data.contact.geom, model.geom(geom).id
        pressed = [
            data.efc_force[
                data.contact.efc_address[
                    (pair == model.geom(pad).id).any(axis=1) & (pair == object_id).any(axis=1)
                ]
            ].sum()
            for pad in ("leftpad_geom", "rightpad_geom")
        ]
        found[place] = min(pressed) > 0
    return found


class Simulations:
    """Simulations of one class, each with its own task.

    A step equals that of metaworld's environments to the last bit: `mj_step` five times, then
    `mj_forward`, from the whole state including the constraint solver's warmstart.
    `mujoco.rollout` drops the warmstart in each call, which moves an object in contact by up to
    7e-5 m a step.
    """

    def __init__(self, kind: ClassModel, size: int):
        self.kind, self.size = kind, size
        model = kind.model
        self._passing = FRAME_SKIP * float(model.opt.timestep)
        """Simulated time of a step, s."""
        self._states = np.zeros((size, mujoco.mj_stateSize(model, WHOLE)))
        self._readings = np.zeros((size, model.nsensordata))
        # Views of the state, made once.
        self._views = list(zip(self._states, self._readings, strict=True))
        self._time = self._states[:, 0]
        self._pull = self._part(_STATE.mjSTATE_MOCAP_POS)
        self._turn = self._part(_STATE.mjSTATE_MOCAP_QUAT)
        self._grip = self._part(_STATE.mjSTATE_CTRL)
        self._qpos = self._part(_STATE.mjSTATE_QPOS)
        self._before = np.zeros((size, CURRENT))
        """The first half of the last observation, before clipping."""
        self._snapshots: Sequence[Snapshot] = ()
        self._same_task: list[tuple[Mapping[str, np.ndarray], list[RowViews]]] = []
        """Runs of rows with the same task: model fields, and state and readings of each row."""
        self._begun = False

    def _part(self, kind: mujoco.mjtState) -> np.ndarray:
        """Returns a view of one part of all states, [N, n]; parts are ordered by their bits."""
        start = mujoco.mj_stateSize(self.kind.model, kind.value - 1)
        width = mujoco.mj_stateSize(self.kind.model, kind.value)
        return self._states[:, start : start + width]

    def set_tasks(self, snapshots: Sequence[Snapshot]) -> None:
        """Sets each simulation's task; simulations of the same task share one snapshot object."""
        self._snapshots, kind = snapshots, self.kind
        pressed = partial(touching, kind, self._states, snapshots)
        self._at = Readings(kind.model, kind.wanted, self._readings, self._qpos, pressed)
        pairs = zip(snapshots, self._views, strict=True)
        self._same_task = [
            (neighbours[0][0].model, [views for _, views in neighbours])
            for _, group in groupby(pairs, key=lambda pair: id(pair[0]))
            if (neighbours := list(group))
        ]
        names = snapshots[0].constants
        self._constants = Constants(
            {name: np.stack([x.constants[name] for x in snapshots]) for name in names}
        )

    def reset(self) -> np.ndarray:
        """Starts all episodes and returns the first observations, [N, 39] float64."""
        self._states[:] = [x.state for x in self._snapshots]
        obs = np.stack([x.obs for x in self._snapshots])
        self._before[:] = obs[:, :CURRENT]
        self._begun = False
        return obs

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, Terms]:
        """Steps all simulations by five substeps.

        Args:
            actions: [N, 4], in [-1, 1]. For float32 actions the move of the hand's target is
                float32, as in metaworld.

        Returns:
            Observations [N, 39] float64 and the rules' terms. Rows that became unstable hold nan.
        """
        constants = self._constants
        pulled = self._pull + actions[:, :3] * ACTION_SCALE
        np.clip(pulled, constants.mocap_low, constants.mocap_high, out=self._pull)
        self._turn[:] = UPRIGHT
        self._grip[:, 0], self._grip[:, 1] = actions[:, 3], -actions[:, 3]
        due = self._time + self._passing
        self._simulate()
        # MuJoCo resets an unstable state to time zero.
        unstable = np.flatnonzero(
            (np.abs(self._time - due) > 0.1 * self._passing)
            | ~np.isfinite(self._states).all(axis=1)
        )
        obs = self._observe()
        if not self._begun:
            self._begun = True
            constants.first_obs = obs[:, :CURRENT].copy()
        doubles = actions.astype(np.float64)
        terms = self.kind.rules.judge(obs, doubles, self._at, constants)
        if len(unstable):
            obs[unstable] = np.nan
        return obs, terms

    @property
    def states(self) -> np.ndarray:
        """Whole states of the simulations, [N, nstate] float64; a view."""
        return self._states

    def _simulate(self) -> None:
        model, data, whole = self.kind.model, self.kind.data, WHOLE
        sensed, step, forward = data.sensordata, mujoco.mj_step, mujoco.mj_forward
        put, get = mujoco.mj_setState, mujoco.mj_getState
        for fields, rows in self._same_task:
            self.kind.wear(fields)
            for state, readings in rows:
                put(model, data, state, whole)
                step(model, data, FRAME_SKIP)
                forward(model, data)
                get(model, data, state, whole)
                readings[:] = sensed

    def _observe(self) -> np.ndarray:
        obs, at = np.zeros((self.size, OBS_DIM)), self._at
        obs[:, :3], obs[:, 3] = at.hand, at.opening
        start = 4
        for part in self.kind.rules.objects(at):
            obs[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        obs[:, CURRENT : 2 * CURRENT] = self._before
        self._before[:] = obs[:, :CURRENT]
        for hand in (obs[:, :3], obs[:, CURRENT : CURRENT + 3]):
            np.clip(hand, HAND_LOW, HAND_HIGH, out=hand)
        return obs
