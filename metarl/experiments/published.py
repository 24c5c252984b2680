"""Published adaptation curves, drawn beside ours."""

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
}
"""Results by task distribution; all agents trained on one are compared with them."""


def published(config: AnyConfig) -> Published | None:
    """Returns the results to compare a run with, if any for its tasks and horizon."""
    if not isinstance(config, Config):
        return None
    figures = PUBLISHED.get(config.env.name)
    return figures if figures and figures.horizon == config.env.horizon else None
