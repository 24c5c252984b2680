"""The typed configuration of a run: frozen dataclasses, one per reader.

Imports neither torch nor a simulator, so that `--help` answers within a second. An agent's inner
and outer rule are unions of dataclasses; which of them a name stands for is in its catalogue entry,
and the keys of a file are read against that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from metarl.config.ranges import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Shrinking,
    UnitInterval,
)

Device = Literal["auto", "cpu", "cuda"]
WorkerCount = Natural | Literal["auto"]


@dataclass(frozen=True)
class MetaWorldConfig:
    """How Meta-World's tasks are made and simulated; other tasks have no use for it."""

    engine: Literal["batched", "reference"] = "batched"
    """`reference` plays metaworld's own environments on the workers, 3 to 9 times slower."""
    rewards: Literal["v2", "v1"] = "v2"
    """Version of the reward functions; v1 only by the reference environments."""
    goals_seed: Natural = 1
    """What metaworld's own benchmark draws its 50 goals a class with."""


@dataclass(frozen=True)
class EnvConfig:
    """Which task distribution, and how long its episodes are."""

    name: str = "half-cheetah-vel:maml2017"
    """Catalogue name, with its variant after a colon where it has several."""
    horizon: Count = 200
    """Steps after which an episode is truncated."""
    metaworld: MetaWorldConfig = field(default_factory=MetaWorldConfig)


@dataclass(frozen=True)
class SamplingConfig:
    """How much is collected in one meta-iteration."""

    tasks: Count = 40
    """K: tasks in a meta-batch."""
    episodes: Count = 20
    """E: episodes per task for each adaptation step, and as many for the query."""
    task_draw: Literal["random", "stratified"] = "random"
    """`stratified` spreads a meta-batch's tasks evenly: one from each of K equal parts."""


@dataclass(frozen=True)
class PolicyConfig:
    """The policy network: an MLP with a state-independent learned deviation."""

    hidden: tuple[Count, ...] = (100, 100)
    activation: Literal["relu", "tanh"] = "relu"
    init: Literal["xavier", "orthogonal"] = "xavier"
    init_std: Positive = 1.0
    """Standard deviation of the first policy's actions (Box action spaces)."""
    min_std: Positive = 1e-6
    context: Natural = 0
    """Further inputs, zero at first, that inner steps may move instead of weights (CAVIA)."""


@dataclass(frozen=True)
class AdvantageConfig:
    """Returns, the linear feature baseline, and advantages."""

    discount: Fraction = 0.99
    gae_lambda: UnitInterval = 1.0
    baseline_ridge: Positive = 1e-5
    """Regularisation of the baseline's least squares."""


@dataclass(frozen=True)
class NormalisationConfig:
    """Observations and rewards in units of what was seen in training so far."""

    observations: bool = False
    """Centre them and divide by their deviation."""
    rewards: bool = False
    """Divide them by the deviation of discounted returns. Where advantages are standardised, as
    here, this matters to tiny rewards alone."""
    clip: Positive = 10.0
    """Deviations from their mean at which observations are clipped."""


@dataclass(frozen=True)
class SgdConfig:
    """Inner rule: gradient steps on the score-function loss."""

    lr: Positive = 0.1
    steps: Natural = 1
    """In training; with 0 of them tasks are trained on jointly."""
    first_order: bool = False
    """Ignore how the inner gradient depends on the meta-parameters (FOMAML)."""
    moved: Literal["all", "head", "context"] = "all"
    """What inner steps move: all parameters, those of the last layer (ANIL), or the context
    inputs of the policy (CAVIA)."""
    learn_lr: bool = False
    """Meta-learn a step size for every parameter, `lr` at first (Meta-SGD)."""
    estimator: Literal["score", "dice"] = "score"
    """What the inner loss is differentiated through: `dice` has right derivatives of any order
    (DiCE)."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` use `lr` times this (published: 0.5, Ant's 0.01)."""


@dataclass(frozen=True)
class TrpoConfig:
    """Outer rule: a natural-gradient step inside a trust region, with a line search."""

    max_kl: Positive = 0.01
    cg_iterations: Count = 10
    damping: NonNegative = 1e-5
    backtracks: Count = 15
    backtrack_ratio: Shrinking = 0.8
    query_fraction: Fraction = 0.1
    """Share of the query data in the Gauss-Newton products; the support is taken whole."""
    product_dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Precision of the support's Hessian in the products; the gradient keeps its own. `auto` is
    bfloat16 on a processor with instructions for it, else float32."""


@dataclass(frozen=True)
class PpoStepsConfig:
    """Inner rule: PPO on each round of fresh episodes."""

    lr: Positive = 1e-3
    steps: Natural = 1
    """Rounds of episodes in a meta-iteration before its last one, with an update after each; the
    last one is learned from too."""
    epochs: Count = 5
    minibatches: Count = 4
    clip: Positive = 0.2
    entropy: NonNegative = 0.0
    """Weight of the policy's entropy in the loss."""
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    optimizer: Literal["adam", "sgd"] = "adam"
    """Its state begins anew with each task."""


