"""Published adaptation curves and computed optima, drawn beside ours."""

from __future__ import annotations

from metarl.config.settings import AnyConfig, Config
from metarl.runs.published import Curve, Published

MAML_2017 = "Finn, Abbeel and Levine 2017 (arXiv:1703.03400), the paper's raw data"

PUBLISHED = {
    "half-cheetah-vel:maml2017": Published(
        source=MAML_2017,
        horizon=200,
        curves={
            "MAML": Curve((-129.5, -78.6, -66.6, -60.8), (8.4, 5.0, 4.6, 4.4)),
            "jointly pretrained": Curve((-158.0, -135.4, -128.5, -133.6)),
            "random initialisation": Curve((-254.8, -254.3, -246.8, -230.8)),
        },
        oracle=Curve((-54.5,), (3.5,)),
    ),
    "half-cheetah-dir:maml2017": Published(
        source=MAML_2017,
        horizon=200,
        curves={"MAML": Curve((-50.7, 293.2, 313.5, 315.7))},
        oracle=Curve((442.7,)),
    ),
    "ant-vel:maml2017": Published(
        source=MAML_2017,
        horizon=200,
        curves={"MAML": Curve((30.6, 96.7, 100.1, 101.4))},
        oracle=Curve((107.9,)),
    ),
    "ant-dir:maml2017": Published(
        source=MAML_2017,
        horizon=200,
        curves={"MAML": Curve((8.7, 499.2))},
        oracle=Curve((524.8,)),
    ),
    "point-goal": Published(
        source=MAML_2017,
        horizon=100,
        curves={
            "MAML": Curve((-40.4, -11.7, -3.3, -3.2)),
            "random initialisation": Curve((-82.7,)),
        },
        oracle=Curve((-2.3,)),
    ),
    "grid-navigation": Published(
        source="the Bayes-optimal policy of four episodes (scripts/array_optima.py)",
        horizon=15,
        curves={"Bayes-optimal": Curve((4.0, 11.0714, 11.0714, 11.0714))},
        oracle=Curve((11.0714,)),
        origin="computed",
    ),
    "wind": Published(
        source="the Bayes-optimal policy, which loses nothing (scripts/array_optima.py)",
        horizon=75,
        curves={"Bayes-optimal": Curve((62.19,))},
        origin="computed",
    ),
    "sparse-point": Published(
        source="a sweep of the half circle, and told the goal (scripts/array_optima.py)",
        horizon=100,
        curves={"sweep": Curve((74.11, 93.38))},
        oracle=Curve((93.38,)),
        origin="computed",
    ),
    "t-maze:passive": Published(
        source="best returns with and without a memory (scripts/array_optima.py)",
        horizon=51,
        curves={"best without memory": Curve((0.5,))},
        oracle=Curve((1.0,)),
        origin="computed",
    ),
    "t-maze:active": Published(
        source="best returns with and without a memory (scripts/array_optima.py)",
        horizon=53,
        curves={"best without memory": Curve((0.5,))},
        oracle=Curve((1.0,)),
        origin="computed",
    ),
    "key-to-door": Published(
        source="best returns with and without a memory (scripts/array_optima.py)",
        horizon=65,
        curves={"best without memory": Curve((3.5,))},
        oracle=Curve((4.0,)),
        origin="computed",
    ),
    "tabular-mdp": Published(
        source="learners that know the prior, and who is told the MDP (scripts/array_optima.py)",
        horizon=10,
        curves={
            "posterior greedy": Curve(
                (10.01, 12.22, 13.62, 14.58, 15.40, 16.10, 16.46, 16.89, 17.25, 17.51)
            ),
            "PSRL": Curve((9.97, 10.98, 11.75, 12.53, 13.28, 13.94, 14.64, 15.07, 15.60, 16.04)),
        },
        oracle=Curve((21.83,)),
        origin="computed",
    ),
}
"""Results by task distribution; all agents trained on one are compared with them."""


def published(config: AnyConfig) -> Published | None:
    """Returns the results to compare a run with, if any for its tasks and horizon."""
    if not isinstance(config, Config):
        return None
    figures = PUBLISHED.get(config.env.name)
    return figures if figures and figures.horizon == config.env.horizon else None
