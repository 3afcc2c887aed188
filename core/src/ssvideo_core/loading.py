"""An ordered map over worker processes: videos are decoded beside the network.

Workers are fresh interpreters ("spawn"), because forking a process in which torch or jax has
started threads can hang it. All take their tasks from one socket, so that none waits while there is
work, even if this process is busy, and give results back on their own. Arrays cross as anonymous
memory files, which vanish with the last process that knows them.

Against torch's DataLoader (2.15, 2 cores, 2 workers, core/benchmarks/loading.py): 1.21 times its
throughput for one clip of 1 MB a video, 1.11 times for 10 x 3 views of 34 MB.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeVar

from ssvideo_core.errors import ConfigError, DataError, SSVideoError

T = TypeVar("T")
R = TypeVar("R")

_INLINE = 4096  # bytes of a message up to which it goes through the socket itself
_COPIED = 1 << 20  # bytes up to which a memory file is copied: mappings are a limited resource
_ALIGNMENT = 64
_END_S = 1.0  # for workers to end by themselves
# Ctrl-C and a scheduler's signals reach the whole group; the parent decides what they mean.
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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
    in_flight: how many tasks may be begun and their results not yet asked for, 2 x workers unless
        given; a slow consumer thereby stops the workers. name: what a message calls a task.

    Results come in the order of the tasks, and so do errors: an exception of `function` is raised
    here with its type and message, after the results before it. A worker that dies (killed, out of
    memory) raises WorkerDiedError. Closing or dropping the iterator ends the workers; so does the
    end of this process, however it comes. A script that uses workers needs
    `if __name__ == "__main__":` around its work.

    Raises ConfigError for counts that make no sense, and for workers on systems other than Linux.
    """
    limit = 2 * workers if in_flight is None else in_flight
    if workers < 0 or (workers and limit < 1):
        raise ConfigError(
            f"{workers} workers and {limit} tasks in flight are asked for, expected 0 or more "
            "workers, and with workers 1 task or more"
        )
    if workers and sys.platform != "linux":
        raise ConfigError(
            f"{workers} workers are asked for; expected 0, because only Linux has them"
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
    begun: dict[int, T] = {}
    with contextlib.closing(_Pool(function, workers)) as pool:

        def begin() -> None:
            for number, task in islice(numbered, limit - len(begun)):
                begun[number] = task
                pool.submit(number, task)

        begin()
        for number in count():
            if number not in begun:
                return
            outcome = pool.result(number, lambda taken: name(begun[taken]))
            if outcome.error is not None:
                raise outcome.error
            del begun[number]
            begin()
            yield outcome.value


@dataclass
class _Worker:
    """taken: the number of the task it works on."""

    process: SpawnProcess
    results: socket.socket
    taken: int | None = None


class _Pool:
    """Worker processes, started when there is work for one more."""

    def __init__(self, function: Callable[[Any], Any], size: int) -> None:
        self._function, self._size = function, size
        self._workers: list[_Worker] = []
        self._tasks, self._tasks_end = _socket_pair()
        self._unsent: deque[tuple[int, Any]] = deque()
        self._outcomes: dict[int, _Outcome] = {}
        # Before multiprocessing's own handler, which would wait for workers that wait for us.
        atexit.register(self.close)

    def submit(self, number: int, task: Any) -> None:
        if len(self._workers) < self._size:
            self._start()
        self._unsent.append((number, task))
        self._send_tasks()

    def result(self, number: int, name: Callable[[int], str]) -> _Outcome:
        """Wait for the outcome of one task. name: by number of a task."""
        while number not in self._outcomes:
            ready = wait([worker.results for worker in self._workers])
            for worker in self._workers:
                if worker.results in ready:
                    self._collect(worker, number, name)
            self._send_tasks()
        return self._outcomes.pop(number)

    def _collect(self, worker: _Worker, number: int, name: Callable[[int], str]) -> None:
        try:
            taken, outcome = _receive(worker.results)
        except (EOFError, ConnectionResetError):
            worker.process.join()
            self._workers.remove(worker)
            # Without a task it may have died just after taking one, which then never ends.
            failed = number if worker.taken is None else worker.taken
            at = "between two tasks" if worker.taken is None else f"at work on {name(failed)}"
            self._outcomes[failed] = _Outcome(None, _death(worker.process, at))
            return
        worker.taken = taken if outcome is None else None
        if outcome is not None:
            self._outcomes[taken] = outcome

    def _send_tasks(self) -> None:
        """Send what the socket has room for; it is never waited for, so nobody waits in a ring."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                _send(self._tasks, _pack(self._unsent[0]), socket.MSG_DONTWAIT)
                self._unsent.popleft()

    def _start(self) -> None:
        ours, theirs = _socket_pair()
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(self._function, self._tasks_end, theirs), daemon=True
        )
        # Blocked from the first moment, as they can only be ignored when the interpreter is ready.
        resource_tracker.ensure_running()  # its start unblocks them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # else the end of the worker would not close the socket
        self._workers.append(_Worker(process, ours))

    def close(self) -> None:
        """End the workers; those that are busy get a second."""
        atexit.unregister(self.close)
        for end in (self._tasks, self._tasks_end, *(worker.results for worker in self._workers)):
            end.close()
        until = time.monotonic() + _END_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        self._workers.clear()


def _death(process: SpawnProcess, at: str) -> WorkerDiedError:
    code = process.exitcode or 0
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
        advice = "If memory ran out, use fewer workers; else look at that video"
    else:
        how = f"ended with exit code {code}"
        advice = (
            "Its messages are above. A script that uses workers must not start its work when it is "
            'imported (if __name__ == "__main__":)'
        )
    return WorkerDiedError(f"a worker process {how} {at}. {advice}")


def _serve(function: Callable[[Any], Any], tasks: socket.socket, results: socket.socket) -> None:
    """The life of a worker."""
    for number in _OF_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_GROUP)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            number, task = _receive(tasks)
            _send(results, _pack((number, None)))
            _send(results, _answer(function, number, task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers have a parent"
    parent.join()
    os._exit(1)


def _answer(function: Callable[[Any], Any], number: int, task: Any) -> _Message:
    try:
        return _pack((number, _Outcome(function(task))))
    except Exception as error:  # of any kind: it is raised in the parent
        return _pack((number, _Outcome(None, _portable(error))))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, with the traceback if it may be a bug."""
    report = traceback.format_exc()
    if not isinstance(error, SSVideoError):
        error.add_note(f"In a worker process:\n{report}")
    if pickled_error(error) is not None:
        return error
    return RuntimeError(f"{type(error).__name__} in a worker process: {error}\n{report}")


def pickled_error(error: BaseException) -> bytes | None:
    """The pickle of an error for another process of ours; None if it does not survive that."""
    try:
        data = pickle.dumps(error)
        copy = pickle.loads(data)
    except Exception:  # pickling runs the error's own code
        return None
    return data if type(copy) is type(error) and str(copy) == str(error) else None


class _Message(NamedTuple):
    """Parts by first byte: their number and places, then the pickle of a value and its arrays."""

    size: int
    parts: list[tuple[int, memoryview]]


def _pack(value: Any) -> _Message:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    contents = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    layout = struct.Struct(f"<{1 + 2 * len(contents)}Q")
    places, end = [len(contents)], layout.size
    parts = []
    for content in contents:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + content.nbytes
        places += [start, end]
        parts.append((start, content))
    return _Message(end, [(0, memoryview(layout.pack(*places))), *parts])


def _unpack(data: memoryview) -> Any:
    (num_parts,) = struct.unpack_from("<Q", data)
    places = iter(struct.unpack_from(f"<{2 * num_parts}Q", data, 8))
    head, *arrays = (data[start:end] for start, end in zip(places, places, strict=True))
    return pickle.loads(head, buffers=arrays)


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    # SEQPACKET keeps messages whole, also when several processes take them from one socket.
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _send(end: socket.socket, message: _Message, flags: int = 0) -> None:
    if message.size <= _INLINE:
        data = bytearray(message.size)
        for start, part in message.parts:
            data[start : start + part.nbytes] = part
        end.send(data, flags)
        return
    file = os.memfd_create("ssvideo")
    try:
        os.ftruncate(file, message.size)
        for start, part in message.parts:
            while part.nbytes:
                written = os.pwrite(file, part, start)
                start, part = start + written, part[written:]
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file))
        end.sendmsg([b"file"], [rights], flags)
    finally:
        os.close(file)


def _receive(end: socket.socket) -> Any:
    """Raises EOFError when the other end is closed."""
    data, files, _, _ = socket.recv_fds(end, _INLINE, 1, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise EOFError
    if not files:
        return _unpack(memoryview(bytearray(data)))
    try:
        mapped = mmap.mmap(files[0], 0)
    finally:
        os.close(files[0])
    return _unpack(memoryview(bytearray(mapped) if len(mapped) <= _COPIED else mapped))
