"""The agents with PPO outside: their meta-gradients, what is added to them, and the updates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium.spaces import Box, Discrete
from torch.func import grad, vmap

from metarl.agents import catalogue
from metarl.agents.batch import Batch, CollectedBatch
from metarl.agents.derivatives.autograd import (
    Autograd,
    SurrogateObjective,
    SurrogateParts,
    outcome_credit,
)
from metarl.agents.derivatives.by_hand import ByHand
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.ppo import Ppo, PpoConfig
from metarl.agents.policy_gradient import MetaBatch, PolicyGradientAgent
from metarl.config.settings import AgentConfig, PolicyConfig
from metarl.equations.adam import adam_start
from metarl.equations.distributions import each
from metarl.equations.losses import clipped_gain
from metarl.equations.trust_region import ravel, surrogate_gain, unravel
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec, Params, Trajectories

LR, STEPS_OF_BATCH = 0.3, 8
TASKS, STEPS, EPISODES, OBS = 4, 12, 5, 3
CPU = torch.device("cpu")
INNER = {
    "score": (SgdConfig(lr=LR), False),
    "ratio": (SgdConfig(lr=LR), True),
    "dice": (SgdConfig(lr=LR, estimator="dice"), False),
}
losses = pytest.mark.parametrize("loss", list(INNER))


class Objective:
    """A surrogate objective, and the outer rule that makes a loss of its parts."""

    def __init__(self, data: MetaBatch, config: PpoConfig):
        self.data, self.rule = data, Ppo(config)
        self.surrogate = data.surrogate(config.clip)

    def gradient(self, meta: Params) -> tuple[Params, SurrogateParts]:
        return self.surrogate.gradient(meta, self.rule.loss)

    def evaluate(self, meta: Params) -> SurrogateParts:
        return self.surrogate.evaluate(meta)

    def loss(self, meta: Params) -> float:
        return float(self.rule.loss(self.evaluate(meta)))


def build(problem: Any, loss: str, steps: int = 1, inner: Any = None, **outer):
    """An objective whose batches were collected at problem.params, adapted step by step."""
    config, ratio = INNER[loss]
    config = replace(config, steps=steps, **(inner or {}))
    steps_of = Autograd(problem.rule(config), problem.loss(config.estimator, ratio))
    params, rounds = problem.policy.begin(problem.params), []
    problem.generator.manual_seed(7)
    for index in range(steps + 1):
        batch = problem.batch()
        behaviour = problem.policy(params, batch.obs)
        wide = _wide(behaviour, batch.weights.shape)
        rounds.append(CollectedBatch(batch, wide, STEPS_OF_BATCH))
        if index < steps:
            params = steps_of.step(params, rounds[-1], index)
    settings = PpoConfig(inner_ratio=ratio, **outer)
    data = MetaBatch(problem.policy, steps_of, rounds[:-1], rounds[-1], {})
    return Objective(data, settings)


def batches(objective: Objective) -> tuple[list[Batch], Batch]:
    """Returns the batches of supports and query, without who collected them."""
    return [x.batch for x in objective.data.supports], objective.data.query.batch


def _wide(distribution, shape):
    return each(lambda x: x.detach().expand(*shape, x.shape[-1]), distribution)


def moved(problem: Any, size: float = 0.05):
    tangent = problem.tangent()
    return {name: x + size * tangent[name] for name, x in problem.params.items()}


@pytest.mark.parametrize("steps", [1, 2])
def test_the_first_epochs_gradient_is_trpos(problem, steps):
    """By autograd here, by hand-derived products there."""
    objective = build(problem, "score", steps)
    supports, query = batches(objective)
    other = problem.objective(replace(INNER["score"][0], steps=steps), supports, query)
    gradient, reading = objective.gradient(problem.params)
    torch.testing.assert_close({n: -x for n, x in gradient.items()}, other.gradient)
    assert float(reading.gain) == pytest.approx(float(other.gain), abs=1e-12)
    assert float(reading.kl) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    "inner",
    [
        {"adapted": "head"},
        {"adapted": "context"},
        {"learn_lr": True},
        {"adapted": "context", "learn_lr": True},
    ],
    ids=["head", "context", "learned", "context learned"],
)
def test_so_it_is_where_steps_move_less_or_learn_how_far(make_problem, inner, first_order):
    """ANIL, CAVIA and Meta-SGD with PPO outside: the same meta-parameters, the same gradient."""
    problem = make_problem("box", "tanh")
    policy = problem.policy
    if inner.get("adapted") == "context":
        spec = EnvSpec("problem", Box(-1, 1, policy.sizes[:1]), Box(-1, 1, policy.sizes[-1:]), 10)
        problem.policy = MlpPolicy(spec, replace(policy.config, context=3))
        wider = problem.normal(problem.policy.sizes[1], 3)
        first = torch.cat([problem.params["layer0.weight"], 0.1 * wider], 1)
        problem.params["layer0.weight"] = first
    config = SgdConfig(LR, 2, first_order, **inner)
    sizes = problem.rule(config).init(problem.params, np.random.default_rng(0))
    problem.params |= {n: x + 0.1 * problem.normal(*x.shape) for n, x in sizes.items()}
    objective = build(problem, "score", 2, {"first_order": first_order, **inner})
    supports, query = batches(objective)
    other = problem.objective(config, supports, query)
    gradient, _ = objective.gradient(problem.params)
    torch.testing.assert_close({n: -x for n, x in gradient.items()}, other.gradient)
    assert all(bool(x.any()) for x in gradient.values())


@losses
@pytest.mark.parametrize("space", ["box", "discrete"])
def test_later_gradients_are_finite_differences(make_problem, space, loss):
    """The whole loss, away from the data's own parameters, through two inner steps."""
    problem = make_problem(space, "tanh")
    objective = build(problem, loss, 2, inner_kl=0.3, exploration=True, entropy=0.2, clip=0.4)
    meta = moved(problem)
    gradient, reading = objective.gradient(meta)
    torch.testing.assert_close(reading, objective.evaluate(meta))
    assert float(reading.kl) > 1e-3
    start, slope = ravel(meta), ravel(gradient)
    for _ in range(3):
        direction = ravel(problem.tangent())
        direction /= direction.norm()
        up, down = (objective.loss(unravel(start + e * direction, meta)) for e in (1e-5, -1e-5))
        assert float(slope.dot(direction)) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("loss", ["score", "ratio"])
