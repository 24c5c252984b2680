"""Every class's rules against the reference, step by step and episode by episode."""

import numpy as np
import pytest
from metaworld.env_dict import ENV_CLS_MAP
from metaworld_parity import TERMS, episodes, worst_differences

from metarl.envs.metaworld.classes import CLASSES
from metarl.envs.metaworld.rules.catalogue import RULES

pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # the scripted policies' own

FAST = ("basketball-v3", "door-unlock-v3", "peg-insert-side-v3", "stick-push-v3")
"""A free object and a moved goal, a hinge, a moved hole, contacts."""
EXACT, ROUNDING = 1e-12, 1e-9


def test_there_are_rules_for_every_class():
    assert set(CLASSES) == set(ENV_CLS_MAP) == set(RULES)
    assert len(CLASSES) == 50


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(x, marks=pytest.mark.slow) for x in CLASSES if x not in FAST)]
)
def test_a_step_is_the_references(name):
    """From the same state: observations to the bit, rewards and their terms but for rounding."""
    worst = worst_differences(name, states=120, displaced=1)
    assert worst["states"] >= 200
    assert worst["first_obs"] <= EXACT
    assert worst["obs"] <= EXACT
    for term in ("reward", *TERMS):
        assert worst[term] <= ROUNDING, term
    assert worst["success"] == 0
    assert worst["successes"] > 0, "no state was solved, so that nothing is known of it"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("button-press-v3", 2),
        *(
            pytest.param(name, number, marks=pytest.mark.slow)
            for name, number in (
                ("bin-picking-v3", 10),
                ("hammer-v3", 4),
                ("pick-place-wall-v3", 4),
                ("sweep-into-v3", 4),
            )
        ),
    ],
)
def test_episodes_end_as_the_references(name, number, goals_are_few):
    """Played by the scripted policy: each goal is solved at the same step, with the same return.

    bin-picking puts the object into the bin's wall at a fifth of its goals, which throws it.
    """
    goals_are_few(number)
    ours, theirs = (episodes(name, number, engine) for engine in ("batched", "reference"))
    np.testing.assert_array_equal(ours.solved_at, theirs.solved_at)
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-6)
    assert (ours.solved_at > 0).mean() > 0.5, "the policy solves most"
