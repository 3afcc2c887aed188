"""Programs for tests: run to their end, killed at a moment, or started several at once.

A program that imports a framework takes seconds to start. After `preload`, programs given as
`[python, "-m", module, *args]` begin as copies of one process that has imported it; everything
else is as if they had been started afresh.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

_GRACE_S = 2.0
_POLL_S = 0.01
_PRELOADED: list[str] = []


class Launch(NamedTuple):
    """What one process is started with. command: its words; env: added to this process' own."""

    command: Sequence[str]
    env: Mapping[str, str] = {}


class Running(Protocol):
    """A program that was started."""

    def wait(self, timeout: float) -> int:
        """Its exit code, -N after signal N. Raises subprocess.TimeoutExpired."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def send_signal(self, sig: int, /) -> None: ...


def preload(*modules: str) -> None:
    """Let programs of this test session begin with these modules imported.

    They must start no thread when they are imported, because threads are not copied.
    """
    _PRELOADED[:] = modules
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))


def start(launch: Launch, log: Path, *, cwd: Path | None = None, cold: bool = False) -> Running:
    """Start a program that writes both streams to the end of `log`. cold: without `preload`."""
    command = list(launch.command)
    changes_python = any(name.startswith("PYTHON") for name in launch.env)
    if cold or changes_python or not _PRELOADED or command[:2] != [sys.executable, "-m"]:
        env = {**os.environ, **launch.env}
        with log.open("ab") as file:
            return subprocess.Popen(command, cwd=cwd, env=env, stdout=file, stderr=file)
    log.touch()
    return _Warm(launch, log, cwd or Path.cwd())


def kill_and_continue(
    command: Sequence[str],
    moments: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    cold: bool = False,
) -> None:
    """Run a command, killed at each moment in turn and started again, then to its end.

    command: `[python, "-m", module, *args]` or `[python, script, *args]`. moments: as
    `ssvideo_core.testing.kill_at` reads them, each counted from its own start. env: added to this
    process' environment. cold: import everything in each process, whatever `preload` says.

    Raises AssertionError, with what the command printed, when it ends in another way than by the
    kill, or the last time with another exit code than 0. Only a moment of time may come too late:
    then the command has ended well, and later moments are left out.
    """
    python, *rest = command
    for moment in moments:
        killed = [python, "-m", "ssvideo_core.testing.kill_at", moment, "--", *rest]
        code, printed = run_command(killed, cwd=cwd, env=env, timeout_s=timeout_s, cold=cold)
        if code == 0 and moment.startswith("time:"):
            return
        if code != -signal.SIGKILL:
            raise AssertionError(
                f"expected a kill at {moment!r}, but the command ended with exit code {code}: "
                f"{' '.join(killed)}\n{printed}"
            )
    code, printed = run_command(command, cwd=cwd, env=env, timeout_s=timeout_s, cold=cold)
    if code != 0:
        raise AssertionError(
            f"after kills at {', '.join(moments)} the command ended with exit code {code}: "
            f"{' '.join(command)}\n{printed}"
        )


def run_command(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    cold: bool = False,
) -> tuple[int, str]:
    """Exit code (-N after signal N) and what was printed, both streams in one text.

    Raises subprocess.TimeoutExpired after timeout_s seconds, when the command has been killed.
    """
    ((code, printed),) = run_together(
        [Launch(command, env or {})], cwd=cwd, timeout_s=timeout_s, cold=cold
    )
    return code, printed


def run_together(
    launches: Sequence[Launch],
    *,
    cwd: Path | None = None,
    timeout_s: float = 600,
    cold: bool = False,
) -> list[tuple[int, str]]:
    """`run_command` for several that run at the same time, such as the ranks of one training."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssvideo-programs-")))
        logs = [folder / str(number) for number in range(len(launches))]
        running = []
        for launch, log in zip(launches, logs, strict=True):
            running.append(start(launch, log, cwd=cwd, cold=cold))
            stack.callback(end, running[-1])
        _await(running, launches, timeout_s)
        codes = [program.wait(0) for program in running]
        return [(c, log.read_text(errors="replace")) for c, log in zip(codes, logs, strict=True)]


def _await(running: Sequence[Running], launches: Sequence[Launch], timeout_s: float) -> None:
    """Until all have ended; one that failed leaves the others, which may wait for it, no time."""
    until = time.monotonic() + timeout_s
    while None in (codes := [program.poll() for program in running]):
        if any(codes):
            until = min(until, time.monotonic() + _GRACE_S)
        if time.monotonic() > until:
            for program in running:
                end(program)
            if not any(codes):
                raise subprocess.TimeoutExpired(list(launches[0].command), timeout_s)
        time.sleep(_POLL_S)


def end(program: Running) -> None:
    """Kill a program, if it is still running, and wait for its end."""
    if program.poll() is None:
        program.send_signal(signal.SIGKILL)
        program.wait(60)


class _Warm:
    """A copy of the process that has imported `_PRELOADED`."""

    def __init__(self, launch: Launch, log: Path, cwd: Path) -> None:
        self._command = list(launch.command)
        words, environment = self._command[2:], {**os.environ, **launch.env}
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_become, args=(words, environment, str(log), str(cwd))
        )
        self._process.start()

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return code

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, sig: int, /) -> None:
        assert self._process.pid is not None, "it was started"
        os.kill(self._process.pid, sig)


def _become(words: list[str], environment: dict[str, str], log: str, cwd: str) -> None:
    """Run `-m words` in this process as the interpreter would."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
