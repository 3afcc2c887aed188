"""One training run from its settings: data, state, steps, what lies in the folder.

RUN/config.json, command.txt, environment.json      what made this
RUN/shards/                                         with --videos
RUN/encoder-untrained.safetensors                   before the first step
RUN/checkpoints/ckpt-STEP/                          all that changes
RUN/metrics.jsonl, bad-videos.jsonl, probe.jsonl
RUN/encoder.safetensors                             after the last step
"""

from __future__ import annotations

import glob
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import jax
from ssvideo_core.batches import steps_per_epoch
from ssvideo_core.errors import EXIT_OK, ConfigError
from ssvideo_core.formats.convert_tfrecord import Part, convert
from ssvideo_core.formats.flow_frames import METHODS, opencv
from ssvideo_core.formats.video_records import RecordForm
from ssvideo_core.interruption import Interruption
from ssvideo_core.progress import ProgressLines
from ssvideo_core.run_weights import UNTRAINED_FILE
from ssvideo_core.runs import start_run
from ssvideo_core.source import VideoSource, open_source
from ssvideo_core.training_loop import RunSettings

from brave.config import Experiment
from brave.distributed import Place, Processes, find_place, start
from brave.experiment_settings import EVALUATION_SIDE, ExperimentSettings, record_of
from brave.probe import Probe, check_run, make_probe, probe_checkpoint, probe_run
from brave.training import make_model, make_trainer, run_training
from brave.training_data import TrainingRecords
from brave.training_state import export_encoder

TRAIN = "train"  # a part of the videos
SHARDS, NAME, NUM_SHARDS = "shards", "train", 4

logger = logging.getLogger(__name__)


def run_experiment(settings: ExperimentSettings, flags: Experiment, command: Sequence[str]) -> int:
    """Train, or go on training, or probe a run; returns the exit code.

    Raises ConfigError and DataError before the first step for settings and data that do not fit.
    """
    folder = flags.workdir or Path(settings["checkpoint_dir"])
    place = find_place(
        os.environ,
        coordinator=flags.coordinator,
        num_processes=flags.num_processes,
        process_id=flags.process_id,
    )
    if flags.jaxline_mode == "eval":
        if _is_first(place):
            _probe_only(settings, flags, folder)
        return EXIT_OK
    with (
        start(place, flags.device) as processes,
        jax.default_device(processes.local_devices[0]),
    ):
        return _Run(settings, flags, folder, command, processes).train()


def _is_first(place: Place | None) -> bool:
    """Whether this is the process that probes; it needs no other, so that they need not meet."""
    if place is None:
        return True
    number = place.process_id
    return int(os.environ.get("SLURM_PROCID", "0")) == 0 if number is None else number == 0


def _probe_only(settings: ExperimentSettings, flags: Experiment, folder: Path) -> None:
    check_run(settings, folder)
    with start(None, flags.device) as processes:
        probe = make_probe(settings, workers=flags.workers)
        probe_run(probe, folder, processes.local_devices[0])


def training_videos(source: VideoSource) -> tuple[int, ...]:
    """The videos of a source that are trained on: its part "train", all if it has none.

    The log says which parts are left out.
    """
    parts = [source.entry(index).split for index in range(len(source))]
    if TRAIN not in parts:
        return tuple(range(len(parts)))
    rest = Counter(part or "no part" for part in parts if part != TRAIN)
    chosen = tuple(index for index, part in enumerate(parts) if part == TRAIN)
    if rest:
        left_out = ", ".join(f"{number} of {part}" for part, number in sorted(rest.items()))
        logger.info("%d videos to train on; left out: %s", len(chosen), left_out)
    return chosen


def run_settings(
    settings: ExperimentSettings,
    processes: Processes,
    *,
    folder: Path,
    num_samples: int,
    workers: int = 0,
    resume_anyway: bool = False,
) -> RunSettings:
    """A run of training_steps steps, which need not be whole epochs.

    Raises ConfigError for a batch that is larger than the data or that the devices cannot share.
    """
    batch = settings["experiment.global_batch_size"]
    epoch = steps_per_epoch(num_samples, batch)
    if batch % processes.num_devices:
        raise ConfigError(
            f"--config.experiment.global_batch_size={batch} is shared by {processes.num_devices} "
            "devices; give a multiple of their number, or --device with fewer"
        )
    return RunSettings(
        folder=folder,
        batch_size=batch // processes.world_size,
        epochs=Fraction(settings["training_steps"], epoch),
        seed=settings["random_seed"],
        workers=workers,
        print_freq=settings["log_steps"],
        checkpoint_steps=1,  # whether there is one is decided when it is due
        resume_anyway=resume_anyway,
    )


