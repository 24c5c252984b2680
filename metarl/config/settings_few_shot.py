"""The typed configuration of a few-shot run: supervised tasks instead of environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metarl.config.ranges import Count, Natural
from metarl.config.settings import (
    AdamConfig,
    DescentConfig,
    Device,
    DirectionsConfig,
    LearnedOptimizerConfig,
    MappingConfig,
    MetaLstmConfig,
    NoUpdateConfig,
    PrototypesConfig,
    ReptileConfig,
    SgdConfig,
)


@dataclass(frozen=True)
class FewShotEnvConfig:
    """Which distribution of supervised tasks, and how many examples one shows."""

    name: str = "sinusoid"
    """Catalogue name, with its variant after a colon where it has several."""
    shots: Count = 10
    """Examples to learn a task from: of each class, where there are classes."""
    queries: Count = 10
    """Examples that the adapted learner is judged by: of each class, where there are classes."""
    ways: Count = 5
    """Classes in a task; regression has none."""
    path: str = ""
    """Folder or file of the data, where it does not ship."""
    image_size: Count = 28
    """Pixels along each side, to which images from a folder are brought."""
    rotations: Literal["none", "train", "all"] = "none"
    """Images turned by 90, 180 and 270 degrees are further classes: of training, or everywhere."""


@dataclass(frozen=True)
class FewShotSamplingConfig:
    """How many tasks are learned from."""

    tasks: Count = 25
    """K: tasks in a meta-batch."""
    updates: Count = 100
    """Meta-updates in an iteration: a line of metrics.jsonl is their mean."""


@dataclass(frozen=True)
class NetworkConfig:
    """The learner's network."""

    kind: Literal["mlp", "conv"] = "mlp"
    """`conv` takes images: blocks of a 3x3 convolution, an activation and a 2x2 maximum."""
    hidden: tuple[Count, ...] = (40, 40)
    """Units of each hidden layer, channels of each block."""
    activation: Literal["relu", "tanh"] = "relu"
    init: Literal["xavier", "orthogonal"] = "xavier"
    batch_norm: bool = False
    """Each block normalises its channels over the examples at hand, the query's among themselves,
    as published for convolutions: a prediction then depends on the other queries beside it."""


@dataclass(frozen=True)
class LearnerConfig:
    """A few-shot learner: an inner rule, an outer rule, a network."""

    name: str = "maml"
    inner: (
        SgdConfig
        | DescentConfig
        | LearnedOptimizerConfig
        | MetaLstmConfig
        | DirectionsConfig
        | MappingConfig
        | PrototypesConfig
    ) = field(default_factory=SgdConfig)
    outer: AdamConfig | ReptileConfig | NoUpdateConfig = field(default_factory=AdamConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)


@dataclass(frozen=True)
class FewShotEvaluationConfig:
    """Adaptation to held-out tasks. `python -m metarl.evaluate` takes these as defaults."""

    tasks: Count = 600
    """Held-out tasks."""
    steps: Natural = 10
    """Adaptation steps, all on the same examples."""


@dataclass(frozen=True)
class FewShotConfig:
    """A whole run."""

    env: FewShotEnvConfig = field(default_factory=FewShotEnvConfig)
    sampling: FewShotSamplingConfig = field(default_factory=FewShotSamplingConfig)
    agent: LearnerConfig = field(default_factory=LearnerConfig)
    evaluation: FewShotEvaluationConfig = field(default_factory=FewShotEvaluationConfig)
    iterations: Count = 100
    """Of `sampling.updates` meta-updates each."""
    checkpoint_every: Count = 10
    """Iterations between checkpoints."""
    seed: Natural = 1
    device: Device = "auto"
    run_dir: str = ""
    """Where the run is kept; empty: runs/PRESET."""


@dataclass(frozen=True, kw_only=True)
class EvaluateFewShotOptions(FewShotEvaluationConfig):
    """What `python -m metarl.evaluate RUN_DIR` is asked; its defaults are the run's own."""

    run_dir: Path
    """The run whose meta-parameters adapt."""
    shots: Natural = 0
    """Examples to learn a task from, where it shall be another number than in training."""
    split: Literal["train", "test"] = "test"
    controls: tuple[Literal["random"], ...] = ()
    """Curves to set beside the run's: `random`, a network that was never trained."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Which of the run's saved weights: the newest, or those of the best training outcome."""
    against: tuple[Path, ...] = ()
    """Other runs, adapted to the same tasks."""
    device: Device = "auto"
    seed: Natural = 1
    """Draws tasks and examples; the same seed compares runs on the same tasks."""
