"""Adaptation curves of a trained agent on held-out tasks, once for all sources.

Every task starts from the meta-parameters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from metarl import memory
from metarl.agents import catalogue as agents
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.device import torch_device, use_threads, workers_of
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import check_same_tasks, labelled, run_config
from metarl.experiments.data import placed, same_data
from metarl.experiments.published import published
from metarl.limits import within_the_machine
from metarl.loop import step_size
from metarl.loop.asked import WEIGHTS, Asked, asked, check_free, digest_of, settings
from metarl.loop.evaluation_size import check_size, watch_of
from metarl.loop.learners import RANDOM, Learner, learners_of
from metarl.loop.step_size import StepSize
from metarl.loop.training import check_named
from metarl.reporting.report import page, write_report
from metarl.runs import checkpoint, data, evaluations, output, publish
from metarl.runs.adaptation import Adaptation, as_csv, as_json, aside, described
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.comparison import curves, remarks, text_table
from metarl.runs.directory import SPLITS, RunDirectory
from metarl.runs.errors_log import faults_logged
from metarl.runs.files import encoded, write_bytes
from metarl.runs.plot_style import png
from metarl.runs.watch import Watch
from metarl.sampling.main_script import end_if_importing
from metarl.sampling.sampler import place_to_act
from metarl.sources.episodes import CLASS_TASKS_AT_ONCE, HeldOutEpisodes
from metarl.sources.examples import TASKS_AT_ONCE, HeldOutExamples
from metarl.sources.source import HeldOut
from metarl.text import say
from metarl.types import Classes

Options = EvaluateOptions | EvaluateFewShotOptions


@within_the_machine()
def evaluate(
    options: Options,
    tasks: Any = None,
    config: AnyConfig | None = None,
    named_agent: str | None = None,
) -> Path:
    """Writes the run's adaptation.json, .csv, .png and report, and prints the table.

    Args:
        options: what to evaluate, and how.
        tasks: those that the run learned from; where they are left out, the catalogue's.
        config: the run's config, where it was read before.
        named_agent: code of an agent of a user's own that may be run.

    Returns:
        The path of the adaptation curve's picture.

    Raises:
        UserError: for a run without weights, one to compare with on other tasks, and for a place of
            the results that holds anything else.
    """
    end_if_importing()
    given = use_threads(options.threads)
    config = run_config(options.run_dir) if config is None else config
    wanted = asked(options, tasks, placed(config, options))
    options, tasks = wanted.options, wanted.tasks
    against = labelled(options.against, config.agent.name)
    rivals = {name: (path, run_config(path)) for name, path in against.items()}
    for name, (_, other) in rivals.items():
        check_same_tasks(name, other, config)
    found_data = None
    if not wanted.learned:
        found_data = same_data(wanted.config, options.run_dir, rivals)
    run = output.for_evaluation(options.run_dir, options.out, wanted.name)
    by = settings(wanted, rivals)
    check_free(run, wanted, by)
    if found_data is not None and not options.out:
        data.moved(run, found_data)
    device = torch_device(options.device)
    say(f"{given} on {device}")
    for line in aside(wanted.split, wanted.learned, wanted.remarks):
        say(line)
    with faults_logged(run, wanted.config.env.name), ExitStack() as stack:
        found, held, agent = _played(wanted, run, rivals, by, device, named_agent, stack)
        return _write(found, run, wanted, config, held, agent)


def _played(
    wanted: Asked,
    run: RunDirectory,
    rivals: Mapping[str, tuple[Path, AnyConfig]],
    by: dict[str, Any],
    device: torch.device,
    named_agent: str | None,
    stack: ExitStack,
) -> tuple[Adaptation, HeldOut, Any]:
    """Returns the results of all learners, the tasks, and the run's agent."""
    config, tasks, options = wanted.config, wanted.tasks, wanted.options
    check_named(config, tasks.spec)
    learners = learners_of(config, rivals, options, device, named_agent)
    check_size(len(learners), tasks, options)
    with watch_of(learners, config, tasks, options) as watch:
        sizes = _step_sizes(learners, config, tasks, options, device, watch)
        held = held_out(config, tasks, options, device, stack)
        check_size(len(learners), tasks, options, described(held.tasks))
        made = [learner.made(held, sizes) for learner in learners]
        agent, _ = made[0]
        room = checkpoint.room_for(agent)  # now: the run may train on, and save others
        iteration = checkpoint.chosen(run, options.checkpoint, device, room).iteration
        by[WEIGHTS] = {
            learner.name: digest_of(one) for learner, (one, _) in zip(learners, made, strict=True)
        }
        check_free(run, wanted, by)
        outcomes = {
            learner.name: seen.adapt(one, learner.name, watch)
            for learner, (one, seen) in zip(learners, made, strict=True)
        }
    outcome = outcomes.pop(config.agent.name)
    controls = {name: outcomes.pop(name) for name in (RANDOM,) if name in outcomes}
    found = Adaptation(
        env=config.env.name,
        agent=config.agent.name,
        split=wanted.split,
        steps=tuple(range(options.steps + 1)),
        env_steps=outcome.env_steps or held.used,
        tasks=tuple(held.tasks),
        outcome=replace(outcome, env_steps=None),
        controls=controls,
        others=outcomes,
        made_from={
            "iteration": iteration,
            "checkpoint": options.checkpoint,
            "seed": options.seed,
            "inner_lr": {name: size.recorded() for name, size in sizes.items()},
            **held.made_from,
            **_protocol(config, options),
            **wanted.made_from(),
            evaluations.SETTINGS: by,
        },
        measure=held.measure,
    )
    return found, held, agent