@dataclass(frozen=True)
class TrialConfig:
    """Inner rule of a recurrent policy: to remember the episodes of a trial."""

    cell: Literal["gru", "lstm"] = "gru"
    size: Count = 128
    """Of the hidden state."""
    steps: Natural = 9
    """Episodes of a trial but the last one."""


@dataclass(frozen=True)
class LearnedOptimizerConfig:
    """Inner rule: a recurrent network makes each coordinate's step of its gradient (LOMAML)."""

    lr: Positive = 0.1
    """alpha, the size of a step."""
    steps: Count = 1
    """In training."""
    cell: Literal["lstm", "linear"] = "lstm"
    """`linear` is a learned multiple of the gradient, 1 at first: gradient descent."""
    size: Count = 8
    """Hidden units for each coordinate."""
    learn_lr: bool = True
    """Meta-learn alpha, one for each layer's weights and biases."""
    learn_start: bool = True
    """Meta-learn where a task starts too; else that stays as it was drawn."""
    first_order: bool = False
    """Ignore how the gradients that the network sees depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` go this share of their way."""


@dataclass(frozen=True)
class MetaLstmConfig:
    """Inner rule: the parameters are an LSTM's cell, its gates are learned (Meta-LSTM)."""

    lr: Shrinking = 0.1
    """The input gate at first: what a gradient is multiplied by."""
    forget: Shrinking = 0.9999
    """The forget gate at first: what a parameter is multiplied by."""
    steps: Count = 1
    """In training."""
    hidden: Natural = 20
    """Units between what the gates see and the gates; 0: the published, linear gates."""
    first_order: bool = False
    """Ignore how the gradients and losses that the gates see depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` go this share of their way."""


@dataclass(frozen=True)
class DirectionsConfig:
    """Inner rule: a network predicts the direction from gradients and samples (GBML)."""

    lr: Positive = 0.1
    steps: Count = 1
    """In training."""
    embedding: Count = 32
    """Numbers that say what the task's samples are like, and modulate the transformation."""
    hidden: Count = 64
    """Units of the samples' encoder."""
    first_order: bool = False
    """Ignore how the gradients depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """At evaluation, steps beyond `steps` go this share of their way."""


@dataclass(frozen=True)
class MappingConfig:
    """Inner rule: a set encoder and a hypernetwork map samples to parameters; no gradient."""

    deltas: Literal["full", "head", "low-rank"] = "full"
    """What is added to the shared parameters: to each of them, to those of the last layer, or a
    matrix of `rank` to each layer's weights and a vector to its biases."""
    rank: Count = 2
    steps: Count = 1
    """In training; each takes in further samples, where they are fresh."""
    embedding: Count = 64
    """Numbers that say what the task's samples are like: a mean over them."""
    hidden: Count = 64
    """Units of each layer of encoder and hypernetwork."""


LearnedConfig: TypeAlias = (
    "LearnedOptimizerConfig | MetaLstmConfig | DirectionsConfig | MappingConfig"
)
"""Inner rules that are learned."""

LEARNED = (LearnedOptimizerConfig, MetaLstmConfig, DirectionsConfig, MappingConfig)
"""Their classes."""


def unheeded_by_rule(inner: LearnedConfig) -> dict[str, str]:
    """Settings otherwise than by default that a learned rule would not heed, and why."""
    found = {}
    match inner:
        case LearnedOptimizerConfig(cell="linear") if inner.size != LearnedOptimizerConfig.size:
            found["agent.inner.size"] = "a linear cell has no hidden units"
        case MappingConfig(deltas="full" | "head") if inner.rank != MappingConfig.rank:
            found["agent.inner.rank"] = f"its deltas are {inner.deltas!r}"
    return found


@dataclass(frozen=True)
class DescentConfig:
    """Inner rule of Reptile on supervised tasks, and of learning from scratch: plain training."""

    lr: Positive = 0.02
    steps: Count = 5
    """In training: on the support, and as many on the query."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Its state begins anew with each task."""
    minibatch: Natural = 0
    """Examples in a step; 0: all there are. The same places in every task, in fixed random orders,
    so that adaptation is a function of the examples alone."""


