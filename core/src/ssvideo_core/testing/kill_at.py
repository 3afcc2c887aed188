"""Run a Python program and kill it at a chosen moment, as a power failure would.

    python -m ssvideo_core.testing.kill_at MOMENT -- -m package args ...
    python -m ssvideo_core.testing.kill_at MOMENT -- script.py args ...

MOMENT: `batch:N`, when the N-th batch is put together; `save:N`, in the N-th checkpoint, when half
of its manifest is written; `time:S`, S seconds after the start. N counts from 1 in this process.
The program sees the arguments, the path and the `__main__` it has without this module. When the
moment does not come, it ends as it would. For one process; not for launchers of several.
"""

from __future__ import annotations

import importlib
import itertools
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssvideo_core.errors import EXIT_OK, ConfigError, exit_code

_MODULES = {
    "batch": ("ssvideo_core.batches", "collate"),
    "save": ("ssvideo_core.checkpoints", "commit"),
}


def prepare(arguments: Sequence[str]) -> int:
    """Arm the kill and check the program. Raises ConfigError for arguments it cannot read."""
    if len(arguments) < 3 or arguments[1] != "--" or arguments[2:] == ["-m"]:
        raise ConfigError(
            f"found {' '.join(arguments) or 'no arguments'}, expected MOMENT -- -m MODULE args or "
            "MOMENT -- SCRIPT args"
        )
    arm(arguments[0])
    return EXIT_OK


def become(program: Sequence[str]) -> None:
    """Run `-m MODULE args` or `SCRIPT args` as the interpreter would."""
    if program[0] == "-m":
        sys.argv = list(program[1:])
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(program)
        if not sys.flags.safe_path:
            sys.path[0] = str(Path(program[0]).resolve().parent)
        runpy.run_path(program[0], run_name="__main__")


def arm(moment: str) -> None:
    """Prepare this process to be killed at `batch:N`, `save:N` or `time:S`."""
    kind, _, text = moment.partition(":")
    number = _positive(text, whole=kind != "time")
    if number is None or kind not in (*_MODULES, "time"):
        raise ConfigError(f"the moment is {moment!r}, expected batch:N, save:N or time:SECONDS")
    if kind == "time":
        timer = threading.Timer(number, kill)
        timer.daemon = True
        timer.start()
        return
    module_name, name = _MODULES[kind]
    module = importlib.import_module(module_name)
    original = getattr(module, name)
    before = kill if kind == "batch" else _kill_in_commit
    setattr(module, name, _at_call(int(number), before, original))


def kill(*_: Any, **__: Any) -> None:
    """End this process as `kill -9` does: nothing is flushed, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_in_commit(draft: Path, *_: Any, **__: Any) -> None:
    (Path(draft) / "manifest.json").write_text('{"step": 1, "files": {"state.safeten')
    kill()


def _at_call(
    number: int, before: Callable[..., None], original: Callable[..., Any]
) -> Callable[..., Any]:
    calls = itertools.count(1)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            before(*args, **kwargs)
        return original(*args, **kwargs)

    return counted


def _positive(text: str, *, whole: bool) -> float | None:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


if __name__ == "__main__":
    _arguments = sys.argv[1:]
    if _code := exit_code("kill_at", lambda: prepare(_arguments)):
        raise SystemExit(_code)
    become(_arguments[2:])
