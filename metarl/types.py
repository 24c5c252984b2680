"""Types of the data that task distributions, samplers and agents exchange.

Axes, always in this order: **K** tasks, **T** environment steps, **E** episodes
per task, then features. Inside `torch.func.vmap` the K axis is gone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.errors import UserError

if TYPE_CHECKING:  # worker processes import this module and do not need torch
    from torch import Tensor

    from metarl.equations.distributions import ActionDistribution

Params: TypeAlias = "dict[str, Tensor]"
"""Parameters by name. Meta-parameters have no task axis; adapted ones are [K, ...]."""

Metrics = dict[str, float]

Task = Mapping[str, Any]
"""Task as values that JSON can store, e.g. {"velocity": 1.3}; tuples are stored as lists."""


class EnvSpec(NamedTuple):
    """Description of a task distribution that an agent needs before its first task."""

    name: str
    observation_space: Box
    """One-dimensional: every observation is a vector [obs_dim]."""
    action_space: Box | Discrete | MultiDiscrete
    horizon: int
    """Steps after which an episode is truncated."""
    has_success: bool = False
    """Whether tasks define success."""
    deterministic: bool = True
    """Whether an episode's seed and actions determine it. If not, neither a run nor a lost worker's
    share can be repeated exactly."""
    sparse: bool = False
    """Whether random actions seldom meet what differs between tasks, such as a goal's reward."""
    image: tuple[int, int, int] | None = None
    """Channels, height and width of the image in an observation; None: there is none. The vector
    begins with its pixels in this order, scaled from their bounds to [0, 1]; other numbers of the
    observation follow."""

    @property
    def obs_dim(self) -> int:
        return self.observation_space.shape[0]

    @property
    def act_dim(self) -> int:
        """Width of an action vector; a Discrete action is a vector of one number.

        Raises:
            UserError: for a space that no policy distribution serves.
        """
        match self.action_space:
            case Box(shape=(width,)) | MultiDiscrete(shape=(width,)):
                return width
            case Discrete():
                return 1
        raise UserError(
            f"no policy distribution acts in {self.action_space}; use a flat Box, Discrete or "
            "MultiDiscrete"
        )


class StepResult(NamedTuple):
    """Result of one step of K x E environments; numpy, no automatic reset."""

    obs: np.ndarray  # [K, E, obs_dim] float32, the state that the step reached
    rewards: np.ndarray  # [K, E] float32
    terminated: np.ndarray  # [K, E] bool: no value beyond this step
    truncated: np.ndarray  # [K, E] bool: stopped by the time limit
    success: np.ndarray  # [K, E] bool: solved at this step; False where undefined


class Cluster(NamedTuple):
    """Ray cluster whose actors play rounds."""

    address: str = ""
    """HOST:PORT; empty: it is started on this machine."""
    actors: int = 0
    """Actors that play; 0: one for each CPU of the cluster."""


class Workers(NamedTuple):
    """Settings of the workers that step environments. No result depends on them."""

    count: int = 0
    """Processes (on Meta-World the calling one among them), or threads where the simulator has its
    own; 0: the calling process alone."""
    timeout_s: float = 60.0
    """Longest that one construction, reset or step of an environment may take, in seconds."""
    max_failures: int = 3
    """Workers that may be replaced in 100 meta-batches before the run gives up."""
    cluster: Cluster | None = None
    """Cluster whose actors play whole rounds in the place of `count` processes."""


class BatchedEnv(Protocol):
    """K x E copies of an environment, stepped together. Never resets itself.

    After an episode has ended its rows are still stepped, and their results are ignored. An
    environment that can step some episodes while the policy acts in others also has `parts`.
    """

    def set_tasks(self, tasks: Sequence[Task]) -> None: ...
    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Starts K x E episodes. `seeds` [K, E] uint64 -> obs [K, E, obs_dim] float32."""
        ...

    def step(self, actions: np.ndarray) -> StepResult:
        """`actions` [K, E, act_dim] as sampled; the environment clips to its action box."""
        ...

    def close(self) -> None: ...


def check_number(tasks: Sequence[Task], opened_for: int) -> None:
    """Raises a ValueError for more or fewer tasks than an environment was opened for."""
    if len(tasks) != opened_for:
        raise ValueError(f"{len(tasks)} tasks in an environment opened for {opened_for}")


class Part(Protocol):
    """Some episodes of every task of a BatchedEnv, with steps started and awaited separately.

    Returned arrays are valid until the next `start` or `send`.
    """

    episodes: slice
    checked: bool
    """Whether it has checked that all returned numbers are finite."""

    def start(self, seeds: np.ndarray) -> None:
        """Starts a reset; `seeds` [K, e] uint64."""
        ...

    def first_obs(self) -> np.ndarray:
        """Awaits the reset and returns obs [K, e, obs_dim] float32."""
        ...

    def send(self, actions: np.ndarray) -> None:
        """Starts a step; `actions` [K, e, act_dim]."""
        ...

    def receive(self) -> StepResult:
        """Awaits the step and returns its result."""
        ...


class Progress(NamedTuple):
    """How far training has come, for a curriculum: a `sample` with an argument `progress`.

    All of it comes from the run's settings and checkpoint, so a continued run gets the same.
    """

    iteration: int
    """Complete iterations, 0 at first."""
    iterations: int
    """Iterations of the whole run, as they are asked for now."""
    returns: tuple[float, ...]
    """Mean returns after the last adaptation step in up to 20 iterations before, the newest last;
    of supervised tasks the accuracy, or minus the loss. NaN where one was not finite."""


class TaskDistribution(Protocol):
    """Distribution of training and held-out tasks, which opens their environments."""

    @property
    def spec(self) -> EnvSpec: ...

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> Sequence[Task]:
        """Samples tasks; `draw` "stratified" takes one from each of num_tasks equal parts."""
        ...

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BatchedEnv: ...

    def describe(self, task: Task) -> str:
        """Returns a short label for a plot's legend, e.g. "v*=1.32"."""
        ...


