"""Reads command lines into typed options, before torch is imported.

tyro makes the flags and their help from a dataclass. This module adds errors of one line, the
check for unknown flags, and arguments that belong to no dataclass. `door.py` runs a command.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro
from tyro.conf import Suppress

from metarl.config.checks import check_ranges, check_text
from metarl.config.door import open_door as open_door
from metarl.config.files import expected, field_types, flatten, near_keys
from metarl.errors import UserError
from metarl.text import printable, say, shown

Options = TypeVar("Options")

ENV = ("--env", "--env.name")
"""Flags that name the tasks. Code of a user's own is run only where they name it."""
AGENT = ("--agent", "--agent.name")
"""Flags that name the agent. Code of a user's own is run only where they name it."""
TASK = "--task"
"""Flag of a task of the user's own; it may come several times."""

MOST_FIRST = 10
"""Flags that a help shows without `all`."""

# A field that may hold several rules gets the flags of the rule that it holds.
_tyro = partial(tyro.cli, config=(tyro.conf.AvoidSubcommands,))


def read_flags(argv: list[str], defaults: Options) -> Options:
    """Returns `defaults` with the flags of `argv` put in, after a check of their ranges.

    Raises:
        UserError: for an unknown flag, and a value of another type or out of range.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            options = _tyro(type(defaults), args=argv, default=defaults)
    except SystemExit as stopped:
        if not stopped.code:  # tyro printed a completion script
            say(printed.getvalue().rstrip())
            raise
        raise UserError(_diagnosis(printed.getvalue(), argv, flags(defaults))) from None
    check_ranges(options)
    return options


def print_help(
    defaults: Any,
    usage: str,
    description: str,
    offered: Mapping[str, Any] | None = None,
    first: Sequence[str] = (),
) -> None:
    """Prints flags with their defaults and their fields' docstrings, then exits.

    `offered` has the flags to leave out, or to show otherwise: see `experiments/offered.py`. Only
    the ten first keys of `first` that there are get a flag, if any are given.
    """
    offered = dict(offered or {})
    known = [key for key, _, _ in flatten(defaults) if offered.get(key, key) is not None]
    if kept := [key for key in first if key in known][:MOST_FIRST]:
        offered |= dict.fromkeys(key for key in known if key not in kept)
        more = len(known) - len(kept)
        description += f"\n\nThe flags that matter first; `--help all` shows {more} more."
    shown = _shown(defaults, offered)
    named: Any = {"prog": usage, "description": description}
    _tyro(type(shown), args=["--help"], default=shown, **named)


def _shown(record: Any, offered: Mapping[str, Any], path: str = "") -> Any:
    """Returns the record as one of a class whose fields are annotated as the help shows them."""
    annotations, values = {}, {}
    for name, annotation in field_types(record).items():
        key, value = path + name, getattr(record, name)
        if is_dataclass(value):
            value = _shown(value, offered, f"{key}.")
        elif key in offered:
            annotations[name] = Suppress[annotation] if offered[key] is None else offered[key]
        if isinstance(value, str | Path):  # a name of a user's
            value = type(value)(printable(str(value)))
        values[name] = value
    kind = type(record)
    body = {
        "__annotations__": annotations,
        "__module__": kind.__module__,
        "__doc__": offered.get(path.rstrip("."), kind.__doc__),
        **{name: values[name] for name in annotations},
    }
    return dataclass(frozen=True, kw_only=True)(type(kind.__name__, (kind,), body))(**values)


def once(argv: Sequence[str], several: Sequence[str] = ()) -> list[str]:
    """Returns the arguments as a list, in which every flag but those of `several` comes once.

    Raises:
        UserError: for a flag that is given twice; the last value would win without a word. Also
            for an argument that can be neither a name nor a path.
    """
    for token in argv:
        check_text(token, "an argument")
    named = [_setting(token) for token in argv if token.startswith("--")]
    named = [name for name in named if name not in several]
    if len(set(named)) < len(named):
        raise _twice(argv, next(name for name in named if named.count(name) > 1))
    return list(argv)


def wants_help(argv: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") or word.startswith("--help=") for word in argv)


def wants_all(argv: Sequence[str]) -> bool:
    """Returns whether help on every flag is asked for: `--help all`."""
    pairs = pairwise(argv)
    return "--help=all" in argv or any(h in ("-h", "--help") and a == "all" for h, a in pairs)


def flags(options: object) -> dict[str, object]:
    """Returns flag -> annotation of its value."""
    named: dict[str, object] = {}
    for key, annotation, _ in flatten(options):
        section, dot, last = key.replace("_", "-").rpartition(".")
        named[f"--{section}{dot}{last}"] = annotation
        if annotation is bool:
            named[f"--{section}{dot}no-{last}"] = annotation
    return named


def _flag(token: str) -> str:
    return token.partition("=")[0].replace("_", "-")


def _setting(token: str) -> str:
    """Returns the flag by which a token sets something: `--x` for `--no-x=..`, too."""
    return re.sub(r"(^--|\.)no-(?=[^.]+$)", r"\1", _flag(token)).removesuffix(".name")


def _twice(argv: Sequence[str], name: str) -> UserError:
    """Returns the error for a setting that several tokens of `argv` give."""
    places = [i for i, token in enumerate(argv) if token[:2] == "--" and _setting(token) == name]
    flags = dict.fromkeys(_flag(argv[i]) for i in places)
    values = " and ".join(repr(value) for i in places if (value := _value(argv, i)))
    values = f": {values}" if values else ""
    if len(flags) > 1:
        return UserError(f"{' and '.join(flags)} set the same{values}; give one of them")
    return UserError(f"{name} is given twice{values}; give it once")


def _diagnosis(printed: str, argv: list[str], known: dict[str, object]) -> str:
    """Turns tyro's boxed error message into one line. An unknown flag comes before other faults."""
    for flag in map(_flag, argv):
        if flag.startswith("--") and flag not in known and not flag.startswith("--tyro-"):
            keys = [other.removeprefix("--") for other in known]
            near = " or ".join(_as_flag(key) for key in near_keys(flag.removeprefix("--"), keys))
            instead = f"did you mean {near}?" if near else "--help lists the flags"
            return f"{flag} is no flag; {instead}"
    text = " ".join(re.sub(r"[╭╮╰╯│─]", " ", printed).split())
    if stray := re.search(r"Unrecognized options: ([^\s,]+)", text):
        return f"{stray[1]!r} belongs to no flag; --help lists the flags"
    named = re.search(r"--[\w.-]*\w", text)
    if named is None or named[0] not in known:
        return text[:200]
    flag = named[0]
    given = _given(argv, flag)
    is_what = f"is {shown(given)}" if given else "has no value"
    annotation = known[flag]
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    apart = ", separated by spaces" if get_origin(annotation) is tuple else ""
    return f"{flag} {is_what}; expected {expected(known[flag])}{apart}"


