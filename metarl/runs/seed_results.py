"""Results of a folder of seeds: the rows of all its runs, each with its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from metarl.runs.results import Results, Table
from metarl.runs.seeds import NAME


@dataclass(frozen=True)
class SeedResults(Results):
    """Results of the seeds of one experiment.

    Each row has a column `seed`. The figures of `summary` are those of one seed, over its tasks;
    `metarl.compare` has statistics over seeds and tasks.
    """

    seeds: Mapping[int, Results] = field(default_factory=dict)
    """Seed -> the results of its run."""

    @cached_property
    def training(self) -> Table:
        return self._rows("training")

    @cached_property
    def adaptation(self) -> Table:
        return self._rows("adaptation")

    @cached_property
    def summary(self) -> Table:
        return self._rows("summary")

    @cached_property
    def classes(self) -> Table:
        return self._rows("classes")

    def _rows(self, name: str) -> Table:
        return Table(
            {"seed": seed, **row}
            for seed, results in self.seeds.items()
            for row in getattr(results, name)
        )

    def __repr__(self) -> str:
        return f"SeedResults({str(self.run)!r}: seeds {', '.join(map(str, self.seeds))})"


def of_seeds(root: Path, runs: Sequence[Results]) -> SeedResults:
    """Returns the results of the runs in a folder of seeds, which are named by their seed."""
    named = {NAME.fullmatch(results.run.name): results for results in runs}
    return SeedResults(root, seeds={int(name[1]): x for name, x in named.items() if name})
