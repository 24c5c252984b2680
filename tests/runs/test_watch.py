"""The progress of an evaluation: a bar on a terminal, a line now and then elsewhere."""

import io

import pytest
from rich.console import Console

from metarl.runs.watch import Watch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_there_is_a_line_now_and_then(capsys):
    clock = Clock()
    with Watch(2 * 40 * 3, Console(file=io.StringIO()), clock) as watch:
        for name in ("maml-trpo", "random initialisation"):
            with watch.adapting(name, 40, 3):
                for start in (0, 20):
                    for number in (1, 2, 3):
                        clock.now += 10
                        watch.round(start, start + 20, number)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "maml-trpo: tasks 1 to 20 of 40, round 2 of 3, 1:40 left",
        "maml-trpo: tasks 21 to 40 of 40, round 1 of 3, 1:20 left",
        "maml-trpo: tasks 21 to 40 of 40, round 3 of 3, 1:00 left",
        "random initialisation: tasks 1 to 20 of 40, round 2 of 3, 0:40 left",
        "random initialisation: tasks 21 to 40 of 40, round 1 of 3, 0:20 left",
        "random initialisation: tasks 21 to 40 of 40, round 3 of 3, 0:00 left",
    ]


def test_a_learner_that_diverges_has_no_rounds_left():
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    watch = Watch(20, console, clock)
    with pytest.raises(ValueError, match="nan"), watch.adapting("a", 10, 1):
        raise ValueError("nan")
    clock.now = 60
    with watch, watch.adapting("b[red]", 10, 1):
        watch.round(0, 5, 1)
        assert watch._text(0, 5, 1) == "b[red]: tasks 1 to 5 of 10, round 1 of 1"
        assert watch._left() == "0:20 left"
    assert "b[red]: tasks 1 to 5 of 10" in file.getvalue()
