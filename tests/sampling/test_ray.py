"""Actors of Ray on the nodes of a cluster give the bytes of this process, also if some are lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from ray_nodes import actors, cluster_of, processes, variables

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.envs import catalogue
from metarl.errors import EnvFaultError, UserError, WorkersFailedError
from metarl.experiments.presets import blank
from metarl.sampling.losses import WorkerWarning
from metarl.sampling.ray_cluster import Connection
from metarl.sampling.rounds import adaptation_rounds
from metarl.sampling.sampler import Sampler
from metarl.types import Cluster, TaskDistribution, Trajectories, Workers

# Not imported yet: it reads the variables of loopback then.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")

K, E = 3, 4
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def variables_set() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def two_nodes(variables_set: None) -> Iterator[str]:
    """Address of a cluster that this process is connected to."""
    with cluster_of(1, 2) as cluster:
        connection = Connection.to(Cluster(cluster.address))
        connection.players = 0  # it stays, and the next player is the first
        try:
            yield cluster.address
        finally:
            connection.players = 1
            connection.close()


def agent_of(name: str, distribution: TaskDistribution) -> Any:
    config = blank(name, "point-goal").agent
    rng = keys.generator(1, keys.Purpose.INIT)
    return agents.build(distribution.spec, config, rng, CPU, None)


def play(agent: Any, distribution: TaskDistribution, env: Sampler, index: int) -> list:
    tasks = distribution.sample(K, np.random.default_rng(index))
    _, rounds = adaptation_rounds(
        agent, env, distribution.spec, tasks, E, agent.steps, (1, index), CPU
    )
    return rounds


def played(agent: Any, distribution: TaskDistribution, workers: Workers) -> list[Trajectories]:
    """The rounds of two meta-batches."""
    env = Sampler(distribution, K, E, workers)
    try:
        return [one for index in range(2) for one in play(agent, distribution, env, index)]
    finally:
        env.close()


def content(rounds: list[Trajectories]) -> bytes:
    tensors = [x for one in rounds for x in (*one[:8], *one.behaviour)]
    return b"".join(x.contiguous().numpy().tobytes() for x in tensors)


def tasks_named(name: str, horizon: int) -> TaskDistribution:
    """Tasks of the catalogue, or of the module of strange environments."""
    if name == "walk":
        import strange_envs

        return strange_envs.walk
    return catalogue.make(name, horizon)


@pytest.mark.parametrize(
    ("agent", "tasks", "horizon"),
    [
        ("maml-trpo", "half-cheetah-vel:maml2017", 20),
        ("maml-trpo", "walk", 12),
        ("maml-trpo", "ml1:reach-v3", 20),
        ("rl2", "walk", 12),
        ("rl2", "point-goal", 30),
    ],
)
def test_the_number_of_actors_changes_no_byte(agent, tasks, horizon, two_nodes):
    distribution = tasks_named(tasks, horizon)
    made = agent_of(agent, distribution)
    expected = played(made, distribution, Workers(0))
    if tasks == "walk":
        assert expected[0].mask.sum() < expected[0].mask.numel(), "some episodes end early"
    for count in (1, 3):
        workers = Workers(cluster=Cluster(two_nodes, count))
        assert content(played(made, distribution, workers)) == content(expected), count
        assert not actors(), "they end with the sampler"


@contextmanager
def warned() -> Iterator[list[str]]:
    """The messages of the warnings of losses."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        messages: list[str] = []
        yield messages
    messages += [str(one.message) for one in caught if one.category is WorkerWarning]


def test_two_samplers_share_the_cpus_and_actors_need_no_torch(two_nodes, strange_envs):
    """An evaluation with `--mode-episodes` has two."""
    made = agent_of("maml-trpo", strange_envs.walk)
    expected = content(played(made, strange_envs.walk, Workers(0)))
    workers = Workers(cluster=Cluster(two_nodes))
    first = Sampler(strange_envs.walk, K, E, workers)
    try:
        assert first.shards is not None
        assert first.shards.who == "3 Ray actors on 2 nodes"
        assert content(played(made, strange_envs.walk, workers)) == expected
        assert len(actors()) == 3
        for actor in actors():
            loaded = {os.path.basename(x.path) for x in actor.memory_maps()}
            assert any("multiarray" in name for name in loaded)
            assert not any("torch" in name for name in loaded)
    finally:
        first.close()


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "died"), (signal.SIGSTOP, "hung for more than 2 s")]
)
def test_a_lost_actors_share_is_played_again(number, said, two_nodes):
    distribution = catalogue.make("half-cheetah-vel:maml2017", 200)
    made = agent_of("maml-trpo", distribution)
    expected = played(made, distribution, Workers(0))
    env = Sampler(distribution, K, E, Workers(timeout_s=2.0, cluster=Cluster(two_nodes, 2)))
    try:
        found = play(made, distribution, env, 0)
        killer = threading.Timer(0.05, actors()[0].send_signal, [number])
        killer.start()
        with warned() as messages:
            found += play(made, distribution, env, 1)
        killer.join()
        assert content(found) == content(expected)
        assert len(messages) == 1
        assert said in messages[0]
    finally:
        env.close()
    assert not actors()


def test_a_lost_node_is_one_loss_and_others_play_its_share(variables_set, strange_envs):
    """Three actors are lost with it, and a single loss is allowed."""
    made, before = agent_of("maml-trpo", strange_envs.walk), processes()
    expected = played(made, strange_envs.walk, Workers(0))
    with cluster_of(1, 3) as cluster:
        workers = Workers(max_failures=1, cluster=Cluster(cluster.address))
        env = Sampler(strange_envs.walk, K, E, workers)
        try:
            assert env.shards is not None
            assert env.shards.who == "4 Ray actors on 2 nodes"
            found = play(made, strange_envs.walk, env, 0)
            (node,) = cluster.worker_nodes
            cluster.remove_node(node, allow_graceful=False)
            with warned() as messages:
                found += play(made, strange_envs.walk, env, 1)
            assert content(found) == content(expected)
            assert len(messages) == 3
            assert env.shards.who == "4 Ray actors on 1 node"
        finally:
            env.close()
    assert processes() == before


def test_more_losses_than_allowed_end_the_run(two_nodes, strange_envs):
    dying = strange_envs.faulty("exits")
    made = agent_of("maml-trpo", dying)
    env = Sampler(dying, K, E, Workers(cluster=Cluster(two_nodes, 1)))
    try:
        with warned(), pytest.raises(WorkersFailedError, match=r"died\n4 workers lost"):
            play(made, dying, env, 0)
    finally:
        env.close()