@dataclass(frozen=True)
class _Run:
    settings: ExperimentSettings
    flags: Experiment
    folder: Path
    command: Sequence[str]
    processes: Processes

    def train(self) -> int:
        together, is_main = self.processes.together, self.processes.is_main
        make_model(self.settings)  # what cannot be built is found before anything is written
        probe = together(self._probe)
        if self.flags.videos is not None:
            together(self._write_shards)
        load = together(self._records)
        self.processes.check_equal("the number of records", len(load))
        loop = self._loop(len(load))
        together(self._record)
        trainer = make_trainer(self.settings, self.processes)
        untrained = self.folder / UNTRAINED_FILE
        if is_main and not untrained.exists():
            export_encoder(untrained, trainer.state, self.settings)

        def saved(checkpoint: Path) -> None:
            if probe is not None:
                probe_checkpoint(probe, self.folder, checkpoint, self.processes.local_devices[0])

        with Interruption() as interruption:
            code = run_training(
                trainer, load, settings=loop, interruption=interruption, saved=saved
            )
        if code == EXIT_OK and is_main:
            export_encoder(self.folder / "encoder.safetensors", trainer.state, self.settings)
            logger.info("encoder: %s", self.folder / "encoder.safetensors")
        self.processes.barrier()  # the others do not leave while the first still writes
        return code

    def _probe(self) -> Probe | None:
        if self.flags.jaxline_mode == "train" or not self.processes.is_main:
            return None
        return make_probe(self.settings, workers=self.flags.workers)

    def _records(self) -> TrainingRecords:
        """Raises ConfigError and DataError for shards that cannot be trained on."""
        settings, patterns = self.settings, self.settings["model.dataset_shards"]
        if self.flags.videos is not None:
            patterns = [f"{glob.escape(str(self.folder / SHARDS))}/{NAME}-*"]
        if not patterns:
            raise ConfigError(
                "there is nothing to train on: give --config.model.dataset_shards='/data/train-*', "
                "or --videos with a folder or a CSV list of videos"
            )
        load = TrainingRecords(
            patterns,
            settings.narrow,
            settings.broad,
            audio_rate_hz=settings["model.input_audio_sample_rate"],
            video_rate_hz=settings["model.input_video_sample_rate"],
            seed=settings["random_seed"],
            narrow_placement=settings.placement,
        )
        load.check()
        return load

    def _loop(self, num_samples: int) -> RunSettings:
        return run_settings(
            self.settings,
            self.processes,
            folder=self.folder,
            num_samples=num_samples,
            workers=self.flags.workers,
            resume_anyway=self.flags.resume_anyway,
        )

    def _write_shards(self) -> None:
        """The records of --videos, which the first process writes for all."""
        if not self.processes.is_main:
            return
        assert self.flags.videos is not None, "only called with --videos"
        form = self._record_form()
        source = open_source(self.flags.videos)
        for notice in source.notices:
            logger.info(notice)
        videos = training_videos(source)
        self._loop(len(videos))  # a batch that does not fit is found before the work
        self._record()
        convert(
            source,
            self.folder / SHARDS,
            name=NAME,
            parts=[Part("", videos)],
            num_shards=min(NUM_SHARDS, len(videos)),
            form=form,
            workers=self.flags.workers,
            progress=ProgressLines(),
        )

    def _record_form(self) -> RecordForm:
        """Raises ConfigError for rates and sizes that no record can have, and without OpenCV for
        flow.
        """
        modalities = {view.modality for view in self.settings.views}
        size = max(view.image_size for view in self.settings.views if view.modality != "sound")
        rate_hz = self.settings["model.input_audio_sample_rate"]
        form = RecordForm(
            rate_hz=self.settings["model.input_video_sample_rate"],
            short_side=math.ceil(size * EVALUATION_SIDE),
            sound_rate_hz=rate_hz if "sound" in modalities else 0,
            flow=METHODS[0] if "flow" in modalities else "",
        )
        form.check()
        if form.flow:
            opencv()
        return form

    def _record(self) -> None:
        """Say what makes the run, once for all processes."""
        if not self.processes.is_main:
            return
        logger.info("run: %s", self.folder)
        operational = {
            "device": self.flags.device,
            "workers": self.flags.workers,
            "num_devices": self.processes.num_devices,
            "num_processes": self.processes.world_size,
            "jaxline_mode": self.flags.jaxline_mode,
        }
        record = record_of(self.settings, self.flags.videos, operational)
        anyway = self.flags.resume_anyway
        start_run(self.folder, record, self.command, resume_anyway=anyway)
