"""Configs: there and back through YAML, and an exact word on what does not fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.agents.catalogue import default, names
from metarl.agents.inner.directions import DirectionsConfig
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.inner.training import TrainingConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.adam import AdamConfig
from metarl.agents.outer.ppo import PpoConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.commands import train
from metarl.config.checks import check_continues, check_ranges, differences
from metarl.config.files import dump, field_types, keys, overlay
from metarl.config.ranges import Range
from metarl.config.settings import (
    Config,
    EnvConfig,
    FewShotAgentConfig,
    FewShotConfig,
    FewShotEnvConfig,
    NetworkConfig,
)
from metarl.errors import UserError
from metarl.experiments.assembly import labelled, load_config, run_config, with_agent, with_env
from metarl.experiments.presets import PRESETS, blank, preset
from metarl.experiments.published import PUBLISHED, published


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Everything that a field's annotation allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = next(extra for extra in arguments if isinstance(extra, Range))
        return _numbers(arguments[0], limits)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if arguments:
        return st.one_of([values(alternative) for alternative in arguments])
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0~"))
    return {str: texts, bool: st.booleans()}[annotation]


def _numbers(kind: type, limits: Range) -> st.SearchStrategy[Any]:
    if kind is int:
        return st.integers(int(limits.least), int(min(limits.most, 2**53)))
    return st.floats(
        limits.least,
        None if limits.most == float("inf") else limits.most,
        exclude_min=limits.open_below,
        exclude_max=limits.open_above,
        allow_nan=False,
        allow_infinity=False,
    )


def configs(record: object, **fixed: Any) -> st.SearchStrategy[Any]:
    """Configs of the classes in `record`, with any values that the fields allow."""

    def of(name: str, annotation: Any) -> st.SearchStrategy[Any]:
        inner = getattr(record, name)
        if name in ("env", "agent"):  # their names are catalogue entries, not any text
            return configs(inner, name=inner.name)
        return configs(inner) if hasattr(inner, "__dataclass_fields__") else values(annotation)

    drawn = {
        name: of(name, annotation)
        for name, annotation in field_types(record).items()
        if name not in fixed
    }
    return st.builds(type(record), **drawn, **{k: st.just(v) for k, v in fixed.items()})


BASE, FEW_SHOT_BASE = blank("maml-trpo", EnvConfig.name), blank("maml", FewShotEnvConfig.name)
BASES = [
    *(blank(name, EnvConfig.name) for name in names("episodes")),
    *(blank(name, FewShotEnvConfig.name) for name in names("examples")),
]


@settings(max_examples=150, deadline=None)
@given(config=st.sampled_from(BASES).flatmap(configs))
def test_there_and_back_through_yaml(config: Config | FewShotConfig):
    check_ranges(config)
    base = blank(config.agent.name, config.env.name)
    assert overlay(base, yaml.safe_load(dump(config)), "text") == config


def test_there_and_back_through_a_file(tmp_path: Path):
    for name in PRESETS:
        (tmp_path / "config.yaml").write_text(dump(preset(name)))
        assert run_config(tmp_path) == preset(name)


@dataclass(frozen=True)
class OtherRule:
    clip: float = 0.2


@dataclass(frozen=True)
class TwoRules:
    inner: SgdConfig | OtherRule = field(default_factory=SgdConfig)


def test_a_field_of_several_rules_is_read_as_the_one_it_holds():
    other = TwoRules(inner=OtherRule())
    assert overlay(other, {"inner": {"clip": 0.1}}, "f") == TwoRules(inner=OtherRule(clip=0.1))
    with pytest.raises(UserError, match=r"inner\.clip is no config key"):
        overlay(TwoRules(), {"inner": {"clip": 0.1}}, "f")


MISFITS = {
    "agent: {inner: {lrr: 1}}": r"inner\.lrr is no config key; did you mean agent\.inner\.lr\?",
    "agent: {lr: 0.1}": r"agent\.lr is no config key; did you mean agent\.inner\.lr\?",
    "qqqq: 1": r"qqqq is no config key; `--help` lists the keys",
    "agent: {inner: {lr: fast}}": r"agent\.inner\.lr is 'fast'; expected a number above 0",
    "agent: {inner: 0.1}": r"agent\.inner is 0\.1; expected the keys lr, steps, first_order",
    "agent: {policy: {hidden: 64}}": r"agent\.policy\.hidden is 64; expected a list",
    "agent: {policy: {hidden: [64, x]}}": r"agent\.policy\.hidden is \[64, 'x'\]; expected a list",
    "iterations: 1.5": r"iterations is 1\.5; expected a whole number",
    "iterations: true": r"iterations is True; expected a whole number",
    "device: tpu": r"device is 'tpu'; expected 'auto' or 'cpu' or 'cuda'",
    "workers: many": r"workers is 'many'; expected a whole number at least 0 and at most 1024 or",
    "agent: {inner: {first_order: 1}}": r"first_order is 1; expected true or false",
    "agent: {inner: {lr: -0.1}}": r"agent\.inner\.lr is -0\.1; it must be above 0",
    "agent: {inner: {lr: .nan}}": r"agent\.inner\.lr is nan; it must be above 0",
    "agent: {policy: {hidden: [64, 0]}}": r"agent\.policy\.hidden is 0; it must be at least 1",
    "agent: {advantages: {discount: 1.1}}": r"discount is 1\.1; it must be above 0 and at most 1",
    "sampling: {tasks: 0}": r"sampling\.tasks is 0; it must be at least 1",
    "env: {horizon: 0}": r"env\.horizon is 0; it must be at least 1",
    "seed: -1": r"seed is -1; it must be at least 0",
    "agent: {name: maml-trop}": r"'maml-trop' is no agent; did you mean 'maml-trpo' or ",
    "env: {name: half-cheetah-vol}": r"'half-cheetah-vol' is no task distribution",
    "[1, 2]": r"holds \[1, 2\]; expected keys and values",
    "a: [": r"is no YAML",
}


@pytest.mark.parametrize("text", MISFITS)
def test_what_does_not_fit_is_named_with_its_place_and_the_way_out(text: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=MISFITS[text]) as caught:
        load_config(file)
    assert len(str(caught.value).splitlines()) <= 3
    if "no agent" not in MISFITS[text] and "no task distribution" not in MISFITS[text]:
        assert str(file) in str(caught.value)


def test_numbers_as_people_write_them(tmp_path: Path):
    """YAML 1.1 reads 1e-5, without a dot, as text, and 1 as a whole number."""
    file = tmp_path / "mine.yaml"
    file.write_text("agent: {inner: {lr: 1}, outer: {damping: 1e-5}}")
    agent = load_config(file).agent
    assert isinstance(agent.inner, SgdConfig)
    assert isinstance(agent.outer, TrpoConfig)
    assert agent.inner.lr == 1.0
    assert isinstance(agent.inner.lr, float)
    assert agent.outer.damping == 1e-5


def test_an_empty_file_changes_nothing(tmp_path: Path):
    (tmp_path / "empty.yaml").touch()
    assert load_config(tmp_path / "empty.yaml", preset("point-goal")) == preset("point-goal")


def test_another_env_comes_with_its_horizon(tmp_path: Path):
    (tmp_path / "env.yaml").write_text("env: {name: 'half-cheetah-vel:promp'}")
    assert load_config(tmp_path / "env.yaml").env == EnvConfig("half-cheetah-vel:promp", 100)
    assert (
        with_env(preset("point-goal"), "half-cheetah-vel").env.name == "half-cheetah-vel:maml2017"
    )


def test_only_keys_that_change_no_iteration_may_differ_in_a_continued_run(tmp_path: Path):
    stored = preset("point-goal")
    longer = replace(
        stored, iterations=7, device="cpu", workers=2, checkpoint_every=3, run_dir="elsewhere"
    )
    check_continues(longer, stored, tmp_path)
    other = replace(longer, seed=2, agent=replace(stored.agent, inner=SgdConfig(lr=0.2)))
    assert differences(other, stored) == {"seed": (2, 1), "agent.inner.lr": (0.2, 0.5)}
    with pytest.raises(
        UserError, match=r"seed 1 \(asked for: 2\), agent\.inner\.lr 0\.5 \(asked for: 0\.2\)"
    ):
        check_continues(other, stored, tmp_path)


def test_every_key_counts_when_a_run_is_continued():
    """A new field is compared unless somebody says that it changes nothing."""
    stored = BASE
    for key, value in keys(stored).items():
        if isinstance(value, float):
            section: dict[str, Any] = {}
            inner = section
            *path, last = key.split(".")
            for name in path:
                inner = inner.setdefault(name, {})
            inner[last] = value / 2 or 1.0
            changed = differences(overlay(stored, section, "f"), stored)
            free = key.startswith("evaluation.") or key == "worker_timeout"
            assert list(changed) == ([] if free else [key])


def test_presets_are_within_their_ranges():
    for entry in PRESETS.values():
        check_ranges(entry.config)


def test_a_preset_that_ends_in_an_agents_name_trains_it():
    every = sorted({*names("episodes"), *names("examples")}, key=len, reverse=True)
    found = {
        preset: next((name for name in every if preset.endswith(f"-{name}")), None)
        for preset in PRESETS
    }
    assert found["halfcheetah-vel-promp"] == "promp"
    for name, agent in found.items():
        assert agent in (None, PRESETS[name].config.agent.name), name


def test_a_whole_file_means_what_it_meant_before_a_key_was_added(tmp_path: Path):
    """A run of DiCE from before `dice_lambda`; a file with some settings takes the defaults."""
    usual: Any = default("dice-maml")
    assert (usual.inner.dice_lambda, usual.outer.target_kl) != (1.0, 0.0)
    now = replace(preset("point-goal"), agent=usual, threads=3)
    whole = yaml.safe_load(dump(now))
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(whole))
    assert load_config(tmp_path / "new.yaml") == now
    del whole["threads"], whole["agent"]["inner"]["dice_lambda"]
    del whole["agent"]["outer"]["target_kl"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(whole))
    old: Any = load_config(tmp_path / "old.yaml")
    assert (old.agent.inner.dice_lambda, old.agent.outer.target_kl) == (1.0, 0.0)
    assert old.threads == "auto"
    (tmp_path / "some.yaml").write_text("agent: {name: dice-maml, inner: {lr: 0.2}}")
    agent: Any = load_config(tmp_path / "some.yaml").agent
    assert agent == replace(usual, inner=replace(usual.inner, lr=0.2))


@pytest.mark.parametrize("outer", ["trpo", "ppo", "vpg"])
def test_cavia_has_settings_of_its_own_on_cheetah_and_ant(tmp_path: Path, outer: str):
    """From --agent or from a file; flags come after, and presets of other tasks have none."""
    name = f"cavia-{outer}"

    def asked(line: str) -> tuple[float, int]:
        agent: Any = train.read(line.split())[0].agent
        assert agent.name == name
        return agent.inner.lr, agent.policy.context

    here = [x for x in PRESETS if x.startswith(("halfcheetah", "ant"))]
    assert len(here) >= 10
    for preset_name in here:
        assert asked(f"{preset_name} --agent {name}") == (10.0, 50)
    assert asked(f"{here[0]} --agent {name} --agent.inner.lr 3") == (3.0, 50)
    (tmp_path / "a.yaml").write_text(f"agent: {{name: {name}}}")
    assert asked(f"{here[0]} --config {tmp_path / 'a.yaml'}") == (10.0, 50)
    (tmp_path / "a.yaml").write_text(f"agent: {{name: {name}, policy: {{context: 7}}}}")
    assert asked(f"{here[0]} --config {tmp_path / 'a.yaml'}") == (10.0, 7)
    assert asked(f"point-goal --agent {name}") == (1.0, 10)
    assert asked(f"--config {tmp_path / 'a.yaml'}") == (1.0, 7)
    maml: Any = train.read([here[0], "--agent", "maml-vpg"])[0].agent
    assert (maml.inner.lr, maml.policy.context) == (0.1, 0)


def test_settings_for_other_agents_are_settings_that_these_have():
    for entry in PRESETS.values():
        examples = isinstance(entry.config, FewShotConfig)
        for inner in entry.agents:
            agent = default(inner, "examples") if examples else default(f"{inner}-ppo")
            check_ranges(entry.tuned(agent))


def test_an_entry_with_learners_is_a_preset_for_each_of_them():
    """With the settings of its own agent, and those of the others for --agent."""
    found = [name for name in PRESETS if name.startswith("glyphs-5way-1shot-")]
    assert len(found) == 11
    for name in found:
        entry = PRESETS[name]
        agent: Any = entry.config.agent
        assert name == f"glyphs-5way-1shot-{agent.name}"
        assert agent.name in entry.summary
        assert agent.network.hidden == (32, 32, 32, 32)
        assert entry.config.env.name == "glyphs"
    maml: Any = preset("glyphs-20way-1shot-maml")
    assert (maml.env.ways, maml.env.shots, maml.agent.inner.lr) == (20, 1, 0.1)
    line = "glyphs-5way-1shot-maml --agent reptile"
    other: Any = train.read(line.split())[0].agent
    assert other == PRESETS["glyphs-5way-1shot-reptile"].config.agent


def test_promps_preset_has_the_settings_of_its_own_code():
    """jonasrothfuss/ProMP, run_scripts/pro-mp_run_mujoco.py."""
    config = preset("halfcheetah-vel-promp")
    assert isinstance(config, Config)
    agent: Any = config.agent
    outer = PpoConfig(lr=1e-3, epochs=5, clip=0.3, inner_kl=5e-4, inner_ratio=True)
    assert (agent.inner, agent.outer) == (SgdConfig(lr=0.1, steps=1), outer)
    assert (agent.policy.hidden, agent.policy.activation) == ((64, 64), "tanh")
    assert (agent.advantages.discount, agent.advantages.gae_lambda) == (0.99, 1.0)
    assert (config.sampling.tasks, config.sampling.episodes) == (40, 20)
    assert (config.env.name, config.env.horizon) == ("half-cheetah-vel:promp", 100)
    assert config.iterations == 1000


def test_published_figures_belong_to_one_horizon():
    config = preset("halfcheetah-vel-maml2017")
    assert isinstance(config, Config)
    figures = published(config)
    assert figures is not None
    assert figures.curves["MAML"].mean == (-129.5, -78.6, -66.6, -60.8)
    assert published(replace(config, env=replace(config.env, horizon=100))) is None
    for entry in PUBLISHED.values():
        for curve in entry.curves.values():
            assert curve.stderr is None or len(curve.stderr) == len(curve.mean)


def test_ends_of_a_range():
    half_open = Range(least=0, most=1, open_below=True)
    assert [value in half_open for value in (-1, 0, 0.5, 1, 1.5)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert [value in Range(0, 1, open_above=True) for value in (0, 1)] == [True, False]
    assert not any(value in Range() for value in (float("nan"), float("inf"), "1"))


@pytest.mark.parametrize("place", ["\x85", "läufe/eins", "a: b", "#1", "\u2028x", "yes"])
def test_any_text_comes_back_from_yaml(place: str):
    """Next-line and line-separator characters too, which YAML takes for line breaks."""
    config = replace(BASE, run_dir=place)
    assert overlay(BASE, yaml.safe_load(dump(config)), "text") == config


def test_another_agent_takes_what_a_preset_sets_where_their_defaults_agree():
    """The navigation task's step of 0.5 instead of 0.1, but not over CAVIA's own."""
    config = preset("point-goal")
    anil, cavia = (with_agent(config, name).agent for name in ("anil-trpo", "cavia-trpo"))
    assert anil == replace(default("anil-trpo"), inner=SgdConfig(lr=0.5, adapted="head"))
    assert cavia == default("cavia-trpo")
    assert with_agent(config, "maml-trpo") is config


def test_another_learner_takes_what_a_preset_sets_where_their_defaults_agree():
    """A step of 0.4 instead of 0.01 and a wider network, but not over Reptile's own step."""
    base = default("maml", "examples")
    config = replace(
        FEW_SHOT_BASE,
        agent=replace(
            base,
            inner=SgdConfig(lr=0.4, extra_step_scale=1.0),
            outer=AdamConfig(lr=0.01),
            network=NetworkConfig(hidden=(80,)),
        ),
    )
    anil, gbml, reptile = (with_agent(config, name).agent for name in ("anil", "gbml", "reptile"))
    assert anil.inner == SgdConfig(lr=0.4, adapted="head", extra_step_scale=1.0)
    inner = default("gbml", "examples").inner
    assert isinstance(inner, DirectionsConfig)
    assert gbml.inner == replace(inner, lr=0.4)
    assert gbml.outer == AdamConfig(lr=0.01)
    assert (reptile.inner, reptile.outer) == (
        TrainingConfig(),
        default("reptile", "examples").outer,
    )
    for agent in (anil, gbml, reptile):
        assert isinstance(agent, FewShotAgentConfig)
        assert agent.network.hidden == (80,)
    assert with_agent(config, "maml") is config


