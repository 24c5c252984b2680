"""The pool: any number of workers gives the same bytes, also when some of them die."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import warnings
from operator import itemgetter
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from family import left_in_shared_memory, workers_alive

from metarl.envs import catalogue
from metarl.equations.gaussian import Gaussian
from metarl.errors import EnvFaultError, UserError, WorkersFailedError
from metarl.sampling import worker
from metarl.sampling.collect import collect, draw, memoryless
from metarl.sampling.losses import WorkerWarning
from metarl.types import StepResult, TaskDistribution, Trajectories, Workers

K, E = 3, 5
CPU = torch.device("cpu")


def act(obs, noise):
    distribution = Gaussian(torch.tanh(obs[..., :1]), torch.tensor([-0.5]))
    return distribution.sample(noise), distribution


def tasks_of(distribution: TaskDistribution, rounds: int):
    rng = np.random.default_rng(5)
    return [distribution.sample(K, rng) for _ in range(rounds)]


def played(
    distribution: TaskDistribution, workers: Workers, rounds: int = 2, env: Any = None
) -> list[Trajectories]:
    """`rounds` meta-batches, each of other tasks."""
    opened = env or distribution.open(K, E, workers)
    try:
        found = []
        for index, tasks in enumerate(tasks_of(distribution, rounds)):
            opened.set_tasks(tasks)
            draws = draw(distribution.spec, K, E, ("normal", 1), 3, index)
            found.append(collect(opened, memoryless(act), draws, distribution.spec, CPU))
        return found
    finally:
        if env is None:
            opened.close()


def content(rounds: list[Trajectories]) -> bytes:
    """Every number in some rounds."""
    tensors = [x for one in rounds for x in (*one[:8], *one.behaviour)]
    return b"".join(x.contiguous().numpy().tobytes() for x in tensors)


def test_the_number_of_workers_changes_no_byte(strange_envs):
    expected = played(strange_envs.walk, Workers(0))
    assert expected[0].mask.sum() < expected[0].mask.numel(), "some episodes end early"
    for count in (1, 2, 4):
        assert content(played(strange_envs.walk, Workers(count))) == content(expected), count


def test_episodes_are_those_of_a_plain_loop(strange_envs):
    """One gymnasium environment after the other, by hand."""
    (found,) = played(strange_envs.walk, Workers(2), rounds=1)
    (tasks,) = tasks_of(strange_envs.walk, 1)
    seeds = draw(strange_envs.walk.spec, K, E, ("normal", 1), 3, 0).reset_seeds
    for k, task in enumerate(tasks):
        for e in range(E):
            env = strange_envs.Walk(**task)
            obs, _ = env.reset(seed=int(seeds[k, e]) % 2**31)
            for t in range(int(found.mask[k, :, e].sum())):
                np.testing.assert_array_equal(found.obs[k, t, e], obs)
                action = np.clip(found.actions[k, t, e].numpy(), -1.0, 1.0)
                obs, reward, terminated, _, _ = env.step(action)
                assert found.rewards[k, t, e] == np.float32(reward)
                assert found.terminated[k, t, e] == terminated
            np.testing.assert_array_equal(found.final_obs[k, e], obs)
            assert (
                found.terminated[k, :, e].any() or found.truncated[k, strange_envs.HORIZON - 1, e]
            )


def test_one_call_for_all_is_the_parts_side_by_side(strange_envs):
    """`reset` and `step` of the whole give what its parts give."""
    distribution = strange_envs.walk
    env = distribution.open(K, E, Workers(0))
    assert [part.episodes for part in env.parts] == [slice(0, 3), slice(3, 5)]
    env.set_tasks(distribution.sample(K, np.random.default_rng(0)))
    seeds = np.arange(K * E, dtype=np.uint64).reshape(K, E)
    actions = np.linspace(-1, 1, K * E, dtype=np.float32).reshape(K, E, 1)
    first, step = env.reset(seeds), env.step(actions)
    for part in env.parts:
        part.start(seeds[:, part.episodes])
        np.testing.assert_array_equal(part.first_obs(), first[:, part.episodes])
        part.send(actions[:, part.episodes])
        for mine, whole in zip(part.receive(), step, strict=True):
            np.testing.assert_array_equal(mine, whole[:, part.episodes])


def test_an_environment_that_reuses_its_array_is_read_right(strange_envs):
    expected = content(played(strange_envs.walk, Workers(0)))
    for count in (0, 2):
        assert content(played(strange_envs.reusing, Workers(count))) == expected


def test_what_a_step_returned_is_the_callers(strange_envs):
    env = strange_envs.walk.open(K, E, Workers(0))
    env.set_tasks(strange_envs.walk.sample(K, np.random.default_rng(0)))
    obs = env.reset(np.arange(K * E, dtype=np.uint64).reshape(K, E))
    kept = obs.copy()
    first = env.step(np.ones((K, E, 1), np.float32))
    copies = StepResult(*(x.copy() for x in first))
    env.step(np.ones((K, E, 1), np.float32))
    np.testing.assert_array_equal(obs, kept)
    for now, then in zip(first, copies, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_worker_is_replaced_and_its_share_done_again(strange_envs, tmp_path, how):
    expected = content(played(strange_envs.walk, Workers(0)))
    reason = "was killed by SIGKILL" if how == "dies" else "hung for more than 4 s"
    with pytest.warns(WorkerWarning, match=f"{reason}.*task .*episode .*step [34];"):
        found = played(strange_envs.once(tmp_path, how), Workers(2, timeout_s=4.0))
    assert (tmp_path / "was here").exists()
    assert content(found) == expected
    assert not workers_alive()


class Killer(threading.Thread):
    """Kills a worker at random moments, one at a time, each after the last one was replaced."""

    def __init__(self, times: int):
        super().__init__(daemon=True)
        self.left, self.killed = times, 0
        self.rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
        self.over = False

    def run(self) -> None:
        killed: set[int] = set()
        while self.left and not self.over:
            time.sleep(self.rng.uniform(0.02, 0.3))
            alive = [child.pid for child in workers_alive() if child.pid not in killed]
            if len(alive) == 2:
                victim = int(self.rng.choice(alive))
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                self.left, self.killed = self.left - 1, self.killed + 1


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_workers_killed_at_random_moments_change_nothing(strange_envs, times):
    """As many recoveries as deaths, each within 5 s."""
    rounds = 60 * times
    expected = content(played(strange_envs.walk, Workers(0), rounds))
    distribution = strange_envs.walk
    env = distribution.open(K, E, Workers(2, max_failures=10**6))
    killer = Killer(times)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        killer.start()
        while killer.left:
            assert content(played(distribution, Workers(2), rounds, env)) == expected
    env.close()
    said = [str(one.message) for one in caught if one.category is WorkerWarning]
    assert len(said) == killer.killed == times
    assert not [text for text in said if "gave other observations" in text]
    seconds = [
        float(text.rsplit(" in ", 1)[1].split()[0]) for text in said if "replayed in" in text
    ]
    assert max(seconds) < 5.0, seconds


def test_workers_that_die_again_and_again_end_the_run(strange_envs):
    """At the same place each time: the fourth within 100 meta-batches is one too many."""
    with pytest.raises(
        WorkersFailedError, match=r"exited with code 7 in .*step 3\n.*4 workers lost"
    ):
        played(strange_envs.faulty("exits"), Workers(2))
    assert WorkersFailedError.exit_code == 3
    assert not workers_alive()


def test_losses_long_ago_are_forgiven(strange_envs):
    """One loss in each 40 meta-batches is never more than three in a hundred."""
    env = strange_envs.walk.open(K, E, Workers(1, max_failures=3))
    tasks = tasks_of(strange_envs.walk, 1)[0]
    lost = 0
    for meta_batch in range(201):
        if meta_batch % 40 == 20:
            workers_alive()[0].kill()
            lost += 1
            with pytest.warns(WorkerWarning, match="SIGKILL .* between two meta-batches"):
                env.set_tasks(tasks)
        env.set_tasks(tasks)
    env.close()
    assert lost == 5


@pytest.mark.parametrize("pending", [False, True])
def test_another_course_of_a_replayed_episode_is_told(strange_envs, pending):
    """The seed does not decide everything, so the lost share cannot be repeated."""
    distribution, episodes = strange_envs.unrepeatable, 2
    env = distribution.open(K, episodes, Workers(1))
    env.set_tasks(tasks_of(distribution, 1)[0])
    env.reset(np.zeros((K, episodes), np.uint64))
    env.step(np.zeros((K, episodes, 1), np.float32))
    (child,) = workers_alive()
    child.kill()
    child.wait()
    env.parts[0].send(np.zeros((K, 1, 1), np.float32))
    if pending:
        env.parts[1].send(np.zeros((K, 1, 1), np.float32))
    with pytest.warns(WorkerWarning, match="gave other observations when they were replayed"):
        env.parts[0].receive()
    env.close()


def test_a_worker_that_hangs_each_time_ends_the_run_however_long_its_replay(strange_envs):
    """The pipe to it fills up, and nobody may wait for it to drain."""
    distribution = strange_envs.faulty("hangs", at=5, width=400)
    env = distribution.open(2, 80, Workers(1, timeout_s=2.0))
    tasks = distribution.sample(2, np.random.default_rng(0))
    env.set_tasks(tasks)
    env.reset(np.arange(160, dtype=np.uint64).reshape(2, 80))
    actions = np.zeros((2, 80, 400), np.float32)
    with pytest.raises(WorkersFailedError, match=r"hung for more than 2 s in .*step 5\n"):
        [env.step(actions) for _ in range(5)]
    env.close()
    assert not workers_alive()


def test_slow_is_not_hung(strange_envs):
    """Each step takes less time than it may, all of them more."""
    slow = strange_envs.slow(1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = slow.open(1, 4, Workers(1, timeout_s=3.0))
        env.set_tasks(slow.sample(1, np.random.default_rng(0)))
        env.reset(np.zeros((1, 4), np.uint64))
        env.step(np.zeros((1, 4, 1), np.float32))
        env.close()


@pytest.mark.parametrize("count", [0, 2])
def test_after_a_fault_other_tasks_can_be_played(strange_envs, count):
    """Steps under way when a fault is raised belong to nobody."""
    distribution = strange_envs.faulty("nan reward", at=1)
    env = distribution.open(2, 4, Workers(count))
    seeds = np.arange(8, dtype=np.uint64).reshape(2, 4)
    env.set_tasks([{"slope": 1.0}, {"slope": 1.1}])
    env.reset(seeds)
    with pytest.raises(EnvFaultError, match=r"reward is nan; task {'slope': 1.[01]}"):
        env.step(np.zeros((2, 4, 1), np.float32))
    env.set_tasks([{"slope": 2.0}, {"slope": 1.9}])
    assert np.isfinite(env.reset(seeds)).all()
    with pytest.raises(EnvFaultError, match=r"reward is nan; task {'slope': (2.0|1.9)}"):
        env.step(np.zeros((2, 4, 1), np.float32))
    env.close()


def test_a_default_timeout_of_sockets_changes_nothing(strange_envs):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        found = played(strange_envs.slow(0.05), Workers(2), 1)
    finally:
        socket.setdefaulttimeout(before)
    assert content(found) == content(played(strange_envs.walk, Workers(0), 1))


def test_an_environment_that_cannot_be_closed_is_a_warning(strange_envs, capfd):
    expected = content(played(strange_envs.walk, Workers(0)))
    with pytest.warns(UserWarning, match="Unclosable.close raised OSError: stuck"):
        assert content(played(strange_envs.unclosable, Workers(0))) == expected
    with pytest.warns(UserWarning, match="Unclosable.close raised OSError: stuck"):
        assert strange_envs.gym_tasks(strange_envs.Unclosable, strange_envs.SLOPE, horizon=5).spec
    assert content(played(strange_envs.unclosable, Workers(2))) == expected
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_left_behind(strange_envs):
    env = strange_envs.walk.open(K, E, Workers(2))
    assert len(workers_alive()) == 2
    assert not left_in_shared_memory(os.getpid())
    env.close()
    env.close()
    assert not workers_alive()
    with pytest.raises(EnvFaultError):
        played(strange_envs.faulty("step raises"), Workers(2))
    gc.collect()
    assert not workers_alive()


class InterruptedWhenSent:
    def __reduce__(self):
        raise KeyboardInterrupt


def test_an_interrupt_in_the_midst_of_a_message_ends_quietly(strange_envs, capfd):
    """The worker has read that one follows, and not the message."""
    env = strange_envs.walk.open(K, E, Workers(2))
    env.set_tasks(tasks_of(strange_envs.walk, 1)[0])
    children, started = workers_alive(), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        env.set_tasks([InterruptedWhenSent()] * K)
    env.close()
    assert time.monotonic() - started < 3.0
    assert len(children) == 2
    assert not workers_alive()
    assert "Traceback" not in capfd.readouterr().err


class Heavy(dict):
    """More than a pipe holds."""

    def __reduce__(self):
        return itemgetter(0), ((dict(self), bytes(10**6)),)


def test_after_an_interrupt_one_can_go_on(strange_envs, monkeypatch):
    """The interrupt comes when an answer was read and nobody had noted so."""
    env = strange_envs.walk.open(K, E, Workers(2, max_failures=0))
    tasks = tasks_of(strange_envs.walk, 1)[0]
    env.set_tasks(tasks)
    expected = env.reset(np.zeros((K, E), np.uint64))
    read, left = os.read, [2]

    def interrupted(descriptor, size):
        answer, left[0] = read(descriptor, size), left[0] - 1
        if not left[0]:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(worker.os, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.set_tasks(tasks)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="interrupted"):
        env.reset(np.zeros((K, E), np.uint64))
    started = time.monotonic()
    with pytest.warns(WorkerWarning, match="was interrupted"):
        env.set_tasks(tasks)
    np.testing.assert_array_equal(env.reset(np.zeros((K, E), np.uint64)), expected)
    assert time.monotonic() - started < 30.0  # not the minute that a worker is given
    env.close()


def test_a_worker_that_takes_no_message_is_replaced(strange_envs):
    env = strange_envs.walk.open(K, E, Workers(1, timeout_s=2.0))
    tasks = tasks_of(strange_envs.walk, 1)[0]
    env.set_tasks(tasks)
    (child,) = workers_alive()
    child.suspend()
    with pytest.warns(WorkerWarning, match="took no message for 2 s"):
        env.set_tasks([Heavy(task) for task in tasks])
    assert env.reset(np.zeros((K, E), np.uint64)).shape[:2] == (K, E)
    env.close()


def test_workers_have_one_thread_and_no_torch(strange_envs):
    before = dict(os.environ)
    env = strange_envs.walk.open(K, E, Workers(1))
    env.set_tasks(tasks_of(strange_envs.walk, 1)[0])
    (child,) = workers_alive()
    assert child.environ()["OMP_NUM_THREADS"] == "1"
    assert not any("libtorch" in region.path for region in child.memory_maps())
    env.close()
    assert dict(os.environ) == before


def test_what_cannot_travel_is_refused_with_the_way_out(strange_envs):
    lock = threading.Lock()
    distribution = strange_envs.gym_tasks(
        lambda slope: strange_envs.Walk(slope) if lock else None, strange_envs.SLOPE, horizon=5
    )
    assert len(played(distribution, Workers(0), 1)) == 1
    with pytest.raises(UserError, match=r"cannot be sent to worker.*lock.*\n.*--workers 0"):
        distribution.open(K, E, Workers(1))


def test_a_function_of_a_script_travels(strange_envs):
    """As it would from a notebook."""
    walk = strange_envs.Walk
    distribution = strange_envs.gym_tasks(
        lambda slope: walk(slope), strange_envs.SLOPE, horizon=strange_envs.HORIZON
    )
    expected = content(played(strange_envs.walk, Workers(0)))
    assert content(played(distribution, Workers(1))) == expected


@pytest.mark.parametrize("name", ["point-goal", "bandit:5"])
def test_environments_that_are_arrays_need_no_workers(name):
    env = catalogue.make(name, 5).open(K, E, Workers(2))
    assert not workers_alive()
    env.close()


@pytest.mark.parametrize("end", ["close", "kill"])
def test_environments_may_start_processes_which_end_with_their_worker(strange_envs, tmp_path, end):
    """One of multiprocessing's and another program each, whether a worker closes or is killed."""
    pids = tmp_path / "pids"
    tasks = strange_envs.parents(pids)
    env = tasks.open(2, 1, Workers(2))
    env.set_tasks(tasks.sample(2, np.random.default_rng(0)))
    env.reset(np.zeros((2, 1), np.uint64))
    started = [psutil.Process(int(pid)) for pid in pids.read_text().split()[-4:]]
    assert all(child.is_running() for child in started)
    if end == "kill":
        for one in env.executor._workers:
            one.process.kill()
    env.close()
    _, alive = psutil.wait_procs(started, timeout=5)
    assert not alive
