"""Words of `metarl train --help`."""

from __future__ import annotations

from textwrap import fill

from metarl.agents import catalogue as agents
from metarl.callbacks import flags
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.experiments import budget
from metarl.experiments.presets import PRESETS

SEEDS = "--seeds"
WIDTH = 80
TITLE = "Meta-trains an agent. The same command again continues a run that stopped."


def brief() -> str:
    """Returns the description of the short help."""
    names = fill(
        ", ".join(_names()),
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return "\n".join(
        [
            TITLE,
            "",
            "presets (`metarl list presets` describes each, `metarl show PRESET` prints one):",
            names,
            "",
            "  --agent NAME   another agent in the preset's place: `metarl list agents`",
            "  --env NAME     other tasks: `metarl list envs`",
            "  --config FILE  settings in YAML: a run's config.yaml, or some over a preset's",
            f"  {SEEDS} N      runs of the seeds 1 to N side by side; {SEEDS} 3 7 11 names them",
            "  --stop-after N an early stop; --wandb sends metrics to Weights & Biases",
        ]
    )


def _names() -> list[str]:
    """Returns the names of presets; five or more that differ in their agents alone are one name,
    such as `sinusoid-AGENT`."""
    stems: dict[str, list[str]] = {}
    for name, entry in PRESETS.items():
        stems.setdefault(name.removesuffix(f"-{entry.settings['agent']['name']}"), []).append(name)
    few = ([f"{stem}-AGENT"] if len(names) > 4 else names for stem, names in stems.items())
    return [name for names in few for name in names]


def full(config: AnyConfig) -> str:
    """Returns the description of the help on every flag."""
    few_shot = isinstance(config, FewShotConfig)
    kind, tasks = ("examples", families) if few_shot else ("episodes", envs)
    other, others = ("episodes", envs) if few_shot else ("examples", families)
    width = max(map(len, PRESETS)) + 2
    return "\n".join(
        [
            TITLE,
            "",
            "presets:",
            *(f"  {name:<{width}}{entry.summary}" for name, entry in PRESETS.items()),
            "",
            "in a preset's place, or over it:",
            f"  --agent NAME   another agent with its defaults: {', '.join(agents.names(kind))};",
            "                 or your own, package.module:attribute",
            f"  --env NAME     other tasks: {', '.join(tasks.names())};",
            "                 or your own, package.module:attribute",
            f"  of the {'other' if few_shot else 'few-shot'} presets, --agent: "
            f"{', '.join(agents.names(other))};",
            f"    --env: {', '.join(others.names())}",
            "  --config FILE  settings in YAML: a run's config.yaml, or some over a preset's",
            f"  {SEEDS} N       runs of the seeds 1 to N side by side, or of those named: "
            f"{SEEDS} 3 7 11;",
            "                 each is a run in RUN_DIR/seed1, RUN_DIR/seed2 ...",
            flags.HELP,
            f"  {budget.MATCH} as many environment steps as the preset's agent plays, in more or "
            "fewer iterations",
            "",
            "The flags below have an effect for this preset, --agent and --env.",
        ]
    )
