"""Functions that tests send to worker processes, which must be able to import them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError, NoSoundError
from ssvideo_core.source import VideoSource
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import Clip, View


def count_frames(index: VideoIndex, paths: list[Path]) -> list[int]:
    return [index.info(path).num_frames for path in paths]


def read(source: VideoSource, task: tuple[int, list[View]]) -> list[Clip]:
    return source.read(*task)


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    """Later tasks are done earlier."""
    time.sleep(0.15 if number % 3 == 0 else 0)
    return number


def arrays(task: tuple[int, int]) -> dict[str, Any]:
    """Arrays of about `size` bytes in all that a seed determines, and other values."""
    seed, size = task
    rng = np.random.default_rng(seed)
    return {
        "bytes": rng.integers(0, 256, size // 2, np.uint8),
        "floats": rng.random((size // 32, 2)).astype(np.float32),
        "turned": rng.integers(0, 9, (3, size // 96)).T,
        "part": rng.integers(0, 9, (5, 8))[::2, 1::3],
        "empty": np.zeros((0, 3), np.int64),
        "text": "ü" * seed,
    }


def double(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values *= 2  # in place: what arrives can be written
    return values


def process_id(number: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def log(task: tuple[Path, int]) -> int:
    """Leave a mark that the task was begun."""
    (task[0] / str(task[1])).touch()
    return task[1]


class TwoPartError(DataError):
    """An error that pickle cannot build again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_at_five(number: int) -> int:
    time.sleep(0.1 if number < 5 else 0)
    if number == 5:
        raise NoSoundError("clip 5: no sound")
    if number == 6:
        raise ValueError("never reached")
    return number


def fail(kind: str) -> Any:
    if kind == "value":
        raise ValueError("a bug", 3)
    if kind == "two parts":
        raise TwoPartError("left", "right")
    if kind == "result":
        return lambda: None
    sys.exit(3)


def die_at_four(number: int) -> int:
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep_and_tell(task: tuple[Path, float]) -> None:
    (task[0] / str(os.getpid())).touch()
    time.sleep(task[1])


def interrupt_myself(number: int) -> int:
    """What a terminal or a scheduler does to the whole group."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return number
