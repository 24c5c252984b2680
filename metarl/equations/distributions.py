"""The action distributions that policies give; each is a NamedTuple, hence a pytree."""

from __future__ import annotations

from typing import TypeAlias

from metarl.equations.categorical import Categorical
from metarl.equations.gaussian import Gaussian

ActionDistribution: TypeAlias = Gaussian | Categorical
