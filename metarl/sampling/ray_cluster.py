"""Connection to a Ray cluster: one that is started here, or one at an address.

Ray runs whatever code it is sent. One that is started here listens on loopback only; what an
address exposes is in docs/ray.md.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from metarl.errors import UserError
from metarl.sampling.ray_facts import compare, facts_function, first_line, host_of
from metarl.signals import ENDING
from metarl.threads import cores
from metarl.types import Cluster

OLDEST = (2, 54)
ANSWER_S = 10.0
"""Longest wait for an answer at an address."""
FACTS_S = 60.0
"""Longest wait for a node to say which versions it has."""
ONLY_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray listen on loopback: it is the rule on Windows and macOS, and holds on Linux too."""
ONLY_OURS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Makes a Ray that is started here refuse other users of this machine. The same in every start:
Ray reads it once in a process."""


def check_installed() -> None:
    """Raises a UserError if Ray is not installed, or too old. Does not import it."""
    install = 'install it: pip install "metarl[ray]"'
    try:
        found = importlib.metadata.version("ray") if importlib.util.find_spec("ray") else None
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None:
        raise UserError(f"--sampler ray: Ray is not installed\n{install}")
    if tuple(map(int, found.split(".")[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UserError(f"--sampler ray: this is Ray {found}; it needs {oldest}\n{install}")


class Connection:
    """Ray in this process, while at least one player uses it."""

    current: Connection | None = None

    def __init__(self, asked: Cluster):
        check_installed()
        self.asked, self.players = asked, 0
        self._folder = ""
        """Folder of the files of a cluster that was started here."""
        with _quiet({} if asked.address else {**ONLY_LOOPBACK, **ONLY_OURS}):
            self.ray = importlib.import_module("ray")
            self.ours = not self.ray.is_initialized()
            if self.ours and asked.address:
                self._join(asked.address)
            elif self.ours:
                self._start(asked.actors or cores().count)
            else:
                self._check_same(asked.address)
        try:
            self._check_nodes()
        except BaseException:
            self._end()
            raise

    @classmethod
    def to(cls, asked: Cluster) -> Connection:
        """Returns the connection, for one more player; each calls `close`.

        Raises:
            UserError: if there is no such cluster, or nodes have other versions than this process.
        """
        if cls.current is None:
            cls.current = Connection(asked)
        elif cls.current.asked.address != asked.address:
            raise UserError("this process is connected to another Ray cluster; close that first")
        cls.current.players += 1
        return cls.current

    def close(self) -> None:
        self.players -= 1
        if not self.players:
            Connection.current = None
            self._end()

    def nodes(self) -> dict[str, Mapping[str, Any]]:
        """Returns the nodes that are alive and have CPUs, by their ids."""
        known = sorted(self.ray.nodes(), key=lambda node: node["NodeID"])
        return {node["NodeID"]: node for node in known if node["Alive"] and _cpus_of(node)}

    def slots(self) -> list[str]:
        """Returns the id of the node of each CPU."""
        return [name for name, node in self.nodes().items() for _ in range(_cpus_of(node))]

    def on(self, node: str, soft: bool) -> Any:
        """Returns the strategy that puts work on a node; `soft`: elsewhere if the node is lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=soft)

    def _start(self, cpus: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="metarl-ray-")
        try:
            self._init(
                address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=self._folder
            )
        except Exception as error:
            self._end()
            raise UserError(
                f"--sampler ray: Ray does not start here: {first_line(error)}"
            ) from error

    def _join(self, address: str) -> None:
        _check_answers(address)
        try:
            self._init(address=address)
        except RuntimeError as error:
            if "mismatch" not in str(error):
                raise _no_node(address, error) from error
            lines = [line.strip(" .") for line in str(error).splitlines()]
            raise UserError(
                f"--ray-address {address}: {' '.join(filter(None, lines))[:300]}\n"
                "install the same versions of Python and Ray on every machine"
            ) from None
        except Exception as error:
            raise _no_node(address, error) from error

    def _check_same(self, address: str) -> None:
        """Raises a UserError if this process has joined another cluster than the one asked for."""
        found = self.ray.get_runtime_context().gcs_address
        if address and address != found:
            raise UserError(
                f"--ray-address {address}: this process is already connected to Ray at {found}\n"
                "call ray.shutdown() first, or give no address to use what is connected"
            )

    def _init(self, **options: Any) -> None:
        from ray._private import worker

        # Its messages about lost nodes are dozens of lines long; ours are in their place.
        worker.print_to_stdstream = lambda *_, **__: None
        handlers = {number: signal.getsignal(number) for number in ENDING}
        self.ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray sets its own
                signal.signal(number, handler)

    def _check_nodes(self) -> None:
        """Raises a UserError if a node has other versions than this process."""
        here = facts_function()()
        task = self.ray.remote(num_cpus=0, max_retries=0)(facts_function())
        asked = {
            name: task.options(scheduling_strategy=self.on(name, soft=False)).remote()
            for name in self.nodes()
        }
        for name, reference in asked.items():
            where = f"Ray's node {host_of(self.nodes().get(name, {}))}"
            try:
                there = self.ray.get(reference, timeout=FACTS_S)
            except self.ray.exceptions.RayError as error:
                raise UserError(
                    f"{where} cannot tell its versions: {first_line(error)}\n"
                    "see its logs, or take it out of the cluster: `ray stop` on that machine"
                ) from error
            compare(where, there, here)

    def _end(self) -> None:
        if self.ours:
            self.ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _cpus_of(node: Mapping[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _check_answers(address: str) -> None:
    """Raises a UserError unless a Ray cluster answers at the address."""
    if not re.fullmatch(r"[^/\s]+:\d{1,5}", address):
        raise UserError(
            f"--ray-address is {address!r}; expected HOST:PORT, as in 10.0.0.1:6379\n"
            "it is the address that `ray start --head` prints for further nodes"
        )
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False
        )
        found, said = done.returncode == 0, done.stderr
    except subprocess.TimeoutExpired as late:
        found, said = False, late.stderr or b""
    if found:
        return
    if b"InvalidAuthToken" in said or b"AuthenticationError" in said:
        raise UserError(
            f"--ray-address {address}: that Ray cluster asks for a token\n"
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN as on its head (docs/ray.md)"
        )
    raise UserError(
        f"--ray-address {address}: no Ray cluster answers there within {ANSWER_S:g} s\n"
        f"start one: ray start --head --port={address.rpartition(':')[2]}, or play here: leave "
        "the flag out"
    )


def _no_node(address: str, error: Exception) -> UserError:
    return UserError(
        f"--ray-address {address}: this machine cannot take part: {first_line(error)}\n"
        f"make it a node of the cluster first: ray start --address={address}"
    )


@contextlib.contextmanager
def _quiet(more: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that Ray reads when it is imported and when it starts."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its warning is printed otherwise
        **more,
    }
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            os.environ.pop(name, None)
        os.environ.update(before)
