"""A node of a Ray cluster is lost with all of its actors."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from played_rounds import E, K, agent_of, content, play, played, warned
from ray_nodes import cluster_of, variables

from metarl.sampling.sampler import Sampler
from metarl.types import Cluster, Workers

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


@pytest.mark.slow
def test_a_lost_node_is_one_loss_and_others_play_its_share(strange_envs, monkeypatch):
    """Three actors are lost with it, and a single loss is allowed."""
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
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
