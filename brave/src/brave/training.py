"""Training BraVe: one step, and the loop over all of them.

A step is: pixels and sound to the device, augmentation, embeddings of every view, the loss, the
optimiser. Nothing is random but what `generator(seed, …)` gives for a sample, so that a run that
was killed goes on, bit for bit, where its last checkpoint is.

Axes: B clips of all processes, b of one device, T frames, S pixels.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from jax import Array, lax
from jax.sharding import PartitionSpec
from ssvideo_core.batches import Position, batches, steps_per_epoch
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.interruption import Interruption
from ssvideo_core.samples import Batch
from ssvideo_core.training_loop import Place, RunSettings, facts_of, run_loop

from brave.device_augmentations import batch_inputs
from brave.distributed import AXIS, Processes
from brave.experiment_settings import ExperimentSettings
from brave.model import BraVe
from brave.objective import total_loss
from brave.optim import learning_rate, make_optimizer
from brave.optimizer_settings import OptimizerSettings
from brave.training_data import TrainingRecords
from brave.training_state import TrainingState, initial_state, read_newest, to_tree

logger = logging.getLogger(__name__)

Inputs = Mapping[str, Array]
Metrics = dict[str, Array]
Step = Callable[[TrainingState, Inputs, Any], tuple[TrainingState, Metrics]]


def make_model(settings: ExperimentSettings) -> BraVe:
    """The networks, whose batch norms see the batches of all devices of `distributed.AXIS`.

    Raises ConfigError for shared heads of views with features of several sizes.
    """
    return BraVe(
        settings.narrow,
        settings.broad,
        output_dims=settings["model.output_dims"],
        separate_heads=settings["model.separate_heads"],
        axis_name=AXIS,
        remat=settings["model.remat"],
        dtype=jnp.dtype(settings["model.precision"]),
        hidden_size=settings["model.head_hidden_size"],
    )


def make_train_step(model: BraVe, settings: OptimizerSettings, processes: Processes) -> Step:
    """One update as a compiled function of (state, inputs, step), which uses up its state.

    inputs: of `BraVe.embeddings`, (B, …) spread over the devices of `processes`. step: updates done
    before. Returns the state after it and float32 scalars: "loss", its terms, and "lr". Loss and
    gradients are means over all devices, batch norms use the statistics of all: a step does not
    depend on how many devices share the batch, up to rounding.
    """
    optimizer = make_optimizer(settings)

    def on_one_device(
        before: TrainingState, inputs: Inputs, step: Array
    ) -> tuple[TrainingState, Metrics]:
        gradient = jax.grad(total_loss, argnums=1, has_aux=True)
        gradients, (metrics, state) = gradient(model, before.params, before.state, inputs)
        gradients, metrics = lax.pmean((gradients, metrics), AXIS)  # type: ignore[no-untyped-call]
        updates, momentum = optimizer.update(gradients, before.optimizer, before.params)
        params = optax.apply_updates(before.params, updates)
        after = TrainingState(params, state, momentum)
        return after, {**metrics, "lr": learning_rate(settings, step)}

    everywhere, own = PartitionSpec(), PartitionSpec(AXIS)  # type: ignore[no-untyped-call]
    # check_vma: with it, gradients of what is the same everywhere would be summed a second time.
    mapped = jax.shard_map(
        on_one_device,
        mesh=processes.mesh,
        in_specs=(everywhere, own, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0)


def device_inputs(
    batch: Batch, settings: ExperimentSettings, processes: Processes
) -> dict[str, Array]:
    """The inputs of a step from this process' share of a batch; each device augments its own part.

    Returns arrays of the global batch by name of the view, spread over the devices.
    """
    devices = processes.local_devices
    parts = []
    for number, device in enumerate(devices):
        with jax.default_device(device):
            parts.append(
                batch_inputs(
                    _rows(batch, number, len(devices)),
                    settings.views,
                    audio_rate_hz=settings["model.input_audio_sample_rate"],
                    num_bins=settings["model.num_spectrogram_bins"],
                    fft_step=settings["model.fft_step"],
                )
            )
    return {name: processes.join([part[name] for part in parts]) for name in parts[0]}


def _rows(batch: Batch, number: int, parts: int) -> Batch:
    """One of equal parts of a batch."""
    share = len(batch.index) // parts
    own = slice(number * share, (number + 1) * share)
    views = tuple(
        dataclasses.replace(
            view,
            frames=None if view.frames is None else view.frames[own],
            sizes=view.sizes[own],
            sound=None if view.sound is None else view.sound[own],
            missing_samples=view.missing_samples[own],
            params={name: values[own] for name, values in view.params.items()},
        )
        for view in batch.views
    )
    return dataclasses.replace(batch, index=batch.index[own], label=batch.label[own], views=views)


@dataclass
class BraVeTrainer:
    """BraVe's steps in `ssvideo_core.training_loop`."""

    settings: ExperimentSettings
    processes: Processes
    state: TrainingState
    update: Step
    _previous: Array | None = field(default=None, repr=False)

    def step(self, batch: Batch, *, step: int, epoch: int) -> Metrics:
        inputs = device_inputs(batch, self.settings, self.processes)
        # Devices are one step behind at most; else inputs of many steps would wait in their memory.
        if self._previous is not None:
            self._previous.block_until_ready()
        self.state, metrics = self.update(self.state, inputs, np.int32(step))
        self._previous = metrics["loss"]
        return metrics

    def end_epoch(self, epoch: int) -> None:
        """Nothing: the rate is a function of the step."""


