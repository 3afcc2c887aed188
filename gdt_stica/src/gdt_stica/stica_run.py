"""One training run of STiCA from its configuration: data, state, steps, what lies in the folder.

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
from torch import Tensor

from gdt_stica.checkpoints import export
from gdt_stica.data import TrainingVideos, find_videos
from gdt_stica.launch import first_then_others, record_run, run_settings, start_processes
from gdt_stica.model_stica import STiCA
from gdt_stica.stica_config import MainSTiCA
from gdt_stica.stica_settings import (
    architecture_of,
    clips_of,
    crop_numbers,
    map_size_of,
    quirks_of,
    rate_of,
    sampler_of,
    spectrograms_of,
    videos_of,
)
from gdt_stica.stica_training import draw_step_boxes, make_state, train_step
from gdt_stica.training_state import TrainingState, arrays_of

logger = logging.getLogger(__name__)


def run_stica(config: MainSTiCA, command: Sequence[str]) -> int:
    """Train, or go on training; returns the exit code.

    Raises ConfigError and DataError before the first step, and before anything is written, for
    settings and data that do not fit.
    """
    folder = config.dump_path or run_folder(Path("runs"), "main_stica", config)
    architecture_of(config)
    map_size_of(config)
    sampler = sampler_of(config, quirks_of(config))
    with start_processes(config) as process:
        autocast(process.device, config.network_precision)  # refuses what the device has not
        videos = first_then_others(process, lambda: _find_videos(config))
        steps = _steps_per_epoch(config, process, videos)
        record_run(process, folder, config, command, excluded=videos.excluded, notes=[str(videos)])
        trainer = make_trainer(config, folder, process, steps_per_epoch=steps)
        with Interruption() as interruption:
            code = run_training(
                trainer,
                SampleLoader(videos.source, sampler, seed=config.seed, indices=videos.indices),
                num_samples=len(videos.indices),
                settings=run_settings(config, folder, keep_every_epochs=config.checkpoint_freq),
                process=process,
                interruption=interruption,
            )
        if code == EXIT_OK and process.is_main:
            _export(folder / ENCODER_FILE, trainer.state.network, config)
            logger.info("encoders: %s", folder / ENCODER_FILE)
        return code


@dataclass(frozen=True)
class STiCATrainer:
    """STiCA's steps in `ssvideo_torch.training_run`."""

    config: MainSTiCA
    quirks: Mapping[str, str]
    state: TrainingState[STiCA]
    process: Process
    steps_per_epoch: int

    def parts(self) -> dict[str, Any]:
        return self.state.parts()

    def step(self, batch: TorchBatch, *, step: int, epoch: int) -> dict[str, Tensor | float]:
        config = self.config
        rate = rate_of(config, step, self.steps_per_epoch)
        boxes = draw_step_boxes(
            self.process,
            seed=config.seed,
            step=step,
            map_size=map_size_of(config),
            rule=self.quirks["feature_crops"],
            **crop_numbers(config),
        )
        scalars = train_step(
            self.state,
            videos_of(batch, config, self.quirks),
            spectrograms_of(batch, config),
            boxes,
            self.process,
            step=step,
            rate=rate,
            temperature=config.temp,
            alpha=config.cross_modal_alpha,
            precision=config.network_precision,
            seed=config.seed,
        )
        return {**scalars, "lr": rate}

    def end_epoch(self, epoch: int) -> None:
        """Nothing: the rate is a function of the step."""


def make_trainer(
    config: MainSTiCA, folder: Path, process: Process, *, steps_per_epoch: int
) -> STiCATrainer:
    """A new network, exported as untrained if it is the first of its run."""
    torch.manual_seed(config.seed)
    network = STiCA(
        architecture_of(config), dropout=config.head_dropout, attention_dropout=config.dp
    )
    untrained = folder / UNTRAINED_FILE
    if process.is_main and not untrained.exists():
        _export(untrained, network, config)
    quirks = quirks_of(config)
    state = make_state(
        network,
        process,
        weight_decay=config.wd,
        sound=config.cross_modal_alpha > 0,
        passes=quirks["crop_passes"],
        precision=config.network_precision,
    )
    return STiCATrainer(config, quirks, state, process, steps_per_epoch)


def _find_videos(config: MainSTiCA) -> TrainingVideos:
    return find_videos(
        config.root_dir, num_data_samples=config.num_data_samples, workers=config.workers
    )


def _steps_per_epoch(config: MainSTiCA, process: Process, videos: TrainingVideos) -> int:
    clips = config.batch_size * process.world_size
    if clips < 2:
        raise ConfigError("--batch_size 1: batch norms need two clips; give more, or processes")
    return steps_per_epoch(len(videos.indices), clips)


def _export(path: Path, network: STiCA, config: MainSTiCA) -> None:
    export(path, arrays_of(network), architecture_of(config), clips_of(config))
