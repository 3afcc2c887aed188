"""One training run of GDT from its configuration: data, state, steps, what lies in the folder.

RUN/config.json, command.txt, environment.json      what made this
RUN/encoder-untrained.safetensors                   before the first step
RUN/checkpoints/ckpt-STEP/                          all that changes
RUN/metrics.jsonl, bad-videos.jsonl, left-out.csv
RUN/encoder.safetensors                             after the last step
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ssvideo_core.batches import SampleLoader, steps_per_epoch
from ssvideo_core.errors import EXIT_OK, ConfigError
from ssvideo_core.interruption import Interruption
from ssvideo_core.run_weights import UNTRAINED_FILE
from ssvideo_core.runs import run_folder
from ssvideo_core.weights.locate import ENCODER_FILE
from ssvideo_torch.loader import TorchBatch
from ssvideo_torch.precision import autocast
from ssvideo_torch.start import Process
from ssvideo_torch.training_run import run_training
from torch import Tensor, nn

from gdt_stica.checkpoints import export
from gdt_stica.config import MainGDT
from gdt_stica.data import TrainingVideos
from gdt_stica.launch import first_then_others, record_run, run_settings, start_processes
from gdt_stica.pairing import Pairing, pairing_of
from gdt_stica.settings import clips_of, idle_flags, quirks_of, rate_of
from gdt_stica.training import make_state, train_step
from gdt_stica.training_state import TrainingState, arrays_of

logger = logging.getLogger(__name__)


def run_gdt(config: MainGDT, command: Sequence[str]) -> int:
    """Train, or go on training; returns the exit code.

    Raises ConfigError and DataError before the first step, and before anything is written, for
    settings and data that do not fit.
    """
    folder = config.output_dir or run_folder(Path("runs"), "main_gdt", config)
    quirks = quirks_of(config)
    pairing = pairing_of(config, quirks)
    with start_processes(config) as process:
        return _run(config, quirks, pairing, folder, command, process)


def _run(
    config: MainGDT,
    quirks: Mapping[str, str],
    pairing: Pairing,
    folder: Path,
    command: Sequence[str],
    process: Process,
) -> int:
    autocast(process.device, config.network_precision)  # refuses what the device has not
    videos = first_then_others(process, pairing.find_videos)
    _check_batch(config, process, videos)
    notes = [*_idle(config), str(videos)]
    record_run(process, folder, config, command, excluded=videos.excluded, notes=notes)
    trainer = make_trainer(config, quirks, pairing, folder, process)
    load = SampleLoader(videos.source, pairing.sampler, seed=config.seed, indices=videos.indices)
    with Interruption() as interruption:
        code = run_training(
            trainer,
            load,
            num_samples=len(load),
            settings=run_settings(config, folder),
            process=process,
            interruption=interruption,
        )
    if code == EXIT_OK and process.is_main:
        trainer.export(folder / ENCODER_FILE)
        logger.info("encoders: %s", folder / ENCODER_FILE)
    return code


@dataclass(frozen=True)
class GDTTrainer:
    """GDT's steps in `ssvideo_torch.training_run`."""

    config: MainGDT
    quirks: Mapping[str, str]
    pairing: Pairing
    state: TrainingState[nn.Module]
    process: Process

    def parts(self) -> dict[str, Any]:
        return self.state.parts()

    def step(self, batch: TorchBatch, *, step: int, epoch: int) -> dict[str, Tensor | float]:
        rate = rate_of(self.config, self.quirks, epoch, self.process.world_size)
        loss = train_step(
            self.state,
            self.pairing.copies(batch),
            self.process,
            step=step,
            rate=rate,
            hypothesis=self.config.hypothesis,
            temperature=self.config.nce_t,
            negatives=self.quirks["negatives"],
            precision=self.config.network_precision,
            seed=self.config.seed,
        )
        return {"loss": loss, "lr": rate}

    def end_epoch(self, epoch: int) -> None:
        """Nothing: the rate is a function of the epoch."""

    def export(self, path: Path) -> None:
        """Write the network for `load_encoder`."""
        tensors = arrays_of(self.state.network)
        export(path, tensors, self.pairing.architecture, clips_of(self.config))


def make_trainer(
    config: MainGDT, quirks: Mapping[str, str], pairing: Pairing, folder: Path, process: Process
) -> GDTTrainer:
    """A new network, exported as untrained if it is the first of its run."""
    torch.manual_seed(config.seed)
    state = make_state(
        pairing.build(),
        process,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        sync_bn=config.sync_bn,
        precision=config.network_precision,
    )
    trainer = GDTTrainer(config, quirks, pairing, state, process)
    untrained = folder / UNTRAINED_FILE
    if process.is_main and not untrained.exists():
        trainer.export(untrained)
    return trainer


def _idle(config: MainGDT) -> list[str]:
    """What is said of flags of the other model: published scripts pass some of them."""
    flags = idle_flags(config)
    return [f"without effect with --model {config.model}: {' '.join(flags)}"] if flags else []


def _check_batch(config: MainGDT, process: Process, videos: TrainingVideos) -> None:
    clips = config.batch_size * (process.world_size if config.sync_bn else 1)
    if clips < 2:
        raise ConfigError("--batch_size 1: batch norms need two clips; give more, or processes")
    steps_per_epoch(len(videos.indices), config.batch_size * process.world_size)
