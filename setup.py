"""Copies the runs under results/ that have weights into the wheel: `metarl pretrained` lists them.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = (
    *("config.yaml", "environment.json", "data.json", "metrics.jsonl"),
    *("evaluation/adaptation.json", "evaluation/success.json"),
)
"""Files of a run that ship beside its newest checkpoint: no pictures, no other evaluations."""
FOLDER = "pretrained_runs"
"""Folder in the package, which metarl/runs/pretrained.py reads."""


class BuildWithRuns(build_py):
    """Builds the package with the runs in it."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):  # a checkout has results/ itself
            target = Path(self.build_lib, "metarl", FOLDER)
            shutil.rmtree(target, ignore_errors=True)
            for run in self._runs():
                self._copy(run, target / run.relative_to(ROOT / "results"))

    def _runs(self) -> list[Path]:
        weights = (ROOT / "results").rglob("checkpoints/*/agent.safetensors")
        return sorted({path.parents[2] for path in weights})

    def _copy(self, run: Path, target: Path) -> None:
        newest = max((run / "checkpoints").iterdir(), key=lambda path: path.name)
        files = [run / name for name in SHIPPED if (run / name).is_file()]
        for file in (*files, *sorted(newest.iterdir())):
            place = target / file.relative_to(run)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


setup(cmdclass={"build_py": BuildWithRuns})
