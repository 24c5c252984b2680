"""Measures in words and digits."""

import numpy as np
import pytest

from metarl.runs.measures import ACCURACY, MEAN_SQUARED_ERROR, RETURN, decimals


@pytest.mark.parametrize(
    ("measure", "figures", "digits"),
    [
        (RETURN, [-120.0, 3.0], 1),
        (RETURN, [-9.9, 3.0], 2),
        (RETURN, [np.nan], 2),
        (MEAN_SQUARED_ERROR, [4.2, 0.61], 3),
        (MEAN_SQUARED_ERROR, [4.2, 0.0, 0.061, np.nan], 4),
        (MEAN_SQUARED_ERROR, [np.inf, 0.0], 2),
        (ACCURACY, [0.2, 0.9], 1),
    ],
)
def test_all_figures_of_a_table_have_as_many_digits(measure, figures, digits):
    assert measure.digits(np.array(figures)) == digits


@pytest.mark.parametrize(
    ("value", "digits"),
    [(1234.0, 0), (99.0, 1), (4.31, 2), (1.0, 2), (0.999, 3), (-0.05, 4), (1e-9, 6), (0.0, 2)],
)
def test_three_digits_of_a_value_are_shown(value, digits):
    assert decimals(value) == digits
    assert decimals(float("nan")) == 2


def test_text():
    assert RETURN.text(-12.34, 1) == "-12.3"
    assert ACCURACY.text(0.8651, 1) == "86.5%"
    assert MEAN_SQUARED_ERROR.text(float("inf"), 3) == ""
    assert MEAN_SQUARED_ERROR.column == "mean_squared_error"
    assert (RETURN.used_key, ACCURACY.used_key) == ("env_steps", "examples")
