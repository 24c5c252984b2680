"""Code of a user's own, by its place: `package.module:attribute`.

Importing it runs it. It is only done for a place that the user gave on the command line.
"""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from metarl.errors import UserError, nearest

EXTRAS = ("minigrid",)
"""Modules that environments of users need, and that extras of metarl of the same name install."""
GIVEN = "given_from_python"
"""Module in the name of tasks that were given as an object, and are no attribute of any module."""


def is_given(name: str) -> bool:
    """Returns whether code of this name can be had only from the script that gave it."""
    return name.partition(":")[0] in (GIVEN, "__main__")


def is_place(name: str) -> bool:
    """Returns whether a name looks like a place of code."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def check_named(what: str, name: str, named: str | None, flag: str) -> None:
    """Raises a UserError where the command line did not name the code that a config asks for."""
    if is_given(name):
        raise UserError(
            f"the {what} {name}: a Python script gave them, and a command line cannot name them\n"
            "give them in Python: metarl.meta_train(..., tasks), metarl.evaluate(RUN, tasks) or "
            "metarl.load(RUN, tasks=tasks)"
        )
    if name != named:
        raise UserError(
            f"the {what} {name}, code of your own: it is run only where the command line names "
            f"it\nadd {flag} {name}"
        )


def check_cluster(address: str, argv: Sequence[str], file: str) -> None:
    """Raises a UserError where a file names a Ray cluster and the command line does not: the
    processes of a cluster can run code in each other."""
    named = any(word.partition("=")[0].replace("_", "-") == "--ray-address" for word in argv)
    if address and not named:
        raise UserError(
            f"{file} names the Ray cluster {address}, which can run code on this machine: it is "
            f"joined only where the command line names it\nadd --ray-address {address}"
        )


def at(name: str) -> Any:
    """Returns the object at `package.module:attribute`.

    Raises:
        UserError: where there is no such module or attribute, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    module = run(f"{name!r}: importing {module_name}", _module, module_name, name)
    if not hasattr(module, attribute):
        own = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{name!r}: its module has no {attribute!r}{nearest(attribute, own)}")
    return getattr(module, attribute)


def called(name: str, *arguments: Any) -> Any:
    """Returns what the object at a place returns.

    Raises:
        UserError: as `at`, where it cannot be called, and for whatever it raises.
    """
    found = at(name)
    if not callable(found):
        raise UserError(f"{name} is {type(found).__name__}; give what makes an agent when called")
    return run(name, found, *arguments)


def run(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a call that runs a user's code.

    Raises:
        UserError: for whatever it raises; the traceback is printed.
    """
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        remedy = f"\n{_install(missing)}" if missing in EXTRAS else ""
        raise UserError(f"{what} raised {type(error).__name__}: {error}{remedy}") from error


def refuse_file(name: str, flag: str) -> None:
    """Raises a UserError for `folder/module.py:attribute`, which names a module's file."""
    file, colon, attribute = name.partition(":")
    if "/" in file or file.endswith(".py"):
        module = file.removesuffix(".py").replace("/", ".")
        place = f"{module}:{attribute if colon else 'ATTRIBUTE'}"
        raise UserError(f"{name!r} is a file; name its module: {flag} {place}")


def _module(module_name: str, name: str) -> Any:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module_name):
        raise UserError(f"{name!r}: {module_name!r} is no module's name")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(
                f"{name!r}: there is no module {error.name!r}, here or among what is installed"
            ) from None
        raise UserError(
            f"{name!r}: its module needs {error.name!r}: {_install(error.name)}"
        ) from error


def _install(module: str | None) -> str:
    """Returns the command that installs what a module of a user's own needs."""
    return f'pip install "metarl[{module}]"' if module in EXTRAS else "pip install it"
