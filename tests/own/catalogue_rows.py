"""The catalogue as a few names that stand for all rows, and as a table."""

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


def table() -> str:
    """Returns the agents as docs/choosing.md shows them."""
    both: tuple[Source, ...] = ("episodes", "examples")
    inner = catalogue.INNER.items()
    rows = [
        *((n, [x for x in both if getattr(rule, x)], rule.summary) for n, rule in inner),
        *((f"-{n}", rule.sources, summary) for n, (summary, rule) in catalogue.OUTER.items()),
        *((n, [row.source], row.summary) for n, row in catalogue.NAMED.items()),
    ]
    head = "| `--agent` | learns from | what it is |", "|---|---|---|"
    return "\n".join([*head, *(f"| `{n}` | {', '.join(x)} | {said} |" for n, x, said in rows)])
