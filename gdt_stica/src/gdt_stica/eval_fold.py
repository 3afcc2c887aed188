"""One fold of `eval_video`: its network, its training, its tests.

FOLD/encoder-start.safetensors                       before the first step
FOLD/checkpoints/ckpt-STEP/, metrics.jsonl           as of every training run
FOLD/scores/epoch-07/                                a feature folder for each test
FOLD/tests.jsonl                                     accuracies by epoch
FOLD/encoder.safetensors, encoder-best.safetensors   the last epoch, and the best of the tested

After an epoch its checkpoint is written first and the test follows before the next step, so that a
test that is interrupted costs no training.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ssvideo_core import config as configs
from ssvideo_core.batches import SampleLoader
from ssvideo_core.errors import EXIT_OK
from ssvideo_core.features import COMPLETE, FeatureSet, clip_to_json, open_features
from ssvideo_core.files import write_text
from ssvideo_core.interruption import Interruption
from ssvideo_core.run_weights import START_FILE
from ssvideo_core.weights import fingerprint
from ssvideo_core.weights.locate import ENCODER_FILE
from ssvideo_torch.loader import TorchBatch
from ssvideo_torch.start import Process
from ssvideo_torch.training_run import RunSettings, run_training
from torch import Tensor

from gdt_stica.checkpoints import export
from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_data import Fold, repeated
from gdt_stica.eval_results import BACKBONES, EpochScores, Start, best_of, read_scores
from gdt_stica.eval_settings import (
    Quirks,
    clip_of,
    draw_test_views,
    input_of,
    rates_of,
    sampler_of,
    weight_decay_of,
)
from gdt_stica.eval_testing import LoadTestVideo, Scorer, score_videos
from gdt_stica.eval_weights import name_of
from gdt_stica.finetune import TuningState, kind_of, make_state, tuning_step
from gdt_stica.launch import run_settings
from gdt_stica.method import METHOD
from gdt_stica.model import FineTuned
from gdt_stica.training_state import arrays_of

logger = logging.getLogger(__name__)
NONE = -1
# What has names of its own in a result, or is a place.
NOT_OPTIONS = {"fold", "root_dir", "ucf101_annotation_path", "hmdb51_annotation_path"}
NOT_OPTIONS |= {"weights_path", "resume", "seed", "fidelity", "dataset"}


class Untested:
    """The epoch that is complete, but not its test; part of a checkpoint."""

    def __init__(self) -> None:
        self.epoch = NONE

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.epoch = int(state["epoch"])


@dataclass(frozen=True)
class FineTuning:
    """The steps of a fold in `ssvideo_torch.training_run`. test: called with an epoch's number."""

    config: EvalVideo
    quirks: Quirks
    state: TuningState
    process: Process
    untested: Untested
    test: Callable[[int], None]

    def parts(self) -> dict[str, Any]:
        return {**self.state.parts(), "untested": self.untested}

    def step(self, batch: TorchBatch, *, step: int, epoch: int) -> dict[str, Tensor | float]:
        self.test_if_due()
        rates = rates_of(self.config, self.quirks, epoch)
        prepare = input_of(self.config, self.quirks, blurs=self.config.use_gaussian)
        loss, accuracy = tuning_step(
            self.state,
            prepare(batch.views[0]),
            batch.label,
            self.process,
            step=step,
            rates=rates,
            precision=self.config.precision,
            seed=self.config.seed,
        )
        return {"loss": loss, "lr": rates["head"], "top1": accuracy}

    def end_epoch(self, epoch: int) -> None:
        if is_tested(self.config, epoch):
            self.untested.epoch = epoch

    def test_if_due(self) -> None:
        """The test of the epoch that was completed last, unless it is done."""
        if self.untested.epoch != NONE:
            self.test(self.untested.epoch)
            self.untested.epoch = NONE


def is_tested(config: EvalVideo, epoch: int) -> bool:
    """From --test-from on, and the last."""
    return epoch >= config.test_from or epoch == config.epochs - 1


