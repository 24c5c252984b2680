"""Typed options of `metarl evaluate`, which have the run's own settings as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Fixed, Suppress

from metarl.config.ranges import NO_FLAG, Natural, Positive, Seconds
from metarl.config.settings import (
    ActOn,
    ActorCount,
    Device,
    EvaluationConfig,
    FewShotEvaluationConfig,
    SamplerKind,
    ThreadCount,
    WorkerCount,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateRun:
    """Options common to all `metarl evaluate RUN_DIR`, by default the run's own."""

    run_dir: Path
    """Folder of the run whose meta-parameters adapt."""
    split: Literal["train", "test"] = "test"
    """Tasks to adapt to: those of training, or held-out ones."""
    controls: tuple[Literal["random"], ...] = ()
    """Curves to compare with the run's: `random`, the run's agent without any training."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Saved weights to use: the newest, or those with the best result in training."""
    against: tuple[Path, ...] = ()
    """Other runs, adapted on the same tasks."""
    device: Device = "auto"
    threads: ThreadCount = "auto"
    """Threads of torch; `auto` is OMP_NUM_THREADS, else one for each core."""
    inner_lr: Positive | Literal["auto", "own", "search"] = "auto"
    """Inner step size of the run's agent. `own` is the one in its settings. `search` is the best of
    seven on training tasks, for every learner that has a size. `auto` searches for controls only,
    which learned nothing through inner steps."""
    out: str = ""
    """Folder for the evaluation's files and the report; the run's folder is then only read. Empty:
    the run's folder."""
    seed: Natural = 1
    """Seed of tasks and all randomness; runs with the same seed get the same tasks."""
    name: str = ""
    """Name of the evaluation, whose files go to the folder evaluation/NAME. Empty: it has none, and
    an earlier one without a name is kept as evaluation/earlier-1."""
    task: tuple[str, ...] = ()
    """A task of your own, as `mass=1.7,goal=1.0` or `goal=0.1,-0.2`; the flag may be repeated."""
    task_file: str = ""
    """JSON, YAML or CSV file with tasks of your own."""
    own_tasks: Annotated[tuple[Any, ...], NO_FLAG, Fixed, Suppress] = ()
    """Tasks of your own as mappings, which only Python can give."""


@dataclass(frozen=True)
class OtherEnv:
    """Other tasks than the run learned from."""

    name: str = ""
    """Other distribution with the same spaces to evaluate on, also as `--env NAME`. Empty: the
    run's own."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluationConfig, EvaluateRun):
    """Options of evaluating a run that learned from episodes."""

    workers: WorkerCount = "auto"
    """Processes that play episodes; 0 is this process alone, `auto` as many as `threads`."""
    act_on: ActOn = "auto"
    """Place where policies act: in the workers, or on `device`; `auto` decides by their size."""
    worker_timeout: Seconds = 60.0
    """Longest time of a step, a reset or a construction before its worker is replaced, s."""
    sampler: SamplerKind = "local"
    """Players of episodes: worker processes of this machine, or actors of Ray, also on others."""
    ray_address: str = ""
    """HOST:PORT of a Ray cluster that this machine is a node of; empty: Ray is started here."""
    actors: ActorCount = "auto"
    """Actors of Ray that play episodes; `auto` is one for each CPU of the cluster."""
    env: OtherEnv = field(default_factory=OtherEnv)


@dataclass(frozen=True)
class DataPlace:
    """Place of a run's data, and other tasks than it learned from."""

    path: str = ""
    """Folder or file where the data of the run are now, with the same contents. Empty: where the
    run found them."""
    name: str = ""
    """Other distribution with the same examples to evaluate on, also as `--env NAME`. Empty: the
    run's own."""


@dataclass(frozen=True, kw_only=True)
class EvaluateFewShotOptions(FewShotEvaluationConfig, EvaluateRun):
    """Options of evaluating a run that learned from examples."""

    shots: Natural = 0
    """Examples to learn a task from; 0: as many as in training."""
    env: DataPlace = field(default_factory=DataPlace)
