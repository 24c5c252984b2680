"""The vocabulary: what flows between task distributions, samplers and agents.

Axes, always in this order: **K** tasks, **T** environment steps, **E** episodes
per task, then features. Inside `torch.func.vmap` the K axis is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space

from metarl.errors import UserError

if TYPE_CHECKING:  # worker processes import this module, and have no use for torch
    from torch import Tensor

    from metarl.equations.distributions import ActionDistribution

Params: TypeAlias = "dict[str, Tensor]"
"""Parameters by name. Meta-parameters have no task axis; adapted ones are [K, ...]."""

Metrics = dict[str, float]

Task = Mapping[str, Any]
"""A task as plain numbers, e.g. {"velocity": 1.3}: it prints, and JSON stores it."""


class EnvSpec(NamedTuple):
    """What an agent must know of a task distribution before it meets a task."""

    name: str
    observation_space: Box
    """One-dimensional: every observation is a vector [obs_dim]."""
    action_space: Box | Discrete | MultiDiscrete
    horizon: int
    """Steps after which an episode is truncated."""
    has_success: bool = False
    """Whether "solved" means anything here."""
    deterministic: bool = True
    """Whether an episode's seed and actions decide all of it. Without this a run cannot be
    repeated, nor a lost worker's share done again exactly."""

    @property
    def obs_dim(self) -> int:
        return self.observation_space.shape[0]

    @property
    def act_dim(self) -> int:
        """Width of an action vector; a Discrete action is a vector of one number."""
        return action_width(self.action_space)


def action_width(space: Space) -> int:
    """Numbers in one action of `space`.

    Raises:
        UserError: for a space that no policy distribution serves.
    """
    match space:
        case Box(shape=(width,)):
            return width
        case Discrete():
            return 1
        case MultiDiscrete():
            return len(space.nvec)
    raise UserError(
        f"no policy distribution acts in {space}; use a flat Box, Discrete or MultiDiscrete"
    )


class StepResult(NamedTuple):
    """What one step of K x E environments returns; numpy, no automatic reset."""

    obs: np.ndarray  # [K, E, obs_dim] float32, the state that the step reached
    rewards: np.ndarray  # [K, E] float32
    terminated: np.ndarray  # [K, E] bool: no value beyond this step
    truncated: np.ndarray  # [K, E] bool: stopped by the time limit
    success: np.ndarray  # [K, E] bool: solved at this step; False where undefined


class Workers(NamedTuple):
    """Who steps the environments. No result depends on it."""

    count: int = 0
    """Processes (on Meta-World the calling one among them), or threads where the simulator has its
    own; 0: the calling process alone."""
    timeout_s: float = 60.0
    """Longest that one construction, reset or step of an environment may take, in seconds."""
    max_failures: int = 3
    """Workers that may be replaced in 100 meta-batches before the run gives up."""


class BatchedEnv(Protocol):
    """K x E copies of an environment, stepped together. Never resets itself.

    After an episode ended its rows go on being stepped; what they return is ignored. One that
    can step some episodes while the policy thinks about others has `parts` besides (`Part`).
    """

    def set_tasks(self, tasks: Sequence[Task]) -> None: ...
    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Starts K x E episodes. `seeds` [K, E] uint64 -> obs [K, E, obs_dim] float32."""
        ...

    def step(self, actions: np.ndarray) -> StepResult:
        """`actions` [K, E, act_dim] as sampled; the environment clips to its action box."""
        ...

    def close(self) -> None: ...


class Part(Protocol):
    """Some episodes of every task of a BatchedEnv; their steps are started and awaited apart.

    What it returns may be read until the next `start` or `send`.
    """

    episodes: slice
    checked: bool
    """Whether it has made sure that what it returns are finite numbers."""

    def start(self, seeds: np.ndarray) -> None:
        """Begins to reset; `seeds` [K, e] uint64."""
        ...

    def first_obs(self) -> np.ndarray:
        """Awaits the reset: [K, e, obs_dim] float32."""
        ...

    def send(self, actions: np.ndarray) -> None:
        """Begins a step; `actions` [K, e, act_dim]."""
        ...

    def receive(self) -> StepResult:
        """Awaits the step."""
        ...


class TaskDistribution(Protocol):
    """Tasks to learn from and tasks held out; opens the environments they are played in."""

    @property
    def spec(self) -> EnvSpec: ...

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> Sequence[Task]:
        """`draw`: "random", or "stratified" for one task from each of num_tasks equal parts."""
        ...

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BatchedEnv: ...

    def describe(self, task: Task) -> str:
        """A few characters for a plot's legend, e.g. "v*=1.32"."""
        ...