def make_trainer(settings: ExperimentSettings, processes: Processes) -> BraVeTrainer:
    """A new network on all devices."""
    model = make_model(settings)
    state = initial_state(model, make_optimizer(settings.optimizer), settings["random_seed"])
    update = make_train_step(model, settings.optimizer, processes)
    return BraVeTrainer(settings, processes, processes.replicate(state), update)


def run_training(
    trainer: BraVeTrainer,
    load: TrainingRecords,
    *,
    settings: RunSettings,
    interruption: Interruption,
    saved: Callable[[Path], None] = lambda checkpoint: None,
) -> int:
    """Train, or go on from the newest checkpoint; returns EXIT_OK or EXIT_REQUEUE.

    All processes call it together. settings: as `run.run_settings` makes them. saved: called by all
    with each checkpoint, but not with one that is written because of a signal: whoever sent it does
    not wait for more. Raises ConfigError and DataError for a checkpoint that does not fit, and what
    `load` and the loop raise.
    """
    config, processes = trainer.settings, trainer.processes
    total, num_samples = config["training_steps"], len(load)
    global_batch_size = settings.batch_size * processes.world_size
    place = _restore(trainer, settings, num_samples)
    left = max(total - place.step, 0)
    # Not from the step: earlier epochs may have had other batches. The current one may have none.
    whole_epochs = math.ceil(left / steps_per_epoch(num_samples, global_batch_size))
    made = batches(
        load,
        num_samples=num_samples,
        global_batch_size=global_batch_size,
        epochs=place.position.epoch + 1 + whole_epochs,
        seed=settings.seed,
        position=place.position,
        rank=processes.rank,
        world_size=processes.world_size,
        workers=settings.workers,
    )
    due = _Due(processes, config["save_checkpoint_interval"])

    def save(place: Place, _: bool) -> None:
        keep = config["keep_checkpoint_steps"]
        every = (config["checkpoint_steps"], keep)
        by_step = any(number and place.step % number == 0 for number in every)
        if not (by_step or due.now or place.step == total):
            return
        written = save_checkpoint(
            settings.checkpoints,
            place.step,
            to_tree(trainer.state) if processes.is_main else {},
            facts=facts_of(place, settings, processes.world_size, num_samples),
            rank=processes.rank,
            world_size=processes.world_size,
            barrier=processes.barrier,
            keep_forever=bool(keep) and place.step % keep == 0,
        )
        if not due.stopped:
            saved(written)

    return run_loop(
        trainer,
        _exactly(made, left),
        place=place,
        steps=total,
        num_samples=num_samples,
        settings=settings,
        processes=due,
        mean=lambda values: {name: float(value) for name, value in values.items()},
        save=save,
        interruption=interruption,
    )


@dataclass
class _Due:
    """The processes for the loop, which ask each other at every step whether to stop or to save.

    every_s: seconds between checkpoints on the first process' clock, 0: never. now: whether this
    step needs one. stopped: whether it is the last one, after a signal.
    """

    processes: Processes
    every_s: float
    now: bool = False
    stopped: bool = False
    _since: float = field(default_factory=time.monotonic)

    @property
    def is_main(self) -> bool:
        return self.processes.is_main

    @property
    def world_size(self) -> int:
        return self.processes.world_size

    def agreed(self, stop: bool) -> bool:
        elapsed = time.monotonic() - self._since >= self.every_s > 0
        if elapsed:
            self._since = time.monotonic()
        self.stopped, save = self.processes.any_of(stop, elapsed and self.is_main)
        self.now = self.stopped or save
        return self.stopped


def _exactly(
    made: Generator[tuple[Position, Batch], None, None], steps: int
) -> Generator[tuple[Position, Batch], None, None]:
    """The first batches; closing it closes what makes them.

    Raises RuntimeError when there are fewer: else the run would end as if it were complete.
    """
    done = 0
    with closing(made):
        for batch in islice(made, steps):
            yield batch
            done += 1
    if done < steps:
        raise RuntimeError(f"the data ended after {done} steps of {steps}")


def _restore(trainer: BraVeTrainer, settings: RunSettings, num_samples: int) -> Place:
    processes, like = trainer.processes, jax.device_get(trainer.state)
    found = processes.together(
        lambda: read_newest(like, settings, processes.world_size, num_samples)
    )
    processes.check_equal("the step to go on from", 0 if found is None else found[1].step)
    if found is None:
        return Place()
    state, place = found
    trainer.state = processes.replicate(state)
    if processes.is_main:
        logger.info("going on from step %d", place.step)
    return place
