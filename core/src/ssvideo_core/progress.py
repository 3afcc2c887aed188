"""How far a long command is, in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """The state of a run over `total` items.

    done: finished items, `resumed` of them before this run began. failed: items of this run
    without a result. elapsed_s, waiting_s: seconds of this run, and those spent waiting for data.
    """

    done: int
    total: int
    resumed: int
    failed: int
    elapsed_s: float
    waiting_s: float

    @property
    def rate(self) -> float:
        """Items a second in this run; 0 before the first."""
        return (self.done - self.resumed) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time spent waiting for data, in [0, 1]."""
        return self.waiting_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def __str__(self) -> str:
        left = duration((self.total - self.done) / self.rate) if self.rate else "unknown time"
        failed = f", {self.failed} without a result" if self.failed else ""
        return (
            f"{self.done}/{self.total} videos, {self.rate:.1f}/s, {left} left, "
            f"{100 * self.waiting_share:.0f} % of the time waiting for data{failed}"
        )


Report = Callable[[Progress], None]


class ProgressLines:
    """Prints a line every `every_s` seconds and one at the end; one changing line on a terminal."""

    def __init__(
        self,
        every_s: float = 10.0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = sys.stderr if file is None else file
        self._terminal = self._file.isatty()
        self._every_s = min(every_s, 0.5) if self._terminal else every_s
        self._clock = clock
        self._next = clock() + self._every_s

    def __call__(self, progress: Progress) -> None:
        ended = progress.done == progress.total
        if not ended and self._clock() < self._next:
            return
        self._next = self._clock() + self._every_s
        clear, end = ("\r\x1b[K", "\n" if ended else "") if self._terminal else ("", "\n")
        print(f"{clear}{progress}", end=end, file=self._file, flush=True)


class Meter:
    """Counts finished items and times the waiting for them."""

    def __init__(self, total: int, resumed: int, report: Report | None) -> None:
        self._total, self._resumed, self._report = total, resumed, report
        self._done, self._failed, self._waiting_s = resumed, 0, 0.0
        self._start = time.monotonic()

    def watch(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time until each arrives counts as waiting."""
        asked = time.monotonic()
        for item in items:
            self._waiting_s += time.monotonic() - asked
            yield item
            asked = time.monotonic()

    def advance(self, *, failed: bool) -> None:
        """Count one item and report."""
        self._done += 1
        self._failed += failed
        if self._report is not None:
            elapsed_s = time.monotonic() - self._start
            counts = (self._done, self._total, self._resumed, self._failed)
            self._report(Progress(*counts, elapsed_s, self._waiting_s))


def duration(seconds: float) -> str:
    """Seconds in words: "3 min 05 s", "2 h 07 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
