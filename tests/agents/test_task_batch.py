"""Updates in groups of tasks: the same results, and less memory."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from invented import played
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metarl.agents import catalogue
from metarl.config.settings import OwnAgentConfig, PolicyConfig
from metarl.device import torch_threads
from metarl.errors import UserError
from metarl.experiments.assembly import with_agent
from metarl.experiments.offered import offered
from metarl.experiments.presets import preset
from metarl.types import EnvSpec

TASKS, STEPS, EPISODES = 6, 20, 5
SPEC = EnvSpec("any", Box(-1, 1, (6,)), Box(-1, 1, (2,)), STEPS)
NAMES = ("maml-trpo", "meta-sgd-trpo", "maml-ppo", "promp", "e-maml", "maml-vpg")


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self._count(x.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self.known:
            return
        self.known.add(place)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

        def gone():
            self.known.discard(place)
            self.bytes -= size

        weakref.finalize(storage, gone)


def updated(name: str, group: int) -> tuple[dict[str, Any], Any, int]:
    """Returns metrics and weights after two updates, and the peak of the second in bytes."""
    config = catalogue.default(name)
    config = replace(config, policy=PolicyConfig((64, 64)))
    cpu, rng = torch.device("cpu"), np.random.default_rng(0)
    agent = catalogue.build(SPEC, config, rng, cpu, task_batch=group)
    metrics, alive = {}, Alive()
    for seed in range(2):
        state = agent.begin()
        for index in range(agent.steps):
            data = played(agent, state, 10 * seed + index, TASKS, STEPS, EPISODES)
            state = agent.adapt(state, data)
        query, alive = played(agent, state, 10 * seed + 9, TASKS, STEPS, EPISODES), Alive()
        with torch_threads(1), alive:
            metrics = agent.meta_update(state, query, np.random.default_rng(0))
    return metrics, agent.state_dict(), alive.peak


@pytest.mark.parametrize("name", NAMES)
def test_groups_come_to_the_same(name):
    """To rounding; conjugate gradient magnifies it, and so do the metrics of its end."""
    metrics, whole, _ = updated(name, 0)
    for group in (1, 4):
        found, state, _ = updated(name, group)
        for key, x in state.items():
            torch.testing.assert_close(x, whole[key], rtol=1e-6, atol=1e-6)
        assert found.keys() == metrics.keys()
        for key, x in metrics.items():
            assert found[key] == pytest.approx(x, rel=1e-3, abs=1e-6), key


@pytest.mark.parametrize("name", ["maml-trpo", "maml-ppo", "maml-vpg"])
def test_groups_need_less_memory(name, monkeypatch):
    """A share is the whole group here, so that surrogates too would have all tasks in memory."""
    monkeypatch.setattr("metarl.agents.batch.PARTS", 1)
    _, _, whole = updated(name, 0)
    _, _, one = updated(name, 1)
    assert one < 0.35 * whole


@pytest.mark.parametrize(
    ("name", "group", "said"),
    [
        ("rl2", 2, "the update of 'rl2' does not go in groups"),
        ("reptile-ppo", 2, "'reptile-ppo' does not go"),
        ("random", 2, "'random' does not go"),
        ("maml-trpo", 40, "changes nothing: a meta-batch has 40 tasks"),
    ],
)
def test_groups_without_effect_are_refused(name, group, said):
    config = with_agent(preset("halfcheetah-vel-maml2017"), name)
    config: Any = replace(config, task_batch=group)
    with pytest.raises(UserError, match=said) as caught:
        catalogue.check_task_batch(config)
    assert len(str(caught.value).splitlines()) == 2
    catalogue.check_task_batch(replace(config, task_batch=0))


def test_what_can_go_in_groups_says_so():
    """As the help offers it, for the agents of one class."""
    for name in catalogue.names("episodes"):
        config = with_agent(preset("halfcheetah-vel-maml2017"), name)
        is_one = catalogue.check(config.agent).endswith(":PolicyGradientAgent")
        assert catalogue.grouped(config.agent) == (is_one and name != "random")
        assert (offered(config).get("task_batch", "shown") is None) != catalogue.grouped(
            config.agent
        )
    assert not catalogue.grouped(OwnAgentConfig(name="mine:agent"))