def takes_progress(tasks: Any) -> bool:
    """Returns whether the `sample` of tasks has an argument `progress`, for a curriculum."""
    if (known := getattr(tasks, "takes_progress", None)) is not None:
        return bool(known)
    return "progress" in inspect.signature(tasks.sample).parameters


@runtime_checkable
class Classes(Protocol):
    """TaskDistribution whose tasks belong to classes (task["class"]), each with its goals."""

    def held_out(self, goals: int, split: str = "test") -> Sequence[Task]:
        """Returns the first `goals` goals of every class, class after class."""
        ...

    def spread(self, split: str) -> int:
        """Returns the number of classes; tasks are sampled in multiples of it, equally."""
        ...


class Trajectories(NamedTuple):
    """Whole episodes as collected, without gradients."""

    obs: Tensor  # [K, T, E, obs_dim]
    actions: Tensor  # [K, T, E, act_dim] as sampled, before clipping to the action box
    rewards: Tensor  # [K, T, E] in the environment's units
    terminated: Tensor  # [K, T, E] bool: no value beyond this step
    truncated: Tensor  # [K, T, E] bool: time limit
    mask: Tensor  # [K, T, E] bool: False is padding after the end
    final_obs: Tensor  # [K, E, obs_dim] the state reached by the last step
    solved_at: Tensor  # [K, E] int32: first step solved, from 1; 0 if none was
    behaviour: ActionDistribution  # the collecting policy's, [K, T, E, ...] or broadcastable

    @property
    def success(self) -> Tensor:
        """Whether solved at any step, [K, E] bool; all False if undefined."""
        return self.solved_at > 0


class FewShotSpec(NamedTuple):
    """Description of supervised tasks that a learner needs before its first task."""

    name: str
    input_shape: tuple[int, ...]
    """Shape of one example: (1,) for a number, (channels, height, width) for an image."""
    outputs: int
    """Count of numbers in a target, or of classes in a task."""
    classes: bool
    """Whether targets are classes 0 .. outputs - 1, not numbers."""


class Examples(NamedTuple):
    """Inputs and targets of K tasks, N each. With classes, N = outputs x shots, as many of each."""

    inputs: Tensor  # [K, N, *input_shape] float32
    targets: Tensor  # [K, N, outputs] float32, or [K, N] int64 where targets are classes


class FewShotTasks(Protocol):
    """Distribution of training and held-out supervised tasks."""

    @property
    def spec(self) -> FewShotSpec: ...

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train"
    ) -> Sequence[Task]: ...

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        """Draws support and query of each task, without common examples; with classes, `shots` and
        `queries` count examples of each class."""
        ...

    def describe(self, task: Task) -> str:
        """Returns a short label for a picture."""
        ...


@runtime_checkable
class Curves(Protocol):
    """FewShotTasks of functions of one number, which can be plotted."""

    @property
    def interval(self) -> tuple[float, float]:
        """Interval that inputs lie in."""
        ...

    def curve(self, task: Task, xs: np.ndarray) -> np.ndarray:
        """Returns the true function values at xs [M]."""
        ...

    def describe(self, task: Task) -> str: ...


class Actor(Protocol):
    """Acts in some episodes of every task, step by step; may have a memory."""

    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        """Returns actions [K, e, act_dim] and their distribution.

        Args:
            obs: [K, e, obs_dim]; zero after the end of an episode.
            rewards: [K, e] of the previous step; None at the first step.
            noise: [K, e, n].
        """
        ...


class MetaLearner(Protocol):
    """Interface of an agent that training and evaluation use.

    Only `meta_update` and `load_state_dict` change an agent. The state of K tasks in adaptation
    is private to the agent: `begin` makes one, `adapt` returns a new one.
    """

    @property
    def steps(self) -> int:
        """Adaptation steps before a meta-update of training."""
        ...

    def begin(self) -> Any:
        """Returns the state in which every task is at the meta-parameters."""
        ...

    def adapt(self, state: Any, support: Any) -> Any:
        """Returns the state after a step of every task on its support. Changes nothing else."""
        ...

    def meta_update(self, state: Any, query: Any, rng: np.random.Generator) -> Metrics:
        """Takes one outer step, from tasks in `state` and data drawn after it.

        The metric `skipped` is 1 if the update was not finite; then parameters and the outer rule's
        state have not changed. Running statistics of observations may have.
        """
        ...

    def state_dict(self) -> Params:
        """Returns everything that a resumed run needs, including optimiser states."""
        ...

    def load_state_dict(self, state: Params) -> None:
        """Loads a `state_dict`; raises ValueError for that of another agent."""
        ...


class Agent(MetaLearner, Protocol):
    """Agent that learns from episodes: a support is `Trajectories`, and it acts."""

    @property
    def noise(self) -> tuple[str, int]:
        """Kind ("normal" or "gumbel") and width of the noise that an actor takes."""
        ...

    def actor(self, state: Any, episodes: slice) -> Actor:
        """Returns an actor for these episodes of every task, adapted as in `state`."""
        ...


class SupervisedAgent(MetaLearner, Protocol):
    """Agent that learns from examples: a support is `Examples`, and it predicts."""

    def predict(self, state: Any, inputs: Tensor) -> Tensor:
        """Returns numbers, or logits of classes, [K, N, outputs] at inputs [K, N, ...]."""
        ...
