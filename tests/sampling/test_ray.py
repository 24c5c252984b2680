"""Actors of Ray on the nodes of a cluster give the bytes of this process, also if some are lost."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from ray_nodes import actors, cluster_of, variables

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
def two_nodes(variables_set: None) -> Iterator[tuple[str, str]]:
    """Address and folder of a cluster that this process is connected to."""
    with cluster_of(1, 2) as (cluster, folder):
        connection = Connection.to(Cluster(cluster.address))
        connection.players = 0  # it stays, and the next player is the first
        try:
            yield cluster.address, folder
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
        pytest.param("maml-trpo", "walk", 12, marks=pytest.mark.slow),
        pytest.param("maml-trpo", "ml1:reach-v3", 20, marks=pytest.mark.slow),
        pytest.param("rl2", "walk", 12, marks=pytest.mark.slow),
        pytest.param("rl2", "point-goal", 30, marks=pytest.mark.slow),
    ],
)
def test_the_number_of_actors_changes_no_byte(agent, tasks, horizon, two_nodes):
    distribution = tasks_named(tasks, horizon)
    made = agent_of(agent, distribution)
    expected = played(made, distribution, Workers(0))
    if tasks == "walk":
        assert expected[0].mask.sum() < expected[0].mask.numel(), "some episodes end early"
    for count in (1, 3):
        workers = Workers(cluster=Cluster(two_nodes[0], count))
        assert content(played(made, distribution, workers)) == content(expected), count
        assert not actors(two_nodes[1]), "they end with the sampler"


@contextmanager
def warned() -> Iterator[list[str]]:
    """The messages of the warnings of losses."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        messages: list[str] = []
        yield messages
    messages += [str(one.message) for one in caught if one.category is WorkerWarning]


@pytest.mark.slow
def test_two_samplers_share_the_cpus_and_actors_need_no_torch(two_nodes, strange_envs):
    """An evaluation with `--mode-episodes` has two."""
    made = agent_of("maml-trpo", strange_envs.walk)
    expected = content(played(made, strange_envs.walk, Workers(0)))
    workers = Workers(cluster=Cluster(two_nodes[0]))
    first = Sampler(strange_envs.walk, K, E, workers)
    try:
        assert first.shards is not None
        assert first.shards.who == "3 Ray actors on 2 nodes"
        assert content(played(made, strange_envs.walk, workers)) == expected
        assert len(actors(two_nodes[1])) == 3
        for actor in actors(two_nodes[1]):
            loaded = {os.path.basename(x.path) for x in actor.memory_maps()}
            assert any("multiarray" in name for name in loaded)
            assert not any("torch" in name for name in loaded)
    finally:
        first.close()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "died"),
        pytest.param(signal.SIGSTOP, "hung for more than 2 s", marks=pytest.mark.slow),
    ],
)
def test_a_lost_actors_share_is_played_again(number, said, two_nodes):
    distribution = catalogue.make("half-cheetah-vel:maml2017", 200)
    made = agent_of("maml-trpo", distribution)
    expected = played(made, distribution, Workers(0))
    env = Sampler(distribution, K, E, Workers(timeout_s=2.0, cluster=Cluster(two_nodes[0], 2)))
    try:
        found = play(made, distribution, env, 0)
        killer = threading.Timer(0.05, actors(two_nodes[1])[0].send_signal, [number])
        killer.start()
        with warned() as messages:
            found += play(made, distribution, env, 1)
        killer.join()
        assert content(found) == content(expected)
        assert len(messages) == 1
        assert said in messages[0]
    finally:
        env.close()
    assert not actors(two_nodes[1])


@pytest.mark.slow
def test_a_lost_node_is_one_loss_and_others_play_its_share(variables_set, strange_envs):
    """Three actors are lost with it, and a single loss is allowed."""
    made = agent_of("maml-trpo", strange_envs.walk)
    expected = played(made, strange_envs.walk, Workers(0))
    with cluster_of(1, 3) as (cluster, _):
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


@pytest.mark.slow
def test_more_losses_than_allowed_end_the_run(two_nodes, strange_envs):
    dying = strange_envs.faulty("exits")
    made = agent_of("maml-trpo", dying)
    env = Sampler(dying, K, E, Workers(cluster=Cluster(two_nodes[0], 1)))
    try:
        with warned(), pytest.raises(WorkersFailedError, match=r"died\n4 workers lost"):
            play(made, dying, env, 0)
    finally:
        env.close()


@pytest.mark.slow
def test_faults_of_an_environment_are_told_as_by_workers(two_nodes, strange_envs):
    distribution = strange_envs.faulty("nan observation")
    made, said = agent_of("maml-trpo", distribution), []
    for workers in (Workers(0), Workers(cluster=Cluster(two_nodes[0]))):
        with pytest.raises(EnvFaultError) as caught:
            played(made, distribution, workers)
        said.append((str(caught.value), caught.value.field, caught.value.index))
    assert said[0] == said[1]
    assert "the observation is nan" in said[0][0]


MODULE = """
from metarl import gym_tasks
import strange_envs

class Walk(strange_envs.Walk):
    pass

walk = gym_tasks(Walk, strange_envs.SLOPE, horizon=5)
"""


def test_a_module_that_nodes_lack_is_told_in_two_lines(two_nodes, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # pyright: ignore[reportMissingImports]

    made = agent_of("maml-trpo", only_here.walk)
    with pytest.raises(UserError) as caught:
        played(made, only_here.walk, Workers(cluster=Cluster(two_nodes[0], 1)))
    first, second = str(caught.value).splitlines()
    assert "node 127.0.0.1 cannot load this environment" in first
    assert "No module named 'only_here'" in first
    assert "install its modules on every node" in second


def test_more_actors_than_cpus_are_refused(two_nodes, strange_envs):
    with pytest.raises(UserError, match=r"--actors is 4, and Ray's nodes have 3 CPUs in all\n"):
        Sampler(strange_envs.walk, K, E, Workers(cluster=Cluster(two_nodes[0], 4)))
    assert Connection.current is not None
    assert Connection.current.players == 0, "it does not count as a player"