def _step_sizes(
    learners: Sequence[Learner],
    config: AnyConfig,
    tasks: Any,
    options: Options,
    device: torch.device,
    watch: Watch,
) -> dict[str, StepSize]:
    """Returns the inner step size of each learner that has one, by search where there is none."""
    found = {}
    with ExitStack() as stack:
        held = None
        for learner in learners:
            if learner.searched:
                if held is None:
                    asked = step_size.training_tasks(options, config.agent, tasks)
                    held = held_out(config, tasks, asked, device, stack)
                found[learner.name] = learner.search(held, watch)
            elif agents.no_inner_lr(learner.config) is None:
                found[learner.name] = StepSize(learner.config.inner.lr)
    return found


def held_out(
    config: AnyConfig, tasks: Any, options: Options, device: torch.device, stack: ExitStack
) -> HeldOut:
    """Returns the held-out tasks that the options ask for, until `stack` closes."""
    if isinstance(config, FewShotConfig):
        if not isinstance(options, EvaluateFewShotOptions):
            raise UserError(f"{options.run_dir} learned examples; give EvaluateFewShotOptions")
        memory.check(
            memory.of_examples(
                config.agent, tasks.spec, options.tasks,
                (options.shots or config.env.shots) + config.env.queries,
                options.steps, "tasks", TASKS_AT_ONCE, kept=device.type == "cpu",
            )
        )  # fmt: skip
        return HeldOutExamples(tasks, config, options, device)
    if not isinstance(options, EvaluateOptions):
        raise UserError(f"{options.run_dir} learned from episodes; give EvaluateOptions")
    here = device.type == "cpu" and not envs.is_own(config.env.name)
    memory.check(_of_episodes(options, tasks, here))
    act_on = place_to_act(options.act_on, config.agent, tasks.spec, device)
    return HeldOutEpisodes.open(tasks, options, device, stack, act_on)


def _of_episodes(options: EvaluateOptions, tasks: Any, kept: bool) -> dict[str, int]:
    """Returns the bytes that the episodes of an evaluation need; see `memory.of_training`."""
    episodes, spec, together = options.episodes + options.mode_episodes, tasks.spec, options.tasks
    if isinstance(tasks, Classes):
        together = min(together, CLASS_TASKS_AT_ONCE)
    played = memory.of_rounds(spec, together, episodes, kept * (options.steps + 1))
    workers = memory.WORKER * min(workers_of(options).count, together * options.episodes)
    return {"--tasks, --episodes, --mode-episodes, --steps": played, "--workers": workers}


def _protocol(config: AnyConfig, options: Options) -> dict[str, str | None]:
    """Returns whose protocol this is, so that their figure may be set beside ours."""
    if not isinstance(config, Config):
        return {}
    laid_down = envs.protocol(config.env.name)
    if laid_down is None or options.own_tasks:
        return {"protocol": None}
    official = asdict(laid_down)
    asked = {name: getattr(options, name) for name in official}
    usual = envs.default_horizon(config.env.name), "v2"
    if (config.env.horizon, config.env.metaworld.rewards) == usual and asked == official:
        return {"protocol": "metaworld"}
    numbers = ", ".join(f"--{name.replace('_', '-')} {x}" for name, x in official.items())
    say(
        f"not metaworld's own protocol ({numbers}, horizon {usual[0]}, rewards v2): "
        "what its evaluation would count is left out"
    )
    return {"protocol": None}


def _write(
    found: Adaptation,
    run: RunDirectory,
    wanted: Asked,
    config: AnyConfig,
    held: HeldOut,
    agent: Any,
) -> Path:
    """Publishes all files of an evaluation and prints its tables; returns the curve's picture.

    `config` is the run's own. Only evaluations on the run's own distribution stand in its report.
    """
    reported, name = published(config), wanted.name
    figures = reported if wanted.held_out else None
    numbers = {"adaptation.json": as_json(found), "adaptation.csv": as_csv(found)}
    numbers |= output.mark(run)
    title = f"{found.agent} on {found.env}, {found.split} tasks"
    title = "; ".join([title, *aside(found.split, wanted.learned)])
    with _kept(numbers), publish.publishing(run, publish.LONG_PATIENCE):
        kept = evaluations.make_room(run, name, found.made_from[evaluations.SETTINGS])
        try:
            say(text_table(curves(found, figures)))
            for line in remarks(found):
                say(line)
            shown = {"adaptation.png": png(adaptation_figure(found, figures))}
            shown |= held.shown(agent, found, title)
            if name in SPLITS:
                whole = page(run, reported, found, shown.get("predictions.png"))
                shown[run.report.name] = encoded(whole)
        except BaseException:  # also a signal, and an output that nobody reads any more
            publish.publish(run, name, numbers)  # they may have taken hours
            raise
        publish.publish(run, name, numbers | shown)
    if name not in SPLITS:
        write_report(run, reported)
    files = run.evaluation_of(name)
    pictures = [path for path in files.files if path.name in shown]
    say(f"\nnumbers  {files.adaptation_json}")
    say("\n".join(f"picture  {picture}" for picture in pictures))
    say(f"report   {run.report}")
    if kept:
        say(f"earlier  {run.evaluation_of(kept).root} keeps the evaluation that was here")
    return files.adaptation_png


@contextmanager
def _kept(numbers: Mapping[str, bytes]) -> Iterator[None]:
    """Keeps the numbers in a temporary folder if the block cannot publish them, as on a full disk.

    They may have taken hours; the error says where they are.
    """
    try:
        yield
    except UserError as error:
        try:
            folder = Path(tempfile.mkdtemp(prefix="metarl-evaluation-"))
            for name, content in numbers.items():
                write_bytes(folder / name, content)
        except OSError:
            raise error from None
        raise UserError(f"{error}\nthe numbers are kept in {folder}") from error