def _as_flag(key: str) -> str:
    """Returns the flag of a key; a section has a flag for its name."""
    return f"--{key.removesuffix('.name')}"


def _given(argv: list[str], flag: str) -> str:
    """Returns the text that follows `flag` in `argv`."""
    return _value(argv, max(i for i, token in enumerate(argv) if _flag(token) == flag))


def _value(argv: Sequence[str], at: int) -> str:
    """Returns the text that belongs to the flag at a place of `argv`."""
    if "=" in argv[at]:
        return argv[at].partition("=")[2]
    return " ".join(takewhile(lambda token: not token.startswith("--"), argv[at + 1 :]))


def take(argv: list[str], *flags: str) -> str | None:
    """Removes `FLAG VALUE` or `FLAG=VALUE` of one of these flags from `argv`; returns the value."""
    at = next((i for i, token in enumerate(argv) if token.partition("=")[0] in flags), None)
    if at is None:
        return None
    flag, equals, value = argv.pop(at).partition("=")
    if not equals and at < len(argv) and not argv[at].startswith("-"):
        value = argv.pop(at)
    if not value:
        raise UserError(f"{flag} has no value; expected one, as in `{flag} NAME`")
    return value


def take_all(argv: list[str], flag: str) -> list[str]:
    """Removes a flag that may come several times from `argv`; returns its values, as `take`."""
    values = []
    while (value := take(argv, flag)) is not None:
        values.append(value)
    return values


def take_switch(argv: list[str], flag: str) -> bool:
    """Removes a flag without a value from `argv`; returns whether it was there.

    Raises:
        UserError: for one with a value.
    """
    found = [word for word in argv if _flag(word) == flag]
    if valued := [word for word in found if "=" in word]:
        raise UserError(f"{valued[0]!r} has a value; {flag} takes none")
    argv[:] = [word for word in argv if word not in found]
    return bool(found)


def take_positional(argv: list[str]) -> str | None:
    """Removes the argument without a flag from `argv`, where it must come first: elsewhere it
    could be one more value of a flag that takes several."""
    return argv.pop(0) if argv and not argv[0].startswith("-") else None


def take_run(argv: list[str]) -> str | None:
    """Removes the run's folder from `argv`, its first argument or the value of --run-dir.

    Raises:
        UserError: for two folders.
    """
    found = [take_positional(argv), take_positional(argv), take(argv, "--run-dir", "--run_dir")]
    one, *others = [folder for folder in found if folder is not None] or [None]
    if others:
        raise UserError(f"two run folders are given, {one!r} and {others[0]!r}; give one")
    return one
