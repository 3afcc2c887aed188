"""Signals that ask a run to stop: it finishes its step, saves, and may be queued again."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_LOG = logging.getLogger(__name__)
_WATCHED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """SIGTERM and SIGUSR1 raise KeyboardInterrupt, as SIGINT does: where nothing is lost yet.

    After SIGUSR1 the first process also calls `requeue`: looking at every video of a large data set
    may take longer than a job. RANK or SLURM_PROCID say which is the first.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    except KeyboardInterrupt:
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
        if came[:1] == [signal.SIGUSR1] and rank == "0":
            requeue(signal.SIGUSR1)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruption:
    """Notes SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) instead of ending the process.

        with Interruption() as interruption:
            for batch in batches:
                ...
                if process.agreed(interruption.requested is not None):
                    save(); requeue(interruption.requested); return EXIT_REQUEUE

    requested: the first signal that came, None before; what comes later does not change it.
    A second SIGINT raises KeyboardInterrupt, for who does not want to wait for the step. Leaving
    puts the former handlers back. Enter it in the main thread; Python allows handlers only there.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._asked_by_key = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for number in _WATCHED:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._asked_by_key:
                raise KeyboardInterrupt
            self._asked_by_key = True
        if self.requested is None:
            self.requested = signal.Signals(number)
            # Not print or logging: the signal may come in the middle of one, which forbids another.
            os.write(2, _NOTES[self.requested])


def _note_of(number: signal.Signals) -> bytes:
    again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
    return f"\n{number.name}: stopping after this step and a checkpoint{again}\n".encode()


_NOTES = {number: _note_of(number) for number in _WATCHED}


def requeue(number: signal.Signals | None) -> None:
    """Put a SLURM job back in its queue when SIGUSR1 announced the end of its time.

    Call it on one rank, after the checkpoint: SLURM may end the job at once. Does nothing for
    another signal or outside SLURM (no SLURM_JOB_ID). A refusal is logged, never raised.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if number != signal.SIGUSR1 or job is None:
        return
    if not re.fullmatch(r"[0-9]+", job):
        _LOG.warning("SLURM_JOB_ID is %r, expected a number; the job is not queued again", job)
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        _LOG.warning("scontrol requeue %s failed (%s); start the same command again", job, reason)
        return
    _LOG.info("SLURM job %s is queued again", job)
