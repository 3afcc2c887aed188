"""One training run of GDT from its configuration: data, state, the loop, what lies in the folder.

RUN/config.json, command.txt, environment.json      what made this
RUN/encoder-untrained.safetensors                   before the first step
RUN/checkpoints/ckpt-STEP/                          all that changes
RUN/metrics.jsonl, bad-videos.jsonl, left-out.csv
RUN/encoder.safetensors                             after the last step
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import torch
from ssvideo_core.batches import BadVideos, Position, SampleLoader, batches, steps_per_epoch
from ssvideo_core.checkpoints import newest_checkpoint
from ssvideo_core.errors import EXIT_OK, EXIT_REQUEUE, ConfigError
from ssvideo_core.files import write_text
from ssvideo_core.interruption import Interruption, ending_at_once, requeue
from ssvideo_core.metrics import MetricsLog, TrainingProgress
from ssvideo_core.runs import run_folder, start_run
from ssvideo_torch.checkpoint import save
from ssvideo_torch.loader import DeviceBatches, to_device_ahead
from ssvideo_torch.start import Process, start

from gdt_stica.checkpoints import export
from gdt_stica.config import MainGDT, ignored_flags
from gdt_stica.data import TrainingVideos, find_videos
from gdt_stica.model import AudioVisualGDT, build
from gdt_stica.sampling import GDTSampler
from gdt_stica.settings import (
    architecture_of,
    clips_of,
    copies_of,
    quirks_of,
    rate_of,
    sampler_of,
)
from gdt_stica.training import TrainingState, make_state, train_step

logger = logging.getLogger(__name__)
KEPT_EPOCHS = 10  # the checkpoint of every tenth epoch stays, as in the original


def run_gdt(config: MainGDT, command: Sequence[str]) -> int:
    """Train, or go on training; returns the exit code.

    Raises ConfigError and DataError before the first step, and before anything is written, for
    settings and data that do not fit.
    """
    folder = config.output_dir or run_folder(Path("runs"), "main_gdt", config)
    quirks_of(config)
    with ending_at_once(), _start(config) as process:
        videos = _find_videos(config, process)
        _check_batch(config, process, videos)
        process.together(lambda: _record(config, folder, command, videos, process))
        state = _state(config, folder, process)
        with Interruption() as interruption:
            return _train(config, folder, process, videos, state, interruption)


def _start(config: MainGDT) -> AbstractContextManager[Process]:
    launched = "RANK" in os.environ or "SLURM_PROCID" in os.environ
    return start(
        config.device,
        dist_url=config.dist_url,
        local_rank=config.local_rank,
        rank=config.rank,
        world_size=None if launched and config.rank is None else config.world_size,
    )


def _find_videos(config: MainGDT, process: Process) -> TrainingVideos:
    """The first process opens every video; the others find the facts in the index."""

    def find() -> TrainingVideos:
        return find_videos(
            config.root_dir, num_data_samples=config.num_data_samples, workers=config.workers
        )

    first = process.together(lambda: find() if process.is_main else None)
    others = process.together(lambda: None if process.is_main else find())
    videos = first or others
    assert videos is not None, "every process has its turn"
    return videos


def _check_batch(config: MainGDT, process: Process, videos: TrainingVideos) -> None:
    clips = config.batch_size * (process.world_size if config.sync_bn else 1)
    if clips < 2:
        raise ConfigError("--batch_size 1: batch norms need two clips; give more, or processes")
    steps_per_epoch(len(videos.indices), config.batch_size * process.world_size)


def _record(
    config: MainGDT,
    folder: Path,
    command: Sequence[str],
    videos: TrainingVideos,
    process: Process,
) -> None:
    if not process.is_main:
        return
    logger.info("run: %s", folder)
    start_run(folder, config, command, resume_anyway=config.resume_anyway)
    if ignored := ignored_flags(config):
        logger.info("without effect (see --help): %s", " ".join(ignored))
    logger.info("%s", videos)
    rows = io.StringIO()
    csv.writer(rows).writerows([("video", "reason"), *videos.excluded.items()])
    write_text(folder / "left-out.csv", rows.getvalue())


def _state(config: MainGDT, folder: Path, process: Process) -> TrainingState:
    """A new network, or what the newest checkpoint holds."""
    torch.manual_seed(config.seed)
    network = build(architecture_of(config), dropout=config.head_dropout)
    assert isinstance(network, AudioVisualGDT)
    untrained = folder / "encoder-untrained.safetensors"
    if process.is_main and not untrained.exists():
        _export(untrained, network, config)
    state = make_state(
        network,
        process,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        sync_bn=config.sync_bn,
        precision=config.network_precision,
    )
    newest = newest_checkpoint(folder / "checkpoints")
    if newest is not None:
        saved = state.restore(newest)
        _check_processes(config, newest, saved.facts, process)
        if process.is_main:
            logger.info("going on from %s", newest)
    return state


def _check_processes(
    config: MainGDT, checkpoint: Path, facts: Mapping[str, Any], process: Process
) -> None:
    wanted = config.batch_size * process.world_size
    if facts["global_batch_size"] != wanted and not config.resume_anyway:
        raise ConfigError(
            f"{checkpoint} was trained with {facts['global_batch_size']} clips a step, now it "
            f"would be {wanted} ({process.world_size} processes of --batch_size "
            f"{config.batch_size}). Start as many processes as before, or pass --resume-anyway"
        )


def _export(path: Path, network: AudioVisualGDT, config: MainGDT) -> None:
    tensors = {name: t.detach().cpu().numpy() for name, t in network.state_dict().items()}
    export(path, tensors, architecture_of(config), clips_of(config))


def _train(
    config: MainGDT,
    folder: Path,
    process: Process,
    videos: TrainingVideos,
    state: TrainingState,
    interruption: Interruption,
) -> int:
    """The loop over all steps that are left; returns the exit code."""
    quirks = quirks_of(config)
    sampler = sampler_of(config, quirks)
    made = _batches(config, process, videos, sampler, state.position)
    global_batch_size = config.batch_size * process.world_size
    steps = config.epochs * steps_per_epoch(len(videos.indices), global_batch_size)
    bad = BadVideos(folder / "bad-videos.jsonl", len(videos.indices))
    progress = TrainingProgress(steps, step=state.step, enabled=process.is_main)
    with closing(made), MetricsLog(folder, step=state.step, enabled=process.is_main) as metrics:
        for position, batch in progress.watch(made):
            bad.add(batch.replaced)
            ended = position.samples_used == 0
            rate = rate_of(config, quirks, position.epoch - ended, process.world_size)
            loss = train_step(
                state,
                copies_of(batch, config, quirks, sampler),
                process,
                rate=rate,
                hypothesis=config.hypothesis,
                temperature=config.nce_t,
                negatives=quirks["negatives"],
                precision=config.network_precision,
                seed=config.seed,
            )
            state.position = position
            values = None
            if _due(state.step, config.print_freq) or state.step == steps:
                values = {"loss": float(process.gather(loss).mean()), "lr": rate}
                metrics.write(state.step, values)
            progress.advance(values)
            stopped = process.agreed(interruption.requested is not None)
            if ended or stopped or _due(state.step, config.checkpoint_steps):
                _save(config, folder, process, state, forever=ended)
            if stopped and state.step < steps:
                return _stop(interruption, process)
    if process.is_main:
        _export(folder / "encoder.safetensors", state.network, config)
        logger.info("encoders: %s", folder / "encoder.safetensors")
    return EXIT_OK


def _batches(
    config: MainGDT,
    process: Process,
    videos: TrainingVideos,
    sampler: GDTSampler,
    position: Position,
) -> DeviceBatches:
    made = batches(
        SampleLoader(videos.source, sampler, seed=config.seed, indices=videos.indices),
        num_samples=len(videos.indices),
        global_batch_size=config.batch_size * process.world_size,
        epochs=config.epochs,
        seed=config.seed,
        position=position,
        rank=process.rank,
        world_size=process.world_size,
        workers=config.workers,
    )
    return to_device_ahead(made, process.device)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _save(
    config: MainGDT, folder: Path, process: Process, state: TrainingState, *, forever: bool
) -> None:
    facts = {
        "position": state.position.to_json(),
        "global_batch_size": config.batch_size * process.world_size,
    }
    save(
        folder / "checkpoints",
        state.step,
        state.parts(),
        facts=facts,
        rank=process.rank,
        world_size=process.world_size,
        barrier=process.barrier,
        keep_forever=forever and state.position.epoch % KEPT_EPOCHS == 0,
    )


def _stop(interruption: Interruption, process: Process) -> int:
    """After a signal and its checkpoint; another process may have had the signal."""
    logger.info("stopped after a checkpoint; the same command goes on from there")
    if process.is_main and interruption.requested is not None:
        requeue(interruption.requested)
    return EXIT_REQUEUE
