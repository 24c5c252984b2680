"""Names, and what an unknown one is told."""

import subprocess
import sys

import pytest

from metarl.envs import catalogue
from metarl.errors import UserError


def test_importing_it_imports_no_simulator():
    """`--help` must answer within a second."""
    code = "import sys, metarl.envs.catalogue as c; c.names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mujoco", "gymnasium", "metaworld"} & set(done.stdout.split())


def test_the_family_alone_is_its_first_variant():
    assert catalogue.make("half-cheetah-vel", 10).spec.obs_dim == 20
    assert catalogue.default_horizon("half-cheetah-vel") == 200
    assert catalogue.default_horizon("half-cheetah-vel:promp") == 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half-chetah", "'half-chetah' is no task distribution; did you mean 'half-cheetah-vel"),
        ("half-cheetah-vel:prom", "did you mean 'half-cheetah-vel:promp'"),
        ("point-gaol", "did you mean 'point-goal'"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        catalogue.make(name, 10)


@pytest.mark.parametrize("horizon", [0, -1])
def test_a_horizon_below_one_is_refused(horizon):
    with pytest.raises(UserError, match=f"horizon of {horizon} steps"):
        catalogue.make("point-goal", horizon)


OWN = """
from metarl.envs.point_goal import PointGoal

def near(horizon):
    return PointGoal("near", "", horizon)

near.default_horizon = 12
"""


def test_ones_own_distribution_is_named_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "own_tasks").mkdir()
    (tmp_path / "own_tasks" / "points.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert catalogue.default_horizon("own_tasks.points:near") == 12
    assert catalogue.make("own_tasks.points:near", 7).spec.horizon == 7
    for wrong in ("own_tasks.points:far", "own_tasks.paints:near", "own_tasks.points"):
        with pytest.raises(UserError, match=r"package\.module:attribute"):
            catalogue.make(wrong, 7)
