"""Tasks a few at a time give what all of them give at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from invented import played

from metarl import graphs
from metarl.agents import batch as batches
from metarl.agents import catalogue
from metarl.agents.batch import Batch, Division
from metarl.config.settings import PolicyConfig
from metarl.device import torch_threads
from metarl.envs import catalogue as envs
from metarl.networks.mlp import MlpPolicy
from metarl.parallel import side_by_side
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


def built(name: str, policy: PolicyConfig | None = None):
    spec, config = EnvSpec("any", Box(-1, 1, (6,)), Box(-1, 1, (2,)), 20), catalogue.default(name)
    config = replace(config, policy=policy or config.policy)
    return catalogue.build(spec, config, np.random.default_rng(0), torch.device("cpu"))


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


def learns(name: str) -> bool:
    return catalogue.check(catalogue.default(name)).endswith("PolicyGradientAgent")


@pytest.mark.parametrize("name", list(filter(learns, catalogue.names("episodes"))))
def test_the_number_of_threads_changes_no_bit(name):
    """Neither weights nor a metric, such as what conjugate gradient leaves of the gradient."""
    found = []
    for count in (1, 2, 3, 4):
        agent = built(name, PolicyConfig((64, 64), context=5 * name.startswith("cavia")))
        with torch_threads(count):
            state = agent.begin()
            for index in range(agent.steps):
                state = agent.adapt(state, played(agent, state, index, 18, 20, 5))
            query = played(agent, state, 9, 18, 20, 5)
            metrics = agent.meta_update(state, query, np.random.default_rng(0))
            assert torch.get_num_threads() == count
        found.append((metrics, {n: x.numpy().tobytes() for n, x in agent.state_dict().items()}))
    assert found[0][0]["skipped"] == 0.0 or name == "random"
    assert all(one == found[0] for one in found[1:])


def test_threads_that_count_calls_together_make_one_script():
    """Each may find a number of calls that another has written meanwhile."""
    double = graphs.unlocked(lambda x: {"y": 2.0 * x})
    numbers = [torch.full((4,), float(k)) for k in range(16)]
    with torch_threads(8):
        for _ in range(graphs.CALLS_BEFORE):
            found = side_by_side(double, numbers)
            assert all(torch.equal(x["y"], 2.0 * n) for x, n in zip(found, numbers, strict=True))
    (cell,) = [x for x in double.__closure__ or () if hasattr(x.cell_contents, "found")]
    (script,) = cell.cell_contents.found.values()
    assert script.trials == 0


def test_a_script_that_would_keep_a_number_is_not_believed():
    """A function whose operations depend on a value is called as it is, by three threads too."""

    def scaled(x):
        return {"y": x * float(x.sum())}

    plain = graphs.unlocked(lambda x: {"y": x * x.sum(), "n": len(x)})
    wrong = graphs.unlocked(scaled)
    with torch_threads(3):
        for k in range(graphs.CALLS_BEFORE + graphs.TRIALS + 3):
            x = torch.arange(4.0) + k
            assert torch.equal(plain(x)["y"], x * x.sum())
            assert plain(x)["n"] == 4
            assert torch.equal(wrong(x)["y"], x * x.sum())
    ((script,), (refused,)) = (
        x.cell_contents.found.values() for f in (plain, wrong) for x in f.__closure__ or ()
    )
    assert script.trials == 0
    assert refused.trials is None