def test_to_first_order_the_step_is_a_constant_and_its_policy_is_not(problem, loss, monkeypatch):
    """As through theta' = theta + constant: penalty and credit are of theta."""
    monkeypatch.setattr("metarl.agents.batch.PARTS", 1)
    terms = {"inner_kl": 0.3, "exploration": True, "clip": 0.4}
    objective = build(problem, loss, inner={"first_order": True}, **terms)
    meta = moved(problem)
    gradient, _ = objective.gradient(meta)
    (support,), steps = objective.data.supports, objective.data.inner
    after = steps.step(meta, support, 0)

    def shifted(params, support, index, followed):
        del index, followed
        here = {name: x.expand_as(after[name]) for name, x in params.items()}
        there = {name: x + (after[name] - meta[name]).detach() for name, x in here.items()}
        return there, problem.policy(here, support.obs)

    steps.follow = shifted
    expected, _ = objective.gradient(meta)
    torch.testing.assert_close(gradient, expected)


def test_dices_gradient_is_that_of_whole_histories_reweighted(problem):
    """At the data's own parameters a box is the ratio of the probabilities of all that was done."""
    objective = build(problem, "dice")
    (support,), query = objective.data.supports, objective.data.query
    params = {name: x.clone().requires_grad_() for name, x in problem.params.items()}
    gains = []
    for task in range(len(query.obs)):
        obs, actions, advantages, weights, _ = (
            x[task].unflatten(0, (STEPS_OF_BATCH, -1)) for x in support.batch
        )
        before = each(
            lambda x, k=task: x[k].unflatten(0, (STEPS_OF_BATCH, -1)), support.behaviour
        ).log_probs(actions)
        change = problem.policy(params, obs).log_probs(actions) - before
        change = torch.where(weights > 0, change, 0.0)
        ratio = change.cumsum(0).exp()
        previous = torch.cat([torch.ones_like(ratio[:1]), ratio[:-1]])
        inner = -(weights * advantages * (ratio - previous)).sum()
        slopes = torch.autograd.grad(inner, list(params.values()), create_graph=True)
        adapted = {n: x - LR * g for (n, x), g in zip(params.items(), slopes, strict=True)}
        obs, actions, advantages, weights, _ = (x[task] for x in query.batch)
        new, old = problem.policy(adapted, obs), each(lambda x, k=task: x[k], query.behaviour)
        gains.append(surrogate_gain(new, old, actions, advantages, weights))
    expected = torch.autograd.grad(torch.stack(gains).mean(), list(params.values()))
    gradient, _ = objective.gradient(problem.params)
    torch.testing.assert_close([-x for x in gradient.values()], list(expected))
    plain, _ = build(problem, "score").gradient(problem.params)
    assert not torch.allclose(ravel(plain), ravel(gradient), rtol=1e-2)


