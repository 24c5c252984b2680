"""Modules that are imported later than the file that uses them.

The file of a rule holds its settings beside its tensors' arithmetic, and a command line needs the
settings of all rules before it may load torch. Such a file postpones heavy modules by `lazy`:

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy("torch")
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A stand-in for a module, which is imported when an attribute is first asked for."""

    def __getattr__(self, attribute: str) -> Any:
        vars(self).update(vars(import_module(self.__name__)))  # from now on as fast as any module
        return getattr(import_module(self.__name__), attribute)


def lazy(name: str) -> Any:
    """Returns a stand-in for the module called `name`."""
    return LazyModule(name)
