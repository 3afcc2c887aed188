"""The loop over the steps of a training run, for any framework.

What a step does, how states are saved and how processes agree is handed in; the order of logging,
saving and stopping is the same for all.

RUN/checkpoints/ckpt-STEP/      the last two, and those of every keep_every_epochs-th epoch
RUN/metrics.jsonl, bad-videos.jsonl
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from ssvideo_core.batches import BadVideos, Position
from ssvideo_core.checkpoint_files import CHECKPOINTS
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE, ConfigError
from ssvideo_core.interruption import Interruption, requeue
from ssvideo_core.metrics import LossWatch, MetricsLog, TrainingProgress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What every training command is told.

    folder: RUN. batch_size: samples per process. epochs: of which the last may be a part.
    print_freq: steps between lines of metrics.jsonl. checkpoint_steps: save every n steps too, 0
    only after epochs. keep_every_epochs: checkpoints that stay. resume_anyway: go on with another
    global batch size or another number of samples.
    """

    folder: Path
    batch_size: int
    epochs: int | Fraction
    seed: int
    workers: int = 0
    print_freq: int = 10
    checkpoint_steps: int = 0
    keep_every_epochs: int = 10
    resume_anyway: bool = False

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS


@dataclass(frozen=True)
class Place:
    """Where a run is: the position in the data, and the steps done."""

    position: Position = Position()
    step: int = 0


class Processes(Protocol):
    """The processes of a run, this one among them."""

    @property
    def is_main(self) -> bool: ...
    @property
    def world_size(self) -> int: ...
    def agreed(self, flag: bool, /) -> bool: ...


class Batches(Protocol):
    """Batches with the positions after them; closing it ends what makes them."""

    def __iter__(self) -> Iterator[tuple[Position, Any]]: ...
    def close(self) -> object: ...


class Trainer(Protocol):
    """What a method does in the loop.

    `step` makes one update from a batch and returns what metrics.jsonl records, scalars of the
    framework on their device or plain numbers, among them "loss" and "lr". step: steps done before
    it. epoch: of the batch. `end_epoch` is called after the last step of an epoch, before the
    checkpoint.
    """

    def step(self, batch: Any, /, *, step: int, epoch: int) -> Mapping[str, Any]: ...
    def end_epoch(self, epoch: int, /) -> None: ...


def facts_of(
    place: Place, settings: RunSettings, world_size: int, num_samples: int
) -> dict[str, Any]:
    """What a checkpoint says of itself, for `place_of`; num_samples: of an epoch."""
    return {
        "position": place.position.to_json(),
        "global_batch_size": settings.batch_size * world_size,
        "num_samples": num_samples,
    }


def place_of(
    checkpoint: Path,
    step: int,
    facts: Mapping[str, Any],
    settings: RunSettings,
    world_size: int,
    num_samples: int,
) -> Place:
    """Where to go on from a checkpoint.

    Raises ConfigError when it was trained with another global batch size or on another number of
    samples, unless resume_anyway: the position in the data means something else then.
    """
    wanted = settings.batch_size * world_size
    if facts["global_batch_size"] != wanted and not settings.resume_anyway:
        raise ConfigError(
            f"{checkpoint} was trained with {facts['global_batch_size']} clips a step, now it "
            f"would be {wanted} ({world_size} processes of a batch size of "
            f"{settings.batch_size}). Start as many processes as before, or pass --resume-anyway"
        )
    trained_on = facts.get("num_samples", num_samples)  # absent from older checkpoints
    if trained_on != num_samples and not settings.resume_anyway:
        raise ConfigError(
            f"{checkpoint} was trained on {trained_on} samples an epoch, now there are "
            f"{num_samples}. Go on with the data it began with, or pass --resume-anyway"
        )
    return Place(Position.from_json(facts["position"]), step)


def run_loop(
    trainer: Trainer,
    batches: Batches,
    *,
    place: Place,
    steps: int,
    num_samples: int,
    settings: RunSettings,
    processes: Processes,
    mean: Callable[[Mapping[str, Any]], dict[str, float]],
    save: Callable[[Place, bool], None],
    interruption: Interruption,
) -> int:
    """All steps that are left; returns EXIT_OK, or EXIT_REQUEUE after a signal and its checkpoint.

    batches: closed at the end. steps: of the whole run, those before `place` among them.
    mean: over all processes, of what `Trainer.step` returned. save: writes a checkpoint, for good
    if its second argument is true.
    Raises DataError when too many videos are bad, and for a loss that stays NaN or infinite.
    """
    bad = BadVideos(settings.folder / "bad-videos.jsonl", num_samples)
    progress = TrainingProgress(steps, step=place.step, enabled=processes.is_main)
    losses = LossWatch(place.step)
    log = MetricsLog(settings.folder, step=place.step, enabled=processes.is_main)
    with closing(batches), log as metrics:
        for position, batch in progress.watch(batches):
            bad.add(batch.replaced)
            ended = position.samples_used == 0
            epoch = position.epoch - ended
            measured = trainer.step(batch, step=place.step, epoch=epoch)
            place = Place(position, place.step + 1)
            values = None
            if _due(place.step, settings.print_freq) or place.step == steps:
                values = mean(measured)
                metrics.write(place.step, values)
                losses.check(values["loss"], place.step, last=place.step == steps)
            progress.advance(values)
            if ended:
                trainer.end_epoch(epoch)
            stopped = processes.agreed(interruption.requested is not None)
            if ended or stopped or _due(place.step, settings.checkpoint_steps):
                save(place, ended and position.epoch % settings.keep_every_epochs == 0)
            if stopped and place.step < steps:
                return _stop(interruption, processes)
    return EXIT_OK


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _stop(interruption: Interruption, processes: Processes) -> int:
    """After a signal and its checkpoint; another process may have had the signal."""
    logger.info("stopped after a checkpoint; the same command goes on from there")
    if processes.is_main and interruption.requested is not None:
        requeue(interruption.requested)
    return EXIT_REQUEUE
