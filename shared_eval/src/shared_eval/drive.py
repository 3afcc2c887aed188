"""Methods as subprocesses: `PYTHON -m METHOD …`, argument lists, no shell.

What a method says goes through line by line, marked with its name; its last message is kept, so
that a failure can be shown again where the numbers would have been.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ssvideo_core.errors import EXIT_OK, EXIT_USER, ConfigError, SSVideoError
from ssvideo_core.methods import ENTRY_POINT_GROUP

from shared_eval.schema import problems

KEPT_LINES = 40


class MethodError(SSVideoError):
    """A method's subprocess failed; the message is what the method said."""


@dataclass(frozen=True)
class Description:
    """What `METHOD describe --json` says, as far as it is needed here.

    licences: published weights to licence. record: everything it said.
    """

    name: str
    title: str
    framework: str
    version: str
    arxiv: tuple[str, ...]
    licences: Mapping[str, str]
    protocols: tuple[str, ...]
    record: Mapping[str, Any] = field(repr=False, compare=False)


def installed() -> list[str]:
    """Names of the methods of this environment, sorted; none is imported."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def describe_record(python: Path, method: str) -> dict[str, Any]:
    """What `PYTHON -m METHOD describe --json` prints.

    Raises ConfigError when there is no such interpreter or method, MethodError when it fails
    otherwise or prints something else.
    """
    command = command_line(python, method, "describe", "--json")
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise ConfigError(f"{python} cannot be run ({error.strerror}): see --python") from None
    if done.returncode != EXIT_OK:
        absent = f"No module named {method}"
        if absent in done.stderr or f"No module named '{method}'" in done.stderr:
            raise ConfigError(_absent(python, method))
        raise MethodError(_failure(method, "describe", done.returncode, done.stderr.splitlines()))
    try:
        record = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise MethodError(f"{method} describe --json printed no JSON ({error})") from None
    if not isinstance(record, dict):
        raise MethodError(f"{method} describe --json printed {type(record).__name__}, no object")
    return record


def describe(python: Path, method: str) -> Description:
    """A method's description. Errors as `describe_record`; MethodError when fields are wrong."""
    record = describe_record(python, method)
    if found := problems(record, method):
        raise MethodError(f"{method} describes itself wrongly: {'; '.join(found)}")
    return Description(
        name=record["name"],
        title=record["title"],
        framework=record["framework"],
        version=record["version"],
        arxiv=tuple(record["arxiv"]),
        licences={weights["name"]: weights["licence"] for weights in record["weights"]},
        protocols=tuple(record["protocols"]),
        record=record,
    )


def run_method(python: Path, method: str, words: Sequence[str]) -> None:
    """Run `PYTHON -m METHOD WORDS` to its end, showing its lines as "[METHOD] …".

    Raises MethodError with the method's last message unless it ends with 0. If this process is
    interrupted, so is the method.
    """
    command = command_line(python, method, *words)
    last: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line.rstrip("\n"))
                print(f"[{method}] {last[-1]}", file=sys.stderr, flush=True)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
    if process.returncode != EXIT_OK:
        raise MethodError(_failure(method, words[0], process.returncode, list(last)))


def command_line(python: Path, method: str, *words: str) -> list[str]:
    """The argument list. -P keeps the folder in which a user stands out of the imports."""
    return [str(python), "-P", "-m", method, *words]


def _absent(python: Path, method: str) -> str:
    here = Path(sys.executable) == python
    known = f"; installed here: {', '.join(installed()) or 'none'}" if here else ""
    return (
        f"{python} has no method '{method}'{known}. Install its package there, or name the "
        f"environment that has it with --python {method}=PATH"
    )


def _failure(method: str, command: str, code: int, lines: Sequence[str]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"{method} {command} was ended by {name}{' (out of memory?)' if code == -9 else ''}"
    start = f"{method} {command}: "
    told = [number for number, line in enumerate(lines) if line.startswith(start)]
    if code == EXIT_USER and told:
        return "\n".join(lines[told[-1] :])
    final = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"{start}exit code {code}, its last line: {final}"