@dataclass(frozen=True)
class PrototypesConfig:
    """Inner rule: a class is the mean of its examples' embeddings (prototypical networks)."""

    embedding: Count = 64


@dataclass(frozen=True)
class AdamConfig:
    """Outer rule of supervised learning: Adam on the loss of the query, after adaptation."""

    lr: Positive = 1e-3
    max_grad_norm: Positive = 10.0


@dataclass(frozen=True)
class PpoConfig:
    """Outer rule: several epochs on a clipped surrogate through the adaptation, by Adam."""

    lr: Positive = 1e-3
    epochs: Count = 5
    clip: Positive = 0.2
    inner_kl: NonNegative = 0.0
    """Weight of the KL between the policies before the update and after it, that collected the
    support (ProMP: 5e-4)."""
    inner_ratio: bool = False
    """Adapt by importance-weighted inner steps, which stay right in later epochs (ProMP)."""
    exploration: bool = False
    """Credit the support's actions for what comes of them after adaptation (E-MAML)."""
    entropy: NonNegative = 0.0
    max_grad_norm: Positive = 10.0


@dataclass(frozen=True)
class ReptileConfig:
    """Outer rule: towards the parameters that tasks adapted to."""

    lr: Positive = 1.0
    """beta in theta + beta mean_i(phi_i - theta); with Adam, its step size."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    serial: bool = False
    """Towards one task after the other. Supervised tasks set out from where the one before had
    led; in reinforcement learning all learned from the same parameters, so the last weigh most."""


@dataclass(frozen=True)
class TrialPpoConfig:
    """Outer rule of a recurrent policy: PPO with truncated back-propagation through time."""

    lr: Positive = 5e-4
    epochs: Count = 8
    minibatches: Count = 4
    clip: Positive = 0.2
    entropy: NonNegative = 0.005
    entropy_half_life: NonNegative = 0.0
    """Updates after which the weight of the entropy is half of that; 0: it stays."""
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    chunk: Count = 256
    """Steps after which gradients are cut."""


@dataclass(frozen=True)
class NoUpdateConfig:
    """No outer rule: the initial parameters stay."""


@dataclass(frozen=True)
class AgentConfig:
    """An agent: an inner rule, an outer rule, a policy."""

    name: str = "maml-trpo"
    inner: (
        SgdConfig
        | LearnedOptimizerConfig
        | MetaLstmConfig
        | DirectionsConfig
        | MappingConfig
        | PpoStepsConfig
        | TrialConfig
    ) = field(default_factory=SgdConfig)
    outer: TrpoConfig | PpoConfig | ReptileConfig | TrialPpoConfig | NoUpdateConfig = field(
        default_factory=TrpoConfig
    )
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    advantages: AdvantageConfig = field(default_factory=AdvantageConfig)
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    """Adaptation on held-out tasks. `python -m metarl.evaluate` takes these as defaults."""

    tasks: Count = 40
    """Held-out tasks; on Meta-World, goals of each class."""
    steps: Natural = 3
    """Adaptation steps, each with fresh episodes."""
    episodes: Count = 20
    """Episodes per task before the first step and after each."""
    mode_episodes: Natural = 0
    """Episodes besides those, before the first step and after each, in which the policy takes its
    likeliest action: then they are what is reported. 0: those that it learns from are."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    iterations: Count = 475
    """Meta-iterations."""
    checkpoint_every: Count = 10
    """Meta-iterations between checkpoints."""
    seed: Natural = 1
    device: Device = "auto"
    """Where the policy and the updates live; environments stay on the CPU."""
    workers: WorkerCount = "auto"
    """Processes that step environments, threads where a simulator has its own; 0 is this process
    alone, `auto` one for each core. The results do not depend on it."""
    worker_timeout: Positive = 60.0
    """Seconds that a step, a reset or a construction may take before its worker is replaced."""
    run_dir: str = ""
    """Where the run is kept; empty: runs/PRESET."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluationConfig):
    """What `python -m metarl.evaluate RUN_DIR` is asked; its defaults are the run's own."""

    run_dir: Path
    """The run whose meta-parameters adapt."""
    split: Literal["train", "test"] = "test"
    controls: tuple[Literal["random"], ...] = ()
    """Curves to set beside the run's: `random`, a policy that was never trained."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Which of the run's saved weights: the newest, or those of the highest training return."""
    against: tuple[Path, ...] = ()
    """Other runs, adapted on the same tasks."""
    device: Device = "auto"
    workers: WorkerCount = "auto"
    worker_timeout: Positive = 60.0
    seed: Natural = 1
    """Draws tasks, starts and actions; the same seed compares runs on the same tasks."""
