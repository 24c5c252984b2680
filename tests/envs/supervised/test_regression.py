"""Sinusoids and polynomials: closed forms, moments, and splits that never meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.splits import held_out
from metarl.envs.supervised.regression import Polynomial, Sinusoid


def polynomial(degree: int) -> Polynomial:
    return Polynomial(FewShotEnvConfig(f"polynomial:{degree}"), str(degree))


SINUSOID = Sinusoid(FewShotEnvConfig("sinusoid"), "")
CURVES = [SINUSOID, *map(polynomial, (2, 3, 5))]
curves = pytest.mark.parametrize("tasks", CURVES, ids=lambda tasks: tasks.spec.name)


def within(numbers, low, high):
    """Numbers of [low, high] as shares of it."""
    return (np.array(numbers) - low) / (high - low)


def test_a_sinusoid_is_amplitude_times_sine_of_x_minus_phase():
    """As in the paper's code: the phase is where it rises through zero."""
    task = {"amplitude": 3.0, "phase": 0.7}
    found = SINUSOID.curve(task, np.array([0.7, 0.7 + np.pi / 2, 0.7 + np.pi, 0.0]))
    np.testing.assert_allclose(found, [0.0, 3.0, 0.0, -3.0 * np.sin(0.7)], atol=1e-12)


def test_sinusoids_are_distributed_as_published(rng):
    drawn = SINUSOID.sample(20_000, rng)
    amplitudes = within([task["amplitude"] for task in drawn], 0.1, 5.0)
    phases = within([task["phase"] for task in drawn], 0.0, np.pi)
    assert np.abs(np.corrcoef(amplitudes, phases)[0, 1]) < 0.03
    support, query = SINUSOID.draw(drawn[:2000], 10, 5, rng)
    xs = within(torch.cat([support.inputs, query.inputs], 1).numpy().ravel(), -5.0, 5.0)
    for uniform in (amplitudes, phases, xs):
        assert uniform.min() >= 0
        assert uniform.max() <= 1
        for power in (1, 2, 3):  # a uniform number's moments are 1 / (power + 1)
            tolerance = 5 / np.sqrt(len(uniform))
            assert (uniform**power).mean() == pytest.approx(1 / (power + 1), abs=tolerance)


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_a_polynomials_mean_square_is_its_coefficients(degree, rng):
    """The terms are orthonormal; Gauss and Legendre's quadrature is exact here."""
    tasks = polynomial(degree)
    points, weights = leggauss(degree + 1)
    for task in tasks.sample(5, rng):
        mean_square = (weights / 2 * tasks.curve(task, points) ** 2).sum()
        assert mean_square == pytest.approx(np.square(task["coefficients"]).sum())


def test_a_polynomial_of_known_coefficients():
    """P_0 = 1, P_1 = x, P_2 = (3 x^2 - 1) / 2, with factors 1, sqrt(3), sqrt(5)."""
    xs = np.array([-1.0, 0.0, 0.5])
    found = polynomial(2).curve({"coefficients": [2.0, 1.0, 4.0]}, xs)
    expected = 2 + np.sqrt(3) * xs + 4 * np.sqrt(5) * (3 * xs**2 - 1) / 2
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_polynomials_have_mean_zero_and_variance_one(degree, rng):
    tasks = polynomial(degree)
    drawn = tasks.sample(20_000, rng)
    coefficients = np.array([task["coefficients"] for task in drawn])
    np.testing.assert_allclose(coefficients.var(0) * (degree + 1), np.ones(degree + 1), atol=0.04)
    ys = tasks.draw(drawn, 10, 1, rng)[0].targets
    assert ys.mean().item() == pytest.approx(0.0, abs=0.05)
    assert ys.var().item() == pytest.approx(1.0, abs=0.05)


@curves
def test_examples_are_points_of_their_own_tasks_curve(tasks, rng):
    drawn = tasks.sample(4, rng)
    support, query = tasks.draw(drawn, 6, 3, rng)
    for count, (inputs, targets) in ((6, support), (3, query)):
        assert inputs.shape == targets.shape == (4, count, 1)
        assert inputs.dtype == targets.dtype == torch.float32
        for k, task in enumerate(drawn):
            truth = tasks.curve(task, inputs[k].double().numpy())
            np.testing.assert_allclose(targets[k].numpy(), truth, rtol=1e-5, atol=1e-6)
    low, high = tasks.interval
    xs = torch.cat([support.inputs, query.inputs], 1)[..., 0]
    assert low <= xs.min() < xs.max() <= high
    assert all(len(set(row)) == 9 for row in xs.tolist()), "no example twice"


@given(seed=st.integers(0, 2**32 - 1), num=st.integers(1, 200))
def test_the_splits_have_no_task_in_common(seed, num):
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        amplitudes = [task["amplitude"] for task in SINUSOID.sample(num, rng, split)]
        assert (held_out(within(amplitudes, 0.1, 5.0)) == (split == "test")).all()
        tasks = polynomial(3)
        last = [task["coefficients"][-1] for task in tasks.sample(num, rng, split)]
        shares = within(last, -tasks.reach, tasks.reach)
        assert (held_out(shares) == (split == "test")).all()


@curves
def test_every_seed_can_be_repeated(tasks):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        chosen = tasks.sample(3, rng)
        return chosen, tasks.draw(chosen, 2, 2, rng)

    (once, (support, _)), (again, (same, _)), (_, (other, _)) = drawn(5), drawn(5), drawn(6)
    assert once == again
    assert torch.equal(support.inputs, same.inputs)
    assert not torch.equal(support.inputs, other.inputs)


def test_tasks_are_described():
    assert SINUSOID.describe({"amplitude": 3.0, "phase": 0.7}) == "3.00 sin(x - 0.70)"
    assert CURVES[1].describe({"coefficients": [0.5, -1.0, 0.0]}) == "+0.50 -1.00 +0.00"
