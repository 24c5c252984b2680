"""metrics.jsonl and tensorboard/: what is appended is read, and a resumed run rewrites the rest."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.errors import UserError
from metarl.runs import directory, metrics
from metarl.runs.metrics import MetricsLog


@pytest.fixture
def run(tmp_path):
    return directory.create(tmp_path)


def row(iteration: int, value: Any = 0.5) -> dict[str, float]:
    return {"kl": value, "iteration": iteration, "return/step10": 1.0, "return/step2": -0.0}


def append(run, rows, iteration=0):
    log = MetricsLog(run, iteration)
    for each in rows:
        log.append(each)


def test_what_is_appended_is_read(run):
    append(run, [row(1, np.float32(0.1)), row(2, math.nan)])
    first, second = metrics.read(run.metrics)
    assert first["kl"] == float(np.float32(0.1))
    assert math.isnan(second["kl"])
    assert isinstance(first["iteration"], int)


def test_lines_are_strict_json_in_a_stable_order():
    row: dict[str, Any] = {"b": math.inf, "a/step10": 1.0, "a/step9": 2, "iteration": np.int64(3)}
    assert metrics.line(row) == b'{"iteration": 3, "a/step9": 2, "a/step10": 1.0, "b": null}\n'


def test_what_counts_leads_the_line():
    row = {"loss/step0": 1.0, "wall_s": 2.0, "tasks": 25, "iteration": 1}
    assert list(json.loads(metrics.line(row))) == ["iteration", "tasks", "wall_s", "loss/step0"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_trip(value):
    assert json.loads(metrics.line({"x": value}))["x"] == value


def test_resuming_takes_the_later_iterations_anew(run):
    append(run, [row(i) for i in range(1, 11)])
    whole = run.metrics.read_bytes()
    append(run, [row(i) for i in range(7, 11)], iteration=6)
    assert run.metrics.read_bytes() == whole


def test_a_half_written_last_line_goes(run):
    append(run, [row(1), row(2)])
    whole = run.metrics.read_bytes()
    with open(run.metrics, "ab") as file:
        file.write(b'{"iteration": 3, "k')
    assert len(metrics.read(run.metrics)) == 2
    metrics.rewind(run.metrics, 2)
    assert run.metrics.read_bytes() == whole


def test_a_last_line_that_only_lacks_its_end_goes(run):
    append(run, [row(1), row(2)])
    run.metrics.write_bytes(run.metrics.read_bytes()[:-1])
    assert [r["iteration"] for r in metrics.read(run.metrics)] == [1]


def test_a_log_that_lacks_lines_is_told(run):
    append(run, [row(1), row(2)])
    with pytest.warns(UserWarning, match="has 2 of the 5 lines"):
        metrics.rewind(run.metrics, 5)


def test_a_strange_line_is_named(run):
    for strange in ("{", "[]", "{}", '{"iteration": "x"}', '{"iteration": 1, "kl": "high"}'):
        run.metrics.write_text(metrics.line(row(1)).decode() + strange + "\n")
        with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
            metrics.read(run.metrics)


def test_no_log_yet(run):
    assert metrics.read(run.metrics) == []
    assert metrics.columns([]) == {}


def test_columns_have_nan_where_a_row_lacks_the_name():
    table = metrics.columns([{"iteration": 1, "kl": 0.5}, {"iteration": 2}])
    np.testing.assert_array_equal(table["kl"], [0.5, math.nan])
    assert table["iteration"].dtype == float


def test_smoothing_keeps_a_line_and_passes_over_nan():
    """A symmetric mean leaves a straight line alone, but for its ends."""
    line = np.arange(9.0)
    np.testing.assert_allclose(metrics.smooth(line, 5), [1, 1.5, 2, 3, 4, 5, 6, 6.5, 7])
    np.testing.assert_allclose(metrics.smooth(np.array([1.0, np.nan, 3.0]), 3), [1, 2, 3])
    np.testing.assert_allclose(metrics.smooth(line, 1), line)
    assert np.isnan(metrics.smooth(np.full(3, np.nan), 3)).all()


STRANGE = {
    '{"iteration": 1e999}': "'iteration' is inf",
    '{"iteration": true}': "'iteration' is True",
    '{"iteration": -1}': "'iteration' is -1",
    '{"iteration": 0}': "'iteration' is 0",
    '{"iteration": 2.5}': "'iteration' is 2.5",
    '{"iteration": null}': "'iteration' is None",
    '{"kl": 1.0}': "'iteration' is 'missing'",
    '{"iteration": 1}': "iteration 1 comes after 1",
    '{"iteration": 2, "kl": [1]}': r"'kl' is \[1\]",
    '{"iteration": 2, "kl": true}': "'kl' is True",
    '{"iteration": 2, "kl": 1' + "0" * 400 + "}": "'kl' is a whole number of some 401 digits",
    '{"iteration": 2, "tasks": -1}': "'tasks' is -1",
    '{"iteration": 2, "wall_s": null}': "'wall_s' is None",
    '{"iteration": 2, "kl": 1, "kl": 2}': "'kl' comes twice",
    '{"iteration": 2, "kl": NaN}': "NaN is no number",
    '{"iteration": 2, "kl": "\0"}': "is not JSON",
    "[" * 5000: "nested too deeply",
    '{"a": ' + "9" * 5000 + "}": "is not JSON",
    '"' + "x" * (1 << 20): "it is too long",
}


@pytest.mark.parametrize("strange", STRANGE, ids=range(len(STRANGE)))
def test_what_is_wrong_with_a_line_is_told(run, strange):
    run.metrics.write_text('{"iteration": 1}\n' + strange + "\n")
    for reader in (metrics.read, lambda path: metrics.rewind(path, 2)):
        with pytest.raises(UserError, match=rf"line 2 holds no metrics: .*{STRANGE[strange]}"):
            reader(run.metrics)


def test_bytes_that_are_no_text(run):
    run.metrics.write_bytes(b'{"iteration": 1, "\xff": 1}\n')
    with pytest.raises(UserError, match="line 1 holds no metrics"):
        metrics.read(run.metrics)


def test_of_a_long_log_as_many_rows_are_read_as_a_picture_shows(run):
    run.metrics.write_text("".join(f'{{"iteration": {i}}}\n' for i in range(1, 12_001)) + "{")
    rows = metrics.read(run.metrics)
    assert metrics.count(run.metrics) == 12_000
    assert len(rows) == 4000
    assert [rows[0]["iteration"], rows[-1]["iteration"]] == [3, 12_000]
    metrics.rewind(run.metrics, 7)
    assert metrics.count(run.metrics) == 7


def test_as_many_names_in_each_line_as_lines_are_refused(run):
    lines = ("".join(f', "{n}-{i}": 1' for n in range(60)) for i in range(1, 401))
    run.metrics.write_text("".join(f'{{"iteration": {i}{x}}}\n' for i, x in enumerate(lines, 1)))
    with pytest.raises(UserError, match=r"names in .* lines; no run has"):
        metrics.read(run.metrics)
