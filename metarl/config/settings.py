"""Typed settings of a run: frozen dataclasses, one for each part of metarl that reads them.

It imports neither torch nor a simulator, so that `--help` answers within a second. The settings of
an inner or outer rule are in the rule's own file under `agents/`. Their base classes are here, and
all settings that do not depend on the rule. `agents/rows.py` has a row for each agent with its
rules, and the keys of a file are checked against the settings of that row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from metarl.config.ranges import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Seconds,
    ThreadNumber,
    UnitInterval,
    WorkerNumber,
)
from metarl.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
WorkerCount = WorkerNumber | Literal["auto"]
ThreadCount = ThreadNumber | Literal["auto"]
ActOn = Literal["auto", "workers", "device"]
SamplerKind = Literal["local", "ray"]
ActorCount = Count | Literal["auto"]
Source = Literal["episodes", "examples"]
"""Kind of data that a task is learned from: RL episodes or labelled examples."""


@dataclass(frozen=True)
class MetaWorldConfig:
    """Settings of Meta-World's tasks and simulation; other tasks do not use them."""

    engine: Literal["batched", "reference"] = "batched"
    """`reference` runs metaworld's own environments on the workers, 3 to 9 times slower."""
    rewards: Literal["v2", "v1"] = "v2"
    """Version of the reward functions; v1 only with the reference engine."""
    goals_seed: Natural = 1
    """Seed that metaworld's own benchmark draws its 50 goals per class with."""


@dataclass(frozen=True)
class EnvConfig:
    """Task distribution and length of its episodes."""

    name: str = "half-cheetah-vel:maml2017"
    """Catalogue name, with its variant after a colon where it has several."""
    horizon: Count = 200
    """Steps after which an episode is truncated."""
    metaworld: MetaWorldConfig = field(default_factory=MetaWorldConfig)


@dataclass(frozen=True)
class SamplingConfig:
    """Amount of data collected in one meta-iteration."""

    tasks: Count = 40
    """K: tasks in a meta-batch."""
    episodes: Count = 20
    """E: episodes per task for each adaptation step and for the query."""
    task_draw: Literal["random", "stratified"] = "random"
    """`stratified` spreads a meta-batch's tasks evenly: one from each of K equal parts."""


@dataclass(frozen=True)
class PolicyConfig:
    """Policy network: an MLP that gives the distribution of actions."""

    hidden: tuple[Count, ...] = (100, 100)
    activation: Literal["relu", "tanh"] = "relu"
    init: Literal["xavier", "orthogonal"] = "xavier"
    init_std: Positive = 1.0
    """Initial standard deviation of actions (Box action spaces)."""
    min_std: Positive = 1e-6
    """Lower bound of the standard deviation (Box action spaces)."""
    max_std: NonNegative = 0.0
    """Upper bound of the standard deviation (Box action spaces); 0: there is none."""
    std: Literal["shared", "state"] = "shared"
    """Whether the standard deviation is the same for all observations, or an output of the network
    that depends on the observation (Box action spaces)."""
    scale_to_box: bool = False
    """Act in units of the Box: 0 is its middle, and 1 is half of its width away. A new policy then
    acts around the middle. Dimensions without two bounds keep their units."""
    context: Natural = 0
    """Extra inputs, initially zero, that inner steps can adapt instead of weights (CAVIA)."""
    torso: Literal["auto", "conv", "flat"] = "auto"
    """First layers where observations are images: convolutions (`auto`, `conv`), or none, so that
    the first layer reads each pixel as a number (`flat`)."""
    channels: tuple[Count, ...] = (16, 32)
    """Filters of each convolution of an image; their sizes and strides follow from the image's."""

    @property
    def log_stds(self) -> tuple[float, float]:
        """Logarithms of the bounds of the standard deviation."""
        return math.log(self.min_std), math.log(self.max_std) if self.max_std else math.inf


@dataclass(frozen=True)
class AdvantageConfig:
    """Returns, the linear feature baseline, and advantages."""

    discount: Fraction = 0.99
    gae_lambda: UnitInterval = 1.0
    baseline_ridge: Positive = 1e-5
    """Regularisation of the baseline's least squares."""


