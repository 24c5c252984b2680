"""Tasks a few at a time give what all of them give at once."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.agents import batch as batches
from metarl.agents import catalogue
from metarl.agents.batch import Batch, Division
from metarl.config.settings import PolicyConfig
from metarl.envs import catalogue as envs
from metarl.networks.mlp import MlpPolicy
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Workers

TASKS = 5


def test_shares_cover_every_task_once(monkeypatch):
    policy = MlpPolicy(EnvSpec("any", Box(-1, 1, (3,)), Box(-1, 1, (2,)), 4), PolicyConfig((8,)))
    monkeypatch.setattr(batches, "PARTS", 2)
    batch = Batch(*(torch.zeros(TASKS, 10, *rest) for rest in ((3,), (2,), (), (), ())))
    for fitting, together, expected in (
        (1, 0, [[1, 1, 1, 1, 1]]),
        (2, 0, [[2, 2, 1]]),
        (10**6, 0, [[3, 2]]),  # two parts at least
        (10**6, 2, [[2], [2], [1]]),
        (2, 3, [[2, 1], [2]]),
        (2, 9, [[2, 2, 1]]),
    ):
        monkeypatch.setattr(batches, "CACHE_BYTES", fitting * 10 * 8 * 4)
        division = Division.of_batches([batch], policy, together)
        sizes = [[x.rows.stop - x.rows.start for x in group] for group in division.groups]
        assert sizes == expected
        shares = division.each(lambda share: share)
        assert [x.index for x in shares] == list(range(len(shares)))
        assert [k for x in shares for k in range(x.rows.start, x.rows.stop)] == list(range(TASKS))


@pytest.mark.parametrize("cache", [1, 10**4])
def test_adaptation_does_not_depend_on_them(cache, monkeypatch):
    """From shared parameters and from each task's own."""
    tasks = envs.make("point-goal", 20)
    cpu = torch.device("cpu")
    agent = catalogue.build(
        tasks.spec, catalogue.default("maml-trpo"), np.random.default_rng(0), cpu
    )
    drawn = tasks.sample(TASKS, np.random.default_rng(1))

    def adapted():
        env = tasks.open(TASKS, 4, Workers(0))
        state, _ = adaptation_rounds(agent, env, tasks.spec, drawn, 4, 2, (0,), cpu)
        return state.params

    whole = adapted()
    monkeypatch.setattr(batches, "CACHE_BYTES", cache)
    for name, values in adapted().items():
        torch.testing.assert_close(values, whole[name], rtol=0, atol=1e-5)
