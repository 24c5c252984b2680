"""Centre of mass of a planar chain of bodies, from positions and velocities alone.

`mujoco.rollout` returns the state. To read more from sensors costs an extra substep, as they lag
the state by one; at frame skip 1 that doubles the physics. For a chain that moves in the x-z plane
a few vectorised lines give the exact centre of mass at the new state.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import mujoco
import numpy as np


class PlanarChain:
    """Bodies with one hinge about y each, on a root with joints x, z and a hinge about y.

    With theta_b the absolute angle of body b, and c_b a constant vector in b's frame that
    sums up the masses attached to it, the centre of mass is
        com = (x, z) + offset + sum_b R(theta_b) c_b,  R about +y: x' = x cos + z sin,
                                                                   z' = z cos - x sin.
    Lengths, masses and inertial positions are read from the compiled model.
    """

    def __init__(self, model: mujoco.MjModel):
        bodies = range(1, model.nbody)
        _check_planar(model)
        total = float(model.body_mass[1:].sum())
        below = model.body_subtreemass
        lever = np.zeros((model.nbody, 3))
        for body in bodies:
            lever[body] += model.body_mass[body] * model.body_ipos[body]
            parent = int(model.body_parentid[body])
            if parent:
                lever[parent] += below[body] * model.body_pos[body]
        self._lever_x = lever[1:, 0, None] / total
        self._lever_z = lever[1:, 2, None] / total
        self._origin = model.body_pos[1]
        self._parents = [int(model.body_parentid[body]) - 1 for body in bodies]

    def centre_of_mass(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns position [3, N] in m and x-velocity [N] in m/s, from qpos, qvel [N, 2 + bodies].

        The position is MuJoCo's `subtree_com` of the root body, the velocity the x of its
        `subtree_linvel`. Sums run over the leading axis, so a row does not depend on N.
        """
        angles, rates = self._absolute(qpos), self._absolute(qvel)
        sines, cosines = np.sin(angles), np.cos(angles)
        x_of_body = cosines * self._lever_x + sines * self._lever_z
        z_of_body = cosines * self._lever_z - sines * self._lever_x
        position = np.empty((3, len(qpos)))
        position[0] = qpos[:, 0] + self._origin[0] + x_of_body.sum(axis=0)
        position[1] = self._origin[1]
        position[2] = qpos[:, 1] + self._origin[2] + z_of_body.sum(axis=0)
        z_of_body *= rates
        return position, qvel[:, 0] + z_of_body.sum(axis=0)

    def _absolute(self, joints: np.ndarray) -> np.ndarray:
        """Sums joint angles (or rates) along the chain: [N, 2 + bodies] -> [bodies, N]."""
        sums = np.empty((len(self._parents), len(joints)))
        for body, parent in enumerate(self._parents):
            if parent < 0:
                sums[body] = joints[:, 2 + body]
            else:
                np.add(sums[parent], joints[:, 2 + body], out=sums[body])
        return sums


def _check_planar(model: mujoco.MjModel) -> None:
    """Raises ValueError unless the model is a planar chain."""
    slide, hinge = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
    planar = list(model.jnt_type) == [slide, slide] + [hinge] * (model.nbody - 1)
    if planar:
        axes = np.zeros((model.njnt, 3))
        axes[0, 0] = axes[1, 2] = axes[2:, 1] = 1.0
        planar = (
            np.allclose(model.jnt_axis, axes)
            and np.allclose(model.jnt_pos, 0.0)
            and list(model.jnt_bodyid[2:]) == list(range(1, model.nbody))
            and np.allclose(model.body_quat, [1.0, 0.0, 0.0, 0.0])
            and np.allclose(model.qpos0, 0.0)
        )
    if not planar:
        raise ValueError("PlanarChain needs joints x, z, and one hinge about y for each body")
