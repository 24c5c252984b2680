"""Functions of tensors as CUDA graphs: one launch of a whole function in place of thousands.

An update on a GPU consists of many short operations, and Python starts them more slowly than the
GPU computes them. A graph records the operations of a function once and then repeats them. So the
function may depend on its arguments by their shapes alone, and must not look at a number that the
GPU has computed. On a processor nothing is recorded: the function is called.

Threads on a processor have a similar problem: each operation takes Python's interpreter lock, and
hands it from thread to thread. `unlocked` functions run as one operation (TorchScript).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from metarl.lazy import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.utils import _pytree as pytree

    from metarl import parallel
else:
    torch, pytree = lazy("torch"), lazy("torch.utils._pytree")
    parallel = lazy("metarl.parallel")

Given = ParamSpec("Given")
Result = TypeVar("Result")

KEPT = 8
"""Graphs of one function that are kept, for the arguments of most recent use. All graphs share
their memory."""

MANY_THREADS = 3
"""Threads from which on `unlocked` functions become scripts."""
CALLS_BEFORE, TRIALS = 40, 3
"""Calls before a function becomes a script, and calls that then compare the two."""

_hidden: list[bool] = []


def graphed(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Returns `function`, which runs as a CUDA graph from the second call with equal shapes on.

    Arguments and results are nested tuples, lists and dicts. Tensors among them may have other
    values in the next call. Everything else is compared by equality, and another value makes
    another graph. Where a function cannot be recorded, a warning says so and it is called.
    """
    graphs = _Graphs(function)

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return graphs(*args, **kwargs)

    return call