def test_an_agents_lambda_reaches_its_loss():
    """0 is the loss by importance ratio: the same agent but for rounding; 1 is another."""
    found = []
    for loss, settings in (("ratio", {}), ("dice", {"dice_lambda": 0.0}), ("dice", {})):
        agent = agent_with(loss, inner=settings)
        update(agent)
        found.append(ravel(agent.meta))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4)
    assert not torch.allclose(found[2], found[0], rtol=0, atol=1e-3)


def test_promps_meta_gradient_is_the_scores_and_one_term(problem):
    """At the collecting policy the adapted policies agree, and so do the meta-gradients but for
    lr E[A s (s . g)]: s the score of a support's sample, g the gradient after adaptation."""
    by_ratio, by_score = build(problem, "ratio"), build(problem, "score")
    support = by_score.data.supports[0]
    adapted = [x.data.inner.step(problem.params, support, 0) for x in (by_ratio, by_score)]
    torch.testing.assert_close(*adapted)
    after = {name: x.clone().requires_grad_() for name, x in adapted[0].items()}
    query = by_score.data.query.batch
    new = problem.policy(after, query.obs)
    gain = surrogate_gain(new, by_score.data.query.behaviour, *query[1:4]).sum()
    slopes = dict(zip(after, torch.autograd.grad(gain, list(after.values())), strict=True))

    def log_prob(params, obs, action):
        return problem.policy(params, obs[None]).log_probs(action[None])[0]

    expected = torch.zeros_like(ravel(problem.params))
    score = vmap(grad(log_prob), in_dims=(None, 0, 0))
    for task in range(len(query.obs)):
        obs, actions, advantages, weights, _ = (x[task] for x in support.batch)
        scores = torch.cat([x.flatten(1) for x in score(problem.params, obs, actions).values()], 1)
        along = scores @ ravel({name: x[task] for name, x in slopes.items()})
        expected += LR * (weights * advantages * along) @ scores / len(query.obs)
    found = [ravel(x.gradient(problem.params)[0]) for x in (by_score, by_ratio)]
    torch.testing.assert_close(found[0] - found[1], expected)
    assert float(expected.norm()) > 1e-3


