"""Named, complete experiments, and what was published for them.

Settings of the 2017 experiments are those of the paper's own code (cbfinn/maml_rl: the cluster_*
scripts, and in the test_* scripts the run that was published); those of `promp` are
jonasrothfuss/ProMP's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from metarl.agents import catalogue as agents
from metarl.config import (
    AdvantageConfig,
    AgentConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    PolicyConfig,
    SamplingConfig,
    SgdConfig,
    TrialConfig,
    TrialPpoConfig,
    TrpoConfig,
)
from metarl.errors import UserError, nearest


class Preset(NamedTuple):
    summary: str
    config: Config


def _maml_trpo(
    lr: float = 0.1,
    extra_step_scale: float = 0.5,
    outer: TrpoConfig | None = None,
    policy: PolicyConfig | None = None,
) -> AgentConfig:
    """MAML-TRPO as the catalogue has it, but for what the experiments set differently."""
    return replace(
        agents.default("maml-trpo"),
        inner=SgdConfig(lr=lr, extra_step_scale=extra_step_scale),
        outer=outer or TrpoConfig(),
        policy=policy or PolicyConfig(),
    )


def _bandit_rl2(arms: int, pulls: int, tasks: int, entropy: float, iterations: int) -> Preset:
    """One trial of each task, an episode long, as in arXiv:1611.02779, section 3.1."""
    agent = replace(
        agents.default("rl2"),
        inner=TrialConfig("lstm", size=64, steps=0),
        outer=TrialPpoConfig(lr=3e-3, epochs=3, entropy=entropy),
        policy=PolicyConfig(hidden=()),
        advantages=AdvantageConfig(discount=1.0, gae_lambda=0.95),
    )
    return Preset(
        f"RL2 on Bernoulli bandits of {arms} arms, {pulls} pulls",
        Config(
            env=EnvConfig(f"bandit:{arms}", horizon=pulls),
            sampling=SamplingConfig(tasks=tasks, episodes=1),
            agent=agent,
            evaluation=EvaluationConfig(tasks=2000, steps=0, episodes=5),
            iterations=iterations,
        ),
    )


PRESETS = {
    "halfcheetah-vel-quick": Preset(
        "a minute on two cores: the 2017 benchmark, few tasks and iterations",
        Config(
            env=EnvConfig("half-cheetah-vel:maml2017", horizon=200),
            sampling=SamplingConfig(tasks=20, episodes=10, task_draw="stratified"),
            agent=_maml_trpo(),
            evaluation=EvaluationConfig(tasks=20, steps=3, episodes=10),
            iterations=50,
        ),
    ),
    "halfcheetah-vel-maml2017": Preset(
        "the MAML paper's goal velocities in [0, 2] m/s, as long as its published policy (an hour)",
        Config(
            env=EnvConfig("half-cheetah-vel:maml2017", horizon=200),
            # Goals evenly spread and twice the published 10 CG iterations: both lessen the noise
            # of a step. Half precision in the products, `auto` here, pays for the second.
            sampling=SamplingConfig(tasks=40, episodes=20, task_draw="stratified"),
            agent=_maml_trpo(outer=TrpoConfig(cg_iterations=20)),
            iterations=475,
        ),
    ),
    "halfcheetah-vel-promp": Preset(
        "goal velocities in [0, 3] m/s, as in ProMP's code",
        Config(
            env=EnvConfig("half-cheetah-vel:promp", horizon=100),
            sampling=SamplingConfig(tasks=40, episodes=20),
            agent=_maml_trpo(policy=PolicyConfig(hidden=(64, 64), activation="tanh")),
            iterations=1000,
        ),
    ),
    "halfcheetah-dir-maml2017": Preset(
        "the MAML paper's forward and backward running",
        Config(
            env=EnvConfig("half-cheetah-dir:maml2017", horizon=200),
            sampling=SamplingConfig(tasks=40, episodes=20),
            agent=_maml_trpo(outer=TrpoConfig(max_kl=0.02)),
            iterations=100,
        ),
    ),
    "ant-dir": Preset(
        "the MAML paper's ant, running forward and backward",
        Config(
            env=EnvConfig("ant-dir:maml2017", horizon=200),
            sampling=SamplingConfig(tasks=40, episodes=40),
            agent=_maml_trpo(extra_step_scale=0.01),
            evaluation=EvaluationConfig(episodes=40),
            iterations=575,
        ),
    ),
    "ml10-maml-trpo": Preset(
        "Meta-World ML10 with the settings of its 2025 baselines, 20M steps (an hour and a half)",
        Config(
            env=EnvConfig("ml10", horizon=500),
            sampling=SamplingConfig(tasks=20, episodes=10),
            agent=_maml_trpo(policy=PolicyConfig(hidden=(512, 512), activation="tanh")),
            evaluation=EvaluationConfig(steps=1, episodes=10, mode_episodes=3),
            iterations=100,
        ),
    ),
    "point-goal": Preset(
        "the MAML paper's 2-D navigation; its optimum is known (three minutes)",
        Config(
            env=EnvConfig("point-goal", horizon=100),
            sampling=SamplingConfig(tasks=20, episodes=20),
            agent=_maml_trpo(lr=0.5),
            evaluation=EvaluationConfig(episodes=40),
            iterations=100,
        ),
    ),
    "bandit-5x10-rl2": _bandit_rl2(5, 10, tasks=1000, entropy=0.02, iterations=250),
    "bandit-10x10-rl2": _bandit_rl2(10, 10, tasks=1000, entropy=0.02, iterations=400),
    "bandit-5x100-rl2": _bandit_rl2(5, 100, tasks=300, entropy=0.005, iterations=1400),
    "bandit-10x100-rl2": _bandit_rl2(10, 100, tasks=300, entropy=0.005, iterations=2059),
}


def preset(name: str) -> Config:
    """The config of a named experiment.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset{nearest(name, PRESETS)}")
    return PRESETS[name].config
