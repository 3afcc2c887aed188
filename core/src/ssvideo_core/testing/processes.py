"""Warm processes for tests, which run a function on every rank.

Starting W interpreters with a framework takes seconds; a pool pays that once and then answers in
milliseconds. It knows no framework: `setup` names the function that makes a rank's process object.
What is killed instead is started by `programs`; its `kill_and_continue` can be had from here too.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ssvideo_core.loading import pickled_error
from ssvideo_core.testing.programs import kill_and_continue

__all__ = ["PoolError", "ProcessPool", "kill_and_continue", "pool_of"]

SETUP = "ssvideo_torch.start:start_in_pool"
TIMEOUT_S = 60.0
_START_S = 120.0  # to import a framework on a busy machine
_GRACE_S = 1.0  # for the other ranks, once one has failed and they may be waiting for it


class PoolError(RuntimeError):
    """Ranks of a pool died, did not answer, or failed in a way that cannot be raised again."""


class ProcessPool:
    """W interpreters, started at the first use and kept, that run one function together.

    setup: "module:function"; called in each as (rank, world_size, folder) with a folder that all
    share, it returns what functions get as their first argument.
    """

    def __init__(self, world_size: int, setup: str = SETUP) -> None:
        if world_size < 1:
            raise ValueError(f"world_size is {world_size}, expected at least 1")
        self.world_size, self.setup = world_size, setup
        self._ranks: list[_Rank] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(
        self, function: Callable[..., Any], *args: Any, timeout_s: float = TIMEOUT_S
    ) -> list[Any]:
        """`function(process, *args)` on every rank; the results as a list by rank.

        function: at the top level of a file, which each rank imports once under the name it has
        here. args and results cross by pickle, so arrays and tensors are copies.

        When ranks fail, the exception of the first one is raised here, with its own type where
        pickle can carry it, else as a PoolError, and with the rank and its traceback as a note.
        Raises PoolError for a rank that died, and TimeoutError after timeout_s seconds. Unless all
        ranks failed or none, the processes are ended, and the next run starts new ones.
        """
        request = pickle.dumps((sys.path, _where(function), pickle.dumps(args)))
        if not self._ranks:
            self._start()
        try:
            for rank in self._ranks:
                rank.connection.send_bytes(request)
        except OSError as error:  # a rank died since the last run
            problem = "; ".join(self._deaths(range(self.world_size))) or str(error)
            self.close()
            raise PoolError(f"the pool is broken: {problem}") from None
        return self._collect(timeout_s)

    def close(self) -> None:
        """End the processes, at once and whatever they do."""
        atexit.unregister(self.close)
        for rank in self._ranks:
            rank.process.kill()
        for rank in self._ranks:
            rank.process.join()
            rank.connection.close()
        self._ranks.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        # Before multiprocessing's own handler, which would wait for processes that wait for us.
        atexit.register(self.close)
        self._folder = tempfile.TemporaryDirectory(prefix="ssvideo-pool-")
        context = multiprocessing.get_context("spawn")
        for number in range(self.world_size):
            ours, theirs = context.Pipe()
            place = (number, self.world_size, Path(self._folder.name))
            process = context.Process(target=_serve, args=(theirs, self.setup, place))
            process.start()
            theirs.close()  # else the end of the process would not close the pipe
            self._ranks.append(_Rank(process, ours))
        self._collect(_START_S)

    def _collect(self, timeout_s: float) -> list[Any]:
        """One answer of each rank."""
        answers: dict[int, _Answer] = {}
        failed: list[int] = []  # in the order in which it was noticed
        until = time.monotonic() + timeout_s
        while waiting := [n for n in range(self.world_size) if n not in answers]:
            ready = wait(
                [self._ranks[n].connection for n in waiting], max(0.0, until - time.monotonic())
            )
            if not ready:
                break
            for number in (n for n in waiting if self._ranks[n].connection in ready):
                answers[number] = self._receive(number)
                if answers[number].error is not None:
                    failed.append(number)
                    until = min(until, time.monotonic() + _GRACE_S)
        silent = [n for n in range(self.world_size) if n not in answers]
        if silent or 0 < len(failed) < self.world_size or any(answers[n].died for n in failed):
            self.close()
        if failed:
            # A death is the cause of what the others say, even if it is noticed later.
            cause = next((n for n in failed if answers[n].died), failed[0])
            raise answers[cause].exception(silent)
        if silent:
            raise TimeoutError(f"ranks {silent} did not answer within {timeout_s:g} s")
        return [answers[n].value for n in range(self.world_size)]

    def _receive(self, number: int) -> _Answer:
        rank = self._ranks[number]
        try:
            answer = pickle.loads(rank.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            rank.process.join(_START_S)
            return _Answer(number, error="; ".join(self._deaths([number])), died=True)
        assert isinstance(answer, _Answer)
        return answer

    def _deaths(self, numbers: Sequence[int]) -> list[str]:
        codes = {n: self._ranks[n].process.exitcode for n in numbers}
        return [
            f"rank {n} was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"rank {n} ended with exit code {code}"
            for n, code in codes.items()
            if code is not None
        ]


@functools.cache
def pool_of(world_size: int, setup: str = SETUP) -> ProcessPool:
    """The pool of this size that all tests of a session share; it ends with this process."""
    return ProcessPool(world_size, setup)


@dataclass
class _Rank:
    process: SpawnProcess
    connection: Connection[Any, Any]


@dataclass(frozen=True)
class _Answer:
    """error: what happened, with the traceback; pickled: the exception itself if it survives."""

    rank: int
    value: Any = None
    error: str | None = None
    pickled: bytes | None = None
    died: bool = False

    def exception(self, silent: Sequence[int]) -> BaseException:
        note = f"On rank {self.rank}: {self.error}"
        if silent:
            note += f"\nRanks {list(silent)} had not answered yet and were ended."
        if self.pickled is None:
            return PoolError(note)
        error = pickle.loads(self.pickled)
        assert isinstance(error, BaseException)
        error.add_note(note)
        return error


class _Where(NamedTuple):
    """Where a rank finds a function."""

    file: str
    module: str
    qualname: str


def _where(function: Callable[..., Any]) -> _Where:
    name, file = getattr(function, "__qualname__", "<none>"), inspect.getsourcefile(function)
    if "<" in name or file is None:
        raise ValueError(f"{function} is not at the top level of a file, where ranks can find it")
    return _Where(str(Path(file).resolve()), function.__module__, name)


def _serve(connection: Connection[Any, Any], setup: str, place: tuple[int, int, Path]) -> None:
    """The life of a rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, name = setup.partition(":")
    process: Any = None

    def set_up() -> None:
        nonlocal process
        process = getattr(importlib.import_module(module), name)(*place)

    def work(request: bytes) -> Any:
        path, where, args = pickle.loads(request)
        sys.path[:] = path
        function = _find(where)
        return function(process, *pickle.loads(args))

    connection.send_bytes(_answer(place[0], set_up))
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(_answer(place[0], functools.partial(work, request)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "ranks have a parent"
    parent.join()
    os._exit(1)


def _answer(rank: int, work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps(_Answer(rank, value=work()))
    except BaseException as error:  # pytest's too: it is raised in the parent
        report = traceback.format_exc()
        return pickle.dumps(_Answer(rank, error=report, pickled=pickled_error(error)))


def _find(where: _Where) -> Callable[..., Any]:
    module = sys.modules.get(where.module)
    if module is None or not _is_from(module, where.file):
        module = _load(where)
    found: Any = module
    for part in where.qualname.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _load(where: _Where) -> ModuleType:
    """Import a file under a given name, which pickles of its classes contain.

    pytest names a test module after its folders, which need not be packages.
    """
    parents = where.module.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        _import_or_make(".".join(parents[:depth]))
    spec = importlib.util.spec_from_file_location(where.module, where.file)
    assert spec is not None and spec.loader is not None, f"{where.file} is no Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[where.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[where.module]
        raise
    return module


def _import_or_make(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module = ModuleType(name)
        module.__path__ = []
        sys.modules[name] = module


def _is_from(module: ModuleType, file: str) -> bool:
    found = getattr(module, "__file__", None)
    return found is not None and str(Path(found).resolve()) == file
