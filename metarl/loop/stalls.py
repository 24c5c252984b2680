"""Iterations in which nothing was learned: what they look like, how often they came, and why.

A run may go on for hours without an error and learn nothing. `Stalls` looks at each iteration's
metrics and tells the user, at most once in `AGAIN` iterations of a kind. An iteration counts as one
kind, that of the first rule in `RULES` that fits it: what comes first is a cause of what comes
later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from metarl.config.settings import AnyConfig
from metarl.sampling.rounds import LARGE_REWARD
from metarl.sources.facts import largest
from metarl.sources.source import Rounds, Source
from metarl.types import Metrics, Params

PATIENCE = 3
"""Iterations in a row after which a stall is told. One alone may be chance."""
AGAIN = 50
"""Iterations after which a stall that lasts is told again."""
FAR = 2.0
"""Ratio of what conjugate gradient leaves to the gradient that it began with. Up to 1.5 is usual
on thinned data."""
SATURATED = 0.95
"""Share of ratios beyond the clip at which an update has nothing left to learn from."""
NO_WEIGHTS = ("outer.", "normalisation.", "updates")
"""Beginnings of names in saved weights that are counters and statistics."""


LARGE = {"rewards": LARGE_REWARD, "observations": 1e6, "inputs": 1e6, "targets": 1e12}
"""Magnitudes from which squares and products in an update leave float32."""
SMALL = 1e-7
"""Magnitude of rewards below which advantages are small beside the 1e-8 that is added to their
deviation."""
HEAVY = 1e4
"""Magnitude of a weight that only outer steps of too large a size lead to."""


class Facts(NamedTuple):
    """An iteration, beyond its metrics."""

    same: str = ""
    """Why nothing in its data tells better from worse."""
    moved: bool = True
    """Whether a weight has changed."""
    products: int = 0
    """Most products of conjugate gradient; 0 without."""
    sizes: Mapping[str, float] = {}  # nobody changes it
    """Largest magnitude of each quantity of the data."""
    heaviest: float = 0.0
    """Largest magnitude of a weight."""

    @classmethod
    def of(
        cls,
        config: AnyConfig,
        source: Source,
        rounds: Sequence[Rounds],
        before: Params,
        after: Params,
    ) -> Facts:
        """Returns the facts of an iteration between these two states of the agent."""
        outer = getattr(config.agent, "outer", None)  # an agent of a user's own has none
        still = not getattr(outer, "learns", True)
        weights = [x for name, x in after.items() if not name.startswith(NO_WEIGHTS)]
        return cls(
            source.sameness(rounds),
            still or moved(before, after),
            int(getattr(outer, "cg_iterations", 0)),
            source.sizes(rounds),
            largest({"weights": weights})["weights"],
        )


class Rule(NamedTuple):
    """A kind of stall."""

    name: str
    """Words for the summary, after `N iterations`."""
    says: Callable[[Metrics, Facts], str]
    """Returns what is wrong with an iteration and its likely cause; empty if nothing is."""
    patience: int = PATIENCE


def _not_finite(row: Metrics, facts: Facts) -> str:
    results = ("return/", "loss/", "accuracy/", "success/")
    names = [x for x, value in row.items() if x.startswith(results) and not math.isfinite(value)]
    return f"{', '.join(names)}: not finite, the data are too large to add up" if names else ""


def _size(row: Metrics, facts: Facts) -> str:
    if not (size := facts.sizes.get("rewards", 0.0)) or SMALL <= size < LARGE["rewards"]:
        return ""
    said = f"no reward is larger than {size:.3g}, too small beside the 1e-8 added to deviations"
    if size > 1.0:
        said = f"rewards up to {size:.3g}, whose squares leave float32"
    return f"{said}: advantages vanish; scale the rewards in the tasks"


def _same(row: Metrics, facts: Facts) -> str:
    if not facts.same:
        return ""
    return (
        f"{facts.same}, so no action looks better than another; rewards may be too rare for the "
        "horizon, or the task ignores the actions"
    )


def _broken_off(row: Metrics, facts: Facts) -> str:
    """A direction without positive curvature: P v is wrong, or all of P is rounding."""
    products, norm = row.get("cg/products", math.nan), row.get("gradient_norm", math.nan)
    residual = row.get("cg/residual", math.nan)
    if not (0 < products < facts.products and residual**2 >= 1e-10 and norm > 0):
        return ""
    which = "its first product" if products == 1 else f"product {products:.0f}"
    return (
        f"conjugate gradient ended at {which}, without positive curvature; likely causes: half "
        "precision (--agent.outer.product-dtype float32), too little of the query "
        "(--agent.outer.query-fraction 1), an inner step size that is too large"
    )


def _left(row: Metrics, facts: Facts) -> str:
    residual, norm = row.get("cg/residual", 0.0), row.get("gradient_norm", 0.0)
    if not residual > FAR * norm > 0:
        return ""
    return (
        f"conjugate gradient left {residual / norm:.1f} times the gradient; likely causes: half "
        "precision (--agent.outer.product-dtype float32), an inner step size that is too large, "
        "too little damping (--agent.outer.damping)"
    )


def _no_gradient(row: Metrics, facts: Facts) -> str:
    if row.get("gradient_norm") != 0.0 or row["skipped"]:
        return ""
    return (
        "the gradient is exactly zero; likely causes: rewards that are all equal or far too large, "
        "dead or saturated units"
    )


def _no_step(row: Metrics, facts: Facts) -> str:
    if row.get("line_search/accepted", 1.0) or row["skipped"]:
        return ""
    return (
        "the line search found no step that gains within the KL bound, and the parameters stayed; "
        "likely causes: an inner step size that is too large (--agent.inner.lr), a bound that is "
        "too small (--agent.outer.max-kl), half precision in the products"
    )


def _unmoved(row: Metrics, facts: Facts) -> str:
    if facts.moved or row["skipped"] or row.get("updates") == 0.0:  # it only fills a replay
        return ""
    return "the update changed no weight; a step size may be too small for float32"


def _no_kl(row: Metrics, facts: Facts) -> str:
    if row.get("kl") != 0.0 or row["skipped"]:
        return ""
    return "the KL after the update is exactly zero: the policy is the one before"


def _clipped(row: Metrics, facts: Facts) -> str:
    if not row.get("clip_fraction", 0.0) > SATURATED:
        return ""
    return (
        f"{row['clip_fraction']:.0%} of the probability ratios are beyond the clip, and have no "
        "gradient; lower the step sizes or the epochs"
    )


def _left_out(row: Metrics, facts: Facts) -> str:
    if not row.get("reptile/left_out", 0.0) or row["skipped"] == 1.0:
        return ""
    return (
        f"{row['reptile/left_out']:.0f} tasks were left out, whose updates were not finite; lower "
        "the inner step size (--agent.inner.lr)"
    )


RULES = (
    Rule("with results that are not finite", _not_finite, 1),
    Rule("with rewards of a useless size", _size, 1),
    Rule("without a difference between episodes", _same),
    Rule("whose conjugate gradient broke off", _broken_off, 1),
    Rule("whose conjugate gradient did not converge", _left),
    Rule("with a gradient of zero", _no_gradient),
    Rule("whose line search found no step", _no_step),
    Rule("whose update changed no weight", _unmoved),
    Rule("with a KL of zero", _no_kl),
    Rule("with nearly all ratios clipped", _clipped),
    Rule("with tasks left out", _left_out, 1),
)


class Stalls:
    """Counts an attempt's stalled iterations, and tells of them."""

    def __init__(self, note: Callable[[str], None]):
        self._note = note
        self._counts: Counter[str] = Counter()
        self._name, self._in_a_row = "", 0
        self._told: dict[str, int] = {}
        """The iteration in which each kind was told last."""

    def after(self, row: Metrics, facts: Facts) -> None:
        """Looks at an iteration that is complete."""
        if row["skipped"] == 1.0:
            return  # the caller tells of it
        iteration = int(row["iteration"])
        found = ((rule, rule.says(row, facts)) for rule in RULES)
        rule, said = next(((rule, said) for rule, said in found if said), (None, ""))
        if rule is None:
            self._name, self._in_a_row = "", 0
            return
        self._counts[rule.name] += 1
        self._in_a_row = self._in_a_row + 1 if self._name == rule.name else 1
        self._name = rule.name
        again = iteration - self._told.get(rule.name, -AGAIN) >= AGAIN
        if self._in_a_row >= rule.patience and again:
            self._told[rule.name] = iteration
            often = f", {self._in_a_row} in a row" if self._in_a_row > 1 else ""
            self._note(f"iteration {iteration}{often}: {said}")

    def end(self, iterations: int) -> None:
        """Sums up, in a line, an attempt of so many iterations in which something was told."""
        if self._told:
            kinds = [f"{n} {name}" for name, n in self._counts.most_common()]
            self._note(f"signs of no learning in {iterations} iterations: {', '.join(kinds)}")


def moved(before: Params, after: Params) -> bool:
    """Whether a weight differs; counters and statistics do not count."""
    return any(
        x is not (old := before.get(name)) and not (old is not None and x.equal(old))
        for name, x in after.items()
        if not name.startswith(NO_WEIGHTS)
    )


def cause(facts: Facts) -> str:
    """Returns the likeliest cause of an update that was not finite; empty where none stands out.

    Data come first: what is too large for float32 makes any step too large.
    """
    for name, size in facts.sizes.items():
        if not size < LARGE[name]:
            return f"{name} up to {size:.3g}"
    return "" if facts.heaviest < HEAVY else f"weights up to {facts.heaviest:.3g}"