@dataclass(frozen=True)
class NormalisationConfig:
    """Normalisation of observations and rewards by their statistics in training so far."""

    observations: bool = False
    """Centre them and divide by their deviation."""
    rewards: bool = False
    """Divide them by the deviation of discounted returns. Since advantages are standardised here,
    this matters only for tiny rewards."""
    clip: Positive = 10.0
    """Number of deviations from the mean at which observations are clipped."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Adaptation on held-out tasks. `metarl evaluate` takes these as defaults."""

    tasks: Count = 40
    """Held-out tasks; on Meta-World, goals of each class."""
    steps: Natural = 3
    """Adaptation steps, each with fresh episodes."""
    episodes: Count = 20
    """Episodes per task before the first step and after each."""
    mode_episodes: Natural = 0
    """Extra episodes, before the first step and after each, in which the policy takes its likeliest
    action; they are then reported. 0: the episodes that it learns from are reported."""


@dataclass(frozen=True)
class FewShotEnvConfig:
    """Distribution of supervised tasks and number of examples in a task."""

    name: str = "sinusoid"
    """Catalogue name, with its variant after a colon where it has several."""
    shots: Count = 10
    """Examples to learn a task from; with classes, of each class."""
    queries: Count = 10
    """Examples to evaluate the adapted learner on; with classes, of each class."""
    ways: Count = 5
    """Classes in a task; regression has none."""
    path: str = ""
    """Folder or file of data that does not ship with metarl."""
    image_size: Count = 28
    """Pixels along each side that images from a folder are resized to."""
    rotations: Literal["none", "train", "all"] = "none"
    """Add images turned by 90, 180 and 270 degrees as classes: in training, or everywhere."""


@dataclass(frozen=True)
class FewShotSamplingConfig:
    """Number of tasks that are learned from."""

    tasks: Count = 25
    """K: tasks in a meta-batch."""
    updates: Count = 100
    """Meta-updates in an iteration; a line of metrics.jsonl is their mean."""


@dataclass(frozen=True)
class NetworkConfig:
    """Network that predicts."""

    kind: Literal["mlp", "conv"] = "mlp"
    """`conv` takes images: blocks of a 3x3 convolution, an activation and 2x2 max pooling."""
    hidden: tuple[Count, ...] = (40, 40)
    """Units of each hidden layer, or channels of each block."""
    activation: Literal["relu", "tanh"] = "relu"
    init: Literal["xavier", "orthogonal"] = "xavier"
    batch_norm: bool = False
    """Normalise each block's channels over the support or over the query, as published for
    convolutions. A prediction then depends on the other examples in the query."""
    strides: bool = False
    """Halve images by convolutions of stride 2, as published on Omniglot, in place of max pooling.
    A block then takes a quarter of the time."""


@dataclass(frozen=True)
class FewShotEvaluationConfig:
    """Adaptation to held-out tasks. `metarl evaluate` takes these as defaults."""

    tasks: Count = 600
    """Held-out tasks."""
    steps: Natural = 10
    """Adaptation steps, all on the same examples."""


@dataclass(frozen=True)
class PartSettings:
    """Base class of the settings of an agent's part: its inner or its outer rule."""

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        """Returns keys of `agent` whose settings differ from the default in vain -> the reason."""
        del agent
        return {}

    def check(self, agent: AnyAgentConfig) -> None:
        """Raises a UserError for settings of `agent` that contradict each other."""

    def replay_needs(self, agent: AnyAgentConfig, spec: Any) -> dict[str, int]:
        """Returns the bytes of a full replay by the settings that decide them; `spec` is that of
        the tasks."""
        del agent, spec
        return {}


@dataclass(frozen=True)
class InnerSettings(PartSettings):
    """Base class of the settings of an inner rule, which are in the rule's file."""

    family: ClassVar[str] = ""
    """Name that fitting outer rules list in their `fits`."""
    agents: ClassVar[Mapping[str, str]] = {}
    """`module:class` of the agent that adapts by the rule, by source."""
    learns_values: ClassVar[bool] = False
    """Whether that agent has a value function of its own in place of the linear baseline."""
    plays_trials: ClassVar[bool] = False
    """Whether an adaptation step is one more episode of a trial, which has a number of them."""
    examples_help: ClassVar[Mapping[str, str]] = {}
    """Help of settings, and of the rule (""), where it is another on supervised tasks."""

    @property
    def learns_lr(self) -> bool:
        """Whether `lr` is only what a learned step size begins with."""
        return False

    @property
    def training_steps(self) -> int:
        """Inner steps in a meta-update of training."""
        return getattr(self, "steps", 1)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = {}
        if isinstance(agent, AgentConfig):
            if agent.policy.context:
                found["agent.policy.context"] = "no inner step adapts it alone"
            usual = agent.advantages.baseline_ridge == AdvantageConfig.baseline_ridge
            if self.learns_values and not usual:
                found["agent.advantages.baseline_ridge"] = "it learns a value function"
        return found