@dataclass
class FoldRun:
    """A fold on its way. folder: FOLD. network: as `make_network` made it, until it is trained."""

    config: EvalVideo
    quirks: Quirks
    fold: Fold
    folder: Path
    network: FineTuned
    process: Process
    interruption: Interruption

    def __post_init__(self) -> None:
        own = {k: v for k, v in arrays_of(self.network).items() if kind_of(k) != "head"}
        self.start = Start(
            weights=name_of(self.config.tested_weights),
            fingerprint=fingerprint(own),
            backbone=BACKBONES[self.config.vid_base_arch],
            clip=clip_to_json(clip_of(self.config)),
            views=(self.config.val_clips_per_video, self.config.num_spatial_crops),
            options={
                **_options(self.config),
                "model": self.network.architecture.base,
                **self.quirks,
            },
            seed=self.config.seed,
            fidelity=self.config.fidelity,
        )

    def train(self) -> int:
        """All epochs with their tests; returns the exit code."""
        config, process = self.config, self.process
        state = make_state(
            self.network,
            process,
            momentum=config.momentum,
            weight_decay=weight_decay_of(config),
            head_only=config.feature_extract,
            frozen_norms=config.feature_extract and self.quirks["feature_bn"] == "frozen",
            sync_bn=config.sync_bn,
            precision=config.precision,
        )
        process.together(self._export_start)
        trainer = FineTuning(config, self.quirks, state, process, Untested(), self.test)
        videos = repeated(self.fold.train, config.train_clips_per_video)
        code = run_training(
            trainer,
            SampleLoader(
                self.fold.source,
                sampler_of(config, self.quirks),
                seed=config.seed,
                indices=videos,
                labels=self.fold.labels(videos).tolist(),
            ),
            num_samples=len(videos),
            settings=self._settings(),
            process=process,
            interruption=self.interruption,
        )
        if code == EXIT_OK:
            process.together(lambda: self._export(ENCODER_FILE))
            trainer.test_if_due()
        return code

    def test_only(self) -> int:
        """The test of the network as it is; returns the exit code."""
        self.network.to(self.process.device)
        self.test(self.config.epochs - 1)
        return EXIT_OK

    def test(self, epoch: int) -> None:
        """Scores of the network as it is now, called those of `epoch`."""
        config = self.config
        load = LoadTestVideo(
            self.fold.source,
            self.fold.test,
            draw_test_views(config, self.quirks),
            seed=config.seed,
            epoch=epoch,
            clips_at_once=config.batch_size,
        )
        prepare = input_of(config, self.quirks, blurs=False)
        features = score_videos(
            Scorer(self.network, prepare, self.process.device),
            load,
            self._scores(epoch),
            request=self._request(epoch),
            rows=self.fold.rows(self.fold.test),
            num_classes=len(self.fold.classes),
            workers=config.workers,
            process=self.process,
            interruption=self.interruption,
        )
        self.process.together(lambda: self._note(epoch, features))

    def tests(self, until: int | None = None) -> list[EpochScores]:
        """What is tested completely, in the order of epochs; until: the last of these."""
        last = self.config.epochs - 1 if until is None else until
        complete = [
            epoch for epoch in range(last + 1) if (self._scores(epoch) / COMPLETE).is_file()
        ]
        return [read_scores(e, open_features(self._scores(e)), self.fold) for e in complete]

    def _note(self, epoch: int, features: FeatureSet | None) -> None:
        """After a test; rank 0 has its scores."""
        if features is None:
            return
        tests = self.tests(until=epoch)
        lines = [json.dumps({"epoch": test.epoch, **test.accuracy}) for test in tests]
        write_text(self.folder / "tests.jsonl", "".join(f"{line}\n" for line in lines))
        shown = ", ".join(f"{k} {100 * v:.2f} %" for k, v in tests[-1].accuracy.items())
        logger.info(
            "%s fold %s, epoch %d: %s of %d test videos",
            self.fold.dataset,
            self.fold.name,
            epoch,
            shown,
            len(features.video_ids) - len(features.failed),
        )
        if best_of(tests).epoch == epoch and not self.config.test_only:
            self._export("encoder-best.safetensors")

    def _scores(self, epoch: int) -> Path:
        return self.folder / "scores" / f"epoch-{epoch:02d}"

    def _settings(self) -> RunSettings:
        share = self.config.batch_size // self.process.world_size
        return run_settings(self.config, self.folder, batch_size=share)

    def _request(self, epoch: int) -> dict[str, Any]:
        start = self.start
        return {
            "method": METHOD.name,
            "weights": start.weights,
            "backbone": start.backbone,
            "modality": "rgb",
            "kind": "scores",
            "fingerprint": fingerprint(arrays_of(self.network)),
            "clip": start.clip,
            "views": list(start.views),
            "keep": "video",
            "feature_size": len(self.fold.classes),
            "batch_size": self.config.batch_size,
            "seed": start.seed,
            "fidelity": start.fidelity,
            "version": METHOD.version,
            "dataset": self.fold.dataset,
            "fold": self.fold.name,
            "epoch": epoch,
            "classes": list(self.fold.classes),
            "test_aug": self.quirks["test_aug"],
        }

    def _export_start(self) -> None:
        if not (self.folder / START_FILE).exists():
            self._export(START_FILE)

    def _export(self, name: str) -> None:
        if self.process.is_main:
            clips = {"rgb": clip_of(self.config)}
            export(self.folder / name, arrays_of(self.network), self.network.architecture, clips)


def _options(config: EvalVideo) -> dict[str, Any]:
    """Every flag that can change a number, apart from `NOT_OPTIONS`."""
    values = configs.to_json(config)
    return {
        field.name: values[field.name]
        for field in fields(config)
        if not field.metadata["operational"] and field.name not in NOT_OPTIONS
    }
