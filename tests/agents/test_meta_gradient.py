"""The meta-gradient and its curvature, against finite differences and textbook autograd.

The textbook route loops over tasks and differentiates twice through torch.autograd; the agent's
own route works on all tasks at once with kept derivatives. What inner steps there are besides
MAML's is in test_inner_steps.py.
"""

from __future__ import annotations

import pytest
import torch

from metarl.agents.inner.sgd import SgdConfig
from metarl.equations.trust_region import ravel, unravel

LR = 0.3


def build(problem, steps):
    config = SgdConfig(lr=LR, steps=steps)
    supports, query = [problem.batch() for _ in range(steps)], problem.batch()
    return problem.objective(config, supports, query), config, supports, query


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("space", ["box", "state", "discrete", "multidiscrete", "image"])
def test_meta_gradient_is_the_finite_difference(make_problem, space, steps):
    """Central differences of the gain along random directions, relative error under 1e-6.

    With tanh: across a relu's kink the adapted parameters jump, and differences with them.
    """
    problem = make_problem(space, "tanh")
    objective, *_ = build(problem, steps)
    start, gradient = ravel(problem.params), ravel(objective.gradient)
    epsilon = 1e-5
    for _ in range(3):
        direction = ravel(problem.tangent())
        direction /= direction.norm()
        up = objective.evaluate(unravel(start + epsilon * direction, problem.params))[0]
        down = objective.evaluate(unravel(start - epsilon * direction, problem.params))[0]
        slope = (up - down) / (2 * epsilon)
        assert float(gradient.dot(direction)) == pytest.approx(slope, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_batched_equals_a_loop_over_tasks_by_autograd(problem, textbook, steps):
    """Gain, gradient and Gauss-Newton product against the loop with double backward.

    Without a step it is joint training: TRPO's own gradient and Fisher product, meant over tasks.
    """
    objective, *learned_from = build(problem, steps)
    loop = textbook(problem, *learned_from)
    gain, _ = loop.evaluate(problem.params)
    assert float(objective.gain) == pytest.approx(gain, rel=1e-10, abs=1e-12)
    tangent = problem.tangent()
    gradient, product = loop.derivatives(problem.params, tangent)
    torch.testing.assert_close(objective.gradient, gradient)
    torch.testing.assert_close(objective.product(tangent), product)
    elsewhere = {name: x + 0.05 * tangent[name] for name, x in problem.params.items()}
    assert objective.evaluate(elsewhere) == pytest.approx(loop.evaluate(elsewhere))


def test_float32_agrees_with_the_loop_to_five_digits(problem):
    """The batched float32 meta-gradient, which training uses, against the float64 loop."""
    objective, _, supports, query = build(problem, 1)
    single = [
        x._replace(
            **{
                name: value.float()
                for name, value in x._asdict().items()
                if value.is_floating_point()
            }
        )
        for x in (*supports, query)
    ]
    params = {name: x.float() for name, x in problem.params.items()}
    other = problem.linearised(objective.data.inner, single[:-1], single[-1], params)
    exact, rounded = ravel(objective.gradient), ravel(other.gradient)
    assert float((exact - rounded).norm() / exact.norm()) < 1e-5
