"""Named, complete experiments, from presets.yaml with the keys of a run's config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from metarl.agents import catalogue as agents
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError, nearest

FILE = Path(__file__).with_name("presets.yaml")


class Preset(NamedTuple):
    """Named experiment."""

    summary: str
    settings: Mapping[str, Any]
    """Settings that differ from the agent's defaults, in the keys of a run's config.yaml."""
    agents: Mapping[str, Mapping[str, Any]]
    """Inner rule -> settings that differ from the defaults of other agents that have it."""

    @property
    def config(self) -> AnyConfig:
        agent, env = (self.settings[section]["name"] for section in ("agent", "env"))
        return _with(blank(agent, env), self.settings)

    def tuned(self, agent: Any) -> Any:
        """Returns an agent's settings with those that its inner rule has in this experiment."""
        for inner, settings in self.agents.items():
            if f"{agent.name}-".startswith(f"{inner}-"):
                return _with(agent, settings)
        return agent


def blank(agent: str, env: str) -> AnyConfig:
    """Returns a config with an agent's defaults, for the kind of tasks that `env` names."""
    if families.is_one(env):
        return FewShotConfig(agent=agents.default(agent, "examples"))
    return Config(agent=agents.default(agent))


def _with(record: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a config with settings of presets.yaml; `files.overlay` checks a user's."""
    changes = {
        name: _with(getattr(record, name), value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
    }
    return replace(
        record, **{n: tuple(x) if isinstance(x, list) else x for n, x in changes.items()}
    )


def _read(file: Path) -> dict[str, Preset]:
    """Returns the presets in a file.

    An entry with `learners` is a preset for each of them, NAME-LEARNER: its settings are the
    entry's and the learner's own. Each of these presets has the settings of the others' agents for
    `--agent`. AGENT in the summary is the learner's name.
    """
    found = {}
    for name, settings in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        summary, table = settings.pop("summary"), settings.pop("agents", {})
        learners = settings.pop("learners", None)
        if learners is None:
            found[name] = Preset(summary, settings, table)
            continue
        table = {agent: _merged(settings, own).get("agent", {}) for agent, own in learners.items()}
        for agent, own in learners.items():
            whole = _merged(_merged(settings, own), {"agent": {"name": agent}})
            found[f"{name}-{agent}"] = Preset(summary.replace("AGENT", agent), whole, table)
    return found


def _merged(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with those of `own` in their place, section by section."""
    found = dict(settings)
    for key, value in own.items():
        section = isinstance(value, Mapping)
        found[key] = _merged(found.get(key, {}), value) if section else value
    return found


PRESETS = _read(FILE)


def spelt(name: str) -> str:
    """Returns a preset's name as presets.yaml spells it: `half-cheetah-...`, as the tasks are
    called, is `halfcheetah-...` there. Other names stay."""
    other = name.replace("half-cheetah", "halfcheetah")
    return other if other in PRESETS else name


def preset(name: str) -> AnyConfig:
    """Returns the config of a named experiment.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset{_instead(name)}")
    return PRESETS[name].config


def _instead(name: str) -> str:
    """Returns what to give in the place of a name that is no preset, to end a message with."""
    if agents.is_one(name, "episodes") or agents.is_one(name, "examples"):
        first = "point-goal" if agents.is_one(name, "episodes") else "digits-maml"
        return f" but an agent; name a preset first, as in {first} --agent {name}"
    family = name.partition(":")[0]
    if family in envs.FAMILIES or families.is_one(name):
        found = [
            preset
            for preset, entry in PRESETS.items()
            if entry.settings["env"]["name"].partition(":")[0] == family
        ]
        first = "digits-maml" if families.is_one(name) else "point-goal"
        return (
            f" but tasks; name a preset, such as {found[0] if found else f'{first} --env {name}'}"
        )
    return (
        f"{nearest(name.lower().replace('_', '-'), PRESETS)}\n`metarl list presets` describes them"
    )