def test_to_first_order_all_inner_losses_agree(problem):
    """At the collecting policy they have one gradient, and no Hessian is asked for."""
    found = [
        build(problem, loss, 2, {"first_order": True}).gradient(problem.params)[0] for loss in INNER
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    exact, _ = build(problem, "score", 2).gradient(problem.params)
    assert not torch.allclose(ravel(exact), ravel(found[0]), rtol=1e-2)


def test_the_inner_kl_weighs_the_supports_policies(make_problem):
    """Mean over two steps and three tasks of KL(old || new); without effect at the old policy."""
    problem = make_problem("box", "tanh")
    plain, weighed = (build(problem, "ratio", 2, inner_kl=x) for x in (0.0, 5.0))
    torch.testing.assert_close(
        plain.gradient(problem.params)[0], weighed.gradient(problem.params)[0]
    )
    meta = params = moved(problem)
    expected = 0.0
    for index, support in enumerate(weighed.data.supports):
        old, new = support.behaviour, problem.policy(params, support.obs)
        deviations = old[1].exp(), new[1].expand_as(old[1]).exp()
        normals = [
            torch.distributions.Normal(x[0], deviation)
            for x, deviation in zip((old, new), deviations, strict=True)
        ]
        kl = torch.distributions.kl_divergence(*normals).sum(-1)
        expected += float((support.batch.weights * kl).sum(1).mean()) / 2
        params = weighed.data.inner.step(params, support, index)
    reading = weighed.evaluate(meta)
    assert float(reading.inner_kl) == pytest.approx(expected)
    assert weighed.loss(meta) == pytest.approx(plain.loss(meta) + 5.0 * expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_exploration_term_credits_the_first_support(problem, steps):
    """As ProMP's code: a task's mean standard reward after adaptation times the mean
    log-probability of what was done before any."""
    without, added = (build(problem, "score", steps, exploration=x) for x in (False, True))
    params = {name: x.clone().requires_grad_() for name, x in problem.params.items()}
    support, query = added.data.supports[0].batch, added.data.query.batch
    log_probs = problem.policy(params, support.obs).log_probs(support.actions)
    played = [x[w > 0] for x, w in zip(query.rewards, query.weights, strict=True)]
    every = torch.cat(played)
    terms = []
    for task, rewards in enumerate(played):
        credit = ((rewards - every.mean()) / (every.std(correction=0) + 1e-8)).mean()
        terms.append(credit * log_probs[task][support.weights[task] > 0].mean())
    expected = torch.autograd.grad(torch.stack(terms).mean(), list(params.values()))
    a, b = (x.gradient(problem.params)[0] for x in (without, added))
    torch.testing.assert_close([a[name] - b[name] for name in a], list(expected))


def test_the_credit_by_hand():
    """Rewards 1, 3 | 5, 7 | 8 have mean 4.8 and variance 6.56; padding counts nowhere."""
    rewards = torch.tensor([[1.0, 3.0], [5.0, 7.0], [8.0, 0.0]], dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    unread = torch.zeros(0)
    credit = outcome_credit(Batch(unread, unread, unread, weights, rewards))
    expected = [(x - 4.8) / 6.56**0.5 for x in (2.0, 6.0, 8.0)]
    assert credit.squeeze(1).tolist() == pytest.approx(expected)


def test_the_loss_by_hand():
    """Gains count with a minus, penalties with a plus; the query's KL is a figure alone."""
    reading = SurrogateParts(*torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64))
    weighed = PpoConfig(exploration=True, entropy=0.1, inner_kl=0.01)
    assert float(Ppo(weighed).loss(reading)) == pytest.approx(-1.0 - 2.0 - 0.3 + 0.04)
    assert float(Ppo(PpoConfig()).loss(reading)) == -1.0


def test_the_clip_by_hand():
    """A ratio pays no further beyond 1.2 where A > 0, and costs no less below 0.8 where A < 0."""
    ratio = torch.tensor([1.5, 0.5, 1.1, 0.5], dtype=torch.float64)
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    weights = torch.full_like(ratio, 0.25)
    behaviour = torch.tensor([-1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    log_probs = (behaviour + ratio.log()).requires_grad_()
    gain, share = clipped_gain(log_probs, behaviour, advantages, weights, 0.2)
    assert gain.item() == pytest.approx((1.2 + 0.5 - 1.1 - 0.8) / 4)
    assert share.item() == 0.75
    slope = torch.autograd.grad(gain, log_probs)[0]
    assert slope.tolist() == pytest.approx([0.0, 0.5 / 4, -1.1 / 4, 0.0])


def test_without_inner_steps_it_is_ppo_on_all_tasks(problem):
    config = SgdConfig(LR, steps=0)
    steps = Autograd(problem.rule(config), problem.loss())
    batch = problem.batch()
    behaviour = _wide(problem.policy(problem.params, batch.obs), batch.weights.shape)
    query = CollectedBatch(batch, behaviour, STEPS_OF_BATCH)
    data = MetaBatch(problem.policy, steps, (), query, {})
    objective = Objective(data, PpoConfig(clip=0.1))
    meta = {name: x.requires_grad_() for name, x in moved(problem).items()}
    log_probs = problem.policy(meta, batch.obs).log_probs(batch.actions)
    ratio = (log_probs - behaviour.log_probs(batch.actions)).exp()
    gain = torch.minimum(ratio * batch.advantages, ratio.clamp(0.9, 1.1) * batch.advantages)
    loss = -(batch.weights * gain).sum() / len(batch.obs)
    expected = torch.autograd.grad(loss, list(meta.values()))
    torch.testing.assert_close(list(objective.gradient(meta)[0].values()), list(expected))


def test_a_few_tasks_at_a_time_are_all_at_once(problem, monkeypatch):
    objective = build(problem, "dice", 2, exploration=True, inner_kl=1.0)
    meta = moved(problem)
    whole = objective.gradient(meta)
    monkeypatch.setattr("metarl.agents.batch.CACHE_BYTES", 1)
    torch.testing.assert_close(objective.gradient(meta), whole)


SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3)}
SPECS = {
    kind: EnvSpec("problem", Box(-1, 1, (OBS,)), space, STEPS) for kind, space in SPACES.items()
}


def config_with(
    loss: str = "score", steps: int = 1, inner: dict[str, Any] | None = None, **outer
) -> AgentConfig:
    config, ratio = INNER[loss]
    outer = {"inner_ratio": ratio, **outer}
    return AgentConfig(
        name="maml-ppo",
        policy=PolicyConfig(hidden=(8,)),
        inner=SgdConfig(0.5, steps, estimator=config.estimator, **(inner or {})),
        outer=PpoConfig(**outer),
    )


def agent_with(
    loss: str = "score", kind: str = "box", steps: int = 1, seed: int = 0, **outer
) -> PolicyGradientAgent:
    config = config_with(loss, steps, **outer)
    return PolicyGradientAgent(SPECS[kind], config, np.random.default_rng(seed), CPU)


def played(agent: PolicyGradientAgent, state, seed: int) -> Trajectories:
    """Episodes of a task-dependent reward under the state's policy, some cut short."""
    g = torch.Generator().manual_seed(seed)
    shape = (TASKS, STEPS, EPISODES)
    obs = torch.randn(*shape, OBS, generator=g)
    noise = torch.randn(*shape, agent.noise[1], generator=g)
    actions, behaviour = agent.act(state, obs.flatten(1, 2), noise.flatten(1, 2))
    actions = actions.unflatten(1, shape[1:])
    goals = torch.linspace(-1, 1, TASKS).view(TASKS, 1, 1)
    rewards = -(actions[..., 0].float() - goals).abs()
    lengths = torch.randint(4, STEPS + 1, (TASKS, 1, EPISODES), generator=g)
    time = torch.arange(STEPS).view(1, STEPS, 1)
    mask, last = time < lengths, time == lengths - 1
    none = torch.zeros(TASKS, EPISODES, dtype=torch.int32)
    full = lengths == STEPS
    wide = _wide(behaviour, (TASKS, STEPS * EPISODES))
    timed = each(lambda x: x.unflatten(1, shape[1:]), wide)
    ends = (last & ~full, last & full)
    return Trajectories(obs, actions, rewards * mask, *ends, mask, obs[:, -1], none, timed)


def adapted(agent: PolicyGradientAgent, seed: int = 0):
    state = agent.begin()
    for index in range(agent.steps):
        state = agent.adapt(state, played(agent, state, seed + index))
    return state


def update(agent: PolicyGradientAgent, seed: int = 0):
    state = adapted(agent, seed)
    query = played(agent, state, seed + 99)
    return agent.meta_update(state, query, np.random.default_rng(0))


def stored(agent: PolicyGradientAgent) -> dict[str, bytes]:
    return {name: x.numpy().tobytes() for name, x in agent.state_dict().items()}


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_a_round_keeps_time_and_behaviour(kind):
    """The data that DiCE reads, [K, T, E] again, are those that were played."""
    agent = agent_with(kind=kind)
    data = played(agent, agent.begin(), 0)
    whole = agent.batch(data)
    timed = [x.unflatten(1, (whole.num_steps, -1)) for x in (whole.batch.actions, whole.obs)]
    torch.testing.assert_close(timed, [data.actions, data.obs])
    log_probs = whole.behaviour.log_probs(whole.batch.actions)
    here = agent.policy(agent.meta, data.obs)
    torch.testing.assert_close(
        log_probs.unflatten(1, (STEPS, EPISODES)), here.log_probs(data.actions)
    )


@losses
@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_it_acts_by_what_is_differentiated(loss, kind):
    """`adapt`'s parameters are the objective's, and those of the score-function step."""
    agent = agent_with(loss, kind, steps=2)
    before = stored(agent)
    state = adapted(agent)
    leaves = {name: x.clone().requires_grad_() for name, x in agent.meta.items()}
    followed = by_score = leaves
    inner = agent.inner
    assert isinstance(inner, Autograd)
    rule = ByHand(agent.rule, PolicyLoss(agent.spec, agent.policy, "score"))
    supports: Any = state.supports
    for index, support in enumerate(supports):
        followed, _ = inner.follow(followed, support, index, followed=True)
        by_score = rule.step(by_score, support.batch, index)
    torch.testing.assert_close(state.params, followed, atol=1e-6, rtol=0)
    torch.testing.assert_close(state.params, by_score, atol=1e-6, rtol=0)
    assert not any(x.requires_grad for x in state.params.values())
    assert stored(agent) == before


@losses
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_update_gains(loss, steps):
    adaptive = {"exploration": True, "inner_kl": 1e-3} if steps else {}
    agent = agent_with(loss, steps=steps, entropy=1e-3, **adaptive)
    before = stored(agent)
    metrics = update(agent)
    assert metrics["skipped"] == 0.0
    assert metrics["surrogate/after"] > metrics["surrogate/before"] + 1e-3
    assert 0.0 < metrics["kl"] < 0.05
    assert (metrics["inner_kl"] > 0.0) == (steps > 0)
    assert all(stored(agent)[name] != x for name, x in before.items())


def test_epochs_end_once_the_policies_have_moved_far():
    """As an agent with so many epochs, the first number that leads beyond the target."""
    found = [update(agent_with("ratio", lr=0.01, epochs=n))["kl"] for n in range(1, 6)]
    target = found[3] * 0.999
    enough = next(n for n, kl in enumerate(found, 1) if kl > target)
    assert 1 < enough <= 4
    stopped = agent_with("ratio", lr=0.01, epochs=8, target_kl=target)
    counted = agent_with("ratio", lr=0.01, epochs=enough)
    metrics, expected = update(stopped), update(counted)
    assert metrics == {**expected, "epochs": float(enough)}
    assert stored(stopped) == stored(counted)


@pytest.mark.parametrize(
    ("target", "kl", "inner_kl", "far"),
    [(0.1, 0.2, 0.0, True), (0.1, 0.0, 0.2, True), (0.1, 0.1, 0.1, False), (0.0, 9.0, 9.0, False)],
)
def test_the_policies_of_query_and_supports_have_one_target(target, kl, inner_kl, far):
    parts = SurrogateParts(*torch.tensor([1.0, 1.0, 1.0, inner_kl, kl, 1.0], dtype=torch.float64))
    assert Ppo(PpoConfig(target_kl=target)).too_far(parts) == far


@losses
def test_a_resumed_agent_is_the_uninterrupted_one(loss):
    """Through safetensors after the first update, bit for bit after the third."""
    whole, first, resumed = (agent_with(loss, seed=seed) for seed in (0, 0, 5))
    for seed in range(3):
        update(whole, seed)
    update(first, 0)
    resumed.load_state_dict(safetensors.torch.load(safetensors.torch.save(first.state_dict())))
    for seed in (1, 2):
        update(resumed, seed)
    assert stored(resumed) == stored(whole)
    assert float(whole.state_dict()["outer.count"]) == 3.0 * PpoConfig.epochs


def test_a_loss_that_is_not_finite_changes_nothing():
    agent = agent_with()
    update(agent)
    before = stored(agent)
    state = adapted(agent)
    query = played(agent, state, 3)
    query.rewards[1, 0, 0] = float("inf")
    metrics = agent.meta_update(state, query, np.random.default_rng(0))
    assert metrics["skipped"] == 1.0
    assert stored(agent) == before


@pytest.mark.parametrize("epochs", [1, 3])
def test_nor_does_an_epoch_that_leads_out_of_the_numbers(epochs):
    """The first step is finite and too long; the second, or the look at its end, tells."""
    agent = agent_with(lr=1e30, epochs=epochs)
    before = stored(agent)
    metrics = update(agent)
    assert metrics["skipped"] == 1.0
    assert metrics["kl"] == 0.0
    assert metrics["surrogate/after"] == metrics["surrogate/before"]
    assert stored(agent) == before


def test_nor_does_an_epoch_whose_kl_alone_is_not_finite(make_problem):
    """Even where the gradient is finite, and so is all that follows."""
    problem = make_problem("box", "tanh")

    class Beyond(SurrogateObjective):
        def gradient(self, meta, loss):
            gradient, reading = super().gradient(meta, loss)
            return gradient, reading._replace(kl=torch.tensor(float("inf")))

    class Data(MetaBatch):
        def surrogate(self, clip):
            return Beyond(self, clip)

    objective = build(problem, "score")
    start, rng = adam_start(problem.params), np.random.default_rng(0)
    meta, adam, metrics = objective.rule.step(problem.params, start, Data(*objective.data), rng)
    assert metrics["skipped"] == 1.0
    assert meta is problem.params
    assert adam is start


def test_two_inner_losses_at_once_are_refused():
    config = config_with("dice", inner_ratio=True)
    with pytest.raises(UserError, match=r"estimator: dice, or agent\.outer\.inner_ratio"):
        catalogue.build(SPECS["box"], config, np.random.default_rng(0), CPU)
