"""Agents on images: probes that only an encoder solves, and what images do to other settings."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import probes
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from metarl import UserError
from metarl.acting.units import Units
from metarl.agents import catalogue
from metarl.agents.normalisation import Normaliser
from metarl.agents.sb3_export import export
from metarl.config.settings import AgentConfig
from metarl.envs.gym.task_vec_env import TaskVecEnv
from metarl.equations.running_stats import stats_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Workers

CPU = torch.device("cpu")
TASKS, EPISODES = 4, 40
OUTER: dict[str, Any] = {"lr": 0.03, "epochs": 4, "minibatches": 2, "max_kl": 0.1}
LEARNERS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "maml-trpo": ({"lr": 0.3}, {"cg_iterations": 5, "query_fraction": 1.0}, 50),
    "maml-ppo": ({"lr": 0.3}, {}, 20),
    "reptile-ppo": ({"lr": 0.03, "epochs": 5, "minibatches": 2, "steps": 2}, {"lr": 1.0}, 12),
    "rl2": ({"steps": 0, "size": 8}, {"lr": 0.02}, 40),
    "varibad": ({"steps": 0, "size": 8}, {"lr": 0.02, "elbo_terms": 4, "predictions": 4}, 20),
    "rl2-sac": (
        {"steps": 0, "size": 8, "embedding": 16},
        {"lr": 0.01, "updates_per_step": 0.1, "batch": 64, "temperature": 0.1,
         "entropy_of_choice": 0.05},
        20,
    ),
}  # fmt: skip
"""For each agent: settings of its inner and outer rule, and the most meta-updates."""


def quick(name: str) -> AgentConfig:
    config = catalogue.default(name)
    inner, outer, _ = LEARNERS[name]
    own = {key: x for key, x in {**OUTER, **outer}.items() if hasattr(config.outer, key)}
    return replace(
        config,
        inner=replace(config.inner, **inner),
        outer=replace(config.outer, **own),
        policy=replace(config.policy, hidden=(16,), activation="tanh", channels=(8, 8)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_the_place_of_a_patch_is_found(name):
    """Agents of trials see the same pairing in all tasks; the others find out which one it is."""
    config = quick(name)
    kind = probes.PatchInImage if config.inner.plays_trials else probes.HiddenPatchInImage
    probe = probes.Probe(kind)
    agent = catalogue.build(probe.spec, config, np.random.default_rng(0), CPU)
    rng, found = np.random.default_rng(1), 0.0
    for iteration in range(LEARNERS[name][2]):
        env, tasks = probe.open(TASKS, EPISODES, Workers(0)), probe.sample(TASKS, rng)
        state, rounds = adaptation_rounds(
            agent, env, probe.spec, tasks, EPISODES, agent.steps, (7, iteration), CPU
        )
        found = float(rounds[-1].rewards.mean())
        if found > 0.97:
            break
        assert agent.meta_update(state, rounds[-1], rng)["skipped"] == 0.0
    assert found > 0.97


def pictured(image: tuple[int, int, int] = (2, 5, 6), more: int = 3) -> EnvSpec:
    return EnvSpec("pictures", Box(0.0, 1.0, (prod(image) + more,)), Discrete(3), 4, image=image)


@pytest.mark.parametrize("name", sorted(catalogue.names("episodes")))
def test_every_agent_has_convolutions(name):
    config = catalogue.default(name)
    config = replace(config, policy=replace(config.policy, torso="conv"))
    agent: Any = catalogue.build(pictured(), config, np.random.default_rng(0), CPU)
    assert any("conv0" in key or "features_extractor" in key for key in agent.state_dict())


NETWORKS = {"rl2-sac": {"actor.", "critic."}, "varibad": {"", "value.", "encoder.", "decoder."}}
"""Prefixes of the networks of agents that have several."""


def updated_on_images(name: str) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """An agent that has learned from two meta-batches of images, the state of other trials, and the
    parameters that it started from."""
    config, probe = catalogue.default(name), probes.Probe(probes.PatchInImage)
    config = replace(
        config,
        inner=replace(config.inner, size=6),
        policy=replace(config.policy, hidden=(7,), channels=(4, 5)),
        normalisation=replace(config.normalisation, observations=True, rewards=True),
    )
    agent: Any = catalogue.build(probe.spec, config, np.random.default_rng(0), CPU)
    before = dict(agent.meta)
    for iteration in range(3):
        env, tasks = probe.open(2, 3, Workers(0)), probe.sample(2, np.random.default_rng(0))
        state, rounds = adaptation_rounds(
            agent, env, probe.spec, tasks, 3, agent.steps, (7, iteration), CPU
        )
        if iteration < 2:
            found = agent.meta_update(state, rounds[-1], np.random.default_rng(iteration))
            assert not found["skipped"]
    return agent, state, before


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_filters_that_learn(name):
    agent, _, before = updated_on_images(name)
    filters = {key for key in before if "conv" in key}
    assert {key.partition("conv")[0] for key in filters} == NETWORKS[name]
    for key in filters:
        assert not torch.equal(agent.meta[key], before[key]), key


@pytest.mark.parametrize("name", NETWORKS)
def test_workers_and_the_device_read_images_alike(name):
    """In new trials and in begun ones; numpy and torch, step by step."""
    agent, state, _ = updated_on_images(name)
    rng, units = np.random.default_rng(0), Units(2, 3, 3, 0, 2)
    for trials in (agent.begin(), state):
        actor = agent.actor(trials, slice(0, 3))
        ready = agent.acting(trials).of(units).ready(units)
        rewards = None
        for _ in range(3):
            obs = rng.random((2, 3, 36), np.float32)
            noise = rng.gumbel(size=(2, 3, 2)).astype(np.float32)
            _, expected = actor(torch.from_numpy(obs), rewards, torch.from_numpy(noise))
            told = np.zeros((2, 3), np.float32) if rewards is None else rewards.numpy()
            _, outputs = ready(obs, told, noise)
            found = agent.behaviour(trials, torch.from_numpy(outputs.copy())[:, None])
            torch.testing.assert_close(
                found.logits[:, 0].log_softmax(-1), expected.logits.log_softmax(-1),
                atol=1e-5, rtol=0,
            )  # fmt: skip
            rewards = torch.from_numpy(rng.standard_normal((2, 3)).astype(np.float32))


def test_pixels_stay_where_other_numbers_are_normalised():
    config = catalogue.default("maml-trpo")
    config = replace(config, normalisation=replace(config.normalisation, observations=True))
    before = Normaliser.before_anything(pictured(), config, CPU)
    samples = 5.0 + 3.0 * torch.rand(1, 40, 1, 63)
    after = before.after({"obs": stats_of(samples, torch.ones(1, 40, 1, dtype=torch.bool))})
    found, numbers = after.obs(samples), after.numbers()
    torch.testing.assert_close(found[..., :60], samples[..., :60])
    torch.testing.assert_close(found[..., 60:].mean(1), torch.zeros(1, 1, 3), atol=1e-5, rtol=0)
    assert numbers is not None
    np.testing.assert_allclose(numbers(samples.numpy()), found.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["maml-trpo", "reptile-ppo", "cavia-trpo"])
def test_an_exported_policy_acts_the_same_behind_convolutions(name):
    probe = probes.Probe(probes.PatchInImage)
    config = catalogue.default(name)
    agent: Any = catalogue.build(probe.spec, config, np.random.default_rng(0), CPU)
    state = agent.begin()
    ppo = export(agent, state, 0, TaskVecEnv(probe, {"good": 0.0}))
    obs = torch.rand(1, 7, probe.spec.obs_dim)
    there: Any = ppo.policy.get_distribution(obs[0]).distribution
    expected = torch.log_softmax(agent.policy(state.params, obs)[0][0], -1)
    torch.testing.assert_close(there.logits, expected)
    if name == "reptile-ppo":
        values = ppo.policy.predict_values(obs[0])[:, 0]
        torch.testing.assert_close(values, agent.value(state.params, obs)[0])


def test_an_environment_that_shows_the_image_itself_is_refused_by_sb3():
    agent: Any = catalogue.build(
        pictured(), catalogue.default("maml-trpo"), np.random.default_rng(0), CPU
    )

    class Shown:
        observation_space, action_space = Box(0, 255, (5, 6, 2), np.uint8), Discrete(3)

    with pytest.raises(UserError, match=r"begin with the pixels(.|\n)*TaskVecEnv"):
        export(agent, agent.begin(), 0, Shown())  # pyright: ignore[reportArgumentType]
