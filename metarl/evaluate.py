"""`python -m metarl.evaluate` is `metarl evaluate`: see metarl/commands/evaluate.py.

The module has the name of the function `metarl.evaluate`. Importing it puts it in the function's
place, so it can be called as the function.
"""

import sys
from types import ModuleType
from typing import Any

from metarl.commands import run


class _Door(ModuleType):
    """A module that is called as `metarl.evaluate(run, ...)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from metarl import library

        return library.evaluate(*arguments, **options)


if __name__ == "__main__":
    run("evaluate")
else:
    sys.modules[__name__].__class__ = _Door
