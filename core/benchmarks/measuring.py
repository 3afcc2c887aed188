"""Seconds and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


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
