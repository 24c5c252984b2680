"""The encoder over whole trials and step by step; the decoder as one network over all inputs."""

from __future__ import annotations

import numpy as np
import torch

from metarl.networks.belief import Decoder, Encoder, Reads

TRIALS, STEPS, LATENT = 3, 9, 2
OBS, ACTION, REWARD = Reads(4, 6), Reads(3, 5), Reads(1, 2)


def encoder() -> tuple[Encoder, dict[str, torch.Tensor]]:
    made = Encoder(OBS, ACTION, REWARD, 7, LATENT)
    return made, made.init(np.random.default_rng(0))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def trial() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return normal(TRIALS, STEPS, 4), normal(TRIALS, STEPS, 3), normal(TRIALS, STEPS)


def test_step_by_step_is_the_whole_trial():
    made, params = encoder()
    obs, actions, rewards = parts = trial()
    start = normal(TRIALS, 7)
    whole = made.run(params, *parts, start)
    memory, found = start, []
    for t in range(STEPS):
        now = slice(t, t + 1)
        memory = made.run(params, obs[:, now], actions[:, now], rewards[:, now], memory)[:, 0]
        found.append(memory)
    torch.testing.assert_close(torch.stack(found, 1), whole, atol=1e-6, rtol=1e-5)
    chunks = made.run(params, *parts, start, chunk=4)
    torch.testing.assert_close(chunks, whole, atol=1e-6, rtol=1e-5)


def test_gradients_are_cut_where_a_chunk_begins():
    made, params = encoder()
    obs, actions, rewards = trial()
    rewards.requires_grad_()

    def reached(chunk: int) -> list[bool]:
        states = made.run(params, obs, actions, rewards, torch.zeros(TRIALS, 7), chunk)
        (by,) = torch.autograd.grad(states[:, -1].square().sum(), rewards)
        return by.any(0).tolist()

    assert reached(0) == [True] * 9
    assert reached(4) == [False] * 8 + [True]
    assert reached(7) == [False] * 7 + [True] * 2


def test_the_belief_of_no_step_is_standard_normal_at_first():
    made, params = encoder()
    assert not made.beliefs(params, torch.zeros(1, 7)).any()


def test_each_sample_predicts_the_steps_that_it_is_asked_for():
    """As one network over the sample and the embeddings of a step, for each of them alone."""
    made = Decoder(OBS, ACTION, LATENT, (8, 6), transitions=True)
    params = made.init(np.random.default_rng(0))
    obs, actions, _ = trial()
    reached, sample = obs.flip(1), normal(TRIALS, 5, LATENT)
    steps = torch.from_numpy(np.random.default_rng(1).integers(STEPS, size=(TRIALS, 5, 4)))
    rewards = made.rewards(params, sample, obs, reached, actions, steps)
    following = made.next_obs(params, sample, obs, actions, steps)
    assert (rewards.shape, following.shape) == ((TRIALS, 5, 4), (TRIALS, 5, 4, 4))

    def embedded(name: str, x: torch.Tensor) -> torch.Tensor:
        return made.embeddings(params, name, x)

    for n, m, d in np.ndindex(TRIALS, 5, 4):
        t = int(steps[n, m, d])
        seen, after, action = (
            embedded("obs", obs[n, t]), embedded("obs", reached[n, t]),
            embedded("action", actions[n, t]),
        )  # fmt: skip
        one = made.of_rewards(params, torch.cat([sample[n, m], after, action, seen])[None])
        torch.testing.assert_close(rewards[n, m, d], one[0, 0])
        one = made.of_obs(params, torch.cat([sample[n, m], seen, action])[None])
        torch.testing.assert_close(following[n, m, d], one[0])