@runtime_checkable
class Classes(Protocol):
    """A TaskDistribution whose tasks are of classes (task["class"]), each with its goals."""

    def held_out(self, goals: int, split: str = "test") -> Sequence[Task]:
        """The first `goals` goals of every class, class after class."""
        ...

    def spread(self, split: str) -> int:
        """The number of classes: tasks are sampled in multiples of it, as many of each."""
        ...


class Trajectories(NamedTuple):
    """Whole episodes as collected; nothing here carries gradient."""

    obs: Tensor  # [K, T, E, obs_dim]
    actions: Tensor  # [K, T, E, act_dim] as sampled, before clipping to the action box
    rewards: Tensor  # [K, T, E] in the environment's units
    terminated: Tensor  # [K, T, E] bool: no value beyond this step
    truncated: Tensor  # [K, T, E] bool: time limit
    mask: Tensor  # [K, T, E] bool: False is padding after the end
    final_obs: Tensor  # [K, E, obs_dim] the state reached by the last step
    solved_at: Tensor  # [K, E] int32: first step solved, from 1; 0 where none was
    behaviour: ActionDistribution  # the collecting policy's, [K, T, E, ...] or broadcastable

    @property
    def success(self) -> Tensor:
        """Solved at any step, [K, E] bool; all False where undefined."""
        return self.solved_at > 0


class FewShotSpec(NamedTuple):
    """What a learner must know of supervised tasks before it meets one."""

    name: str
    input_shape: tuple[int, ...]
    """Of one example: (1,) for a number, (channels, height, width) for an image."""
    outputs: int
    """Numbers in a target, or classes in a task."""
    classes: bool
    """Whether targets are classes 0 .. outputs - 1; else numbers."""


class Examples(NamedTuple):
    """Inputs and targets of K tasks, N each. With classes, N = outputs x shots, as many of each."""

    inputs: Tensor  # [K, N, *input_shape] float32
    targets: Tensor  # [K, N, outputs] float32, or [K, N] int64 where targets are classes


class FewShotTasks(Protocol):
    """Supervised tasks to learn from and tasks held out."""

    @property
    def spec(self) -> FewShotSpec: ...

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train"
    ) -> Sequence[Task]: ...

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        """Support and query of each task, no example in both; `shots` and `queries` are counts for
        each class, where there are classes."""
        ...

    def describe(self, task: Task) -> str:
        """A few characters for a picture."""
        ...


@runtime_checkable
class Curves(Protocol):
    """FewShotTasks of functions of one number, which can be drawn."""

    @property
    def interval(self) -> tuple[float, float]:
        """Where inputs lie."""
        ...

    def curve(self, task: Task, xs: np.ndarray) -> np.ndarray:
        """The truth at xs [M]."""
        ...

    def describe(self, task: Task) -> str: ...


class Actor(Protocol):
    """Acts in some episodes of every task, step by step from their start; it may remember."""

    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        """Actions [K, e, act_dim] and the distribution that they came from.

        Args:
            obs: [K, e, obs_dim]; zero where an episode has ended.
            rewards: [K, e] of the step that led there; None at the first.
            noise: [K, e, n].
        """
        ...


class MetaLearner(Protocol):
    """What training and evaluation know of an agent, whatever it learns from.

    Only `meta_update` and `load_state_dict` change it. The state of K tasks on their way is the
    agent's own business: `begin` makes it, `adapt` returns another.
    """

    @property
    def steps(self) -> int:
        """Adaptation steps before a meta-update of training."""
        ...

    def begin(self) -> Any:
        """Returns the state in which every task is at the meta-parameters."""
        ...

    def adapt(self, state: Any, support: Any) -> Any:
        """Returns the state after a step of every task on its own support. It changes nothing."""
        ...

    def meta_update(self, state: Any, query: Any, rng: np.random.Generator) -> Metrics:
        """Takes one outer step, from tasks in `state` and data drawn after it.

        `skipped` is 1 in the metrics where the update was not finite; then nothing has changed.
        """
        ...

    def state_dict(self) -> Params:
        """Returns everything that a resumed run needs, optimizers' states too."""
        ...

    def load_state_dict(self, state: Params) -> None:
        """Takes back what `state_dict` returned; raises ValueError for another agent's."""
        ...


class Agent(MetaLearner, Protocol):
    """An agent that learns from episodes: a support is `Trajectories`, and it acts."""

    @property
    def noise(self) -> tuple[str, int]:
        """The kind of noise that an actor takes ("normal" or "gumbel"), and its width."""
        ...

    def actor(self, state: Any, episodes: slice) -> Actor:
        """Returns who acts in these episodes of every task, after the steps behind `state`."""
        ...


class SupervisedAgent(MetaLearner, Protocol):
    """An agent that learns from examples: a support is `Examples`, and it predicts."""

    def predict(self, state: Any, inputs: Tensor) -> Tensor:
        """Returns numbers, or logits of classes, [K, N, outputs] at inputs [K, N, ...]."""
        ...
