from __future__ import annotations

import importlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
from ssvideo_core import loading
from ssvideo_core.errors import ConfigError, DataError, NoSoundError
from ssvideo_core.loading import WorkerDiedError, ordered_map
from ssvideo_core.source import open_source
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan

WAIT_S = 20


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # from here to the workers' path
    return importlib.import_module("worker_tasks")


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "what should happen did not"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that other tests of the session keep are no workers of this one."""
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", frozenset(psutil.Process().children()))


OTHERS: frozenset[psutil.Process] = frozenset()


def children() -> list[psutil.Process]:
    """The workers; multiprocessing's own helper stays."""
    mine = set(psutil.Process().children()) - OTHERS
    alive = [process for process in mine if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in alive if "spawn_main" in " ".join(process.cmdline())]


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            assert np.array_equal(found[name], value), name
            assert found[name].flags.writeable
        else:
            assert found[name] == value


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_are_those_of_map(tasks: ModuleType, workers: int) -> None:
    assert list(ordered_map(tasks.slow_first, range(8), workers=workers)) == list(range(8))
    assert list(ordered_map(tasks.square, [], workers=workers)) == []
    # Sizes that go through the socket, as a copied and as a mapped memory file, in turns.
    jobs = [(seed, size) for seed in range(2) for size in (200, 9_000, 3_000_000, 100)]
    results = ordered_map(tasks.arrays, iter(jobs), workers=workers)
    for result, job in zip(results, jobs, strict=True):
        assert_same(result, tasks.arrays(job))


@pytest.mark.parametrize("workers", [1, 2])
def test_arrays_as_tasks(tasks: ModuleType, workers: int) -> None:
    values = [np.arange(3.0), np.arange(200_000.0), np.zeros((0, 2))]
    expected = [value * 2 for value in values]
    results = ordered_map(tasks.double, values, workers=workers)
    for result, value in zip(results, expected, strict=True):
        assert np.array_equal(result, value)


def test_results_outlive_the_workers(tasks: ModuleType) -> None:
    job = (1, 5_000_000)
    (result,) = ordered_map(tasks.arrays, [job], workers=1)
    assert not children()
    assert_same(result, tasks.arrays(job))


def test_videos_are_the_same_for_any_number_of_workers(clips: Path, tasks: ModuleType) -> None:
    source = open_source(clips)
    clip = ClipSpec("rgb", Spread(4, 1.0), Pixels(56, 56, 56), "repeat_last")
    views = [plan(source.info(n), clip, temporal=2) for n in range(len(source))]
    read = partial(tasks.read, source)
    found = [list(ordered_map(read, enumerate(views), workers=workers)) for workers in (0, 1, 3)]
    for alone, *others in zip(*found, strict=True):
        for other in others:
            assert len(other) == len(alone) == 6
            for first, second in zip(alone, other, strict=True):
                assert np.array_equal(first.frames, second.frames)


def test_all_workers_work(tasks: ModuleType) -> None:
    ids = set(ordered_map(tasks.process_id, range(60), workers=3))
    assert len(ids) == 3
    assert os.getpid() not in ids
    assert set(ordered_map(tasks.process_id, range(3))) == {os.getpid()}


def test_no_more_workers_than_tasks(tasks: ModuleType) -> None:
    results = ordered_map(tasks.square, [3], workers=3)
    assert next(results) == 9
    assert len(children()) == 1
    results.close()


@pytest.mark.parametrize(("workers", "in_flight", "limit"), [(2, None, 4), (1, 3, 3), (2, 1, 1)])
def test_a_slow_consumer_stops_the_workers(
    tasks: ModuleType, tmp_path: Path, workers: int, in_flight: int | None, limit: int
) -> None:
    jobs = ((tmp_path, number) for number in itertools.count())  # endless: taken one by one
    results = ordered_map(tasks.log, jobs, workers=workers, in_flight=in_flight)
    for asked in range(1, 6):
        assert next(results) == asked - 1
        wait_for(lambda asked=asked: len(list(tmp_path.iterdir())) == asked + limit)
        time.sleep(0.1)
        assert len(list(tmp_path.iterdir())) == asked + limit
    results.close()
    jobs.close()


def test_an_alone_map_takes_tasks_when_asked(tasks: ModuleType) -> None:
    taken = []
    results = ordered_map(tasks.square, (taken.append(n) or n for n in range(9)))
    assert (next(results), next(results), taken) == (0, 1, [0, 1])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_errors_come_in_their_turn(tasks: ModuleType, workers: int) -> None:
    results = ordered_map(tasks.fail_at_five, range(9), workers=workers)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(NoSoundError) as raised:
        next(results)
    assert type(raised.value) is NoSoundError
    assert str(raised.value) == "clip 5: no sound"
    assert list(results) == []
    assert not children()


def test_errors_of_other_kinds(tasks: ModuleType) -> None:
    with pytest.raises(ValueError, match="a bug") as raised:
        list(ordered_map(tasks.fail, ["value"], workers=1))
    assert raised.value.args == ("a bug", 3)
    assert "worker_tasks.py" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="TwoPartError in a worker process: left and right"):
        list(ordered_map(tasks.fail, ["two parts"], workers=1))
    with pytest.raises(Exception, match="pickle"):
        list(ordered_map(tasks.fail, ["result"], workers=1))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_worker_is_reported_with_its_video(tasks: ModuleType, workers: int) -> None:
    results = ordered_map(
        tasks.die_at_four, range(9), workers=workers, name=lambda n: f"class/v{n}.avi"
    )
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    message = r"was ended by SIGKILL at work on class/v4\.avi\. If memory ran out"
    with pytest.raises(WorkerDiedError, match=message) as raised:
        next(results)
    assert isinstance(raised.value, DataError)
    assert not children()


