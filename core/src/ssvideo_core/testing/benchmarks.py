"""What benchmarks share: seconds, memory, and tables named by software and hardware."""

from __future__ import annotations

import csv
import io
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def publish(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, packages: Sequence[str]
) -> None:
    """Print the rows as CSV as they come, and keep them in $SSVIDEO_BENCHMARKS, if that is set.

    A first line, a comment, names software and hardware. The file is
    NAME-python3.11-numpy2.4-2x-intel-xeon-….csv, without that line: numbers of other software or
    hardware stay beside each other.
    """
    print(f"# {', '.join(setting(packages))}", flush=True)
    lines = []
    for row in chain([columns], rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        lines.append(line.getvalue())
        print(lines[-1], end="", flush=True)
    if "SSVIDEO_BENCHMARKS" in os.environ:
        folder = Path(os.environ["SSVIDEO_BENCHMARKS"])
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{in_one_word(setting(packages))}.csv"
        path.write_text("".join(lines))
        print(f"# {path}")


def setting(packages: Sequence[str]) -> list[str]:
    """Software and hardware: "python 3.11.7", "numpy 2.4.6", "2 x Intel Xeon"."""
    software = [f"{package} {version(package)}" for package in packages]
    return [
        f"python {platform.python_version()}",
        *software,
        f"{os.cpu_count()} x {processor()}",
    ]


def in_one_word(words: Sequence[str]) -> str:
    joined = "-".join(re.sub(r"(?<=[a-z]) (?=[0-9])|(?<=[0-9]) (?=x )", "", word) for word in words)
    return re.sub(r"[^a-z0-9.]+", "-", joined.lower()).strip("-")


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return names[0] if names else platform.machine()


def timed(work: Callable[[], T], *, threads: int) -> tuple[float, T]:
    """Seconds and result: of the processor for one thread, so that other work disturbs little;
    else of the clock.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    result = work()
    return clock() - start, result


def peak_mb() -> float:
    """Peak resident memory of this process so far; Linux only."""
    # Not getrusage: its value starts at the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024
