"""Command lines, read into typed options before torch is imported.

tyro makes the flags and their help out of a dataclass. Around it: arguments that it does not
know, and errors of one line.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import takewhile
from types import FrameType
from typing import TextIO, TypeVar

import tyro

from metarl.config.checks import check_ranges
from metarl.config.files import expected, flatten, near_keys
from metarl.errors import UserError

Options = TypeVar("Options")


def open_door(door: Callable[[Sequence[str]], object], when_stopped: str = "") -> None:
    """Runs a door on the command line: what a user can put right is said in a few lines."""
    warnings.showwarning = _one_line
    warnings.filterwarnings("always", module=r"metarl\.")  # a second lost worker is news too
    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler's way of saying Ctrl-C
    try:
        door(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped" + (f": {when_stopped}" if when_stopped else ""), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that is read-only, a file that went away
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a user reads it: what was found, without our source line."""
    print(f"warning: {message}", file=file or sys.stderr)


def read_flags(argv: list[str], defaults: Options) -> Options:
    """`defaults` with the flags of `argv` in it, ranges checked.

    Raises:
        UserError: for a flag that there is not, and a value of another type or out of range.
    """
    known = flags(defaults)
    _refuse_unknown(argv, known)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            options = _tyro(argv, defaults)
    except SystemExit as stopped:
        if not stopped.code:  # completion scripts: tyro's own answer
            print(said.getvalue(), end="")
            raise
        raise UserError(_diagnosis(said.getvalue(), argv, known)) from None
    check_ranges(options)
    return options


def print_help(defaults: object, usage: str, description: str) -> None:
    """Every flag with its default and what its field says of itself; then exits."""
    _tyro(["--help"], defaults, f"python -m {usage}", description)


def wants_help(argv: Sequence[str]) -> bool:
    return "-h" in argv or "--help" in argv


def _tyro(
    argv: list[str], defaults: Options, prog: str | None = None, description: str | None = None
) -> Options:
    return tyro.cli(
        type(defaults),
        args=argv,
        default=defaults,
        prog=prog,
        description=description,
        # A field that may hold several rules has the flags of the one it holds.
        config=(tyro.conf.AvoidSubcommands,),
    )


def flags(options: object) -> dict[str, object]:
    """Flag -> annotation of what it takes."""
    named: dict[str, object] = {}
    for key, annotation, _ in flatten(options):
        section, dot, last = key.replace("_", "-").rpartition(".")
        named[f"--{section}{dot}{last}"] = annotation
        if annotation is bool:
            named[f"--{section}{dot}no-{last}"] = annotation
    return named


def _flag(token: str) -> str:
    return token.partition("=")[0].replace("_", "-")


def _refuse_unknown(argv: list[str], known: dict[str, object]) -> None:
    keys = [flag.removeprefix("--") for flag in known]
    for flag in map(_flag, argv):
        if flag.startswith("--") and flag not in known and not flag.startswith("--tyro-"):
            near = " or ".join(f"--{key}" for key in near_keys(flag.removeprefix("--"), keys))
            instead = f"did you mean {near}?" if near else "--help lists the flags"
            raise UserError(f"{flag} is no flag; {instead}")


def _diagnosis(said: str, argv: list[str], known: dict[str, object]) -> str:
    """tyro's boxed account of a misfit, in one line of our own."""
    text = " ".join(re.sub(r"[╭╮╰╯│─]", " ", said).split())
    if stray := re.search(r"Unrecognized options: ([^\s,]+)", text):
        return f"{stray[1]!r} belongs to no flag; --help lists the flags"
    named = re.search(r"--[\w.-]*\w", text)
    if named is None or named[0] not in known:
        return text[:200]
    flag = named[0]
    given = _given(argv, flag)
    is_what = f"is {given!r}" if given else "has no value"
    return f"{flag} {is_what}; expected {expected(known[flag])}"


def _given(argv: list[str], flag: str) -> str:
    """What the last `flag` on the line is followed by."""
    at = max(index for index, token in enumerate(argv) if _flag(token) == flag)
    if "=" in argv[at]:
        return argv[at].partition("=")[2]
    return " ".join(takewhile(lambda token: not token.startswith("--"), argv[at + 1 :]))


def take(argv: list[str], flag: str) -> str | None:
    """Removes every `flag VALUE` and `flag=VALUE` from `argv`; the last one counts."""
    value, index = None, 0
    while index < len(argv):
        name, equals, inline = argv[index].partition("=")
        if name != flag:
            index += 1
            continue
        del argv[index]
        has_value = index < len(argv) and not argv[index].startswith("-")
        value = inline if equals else argv.pop(index) if has_value else ""
        if not value:
            raise UserError(f"{flag} has no value; expected one, as in `{flag} NAME`")
    return value


def take_env(argv: list[str]) -> str | None:
    """Removes `--env NAME` (or `--env.name`): the tasks whose code may be run."""
    long, short = take(argv, "--env.name"), take(argv, "--env")
    return long or short


def take_positional(argv: list[str]) -> str | None:
    """Removes the argument that has no flag. It comes first: elsewhere it could as well be one
    more value of a flag that takes several."""
    return argv.pop(0) if argv and not argv[0].startswith("-") else None