def unlocked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Returns `function`, which threads on a processor run without the interpreter lock.

    As for `graphed`, its operations depend on shapes alone. It computes without autograd. One or
    two threads call it as it is, with the same bits.
    """
    scripts = _Scripts(function)

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return scripts(*args, **kwargs)

    return call


def seen(flag: Tensor) -> bool:
    """Returns whether `flag` [] is true, as far as one can see: on a GPU, not without waiting."""
    return flag.device.type == "cpu" and not _hidden and bool(flag)


@contextmanager
def unseen() -> Iterator[None]:
    """Makes `seen` return False in the block, as on a GPU."""
    _hidden.append(True)
    try:
        yield
    finally:
        _hidden.pop()


class Flat(NamedTuple):
    """Arguments as a list of tensors and a function that puts them back in place."""

    tensors: list[Tensor]
    leaves: list[tuple[bool, Any]]
    """Whether it is a tensor, and what it is if not, of every leaf."""
    spec: pytree.TreeSpec

    @classmethod
    def of(cls, args: Any) -> Flat:
        leaves, spec = pytree.tree_flatten(args)
        is_tensor = [isinstance(x, torch.Tensor) for x in leaves]
        tensors = [x for x, is_one in zip(leaves, is_tensor, strict=True) if is_one]
        rest = [None if is_one else x for x, is_one in zip(leaves, is_tensor, strict=True)]
        return cls(tensors, list(zip(is_tensor, rest, strict=True)), spec)

    def key(self) -> Hashable:
        """Returns what a graph depends on."""
        kinds = tuple((x.shape, x.dtype, x.device) for x in self.tensors)
        return self.spec, tuple(self.leaves), kinds

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        """Returns the arguments with other tensors."""
        others = iter(tensors)
        leaves = [next(others) if is_tensor else x for is_tensor, x in self.leaves]
        return pytree.tree_unflatten(leaves, self.spec)


class _Graph(NamedTuple):
    """A recorded call, its arguments and its results, all at fixed addresses."""

    graph: Any
    inputs: list[Tensor]
    outputs: Any

    def __call__(self, tensors: list[Tensor]) -> Any:
        for place, x in zip(self.inputs, tensors, strict=True):
            place.copy_(x)
        self.graph.replay()
        return _cloned(self.outputs)


class _Graphs:
    """The graphs of one function."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.found: OrderedDict[Hashable, Callable[[list[Tensor]], Any] | None] = OrderedDict()
        """By what a call depends on; None after the first call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.cuda.is_initialized() or torch.cuda.is_current_stream_capturing():
            return self.function(*args, **kwargs)
        flat = Flat.of((args, kwargs))
        if not flat.tensors or any(not x.is_cuda for x in flat.tensors):
            return self.function(*args, **kwargs)
        key = flat.key()
        if key not in self.found:
            self.found[key] = None
            result = self._on_the_side(flat)
        else:
            self.found[key] = self.found[key] or self._recorded(flat)
            result = self.found[key](flat.tensors)  # pyright: ignore[reportOptionalCall]
        self.found.move_to_end(key)
        while len(self.found) > KEPT:
            self.found.popitem(last=False)
        return result

    def _called(self, flat: Flat, tensors: Sequence[Tensor]) -> Any:
        args, kwargs = flat.filled(tensors)
        return self.function(*args, **kwargs)

    def _on_the_side(self, flat: Flat) -> Any:
        """Returns the result of a call on the stream that records: libraries that prepare
        something for a stream do it now, since a recorded call may not."""
        here, side = torch.cuda.current_stream(), _side_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            result = self._called(flat, flat.tensors)
        here.wait_stream(side)
        return _cloned(result)

    def _recorded(self, flat: Flat) -> Callable[[list[Tensor]], Any]:
        """Returns a call as a graph, or as it is where it cannot be recorded."""
        inputs, graph = [x.clone() for x in flat.tensors], torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, _pool(), _side_stream(), capture_error_mode="thread_local"
            ):
                outputs = self._called(flat, inputs)
        except Exception as error:  # whatever it is, the function itself works
            torch.cuda.synchronize()
            name, said = self.function.__qualname__, str(error).partition("\n")[0]
            warnings.warn(f"{name} runs without a CUDA graph, more slowly: {said}", stacklevel=2)
            shell = flat._replace(tensors=[])
            return lambda tensors: self._called(shell, tensors)
        return _Graph(graph, inputs, outputs)


class _Script:
    """A call as TorchScript, which is believed once it gave the same bits as the function."""

    def __init__(self, function: Callable[..., Any], flat: Flat):
        self.function, self.outputs = function, Flat.of(())
        self.script: Any = None
        self.lock = Lock()
        self.trials: int | None = None
        """Comparisons still to succeed, 0 for a script that is believed; None: it is not."""
        shell = flat._replace(tensors=[])

        def call(*tensors: Tensor) -> tuple[Tensor, ...]:
            self.outputs = Flat.of(self._called(shell, tensors))
            return tuple(self.outputs.tensors)

        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")  # torch would rather compile
            self.script = torch.jit.trace(call, tuple(flat.tensors), check_trace=False)
            self.trials = TRIALS
        self.outputs.tensors.clear()

    def __call__(self, flat: Flat) -> Any:
        believed = self.trials == 0
        if self.trials is None or self.script is None:
            return self._called(flat)
        with torch.jit.optimized_execution(False):  # pyright: ignore[reportPrivateImportUsage]
            found = self.script(*flat.tensors)
        if believed:
            return self.outputs.filled(found)
        result = self._called(flat)
        same = all(map(torch.equal, found, Flat.of(result).tensors))
        with self.lock:  # several threads may compare at the same time
            if self.trials is not None:
                self.trials = max(0, self.trials - 1) if same else None
        return result

    def _called(self, flat: Flat, tensors: Sequence[Tensor] | None = None) -> Any:
        args, kwargs = flat.filled(flat.tensors if tensors is None else tensors)
        return self.function(*args, **kwargs)


class _Scripts:
    """The scripts of one function."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.lock = function, Lock()
        self.found: OrderedDict[Hashable, _Script | int] = OrderedDict()
        """A script, or the number of calls without one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _hidden or parallel.granted() < MANY_THREADS:
            return self.function(*args, **kwargs)
        flat = Flat.of((args, kwargs))
        if not all(x.device.type == "cpu" for x in flat.tensors):
            return self.function(*args, **kwargs)
        script = self.found.get(key := flat.key(), 0)
        if not isinstance(script, int):
            return script(flat)
        with self.lock:
            calls = self.found.get(key, 0)  # another thread may have made the script meanwhile
            if isinstance(calls, int):
                self.found[key] = (
                    calls + 1 if calls < CALLS_BEFORE else _Script(self.function, flat)
                )
            self.found.move_to_end(key)
            while len(self.found) > KEPT:
                self.found.popitem(last=False)
        return self.function(*args, **kwargs)


def _cloned(results: Any) -> Any:
    """Returns copies of a graph's results, which the next graph overwrites."""
    return pytree.tree_map_only(torch.Tensor, torch.clone, results)


@cache
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


@cache
def _pool() -> Any:
    return torch.cuda.graph_pool_handle()