@dataclass(frozen=True)
class OuterSettings(PartSettings):
    """Base class of the settings of an outer rule, which are in the rule's file."""

    fits: ClassVar[tuple[str, ...]] = ()
    """Families of inner rules that it can be combined with."""
    sources: ClassVar[tuple[Source, ...]] = ("episodes", "examples")
    derivatives: ClassVar[Literal["by_hand", "autograd"]] = "autograd"
    """Method that differentiates inner steps on episodes for it."""
    learns: ClassVar[bool] = True
    """Whether it changes the meta-parameters."""

    def build(self) -> Any:
        """Returns the outer rule."""
        raise UserError(f"{type(self).__name__} is no outer rule of its own")

    def importance_weighted(self) -> bool:
        """Returns whether inner steps on episodes use the importance-weighted loss (ProMP)."""
        return False


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Agent that learns from episodes: an inner rule, an outer rule, a policy."""

    source: ClassVar[Source] = "episodes"

    name: str
    inner: InnerSettings
    outer: OuterSettings
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    advantages: AdvantageConfig = field(default_factory=AdvantageConfig)
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)


@dataclass(frozen=True, kw_only=True)
class FewShotAgentConfig:
    """Agent that learns from examples: an inner rule, an outer rule, a network."""

    source: ClassVar[Source] = "examples"

    name: str
    inner: InnerSettings
    outer: OuterSettings
    network: NetworkConfig = field(default_factory=NetworkConfig)


AnyAgentConfig: TypeAlias = "AgentConfig | FewShotAgentConfig"


@dataclass(frozen=True, kw_only=True)
class OwnAgentConfig:
    """User's own agent, by the name of its code, which holds its settings."""

    name: str
    """`package.module:attribute`, called with (spec, rng, device)."""


if TYPE_CHECKING:  # a user's own agent is rare, and handled where names are read
    EpisodesAgent: TypeAlias = AgentConfig
    ExamplesAgent: TypeAlias = FewShotAgentConfig
else:
    EpisodesAgent = AgentConfig | OwnAgentConfig
    ExamplesAgent = FewShotAgentConfig | OwnAgentConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings common to all runs."""

    iterations: Count
    """Meta-iterations; on supervised tasks each is `sampling.updates` meta-updates."""
    checkpoint_every: Count = 10
    """Meta-iterations between checkpoints."""
    seed: Natural = 1
    device: Device = "auto"
    """Device of parameters and updates; environments stay on the CPU."""
    threads: ThreadCount = "auto"
    """Threads of updates. `auto` is the variable OMP_NUM_THREADS, else one for each core that this
    process may use. Results of metarl's own agents do not depend on it."""
    run_dir: str = ""
    """Folder of the run; empty: runs/PRESET."""


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Settings of a whole run that learns from episodes."""

    env: EnvConfig = field(default_factory=EnvConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    agent: EpisodesAgent
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    iterations: Count = 475
    workers: WorkerCount = "auto"
    """Processes that play episodes; 0 is this process alone, `auto` as many as `threads`. Results
    do not depend on it."""
    act_on: ActOn = "auto"
    """Place where the policy acts in episodes: in the workers, where whole rounds are played, or on
    `device`, with a message to and from the workers at each step. They round differently. `auto` is
    the device for 500,000 weights or more on a GPU."""
    worker_timeout: Seconds = 60.0
    """Longest time of a step, a reset or a construction before its worker is replaced, s."""
    sampler: SamplerKind = "local"
    """Players of episodes: worker processes of this machine, or actors of Ray, also on others.
    Results do not depend on it."""
    ray_address: str = ""
    """HOST:PORT of a Ray cluster that this machine is a node of; empty: Ray is started here."""
    actors: ActorCount = "auto"
    """Actors of Ray that play episodes; `auto` is one for each CPU of the cluster."""
    task_batch: Natural = 0
    """Tasks of a meta-batch that an update computes with at a time, one group after the other. It
    needs less memory and more time, and results are rounded differently. 0: all tasks."""


@dataclass(frozen=True, kw_only=True)
class FewShotConfig(RunConfig):
    """Settings of a whole run that learns from examples."""

    env: FewShotEnvConfig = field(default_factory=FewShotEnvConfig)
    sampling: FewShotSamplingConfig = field(default_factory=FewShotSamplingConfig)
    agent: ExamplesAgent
    evaluation: FewShotEvaluationConfig = field(default_factory=FewShotEvaluationConfig)
    iterations: Count = 100


AnyConfig: TypeAlias = "Config | FewShotConfig"
