"""Named, complete experiments, from presets.yaml with the keys of a run's config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from metarl.agents import catalogue as agents
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError, nearest

FILE = Path(__file__).with_name("presets.yaml")


class Preset:
    """Named experiment."""

    def __init__(self, name: str, settings: Mapping[str, Any]):
        self.name, self.summary = name, str(settings["summary"])
        self._settings = {key: value for key, value in settings.items() if key != "summary"}

    @cached_property
    def config(self) -> AnyConfig:
        agent, env = (self._settings[section]["name"] for section in ("agent", "env"))
        return _with(blank(agent, env), self._settings)


def blank(agent: str, env: str) -> AnyConfig:
    """Returns a config with an agent's defaults, for the kind of tasks that `env` names."""
    if envs.is_supervised(env):
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


PRESETS = {n: Preset(n, x) for n, x in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()}


def preset(name: str) -> AnyConfig:
    """Returns the config of a named experiment.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset{nearest(name, PRESETS)}")
    return PRESETS[name].config