def test_other_supervised_tasks_keep_the_settings_that_they_heed():
    """But whether turned images are classes of their own: that is for the data to say."""
    env = FewShotEnvConfig("digits", shots=3, queries=4, ways=2, rotations="train")
    config = replace(FEW_SHOT_BASE, env=env)
    polynomials, arrays = (with_env(config, name).env for name in ("polynomial", "arrays"))
    assert polynomials == FewShotEnvConfig("polynomial:2", shots=3, queries=4)
    assert arrays == FewShotEnvConfig("arrays", shots=3, queries=4, ways=2)
    assert with_env(config, "digits") is config


def test_a_file_without_a_preset_is_of_the_tasks_that_it_names(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    for text, kind in (
        ("env: {name: digits}", FewShotConfig),
        ("env: {name: 'polynomial:5'}\nagent: {name: mapping}", FewShotConfig),
        ("env: {name: bandit}\nagent: {name: mapping}", Config),
        ("seed: 3", Config),
    ):
        file.write_text(text)
        assert type(load_config(file)) is kind
        assert train.read(["--config", str(file), "--run-dir", ""])[0].env == load_config(file).env


def test_every_key_of_a_few_shot_run_counts_when_it_is_continued():
    stored = preset("digits-maml")
    changed = replace(stored, seed=9, iterations=1000, device="cpu", checkpoint_every=1)
    assert list(differences(changed, stored)) == ["seed"]
    assert isinstance(changed, FewShotConfig)
    other = replace(changed.env, rotations="all", queries=1)
    found = differences(replace(changed, env=other), stored)
    assert set(found) == {"seed", "env.rotations", "env.queries"}


def test_runs_are_told_apart_by_the_end_of_their_path():
    """Two runs with one name, and one with the name of the learner, get a longer one."""
    paths = [Path(path) for path in ("/a/b/x", "/a/c/x", "/a/y", "/a/maml")]
    expected = ["b/x", "c/x", "y", "a/maml"]
    assert labelled(paths, "maml") == dict(zip(expected, paths, strict=True))
    with pytest.raises(UserError, match="names a run twice"):
        labelled([Path("/a/x"), Path("/a/b/../x")], "maml")


def test_trials_are_evaluated_whole_and_other_agents_adapt():
    trials = with_agent(preset("point-goal"), "rl2")
    assert isinstance(trials.agent.inner, TrialConfig)
    assert trials.evaluation.steps == trials.agent.inner.steps == 9
    bandit = preset("bandit-5x10-rl2")
    assert bandit.evaluation.steps == 0
    assert with_agent(bandit, "maml-trpo").evaluation.steps == 3
