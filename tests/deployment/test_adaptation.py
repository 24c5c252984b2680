"""Adaptation for deployment is that of evaluation, for every agent of the catalogue."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from catalogue_rows import every_rule
from saved_runs import EPISODES, OneTask, saved

import metarl
from metarl import keys
from metarl.config.options import EvaluateOptions
from metarl.envs.task_conditioned import TaskConditioned
from metarl.loop.evaluation import evaluate
from metarl.sampling.rounds import adaptation_rounds, greedy_rounds
from metarl.sampling.sampler import Sampler
from metarl.types import Workers

K, STEPS, SEED = 3, 2, 5
QUICK = {"maml-trpo", "cavia-trpo", "reptile-ppo", "rl2", "varibad", "oracle-trpo"}
AGENTS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in every_rule("episodes")
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def of(name: str):
        path = folder / name
        return path if path.exists() else saved(path, name)

    return of


def play(policy, env) -> list:
    """A whole episode of likeliest actions, by the lines of the guide."""
    obs, _ = env.reset(seed=0)
    policy.start()
    ended, actions = False, []
    while not ended:
        actions.append(policy.act(obs))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
        policy.observe(reward, ended)
    return actions


def evaluated(loaded, tasks, episodes, seed=SEED):
    """The rounds of an evaluation, its likeliest actions after the last step, and the state."""
    base, spec = loaded.base, loaded.spec
    seen = TaskConditioned(base) if loaded.facts["agent"] == "oracle-trpo" else base
    env, other, mode = (Sampler(seen, len(tasks), n, Workers(0)) for n in (episodes, episodes, 1))
    key = (seed, keys.Purpose.EVALUATION)
    state, rounds = adaptation_rounds(
        loaded.agent, env, spec, tasks, episodes, STEPS, key, loaded.device
    )
    _, shown = greedy_rounds(
        loaded.agent, other, mode, spec, tasks, episodes, 1, STEPS, key, (seed, keys.Phase.MODE, 0),
        loaded.device,
    )  # fmt: skip
    return rounds[:-1], shown[-1], state


@pytest.mark.parametrize("name", AGENTS)
def test_it_is_that_of_evaluation(name, runs, tmp_path):
    """The same episodes, the same parameters and memory to the bit, the same actions, also when the
    policy was saved and loaded again; and on one environment, episode after episode."""
    loaded = metarl.load(runs(name))
    recurrent, tasks = loaded.one_by_one, loaded.sample_tasks(K, SEED)
    rounds, shown, state = evaluated(loaded, tasks, 1 if recurrent else EPISODES)
    asked = {"episodes": STEPS if recurrent else EPISODES, "steps": 1 if recurrent else STEPS}
    adapted = loaded.adapt(tasks, **asked, seed=SEED)
    assert len(adapted) == K
    for found, expected in zip(adapted[0]._adapted.supports, rounds, strict=True):
        assert all(map(torch.equal, found[:8], expected[:8]))
    same_state(adapted[0]._adapted.state, state, exactly=True)

    alone = loaded.adapt(OneTask(loaded.base, tasks[0]), **asked, seed=SEED, task=tasks[0])
    first, expected = alone._adapted.supports[0], rounds[0]
    steps = first.obs.shape[1]
    assert torch.equal(first.actions, expected.actions[:1, :steps])
    assert torch.equal(first.rewards, expected.rewards[:1, :steps])
    same_state(alone._adapted.state, state, exactly=False)

    folder = adapted[0].save(tmp_path / "policy")
    mode = shown.actions[0, :, 0].clamp(-1, 1).numpy()[: int(shown.mask[0].sum())]
    for policy in (adapted[0], alone, metarl.load_policy(folder)):
        actions = play(policy, OneTask(loaded.base, tasks[0]))
        np.testing.assert_allclose(np.array(actions), mode, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("cavia-trpo", {"std": "state"}),
        ("reptile-ppo", {"scale_to_box": True}),
        ("rl2", {}),
        ("varibad", {"scale_to_box": True}),
        ("rl2", {"inner": {"embeddings": (4, 3, 2), "head": (5,)}}),
        ("rl2", {"inner": {"cell": "transformer", "size": 8, "heads": 2}}),
    ],
)
def test_a_saved_policy_keeps_every_setting(name, policy, tmp_path):
    """Statistics of observations, a deviation of each state, units of the box: the likeliest
    actions are those of evaluation, before and after saving."""
    loaded = metarl.load(saved(tmp_path / "run", name, normalised=True, **policy))
    tasks, count = loaded.sample_tasks(K, SEED), 1 if loaded.one_by_one else EPISODES
    seen, agent = loaded.adapt(tasks, 2, 1)[0]._adapted.supports[0], loaded.agent
    if name == "varibad":  # beliefs are normalised too
        beliefs, _ = agent.encoded(seen, None)
        seen = seen._replace(obs=torch.cat([seen.obs, beliefs], -1))
    agent.normaliser = agent.normaliser.after(agent.normaliser.statistics(seen))
    _, shown, _ = evaluated(loaded, tasks, count)
    rounds = {"episodes": STEPS, "steps": 1} if loaded.one_by_one else {"episodes": EPISODES}
    adapted = loaded.adapt(tasks, **{"steps": STEPS, **rounds}, seed=SEED)[0]
    mode = shown.actions[0, :, 0].clamp(-1, 1).numpy()[: int(shown.mask[0].sum())]
    for one in (adapted, metarl.load_policy(adapted.save(tmp_path / "policy"))):
        assert one.acting.normal is not None
        actions = play(one, OneTask(loaded.base, tasks[0]))
        np.testing.assert_allclose(np.array(actions), mode, rtol=0, atol=2e-6)


def same_state(found, expected, exactly: bool):
    """Compares parameters, or memories, of the first task."""

    def of(state):
        if hasattr(state, "params"):
            return dict(state.params)
        if not hasattr(state, "pasts"):
            return {"memory": state.memory[:, :1]}
        past = state.pasts[-1]
        return {str(i): x[:, :1] for i, x in enumerate((*past.memory, past.before))}

    ours, theirs = of(found), of(expected)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        y = theirs[name]
        if exactly:
            assert torch.equal(x, y), name
        else:
            y = y[:1] if y.shape != x.shape else y
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maml-trpo", "promp", "reptile-ppo", "rl2", "oracle-trpo"])
def test_recorded_episodes_adapt_as_played_ones(name, runs):
    """Those of another adaptation, as a user would have recorded them."""
    loaded = metarl.load(runs(name))
    (task,) = loaded.sample_tasks(1)
    steps = {} if loaded.one_by_one else {"steps": 2}
    played = loaded.adapt(task, episodes=2, **(steps or {"steps": 1}))
    dim = loaded.base.spec.obs_dim
    recording = [
        episode for support in played._adapted.supports for episode in as_recorded(support, dim)
    ]
    found = loaded.adapt(recording, **steps, task=task)
    same_state(found._adapted.state, played._adapted.state, exactly=False)
    as_dicts = [episode._asdict() for episode in recording]
    again = loaded.adapt(as_dicts, **steps, task=task)
    same_state(again._adapted.state, found._adapted.state, exactly=True)
    moved = [one._replace(rewards=one.rewards[::-1] * 2) for one in recording]
    other = loaded.adapt(moved, **steps, task=task)
    if name != "oracle-trpo":
        with pytest.raises(AssertionError):
            same_state(other._adapted.state, found._adapted.state, exactly=False)


def as_recorded(support, dim: int) -> list[metarl.Episode]:
    found = []
    for e, length in enumerate(support.mask[0].sum(0).tolist()):
        obs = torch.cat([support.obs[0, :length, e], support.final_obs[0, e][None]])[:, :dim]
        found.append(
            metarl.Episode(
                obs.numpy(),
                support.actions[0, :length, e].numpy(),
                support.rewards[0, :length, e].numpy(),
                bool(support.terminated[0, :length, e].any()),
            )
        )
    return found


@pytest.mark.parametrize("name", ["rl2", "rl2-sac", "varibad"])
def test_a_memory_goes_on_from_episode_to_episode(name, runs):
    """Acting after two episodes of one trial is acting after adaptation to both."""
    loaded = metarl.load(runs(name))
    (task,) = loaded.sample_tasks(1)
    one, two = (loaded.adapt(task, episodes=n) for n in (1, 2))
    second = two._adapted.supports[1]
    one.start()
    length = int(second.mask.sum())
    for t in range(length):  # it is told what was done and paid in the second episode
        one.act(second.obs[0, t, 0].numpy())
        one._ready.actions = second.actions[:, t].numpy()
        last = second.final_obs[0, 0].numpy() if t == length - 1 else None
        one.observe(float(second.rewards[0, t, 0]), ended=t == length - 1, obs=last)
    one.start(remember=True)
    two.start()
    obs = np.array([0.1, -0.2], np.float32)
    expected = two.act(obs)
    np.testing.assert_allclose(one.act(obs), expected, atol=1e-6)
    one.start()  # back to what adaptation remembered
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(one.act(obs), expected, atol=1e-6)


def test_returns_are_those_of_the_command(runs):
    """metarl evaluate and agent.adapt play the same episodes of the same tasks."""
    run = runs("maml-trpo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluate(
            EvaluateOptions(
                run_dir=run, tasks=K, steps=2, episodes=EPISODES, seed=3, device="cpu", workers=0
            )
        )
    found = json.loads((run / "evaluation" / "adaptation.json").read_text())
    loaded = metarl.load(run)
    tasks = loaded.sample_tasks(K, seed=3)
    for k, policy in enumerate(loaded.adapt(tasks, episodes=EPISODES, steps=2, seed=3)):
        assert np.array(policy.support_returns).tolist() == found["returns"][k][:2]
