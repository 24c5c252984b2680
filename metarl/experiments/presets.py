"""Named, complete experiments, and what was published for them.

Settings of the 2017 experiments are those of the paper's own code (cbfinn/maml_rl: the cluster_*
scripts, and in the test_* scripts the run that was published); those of `promp` are
jonasrothfuss/ProMP's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from metarl.agents import catalogue as agents
from metarl.config.settings import (
    AdvantageConfig,
    AgentConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    NormalisationConfig,
    PolicyConfig,
    PpoStepsConfig,
    ReptileConfig,
    SamplingConfig,
    SgdConfig,
    TrialConfig,
    TrialPpoConfig,
    TrpoConfig,
)
from metarl.config.settings_few_shot import FewShotConfig
from metarl.errors import UserError, nearest
from metarl.experiments.presets_few_shot import FEW_SHOT


class Preset(NamedTuple):
    summary: str
    config: Config | FewShotConfig


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


def _of(name: str, env: EnvConfig, base: Config, **settings: Any) -> Config:
    """`base` with tasks of `env`, by an agent of the catalogue with other `settings` of its own."""
    return replace(base, env=env, agent=replace(agents.default(name), **settings))


NORMALISED = NormalisationConfig(observations=True, rewards=True)


def _cheetah(variant: str) -> dict[str, Preset]:
    """19M steps, which are 60 iterations of MAML-TRPO's preset."""
    env = EnvConfig(f"half-cheetah-vel:{variant}", horizon=200)
    trials = Config(
        sampling=SamplingConfig(tasks=40, episodes=10, task_draw="stratified"), iterations=120
    )
    rounds = Config(
        sampling=SamplingConfig(tasks=20, episodes=10, task_draw="stratified"), iterations=160
    )
    return {
        f"halfcheetah-vel-{variant}-rl2": Preset(
            f"RL2 on `half-cheetah-vel:{variant}`: trials of two episodes",
            _of(
                "rl2",
                env,
                trials,
                inner=TrialConfig(steps=1),
                policy=PolicyConfig(hidden=(64,), activation="tanh"),
                normalisation=NORMALISED,
            ),
        ),
        f"halfcheetah-vel-{variant}-reptile-ppo": Preset(
            f"Reptile-PPO on `half-cheetah-vel:{variant}`",
            _of(
                "reptile-ppo",
                env,
                rounds,
                inner=PpoStepsConfig(lr=3e-3, steps=2, clip=0.3, entropy=0.01),
                normalisation=NORMALISED,
            ),
        ),
    }


def _navigation() -> dict[str, Preset]:
    env = EnvConfig("point-goal", horizon=100)
    trials = Config(
        sampling=SamplingConfig(tasks=40, episodes=2),
        evaluation=EvaluationConfig(episodes=40),
        iterations=150,
    )
    rounds = Config(
        sampling=SamplingConfig(tasks=20, episodes=20),
        evaluation=EvaluationConfig(episodes=40),
        iterations=100,
    )
    return {
        "point-goal-rl2": Preset(
            "RL2 on 2-D navigation: trials of four episodes",
            _of(
                "rl2",
                env,
                trials,
                inner=TrialConfig("lstm", size=64, steps=3),
                outer=TrialPpoConfig(lr=1e-3, epochs=5),
                policy=PolicyConfig(hidden=(64,)),
            ),
        ),
        "point-goal-reptile-ppo": Preset(
            "Reptile-PPO on 2-D navigation",
            _of(
                "reptile-ppo",
                env,
                rounds,
                inner=PpoStepsConfig(lr=1e-2, steps=2, clip=0.5, entropy=0.03),
                outer=ReptileConfig(lr=0.3),
                normalisation=NORMALISED,
            ),
        ),
    }


def _bandit(
    arms: int, pulls: int, tasks: int, iterations: int, entropy: float, half_life: float = 0.0
) -> dict[str, Preset]:
    """RL2: one trial of each task, an episode long, as in arXiv:1611.02779, section 3.1. Reptile
    has no memory: what it learns from is a round of episodes."""
    env = EnvConfig(f"bandit:{arms}", horizon=pulls)
    trials = Config(
        sampling=SamplingConfig(tasks=tasks, episodes=1),
        evaluation=EvaluationConfig(tasks=2000, steps=0, episodes=5),
        iterations=iterations,
    )
    rounds = Config(
        sampling=SamplingConfig(tasks=100, episodes=200 // pulls),
        evaluation=EvaluationConfig(tasks=200, steps=3, episodes=200 // pulls),
        iterations=100,
    )
    return {
        f"bandit-{arms}x{pulls}-rl2": Preset(
            f"RL2 on Bernoulli bandits of {arms} arms, {pulls} pulls",
            _of(
                "rl2",
                env,
                trials,
                inner=TrialConfig("lstm", size=64, steps=0),
                outer=TrialPpoConfig(
                    lr=3e-3, epochs=3, entropy=entropy, entropy_half_life=half_life
                ),
                policy=PolicyConfig(hidden=()),
                advantages=AdvantageConfig(discount=1.0, gae_lambda=0.95),
            ),
        ),
        f"bandit-{arms}x{pulls}-reptile-ppo": Preset(
            f"Reptile-PPO on the same, {200 // pulls} times {pulls} pulls a step",
            _of(
                "reptile-ppo",
                env,
                rounds,
                inner=PpoStepsConfig(lr=1e-2, steps=2, entropy=0.01),
                outer=ReptileConfig(lr=0.3),
                policy=PolicyConfig(hidden=(32,)),
            ),
        ),
    }


def _tabular() -> dict[str, Preset]:
    """Ten episodes of ten steps, as in arXiv:1611.02779, section 3.2."""
    env = EnvConfig("tabular-mdp", horizon=10)
    trials = Config(
        sampling=SamplingConfig(tasks=300, episodes=1),
        evaluation=EvaluationConfig(tasks=500, steps=9, episodes=2),
        iterations=300,
    )
    rounds = Config(
        sampling=SamplingConfig(tasks=100, episodes=10),
        evaluation=EvaluationConfig(tasks=200, steps=3, episodes=10),
        iterations=100,
    )
    return {
        "tabular-mdp-rl2": Preset(
            "RL2 on small random MDPs: trials of ten episodes",
            _of(
                "rl2",
                env,
                trials,
                inner=TrialConfig(steps=9),
                outer=TrialPpoConfig(lr=2e-3, epochs=3, entropy=0.01),
                policy=PolicyConfig(hidden=()),
            ),
        ),
        "tabular-mdp-reptile-ppo": Preset(
            "Reptile-PPO on the same, ten episodes a step",
            _of(
                "reptile-ppo",
                env,
                rounds,
                inner=PpoStepsConfig(lr=1e-2, steps=2, entropy=0.01),
                outer=ReptileConfig(lr=0.3),
                normalisation=NORMALISED,
            ),
        ),
    }


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
    **_cheetah("maml2017"),
    **_cheetah("varibad"),
    **_navigation(),
    **_bandit(5, 10, tasks=1000, entropy=0.02, iterations=250),
    **_bandit(10, 10, tasks=1000, entropy=0.02, iterations=400),
    **_bandit(5, 100, tasks=300, entropy=0.005, iterations=1400),
    **_bandit(10, 100, tasks=400, entropy=0.04, half_life=450.0, iterations=1800),
    **_tabular(),
    **{name: Preset(summary, config) for name, (summary, config) in FEW_SHOT.items()},
}


def preset(name: str) -> Config | FewShotConfig:
    """The config of a named experiment.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset{nearest(name, PRESETS)}")
    return PRESETS[name].config
