"""A training run in PyTorch: its newest checkpoint, batches on the device, the loop of core."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from ssvideo_core.batches import Sample, Task, batches, steps_left
from ssvideo_core.checkpoints import newest_checkpoint
from ssvideo_core.errors import ConfigError
from ssvideo_core.interruption import Interruption
from ssvideo_core.training_loop import Place, RunSettings, facts_of, place_of, run_loop
from torch import Tensor

from ssvideo_torch.checkpoint import load as load_checkpoint
from ssvideo_torch.checkpoint import save as save_checkpoint
from ssvideo_torch.loader import TorchBatch, to_device_ahead
from ssvideo_torch.start import Process

logger = logging.getLogger(__name__)

__all__ = ["RunSettings", "Trainer", "run_training"]


class Trainer(Protocol):
    """What a method does in a run; see `ssvideo_core.training_loop.Trainer`.

    `parts`: by name, all that training changes and a checkpoint holds, each with a state_dict.
    `step` returns scalars as tensors, which stay on the device, or as numbers.
    """

    def parts(self) -> Mapping[str, Any]: ...
    def step(
        self, batch: TorchBatch, /, *, step: int, epoch: int
    ) -> Mapping[str, Tensor | float]: ...
    def end_epoch(self, epoch: int, /) -> None: ...


def run_training(
    trainer: Trainer,
    load: Callable[[Task], Sample],
    *,
    num_samples: int,
    settings: RunSettings,
    process: Process,
    interruption: Interruption,
) -> int:
    """Train, or go on from the newest checkpoint; returns EXIT_OK or EXIT_REQUEUE.

    All processes call it together. load: gives the sample of a task, normally a SampleLoader.
    num_samples: of an epoch. Raises ConfigError and DataError for a checkpoint that does not fit,
    and what `load` and the loop raise.
    """
    place = _restore(trainer, settings, process, num_samples)
    global_batch_size = settings.batch_size * process.world_size
    epochs = math.ceil(settings.epochs)
    left = steps_left(
        place.position, num_samples=num_samples, global_batch_size=global_batch_size, epochs=epochs
    )
    made = batches(
        load,
        num_samples=num_samples,
        global_batch_size=global_batch_size,
        epochs=epochs,
        seed=settings.seed,
        position=place.position,
        rank=process.rank,
        world_size=process.world_size,
        workers=settings.workers,
    )

    def save(place: Place, forever: bool) -> None:
        save_checkpoint(
            settings.checkpoints,
            place.step,
            trainer.parts(),
            facts=facts_of(place, settings, process.world_size, num_samples),
            rank=process.rank,
            world_size=process.world_size,
            barrier=process.barrier,
            keep_forever=forever,
        )

    return run_loop(
        trainer,
        to_device_ahead(made, process.device),
        place=place,
        steps=place.step + left,
        num_samples=num_samples,
        settings=settings,
        processes=process,
        mean=lambda values: mean_over(values, process),
        save=save,
        interruption=interruption,
    )


def mean_over(values: Mapping[str, Tensor | float], process: Process) -> dict[str, float]:
    """The means of scalars over all processes, by one collective; every process calls it."""
    scalars = [torch.as_tensor(v, dtype=torch.float64).to(process.device) for v in values.values()]
    means: list[float] = process.gather(torch.stack(scalars)).mean(dim=0).tolist()
    return dict(zip(values, means, strict=True))


def _restore(trainer: Trainer, settings: RunSettings, process: Process, num_samples: int) -> Place:
    """The same place on every process, or ConfigError: they would train different networks."""

    def read() -> Place:
        newest = newest_checkpoint(settings.checkpoints)
        if newest is None:
            return Place()
        saved = load_checkpoint(newest, trainer.parts())
        place = place_of(newest, saved.step, saved.facts, settings, process.world_size, num_samples)
        if process.is_main:
            logger.info("going on from %s", newest)
        return place

    place = process.together(read)
    steps = process.gather(torch.tensor(place.step)).tolist()
    if len(set(steps)) > 1:
        raise ConfigError(
            f"in {settings.checkpoints} the processes find checkpoints of the steps {steps}, by "
            "rank (0: none), expected one for all. Give a folder that all machines share"
        )
    return place
