"""An ordered map over worker processes: videos are decoded beside the network.

Workers are fresh interpreters ("spawn"), because forking a process in which torch or jax has
started threads can hang it. They share nothing but one socket each with this process; arrays cross
as anonymous memory files, which a worker fills without waiting for this process and which vanish
with the last process that knows them.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NamedTuple, TypeVar

from ssvideo_core.errors import ConfigError, DataError, SSVideoError

T = TypeVar("T")
R = TypeVar("R")

_QUEUE = 16  # tasks that a worker holds at most: their messages fit a socket, so nobody blocks
_INLINE = 4096  # bytes of a message that go through the socket itself
_COPIED = 1 << 20  # bytes up to which a memory file is copied: mappings are a limited resource
_ALIGNMENT = 64
_END_S = 1.0  # for workers to end by themselves


class WorkerDiedError(DataError):
    """A worker process ended without a result; the message names what it was working on."""


def ordered_map(
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int = 0,
    in_flight: int | None = None,
    name: Callable[[T], str] = str,
) -> Generator[R, None, None]:
    """`map(function, tasks)` by `workers` processes; 0 calls the function in this one.

    function: picklable, sent once to each worker. tasks: picklable, taken one by one.
    in_flight: tasks begun and not yet asked for, 2 x workers unless given; a slow consumer thereby
        stops the workers. name: what a message calls a task.

    Results come in the order of the tasks, and so do errors: an exception of `function` is raised
    here with its type and message, after the results before it. A worker that dies (killed, out of
    memory) raises WorkerDiedError in its task's turn, ConfigError is raised for counts that make no
    sense. Closing or dropping the iterator ends the workers; so does the end of this process,
    however it comes. A script that uses workers needs `if __name__ == "__main__":` around its work.
    """
    limit = 2 * workers if in_flight is None else in_flight
    if workers < 0 or (workers and limit < 1):
        raise ConfigError(
            f"{workers} workers and {limit} tasks in flight are asked for, expected 0 or more "
            "workers, and with workers 1 task or more"
        )
    if workers:
        return _parallel(function, tasks, workers, limit, name)
    return (function(task) for task in tasks)


class _Outcome(NamedTuple):
    value: Any
    error: Exception | None = None


def _parallel(
    function: Callable[[T], R],
    tasks: Iterable[T],
    workers: int,
    limit: int,
    name: Callable[[T], str],
) -> Generator[R, None, None]:
    numbered = enumerate(tasks)
    outcomes: dict[int, _Outcome] = {}
    with contextlib.closing(_Pool(function, workers, name)) as pool:

        def begin(handed_out: int) -> None:
            free = min(limit, workers * _QUEUE) - (pool.submitted - handed_out)
            for number, task in islice(numbered, free):
                pool.submit(number, task)

        begin(0)
        for following in count():
            if following == pool.submitted:
                return
            while following not in outcomes:
                outcomes.update(pool.collect())
            outcome = outcomes.pop(following)
            if outcome.error is not None:
                raise outcome.error
            begin(following + 1)
            yield outcome.value


@dataclass
class _Worker:
    """held: tasks sent and not yet answered, oldest first, by number; it works on the first."""

    process: SpawnProcess
    connection: Connection
    held: deque[tuple[int, Any]] = field(default_factory=deque)


class _Pool:
    """Worker processes, started when there is work for one more."""

    def __init__(
        self, function: Callable[[Any], Any], size: int, name: Callable[[Any], str]
    ) -> None:
        self._function, self._size, self._name = function, size, name
        self._workers: list[_Worker] = []
        self.submitted = 0
        # Before multiprocessing's own handler, which would wait for workers that wait for us.
        atexit.register(self.close)

    def submit(self, number: int, task: Any) -> None:
        # In turns: results are handed out in order, so neighbours should be worked on side by side.
        turn = number % self._size
        worker = self._workers[turn] if turn < len(self._workers) else self._start()
        worker.held.append((number, task))
        self.submitted += 1
        # A worker that died meanwhile is reported when its answer is collected.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _send(worker.connection, _pack(task))

    def collect(self) -> dict[int, _Outcome]:
        """Wait for answers; what arrived, by number of the task."""
        found = {}
        working = {worker.connection: worker for worker in self._workers if worker.held}
        for connection in wait(list(working)):
            worker = working[connection]  # type: ignore[index]
            try:
                outcome = _receive(worker.connection)
            except (EOFError, ConnectionResetError):
                outcome = _Outcome(None, self._died(worker))
            found[worker.held.popleft()[0]] = outcome
            if isinstance(outcome.error, WorkerDiedError):
                worker.held.clear()  # the error ends the map before their turn
        return found

    def close(self) -> None:
        """End the workers, those that are busy after a second."""
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.connection.close()
        until = time.monotonic() + _END_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
        process.start()
        theirs.close()  # else the end of the worker would not close the connection
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _died(self, worker: _Worker) -> WorkerDiedError:
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        advice = (
            "If memory ran out, use fewer workers; else look at that video"
            if code < 0
            else "Its messages are above; a script that uses workers must not start its work when "
            'it is imported (if __name__ == "__main__":)'
        )
        name = self._name(worker.held[0][1])
        return WorkerDiedError(f"a worker process ended by {how} at work on {name}. {advice}")


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """The life of a worker."""
    # Ctrl-C and a scheduler's SIGTERM reach the whole group; the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = _receive(connection)
            _send(connection, _answer(function, task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers have a parent"
    parent.join()
    os._exit(1)


def _answer(function: Callable[[Any], Any], task: Any) -> _Parts:
    try:
        return _pack(_Outcome(function(task)))
    except Exception as error:  # of any kind: it is raised in the parent
        return _pack(_Outcome(None, _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, with the traceback if it may be a bug."""
    report = traceback.format_exc()
    if not isinstance(error, SSVideoError):
        error.add_note(f"In a worker process:\n{report}")
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # pickling runs the error's own code
        pass
    return RuntimeError(f"{type(error).__name__} in a worker process: {error}\n{report}")


# A message is the pickle of a value and then its arrays, each with its span of bytes.
_Parts = list[memoryview]


def _pack(value: Any) -> _Parts:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [memoryview(head), *(buffer.raw() for buffer in buffers)]


def _send(connection: Connection, parts: _Parts) -> None:
    spans, end = [], 0
    for part in parts:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + part.nbytes
        spans.append((start, end))
    if end <= _INLINE or sys.platform != "linux":
        data = bytearray(end)
        for (start, stop), part in zip(spans, parts, strict=True):
            data[start:stop] = part
        connection.send((spans, data))
        return
    file = os.memfd_create("ssvideo")
    try:
        os.ftruncate(file, end)
        for (start, _), part in zip(spans, parts, strict=True):
            _write(file, part, start)
        connection.send((spans, None))
        send_handle(connection, file, 0)
    finally:
        os.close(file)


def _write(file: int, part: memoryview, offset: int) -> None:
    while part:
        written = os.pwrite(file, part, offset)
        part, offset = part[written:], offset + written


def _receive(connection: Connection) -> Any:
    spans, data = connection.recv()
    if data is None:
        file = recv_handle(connection)
        try:
            size = spans[-1][1]
            data = mmap.mmap(file, size)
            if size <= _COPIED:
                data = bytearray(data)
        finally:
            os.close(file)
    view = memoryview(data)
    head, *arrays = (view[start:stop] for start, stop in spans)
    return pickle.loads(head, buffers=arrays)
