"""Actors of Ray on the nodes of a cluster give the bytes of this process, also if some are lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from played_rounds import E, K, agent_of, content, play, played, warned
from ray_nodes import actors, cluster_of, ended, exactly, variables

from metarl.envs import catalogue
from metarl.errors import EnvFaultError, UserError, WorkersFailedError
from metarl.sampling.ray_cluster import Connection
from metarl.sampling.sampler import Sampler
from metarl.types import Cluster, TaskDistribution, Workers

# Not imported yet: it reads the variables of loopback then.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


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
        import ray

        ray.init(cluster.address, log_to_driver=False)  # once, and not for each player
        try:
            yield cluster.address, folder
        finally:
            ray.shutdown()


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
        assert ended(two_nodes[1]), "they end with the sampler"


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
        found = exactly(3, two_nodes[1])
        assert len(found) == 3
        for actor in found:
            loaded = {os.path.basename(x.path) for x in actor.memory_maps()}
            assert any("multiarray" in name for name in loaded)
            assert not any("torch" in name for name in loaded)
    finally:
        first.close()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "died"),
        pytest.param(signal.SIGSTOP, "hung for more than 6 s", marks=pytest.mark.slow),
    ],
)
def test_a_lost_actors_share_is_played_again(number, said, two_nodes):
    distribution = catalogue.make("half-cheetah-vel:maml2017", 200)
    made = agent_of("maml-trpo", distribution)
    expected = played(made, distribution, Workers(0))
    env = Sampler(distribution, K, E, Workers(timeout_s=6.0, cluster=Cluster(two_nodes[0], 2)))
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
    assert ended(two_nodes[1])


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
    assert Connection.current is None, "it does not count as a player"


def test_another_cluster_than_this_process_has_is_refused(two_nodes, strange_envs):
    with pytest.raises(UserError, match=r"already connected to Ray at 127.0.0.1:.*\n"):
        Sampler(strange_envs.walk, K, E, Workers(cluster=Cluster("127.0.0.1:9")))
