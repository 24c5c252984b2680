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
