"""Films a run's agent on its tasks, before and after adaptation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from PIL import Image

from metarl import memory
from metarl.agents import catalogue as agents
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.device import torch_device, use_threads, workers_of
from metarl.envs import catalogue as envs
from metarl.envs import given_tasks
from metarl.envs.task_conditioned import TaskConditioned
from metarl.limits import within_the_machine
from metarl.loop.learners import trained
from metarl.loop.training import check_named
from metarl.recording import encoding, film
from metarl.recording.canvas import Layout
from metarl.recording.episodes import Episode, first_tasks, play
from metarl.recording.options import RecordOptions, check_panels
from metarl.recording.output import MARK, Output, checked
from metarl.recording.scenes.choice import scene_of
from metarl.recording.scenes.scene import Scene
from metarl.runs.plain import plain
from metarl.sampling.main_script import end_if_importing
from metarl.sampling.sampler import place_to_act
from metarl.text import say
from metarl.types import Task

FORMAT = 1
FPS = 25


@within_the_machine()
def record(
    options: RecordOptions,
    config: Config,
    tasks: Any = None,
    named_agent: str | None = None,
) -> Path:
    """Writes a film of the run's agent, and prints the returns of its episodes.

    Args:
        options: what to film, and how.
        config: the run's config.
        tasks: the distribution that the run learned from; where it is left out, the catalogue's.
        named_agent: code of an agent of a user's own that may be run.

    Returns:
        The path of the film.

    Raises:
        UserError: for what cannot be filmed or written; before anything is played.
    """
    end_if_importing()
    output = checked(options)
    given = use_threads(options.threads)
    tasks = envs.configured(config.env) if tasks is None else tasks
    check_named(config, tasks.spec)
    chosen = _chosen(options, config, tasks)
    with ExitStack() as stack:
        scene = scene_of(tasks, options.size)
        stack.callback(scene.close)
        scene.check(chosen)
        planned = film.Times.of(tasks.spec.horizon, options.every, output.film.suffix)
        layout = _layout(options, config, tasks, chosen, scene)
        film.check_size(layout, planned, output.film.suffix)
        say(f"{given} on {torch_device(options.device)}")
        say(f"{config.agent.name}: adapting to {len(chosen)} task{'s' * (len(chosen) > 1)} ...")
        episodes, iteration = played_episodes(options, config, tasks, chosen, named_agent)
        _say_returns(episodes)
        longest = max(episode.length for row in episodes for episode in row)
        times = film.Times.of(longest, options.every, output.film.suffix)
        facts = _facts(options, config, episodes, times) | {"iteration": iteration}
        _write(output, options, scene, episodes, layout, times, facts)
    return output.film


def _chosen(options: RecordOptions, config: Config, tasks: Any) -> Sequence[Task]:
    """Returns the tasks that are filmed."""
    if not options.task and not options.task_file:
        return first_tasks(
            tasks, options.tasks, options.split, options.seed, config.evaluation.tasks
        )
    if options.task:
        found = given_tasks.parsed(options.task, tasks)
    else:
        found = given_tasks.in_file(options.task_file, tasks)
    check_panels(options, len(found))
    for remark in given_tasks.remarks(found, tasks):
        say(remark)
    return found


def _layout(
    options: RecordOptions, config: Config, tasks: Any, chosen: Sequence[Task], scene: Scene
) -> Layout:
    heads, rows = film.headings(options.steps), [tasks.describe(task) for task in chosen]
    return Layout(options.size, scene.aspect, _title(config), heads, rows, scene.notes)


def _title(config: Config) -> str:
    return f"{config.agent.name} on {config.env.name}"


def played_episodes(
    options: RecordOptions,
    config: Config,
    tasks: Any,
    chosen: Sequence[Task],
    named_agent: str | None,
) -> tuple[list[list[Episode]], int]:
    """Returns the episodes [task][step], and the iteration of the weights."""
    device = torch_device(options.device)
    asked = _as_evaluation(options, len(chosen))
    kept = options.episodes * (options.steps[-1] > 0)
    needed = memory.of_rounds(tasks.spec, len(chosen), kept + 1, options.steps[-1] + 1)
    memory.check({"--tasks, --episodes, --steps": needed})
    seen = TaskConditioned(tasks) if agents.observes_task(config.agent) else tasks
    # Of held-out tasks it reads the spec alone, which a distribution has too.
    agent, iteration = trained(options.run_dir, config, cast(Any, seen), asked, device, named_agent)
    act_on = place_to_act(options.act_on, config.agent, seen.spec, device)
    played = play(agent, seen, chosen, options, workers_of(asked), act_on, device)
    if seen is not tasks:  # without the note that observations hold the task
        played = [[one._replace(label=tasks.describe(one.task)) for one in row] for row in played]
    return played, iteration


def _as_evaluation(options: RecordOptions, tasks: int) -> EvaluateOptions:
    """Returns the options of an evaluation that plays the same episodes to adapt to."""
    return EvaluateOptions(
        run_dir=options.run_dir,
        split=options.split,
        checkpoint=options.checkpoint,
        device=options.device,
        threads=options.threads,
        seed=options.seed,
        tasks=tasks,
        steps=options.steps[-1],
        episodes=options.episodes,
        mode_episodes=1,
        workers=options.workers,
        act_on=options.act_on,
        worker_timeout=options.worker_timeout,
    )


def _say_returns(episodes: Sequence[Sequence[Episode]]) -> None:
    for row in episodes:
        heads = film.headings([episode.step for episode in row])
        found = ", ".join(
            f"{episode.returned:.1f} {head}" for episode, head in zip(row, heads, strict=True)
        )
        say(f"{row[0].label}: return {found}")


def _facts(
    options: RecordOptions,
    config: Config,
    episodes: Sequence[Sequence[Episode]],
    times: film.Times,
) -> dict[str, Any]:
    """Returns what a film shows, as JSON stores it."""
    return {
        "format": FORMAT,
        "agent": config.agent.name,
        "env": config.env.name,
        "split": None if options.task or options.task_file else options.split,
        "checkpoint": options.checkpoint,
        "seed": options.seed,
        "actions": options.actions,
        "episodes": options.episodes,
        "steps": list(options.steps),
        "tasks": [plain(row[0].task) for row in episodes],
        "labels": [row[0].label for row in episodes],
        "reset_seeds": [row[0].reset_seed for row in episodes],
        "returns": [[episode.returned for episode in row] for row in episodes],
        "lengths": [[episode.length for episode in row] for row in episodes],
        "solved_at": [[episode.solved_at for episode in row] for row in episodes],
        "frames": len(times.steps),
        "steps_per_frame": times.every,
        "fps": FPS if options.fps == "auto" else options.fps,
    }


def _write(
    output: Output,
    options: RecordOptions,
    scene: Scene,
    episodes: Sequence[Sequence[Episode]],
    layout: Layout,
    times: film.Times,
    facts: dict[str, Any],
) -> None:
    strip = film.Strip(layout.title, episodes, times)

    def drawn() -> Iterator[Image.Image]:
        for index, shown in enumerate(film.frames(scene, episodes, layout, times)):
            strip.see(index, shown)
            yield shown.frame

    say(f"drawing {facts['frames']} frames ...")
    comment = MARK + b" " + json.dumps(facts).encode()
    if output.is_gif:
        content = encoding.gif(list(drawn()), facts["fps"], comment)
    else:
        content = encoding.mp4(drawn(), facts["fps"], comment)
    output.write(content, encoding.png(strip.picture(scene.aspect)), facts)
    width, height = layout.size
    say(
        f"film  {output.film}: {facts['frames']} frames of {width} x {height} pixels, "
        f"{len(content) / 1e6:.2f} MB"
    )
