"""What a training run measures: a file that agrees with its checkpoints, and lines on a screen."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat, TextIO, TypeVar

from ssvideo_core.errors import DataError
from ssvideo_core.files import replacing
from ssvideo_core.progress import Progress, ProgressLines, duration
from ssvideo_core.runs import append_json_line

T = TypeVar("T")


class MetricsLog:
    """RUN/metrics.jsonl, one line a step; curves in RUN/tensorboard when tensorboardX is installed.

    step: of the checkpoint that the run goes on from. Lines of later steps are dropped on entry:
    those steps come again. Lines without a "step" stay.
    enabled: False on all ranks but one; then nothing is read or written.

    A value that is no finite number is written as null, because JSON has no NaN and no infinity;
    tensorboard gets it as it is. Entering raises DataError for a line that is no JSON object, but
    for the last one, which a kill may have cut.
    """

    def __init__(
        self, run: Path, *, step: int = 0, enabled: bool = True, tensorboard: bool = True
    ) -> None:
        self._run, self._step, self._enabled = run, step, enabled
        self._tensorboard = tensorboard
        self._curves: Any = None

    def __enter__(self) -> MetricsLog:
        if self._enabled:
            self._run.mkdir(parents=True, exist_ok=True)
            _drop_later_lines(self._run / "metrics.jsonl", self._step)
            if self._tensorboard:
                self._curves = _open_curves(self._run / "tensorboard", self._step)
        return self

    def __exit__(self, *_: object) -> None:
        if self._curves is not None:
            self._curves.close()
            self._curves = None

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Add one line, {"step": step, name: float, …}. Raises ValueError for the name "step"."""
        if "step" in values:
            raise ValueError('the name "step" is taken by the number of the step')
        if not self._enabled:
            return
        floats = {name: float(value) for name, value in values.items()}
        line = {name: value if math.isfinite(value) else None for name, value in floats.items()}
        append_json_line(self._run / "metrics.jsonl", {"step": int(step), **line})
        if self._curves is not None:
            for name, value in floats.items():
                self._curves.add_scalar(name, value, int(step))


class LossWatch:
    """Ends a run whose loss is NaN or infinite for good: training cannot mend its weights.

    step: where the process begins. One such value may be a step that a loss scale of float16 left
    out, so two in a row are needed, or one at the end.
    """

    def __init__(self, step: int = 0) -> None:
        self._seen = f"none was finite since step {step}, where this process began"
        self._lost = False

    def check(self, loss: SupportsFloat, step: int, *, last: bool = False) -> None:
        """Look at the loss of a step. Raises DataError."""
        if math.isfinite(float(loss)):
            self._seen, self._lost = f"the last finite one was looked at in step {step}", False
        elif self._lost or last:
            raise DataError(
                f"the loss is {float(loss)} at step {step}; {self._seen}. Lower the learning rate "
                "or look at the data, and start again, or delete the later checkpoints: the one "
                "of that step may be lost too if no loss was finite after it"
            )
        else:
            self._lost = True


def _drop_later_lines(path: Path, step: int) -> None:
    if not path.exists():
        return
    before = path.read_bytes()
    *lines, last = before.split(b"\n")
    if _is_json(last):
        lines.append(last)
    kept = b"".join(
        line + b"\n"
        for number, line in enumerate(lines, start=1)
        if _step_of(line, path, number) <= step
    )
    if kept != before:
        with replacing(path) as file:
            file.write(kept)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _step_of(line: bytes, path: Path, number: int) -> float:
    try:
        value = json.loads(line)
        return float(value.get("step", -math.inf))
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}, line {number}: found {line[:60]!r} ({error}), expected a JSON object like "
            '{"loss": 1.5, "step": 3}; delete that line'
        ) from None


def _open_curves(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10)


@dataclass(frozen=True)
class StepProgress(Progress):
    """`Progress` in steps, with the last values."""

    values: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        left = duration((self.total - self.done) / self.rate) if self.rate else "unknown time"
        values = "".join(f", {name} {value:.4g}" for name, value in self.values.items())
        return (
            f"step {self.done}/{self.total}, {self.rate:.3g} steps/s, {left} left, "
            f"{100 * self.waiting_share:.0f} % of the time waiting for data{values}"
        )


class TrainingProgress:
    """Says how far a training run is: every `every_s` seconds and at the last step.

        progress = TrainingProgress(total_steps, step=state.step, enabled=process.is_main)
        for batch in progress.watch(batches):
            ...
            progress.advance({"loss": loss})

    total: steps of the whole run; step: those done before this process began. enabled: whether
    lines are printed. file: stderr if None; off a terminal each line stays. clock: in seconds.
    """

    def __init__(
        self,
        total: int,
        *,
        step: int = 0,
        every_s: float = 10.0,
        enabled: bool = True,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._first, self._done = total, step, step
        self._lines = ProgressLines(every_s, file, clock) if enabled else None
        self._clock, self._start, self._waiting_s = clock, clock(), 0.0
        self._values: dict[str, float] = {}

    @property
    def waiting_s(self) -> float:
        """Seconds so far in which `watch` waited for data."""
        return self._waiting_s

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time until each arrives counts as waiting."""
        asked = self._clock()
        for item in items:
            self._waiting_s += self._clock() - asked
            yield item
            asked = self._clock()

    def advance(self, values: Mapping[str, SupportsFloat] | None = None) -> None:
        """Count one step. values: what the line shows; None shows those of the last time again.

        Converting a value on a GPU to a number waits for it: give values every few steps only.
        """
        self._done += 1
        if values is not None:
            self._values = {name: float(value) for name, value in values.items()}
        if self._lines is not None:
            elapsed_s = self._clock() - self._start
            counts = (self._done, self._total, self._first, 0)
            self._lines(StepProgress(*counts, elapsed_s, self._waiting_s, self._values))
