"""The study of a sweep: Optuna's trials in SQLite, in the sweep's folder.

The file may come from anybody. SQLite's files hold data. Optuna reads numbers, texts and JSON from
them; the samplers and pruners that are used here store no pickles there. Each value is checked
before it becomes a setting.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metarl import found
from metarl.errors import UserError
from metarl.runs import places
from metarl.sweep.parameters import Parameter
from metarl.text import shown


def _library() -> Any:
    """Returns Optuna, which is in the extra `sweep`; None where it is not installed."""
    try:
        return import_module("optuna")
    except ImportError:
        return None


optuna: Any = _library()

MOST_BYTES = 1 << 28
"""Bytes of a study."""
NAME = "sweep"
ABOUT = "metarl"
"""Attribute of a study that says what it is of."""
WHY = "why"
"""Attribute of a failed trial."""
SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["median", "none"]
STARTUP = 5
"""Complete trials before any is pruned."""


def check_optuna() -> None:
    """Raises a UserError where Optuna is not installed."""
    if optuna is None:
        raise UserError('a sweep needs Optuna, which is not installed\npip install "metarl[sweep]"')


class Study:
    """Trials of one sweep, which are begun and ended by one process."""

    def __init__(
        self,
        folder: Path,
        parameters: Sequence[Parameter],
        about: Mapping[str, Any],
        sampler: SamplerName,
        pruner: PrunerName,
        seed: int,
        minimise: bool,
        warmup: int = 0,
    ):
        """Makes the study, or opens that of the same sweep.

        Args:
            about: what makes trials comparable; that of an earlier command has to be equal.
            warmup: meta-iterations before which no trial is pruned.

        Raises:
            UserError: for a file that is no study, and a study of another sweep.
        """
        check_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.parameters, self.seed, self.sampler = tuple(parameters), seed, sampler
        self.path = folder / "study.db"
        places.check(folder, [], [self.path])
        if self.path.exists():
            found.check_file(self.path, MOST_BYTES)
        self._study = self._opened(minimise)
        self._study.pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=warmup)
            if pruner == "median"
            else optuna.pruners.NopPruner()
        )
        self._check_about(json.loads(json.dumps(about)))

    def _opened(self, minimise: bool) -> Any:
        from sqlalchemy.engine import URL
        from sqlalchemy.exc import SQLAlchemyError

        url = URL.create("sqlite", database=str(self.path.absolute()))
        try:
            storage = optuna.storages.RDBStorage(url.render_as_string(hide_password=False))
            return optuna.create_study(
                storage=storage,
                study_name=NAME,
                direction="minimize" if minimise else "maximize",
                load_if_exists=True,
            )
        except (SQLAlchemyError, RuntimeError, ValueError, KeyError) as error:
            why = " ".join(str(error).split())[:120]
            raise UserError(
                f"{self.path} is no study of Optuna: {why}\nmove it away, or give another folder "
                "with --run-dir"
            ) from None

    def _check_about(self, about: dict[str, Any]) -> None:
        """Raises a UserError where the study is of another sweep."""
        stored = self._study.user_attrs.get(ABOUT)
        if stored is None and not self._study.trials:
            self._study.set_user_attr(ABOUT, about)
            return
        before = _flat(stored if isinstance(stored, dict) else {})
        now = _flat(about)
        for key in (*now, *before):
            if now.get(key) != before.get(key):
                raise UserError(
                    f"{self.path} is of another sweep: {shown(key)} is "
                    f"{shown(before.get(key, 'missing'))} (asked for: "
                    f"{shown(now.get(key, 'missing'))})\n"
                    "give the same flags to continue it, or another folder with --run-dir"
                )

    @property
    def trials(self) -> list[Any]:
        """Optuna's records of all trials, in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def finished(self) -> list[Any]:
        return [trial for trial in self.trials if trial.state.is_finished()]

    def complete(self) -> list[Any]:
        """Returns the trials with a value, the best first."""
        done = [x for x in self.trials if x.state == optuna.trial.TrialState.COMPLETE]
        sign = 1 if self._study.direction == optuna.study.StudyDirection.MINIMIZE else -1
        return sorted(done, key=lambda trial: sign * trial.value)

    def interrupted(self) -> list[Any]:
        """Returns the trials that a killed process left, to be continued.

        One that was killed before it had all values is marked as failed.
        """
        left = []
        for record in self.trials:
            if record.state.is_finished():
                continue
            trial = optuna.trial.Trial(self._study, record._trial_id)
            if record.params.keys() == {parameter.key for parameter in self.parameters}:
                left.append(trial)
            else:
                self.fail(trial, "it was stopped before it had settings")
        return left

    def ask(self, together: int) -> Any:
        """Returns a new trial; `together` are run at a time.

        Its values depend on the seed, its number and the trials before it, and on no process.
        """
        number = len(self.trials)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        samplers = optuna.samplers
        if self.sampler == "tpe":
            self._study.sampler = samplers.TPESampler(seed=seed, constant_liar=together > 1)
        elif self.sampler == "random":
            self._study.sampler = samplers.RandomSampler(seed=seed)
        else:
            space = {parameter.key: parameter.grid() for parameter in self.parameters}
            self._study.sampler = samplers.GridSampler(space, seed=self.seed)
        trial = self._study.ask({x.key: _distribution(x) for x in self.parameters})
        self._study.sampler = samplers.RandomSampler()  # that of a grid would stop at its last
        return trial

    def values(self, trial: Any) -> dict[str, Any]:
        """Returns the settings of a trial by dotted key, checked."""
        return {x.key: x.value(trial.params.get(x.key)) for x in self.parameters}

    def reported(self, trial: Any) -> list[int]:
        """Returns the iterations at which the pruner has seen a trial, also in another process."""
        return sorted(self.trials[trial.number].intermediate_values)

    def tell(self, trial: Any, value: float) -> None:
        self._study.tell(trial, value)

    def prune(self, trial: Any) -> None:
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)

    def fail(self, trial: Any, why: str) -> None:
        trial.set_user_attr(WHY, why[:500])
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _distribution(parameter: Parameter) -> Any:
    """Returns a parameter as Optuna has it."""
    kinds = optuna.distributions
    if parameter.kind == "choice":
        return kinds.CategoricalDistribution(parameter.labels)
    if parameter.kind == "int":
        return kinds.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a document by dotted key."""
    flat = {}
    for key, value in about.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[str(key)] = value
    return flat
