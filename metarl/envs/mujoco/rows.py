"""Rows of the catalogue for the robots of MuJoCo. It imports no simulator."""

from __future__ import annotations

from metarl.envs.entry import Entry

_CHEETAH = {"maml2017": 200, "promp": 100, "varibad": 200, "gymnasium": 200}
_ANT = {"maml2017": 200, "gymnasium": 200}


def _row(file: str, builder: str, variants: dict[str, int], summary: str) -> Entry:
    return Entry(f"metarl.envs.mujoco.{file}", builder, variants, summary=summary)


ROBOTS = {
    "half-cheetah-vel": _row(
        "half_cheetah",
        "velocity",
        {**_CHEETAH, "wide": 200},
        "HalfCheetah (MuJoCo) runs at a goal velocity",
    ),
    "half-cheetah-dir": _row(
        "half_cheetah", "direction", _CHEETAH, "HalfCheetah (MuJoCo) runs forward or backward"
    ),
    "half-cheetah-gravity": _row(
        "half_cheetah", "gravity", {"": 200}, "HalfCheetah (MuJoCo) runs under another gravity"
    ),
    "ant-vel": _row("ant", "velocity", _ANT, "Ant (MuJoCo) runs at a goal velocity"),
    "ant-dir": _row(
        "ant",
        "direction",
        {**_ANT, "varibad": 200, "2d": 200},
        "Ant (MuJoCo) runs forward or backward, or along an angle",
    ),
    "ant-goal": _row("ant", "goal", {"": 200}, "Ant (MuJoCo) runs to a place"),
    "humanoid-dir": _row(
        "humanoid", "direction", {"": 200}, "Humanoid (MuJoCo) runs along an angle"
    ),
    "walker-params": _row(
        "planar_walkers",
        "walker",
        {"": 200},
        "Walker2d (MuJoCo) of other masses, inertias, dampings and frictions",
    ),
    "hopper-params": _row(
        "planar_walkers",
        "hopper",
        {"": 200},
        "Hopper (MuJoCo) of other masses, inertias, dampings and frictions",
    ),
    "reacher-goal": _row("reacher", "goal", {"": 50}, "Reacher (MuJoCo) finds a hidden place"),
}
