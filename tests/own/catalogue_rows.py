"""Names of agents among which each row of the catalogue is at least once."""

from __future__ import annotations

from metarl.agents import catalogue
from metarl.config.settings import Source


def every_rule(source: Source) -> list[str]:
    """Returns each inner rule with its usual outer rule, each outer rule outside MAML, and the
    agents that have a name of their own."""
    usual, *others = catalogue.outer_names(source)
    ending = f"-{usual}" if source == "episodes" else ""
    inner = [n for n, rule in catalogue.INNER.items() if getattr(rule, source) is not None]
    named = [n for n, row in catalogue.NAMED.items() if row.source == source]
    return [*(n + ending for n in inner), *(f"maml-{other}" for other in others), *named]
