"""A policy adapted to one task: it acts on single observations of an environment.

    adapted.start()
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(adapted.act(obs))
        adapted.observe(reward, ended := terminated or truncated)

Only an agent with a memory, such as RL2, reads what `start` and `observe` are told; the same lines
serve all agents. Who goes on with a trial of VariBAD, `start(remember=True)`, also tells `observe`
the observation that ended the episode. This module needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Space

from metarl.acting.policy import Acting, MlpActing, Ready
from metarl.acting.trials import Remembering
from metarl.acting.units import Units
from metarl.deployment import policy_file
from metarl.deployment.arguments import place
from metarl.envs.gym.spaces import decoder, observer
from metarl.errors import UnstableError, UserError
from metarl.sampling.draws import noise_block
from metarl.sampling.rows import RowError
from metarl.text import shown

ALONE = Units(1, 1, 1, 0, 1)
"""One episode of one task."""


class Interface(NamedTuple):
    """Forms of observations, actions and noise of one environment's policy."""

    observation_space: Space
    action_space: Space
    """In the environment's own format."""
    noise: tuple[str, int]
    """Kind of the noise that actions are sampled with, and its numbers for one action."""
    told: np.ndarray
    """Numbers of the task that follow each observation, [n] float32; mostly none."""


class Policy:
    """Acts in one task. It changes only what it remembers of the present episode."""

    def __init__(self, acting: Acting, interface: Interface, facts: dict[str, Any], seed: int = 0):
        """
        Args:
            acting: the policy of one task.
            interface: forms of its inputs and outputs.
            facts: where it comes from, as values for JSON.
            seed: decides the random numbers of `act(..., explore=True)`.
        """
        self.acting, self.interface, self.facts = acting, interface, facts
        self._observe = observer(interface.observation_space)
        self._decode = decoder(interface.action_space)
        self._rng = np.random.default_rng(seed)
        self._ready: Ready | None = None
        self._reward = np.zeros((1, 1), np.float32)
        self._reached: np.ndarray | None = None
        """The observation that ended the episode, if it was told."""
        self._awaited = False
        """Whether the reward of the last action has not been told."""
        self._over = False

    def __repr__(self) -> str:
        about = ", ".join(f"{name}={value!r}" for name, value in self.facts.items())
        return f"{type(self).__name__}({about})"

    @property
    def remembers(self) -> bool:
        """Whether actions depend on the earlier steps, and on their rewards."""
        return not isinstance(self.acting, MlpActing)

    def start(self, remember: bool = False) -> None:
        """Begins an episode.

        A policy with a memory begins with what it remembered after adaptation; with `remember`, it
        also remembers the episodes since then, the last one included, as in a trial of RL2. The
        belief of VariBAD leaves out the last step if its observation was not told to `observe`.

        Raises:
            UserError: for an episode to be remembered whose last reward was not told.
        """
        acting, ready = self.acting, self._ready
        if remember and isinstance(ready, Remembering) and ready.actions is not None:
            self._check_told("start(remember=True)")
            acting = ready.after(self._reward, self._reached)
        self._ready, self._reached = acting.ready(ALONE), None
        self._awaited = self._over = False

    def observe(self, reward: float, ended: bool = False, obs: Any = None) -> None:
        """Tells the reward of the last action, and whether the episode ended with it, by
        termination or truncation. After the end the next `act` begins an episode.

        Args:
            reward: of the last action.
            ended: whether the episode ended.
            obs: the observation that the last step of an episode reached. Only VariBAD reads it,
                and only where the next episode goes on with the trial.

        Raises:
            UserError: for a reward that is no finite number, and for `obs` as `act`.
        """
        try:
            with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused
                told = np.float32(reward)
        except (TypeError, ValueError):
            told = np.float32(np.nan)
        if np.ndim(told) or not np.isfinite(told):
            raise UserError(f"observe was told the reward {shown(reward)}; give one finite number")
        self._reached = None if obs is None else self.vector(obs)[None, None]
        self._reward = np.full((1, 1), told, np.float32)
        self._awaited, self._over = False, self._over or bool(ended)

    def act(self, obs: Any, explore: bool = False) -> Any:
        """Returns an action in the environment's own format: an int of a Discrete space, an array
        clipped to a Box.

        Args:
            obs: one observation in the environment's own format.
            explore: whether the action is sampled, as during adaptation; else it is the policy's
                likeliest.

        Raises:
            UserError: for anything but one observation of finite numbers, and for a policy with a
                memory that was not told the reward of its last action.
        """
        vector = self.vector(obs)
        if self.remembers:
            self._check_told("act")
        if self._ready is None or self._over:
            self.start()
        assert self._ready is not None
        kind, width = self.interface.noise
        noise = np.zeros((1, 1, width), np.float32)
        if explore:
            noise = noise_block([self._rng], (1, width), kind)
        with np.errstate(over="ignore", invalid="ignore"):
            actions, outputs = self._ready(vector[None, None], self._reward, noise)
        if not (np.isfinite(outputs).all() and np.isfinite(actions).all()):
            raise UnstableError(
                "the adapted policy gives numbers that are not finite for the observation "
                f"{shown(obs)}\nadapt in fewer steps, or load another checkpoint"
            )
        self._awaited = True
        return self._decode(actions[0])[0]

    def _check_told(self, call: str) -> None:
        if self._awaited:
            raise UserError(
                f"{call} was called before observe: this policy remembers the rewards of its "
                "actions\ncall observe(reward, ended) after every step of the environment"
            )

    def vector(self, obs: Any) -> np.ndarray:
        """Returns one observation as the network reads it, [obs_dim] float32.

        Raises:
            UserError: as `act`.
        """
        space = self.interface.observation_space
        if isinstance(space, Box):
            obs = _array(obs)
            if (
                isinstance(obs, np.ndarray)
                and obs.shape != space.shape
                and obs.shape[1:] == space.shape
            ):
                raise UserError(
                    f"act was given a batch of {len(obs)} observations, an array of shape "
                    f"{obs.shape}, and takes one of shape {space.shape}\n"
                    "call it for each: act(obs[i])"
                )
        try:
            with np.errstate(over="ignore"):
                found = np.asarray(self._observe(obs), np.float32)
        except RowError as error:
            raise UserError(
                f"{error.what}\ngive one observation as the environment of adaptation gives them"
            ) from None
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found))[0])
            raise UserError(
                f"the observation has {found[bad]} at index {bad} of {len(found)}\n"
                "give finite numbers: fill in what a sensor did not measure"
            )
        return np.concatenate([found, self.interface.told])

    def save(self, path: Path | str) -> Path:
        """Writes the policy into a new folder, which `metarl.load_policy` reads without the run.

        The folder keeps what the policy remembered after adaptation, and nothing of episodes since.

        Raises:
            UserError: where the path exists, cannot be written, and for an agent of a user's own.
        """
        kind = policy_file.kind_of(self.acting)
        if kind is None:
            raise UserError(
                f"{self.facts.get('agent')} is an agent of your own, and metarl cannot write its "
                "policy\nsave its weights by your own code"
            )
        return policy_file.write(
            place(path, "the saved policy"), kind, self.acting, self.interface, self.facts
        )


def _array(obs: Any) -> Any:
    """Returns an observation of a Box that may be a list or a tensor; what holds no numbers stays
    as it is, so that an error shows it."""
    if type(obs) is np.ndarray:
        return obs
    if hasattr(obs, "detach"):
        obs = obs.detach().cpu().numpy()
    try:
        found = np.asarray(obs)
    except ValueError:  # lists of unequal length
        return obs
    return found if found.dtype.kind in "fiub" else obs
