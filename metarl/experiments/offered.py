"""The settings that have an effect in a config, for its help.

A flag is offered if some other value of it is accepted, alone or beside other values of settings
that its agent has at their default: other values of the rest would make it another agent. It is
the agents' own checks that accept and refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tyro.conf import arg

from metarl.agents import catalogue as agents
from metarl.config.files import flatten
from metarl.config.ranges import Range
from metarl.config.settings import AnyConfig, FewShotConfig, OwnAgentConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError


def offered(config: AnyConfig) -> dict[str, Any]:
    """Returns what the help shows otherwise than the settings' classes have it.

    The key of a flag -> None where it is left out, or an annotation with fewer choices or other
    words; the key of a section -> its words.
    """
    found: dict[str, Any] = dict.fromkeys(_of_other_tasks(config))
    agent = config.agent
    if not agents.grouped(agent):
        found["task_batch"] = None
    if isinstance(agent, OwnAgentConfig) or not _accepted(agent):
        return found
    tried = {key: (hint, _others(hint, value)) for key, hint, value in flatten(agent)}
    free = {key: others for key, (_, others) in tried.items() if _is_default(agent, key)}
    for key, (hint, others) in tried.items():
        good = [value for value in others if _helps(agent, key, value, free)]
        if others and (key in agents.unserved(agent) or not good):
            found[f"agent.{key}"] = None
            continue
        if get_origin(hint) is Literal and len(good) < len(others):
            kept = tuple(x for x in get_args(hint) if x in good or x not in others)
            found[f"agent.{key}"] = Literal[kept]
    if isinstance(config, FewShotConfig):
        for name, words in agent.inner.examples_help.items():
            key = f"agent.inner.{name}".rstrip(".")
            shown = found.get(key, tried[f"inner.{name}"][0] if name else None)
            found[key] = Annotated[shown, arg(help=words)] if name else words
    return found


def _of_other_tasks(config: AnyConfig) -> Iterator[str]:
    """Yields the keys of settings that these tasks have no use for."""
    env = config.env
    if isinstance(config, FewShotConfig):
        heeded = {"shots", "queries"} if envs.is_own(env.name) else families.heeded(env.name)
        yield from (f"env.{key}" for key in vars(env) if key not in {*heeded, "name"})
        if not envs.is_own(env.name) and "ways" not in heeded:  # numbers are predicted, of no image
            yield from (f"agent.network.{key}" for key in ("kind", "batch_norm", "strides"))
    elif not envs.has_metaworld(env.name):
        yield from (f"env.{key}" for key, _, _ in flatten(env) if key.startswith("metaworld."))


def _helps(agent: Any, key: str, value: Any, free: Mapping[str, list[Any]]) -> bool:
    """Returns whether a value is accepted: alone, with one of the `free` settings changed, or with
    two of the same rule."""
    changed = _replaced(agent, key, value)
    beside = {other: values for other, values in free.items() if other != key}
    section = {x: beside[x] for x in beside if x.partition(".")[0] == key.partition(".")[0]}
    return (
        _accepted(changed)
        or any(map(_accepted, _variants(changed, beside)))
        or any(_accepted(y) for x in _variants(changed, section) for y in _variants(x, section))
    )


def _variants(agent: Any, free: Mapping[str, list[Any]]) -> Iterator[Any]:
    for key, values in free.items():
        yield from (_replaced(agent, key, value) for value in values)


def _is_default(record: Any, key: str) -> bool:
    name, _, rest = key.partition(".")
    value = getattr(record, name)
    return _is_default(value, rest) if rest else value == getattr(type(record), name, MISSING)


def _accepted(agent: Any) -> bool:
    try:
        agents.check(agent)
    except UserError:
        return False
    return True


def _replaced(record: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return replace(
        record, **{name: _replaced(getattr(record, name), rest, value) if rest else value}
    )


def _others(annotation: Any, value: Any) -> list[Any]:
    """Returns a few other values of a setting; none for text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [choice for choice in arguments if choice != value]
    if origin in (Union, UnionType):
        return [other for one in arguments for other in _others(one, value)]
    if annotation is bool:
        return [not value]
    if origin is not Annotated or isinstance(value, str):
        return []
    near = [0, 1, 2, 10] if arguments[0] is int else [0.0, 0.01 * value, 0.5, 2.0 * value]
    allowed = [one for one in arguments[1:] if isinstance(one, Range)]
    return [x for x in near if x != value and all(x in one for one in allowed)]