def test_a_worker_killed_from_outside(tasks: ModuleType, tmp_path: Path) -> None:
    jobs = [(tmp_path, 60.0), (tmp_path, 0.0)]
    results = ordered_map(tasks.sleep_and_tell, jobs, workers=1, name=lambda job: f"{job[1]}.mp4")

    def kill() -> bool:
        if found := [int(path.name) for path in tmp_path.iterdir()]:
            os.kill(found[0], signal.SIGKILL)
        return bool(found)

    killer = threading.Thread(target=wait_for, args=(kill,))
    killer.start()
    with pytest.raises(WorkerDiedError, match=r"SIGKILL at work on 60\.0\.mp4"):
        next(results)
    killer.join()


def test_an_idle_worker_that_was_killed(tasks: ModuleType) -> None:
    results = ordered_map(tasks.square, range(9), workers=1, in_flight=1)
    next(results)
    (worker,) = children()
    wait_for(lambda: worker.status() == psutil.STATUS_SLEEPING)
    time.sleep(0.2)
    worker.kill()
    wait_for(lambda: worker.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(WorkerDiedError, match="SIGKILL between two tasks"):
        list(results)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_while_workers_start(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    original = loading._Pool._start

    def start(pool: Any) -> None:
        original(pool)
        os.kill(pool._workers[-1].process.pid, number)

    monkeypatch.setattr(loading._Pool, "_start", start)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert list(ordered_map(tasks.square, range(3), workers=2)) == [0, 1, 4]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_a_worker_that_exits(tasks: ModuleType) -> None:
    with pytest.raises(WorkerDiedError, match=r"exit code 3 at work on exit\. Its messages"):
        list(ordered_map(tasks.fail, ["exit"], workers=1))


def test_closing_early_ends_the_workers(tasks: ModuleType, tmp_path: Path) -> None:
    jobs = [(tmp_path, 0.0), *[(tmp_path, 60.0)] * 9]
    results = ordered_map(tasks.sleep_and_tell, jobs, workers=2)
    next(results)
    assert children()
    results.close()
    assert not children()
    dropped = ordered_map(tasks.square, range(9), workers=2)
    next(dropped)
    del dropped
    assert not children()


def test_interrupts_are_left_to_the_parent(tasks: ModuleType) -> None:
    assert list(ordered_map(tasks.interrupt_myself, range(4), workers=2)) == [0, 1, 2, 3]


SCRIPT = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import worker_tasks
    from ssvideo_core.loading import ordered_map

    def main():
        jobs = [(Path({folder!r}), 0.0)] + [(Path({folder!r}), 60.0)] * 4
        results = ordered_map(worker_tasks.sleep_and_tell, jobs, workers=2)
        next(results)
        {then}

    {start}
"""
GUARDED = "if __name__ == '__main__': main()"


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    (tmp_path / "ids").mkdir()
    started: list[subprocess.Popen[str]] = []

    def start(then: str, start: str = GUARDED) -> subprocess.Popen[str]:
        text = textwrap.dedent(SCRIPT).format(
            tests=str(Path(__file__).parent), folder=str(tmp_path / "ids"), then=then, start=start
        )
        (tmp_path / "script.py").write_text(text)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        started.append(
            subprocess.Popen(
                [sys.executable, str(tmp_path / "script.py")],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_workers_end_with_a_killed_parent(
    script: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    parent = script("import time; time.sleep(60)")
    wait_for(lambda: len(list((tmp_path / "ids").iterdir())) == 2)
    workers = [int(path.name) for path in (tmp_path / "ids").iterdir()]
    assert all(psutil.pid_exists(worker) for worker in workers)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(_runs(worker) for worker in workers))


def _runs(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_script_that_fails_does_not_hang(
    script: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    # The error's traceback keeps the iterator, and so the workers, until the interpreter ends.
    parent = script("sys.last_frame = sys._getframe(); sys.last_results = results; 1 / 0")
    _, messages = parent.communicate(timeout=WAIT_S)
    assert parent.returncode == 1
    assert "ZeroDivisionError" in messages
    wait_for(lambda: not any(_runs(int(path.name)) for path in (tmp_path / "ids").iterdir()))


def test_a_script_without_a_guard_is_told_so(script: Callable[..., subprocess.Popen[str]]) -> None:
    _, messages = script("pass", start="main()").communicate(timeout=WAIT_S)
    assert 'if __name__ == "__main__":' in messages.splitlines()[-1]
    assert "WorkerDiedError" in messages


def test_more_tasks_than_the_sockets_hold(tasks: ModuleType) -> None:
    # Neither this process, which sends tasks, nor the workers, which send results, may wait for
    # the other for ever.
    values = [np.full(400, float(number)) for number in range(3000)]
    results = ordered_map(tasks.double, values, workers=2, in_flight=3000)
    for number, result in enumerate(results):
        assert result.tolist() == [2.0 * number] * 400


@pytest.mark.parametrize("counts", [(-1, None), (2, 0)])
def test_counts_that_make_no_sense(tasks: ModuleType, counts: tuple[int, int | None]) -> None:
    with pytest.raises(ConfigError, match="tasks in flight are asked for, expected"):
        ordered_map(tasks.square, range(3), workers=counts[0], in_flight=counts[1])


def test_systems_without_workers(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.sys, "platform", "darwin")
    assert list(ordered_map(tasks.square, range(3))) == [0, 1, 4]
    with pytest.raises(ConfigError, match="2 workers are asked for; expected 0"):
        ordered_map(tasks.square, range(3), workers=2)
