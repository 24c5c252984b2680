"""The family of distributions that a policy has over an action space."""

from __future__ import annotations

from typing import TypeAlias

from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.config.settings import PolicyConfig
from metarl.equations.box_gaussian import BoxGaussian, box_gaussian, is_bounded
from metarl.equations.categorical import Categorical
from metarl.equations.gaussian import Gaussian
from metarl.equations.multi_categorical import MultiCategorical, multi_categorical
from metarl.errors import UserError
from metarl.types import EnvSpec

OF_GAUSSIANS = ("init_std", "min_std", "max_std", "std", "scale_to_box")
"""Settings of a policy that only a Gaussian has a use for."""


Family: TypeAlias = type[Gaussian | Categorical | MultiCategorical]


def action_family(spec: EnvSpec, config: PolicyConfig) -> tuple[tuple[int, ...], Family]:
    """Returns the numbers of options of an action's choices, none for a Box, and the family.

    Raises:
        UserError: for a space that no family fits, and for settings that it has no use for.
    """
    space = spec.action_space
    if isinstance(space, Box):
        return (), _scaled(spec, space) if config.scale_to_box else Gaussian
    _check_deviations(spec, config)
    return _choices(spec)


def _choices(spec: EnvSpec) -> tuple[tuple[int, ...], Family]:
    space = spec.action_space
    if isinstance(space, Discrete) and space.start == 0:
        return (int(space.n),), Categorical
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        options = tuple(space.nvec.tolist())
        return options, multi_categorical(options)
    raise UserError(
        f"{spec.name}: the MLP policy acts in a flat Box, in Discrete(n) or in a flat "
        f"MultiDiscrete, both counted from 0, not in {space}"
    )


def _scaled(spec: EnvSpec, space: Box) -> type[BoxGaussian]:
    """Returns the family of actions in units of the box."""
    low, high = space.low.ravel().tolist(), space.high.ravel().tolist()
    if not any(map(is_bounded, low, high)):
        raise UserError(
            f"{spec.name}: a policy over {space} makes no use of agent.policy.scale_to_box: no "
            "dimension has two bounds\n  leave it out"
        )
    return box_gaussian(low, high)


def _check_deviations(spec: EnvSpec, config: PolicyConfig) -> None:
    """Raises a UserError for settings that discrete actions have no use for."""
    usual = PolicyConfig()
    asked = [
        f"agent.policy.{name}"
        for name in OF_GAUSSIANS
        if getattr(config, name) != getattr(usual, name)
    ]
    if asked:
        raise UserError(
            f"{spec.name}: a policy over {spec.action_space} makes no use of "
            f"{' and '.join(asked)}: its actions have no deviation\n  leave it out"
        )
