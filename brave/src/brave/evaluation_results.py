"""What an evaluation leaves behind: features, and numbers that stand beside those of papers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ssvideo_core.config import to_json
from ssvideo_core.datasets.splits import group_of
from ssvideo_core.errors import DataError
from ssvideo_core.evaluate.intervals import bootstrap_interval
from ssvideo_core.feature_writer import software
from ssvideo_core.features import clip_to_json
from ssvideo_core.files import replacing
from ssvideo_core.results import Key, Provenance, Result, append_results, canonical_json
from ssvideo_core.views import ClipSpec, Pixels, Steps
from ssvideo_core.weights import fingerprint

from brave.checkpoints import Checkpoint
from brave.config import TEST_SHORT_SIDE, EvaluateVideoEmbeddings
from brave.crops import SPATIAL_CROPS, TEMPORAL_CROPS
from brave.evaluation import Evaluation
from brave.method import METHOD

_LOG = logging.getLogger(__name__)

PROTOCOL = "brave-svm/1"
_OPTIONS = ("batch_size", "svm_regularization", "train_epochs", "protocol")


def prepare(out: Path) -> None:
    """Find out before the work whether results can be written there."""
    append_results(out / "results.jsonl", [])


def store(
    out: Path, found: Evaluation, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> None:
    """Write the features as train.npz and test.npz, and add to results.jsonl.

    The arrays are `values` [N, D] float32 and `labels` [N] int64, the clips of a video consecutive.
    """
    for name, features in (("train", found.train), ("test", found.test)):
        with replacing(out / f"{name}.npz") as file:
            np.savez(file, values=features.values, labels=features.labels)
    append_results(out / "results.jsonl", results(found, config=config, checkpoint=checkpoint))


def results(
    found: Evaluation, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> list[Result]:
    """top1 and top5 of the test videos.

    The interval is over groups of videos (`datasets.splits.group_of`). It is None where the records
    do not name the videos they were made from, or the data set's groups are not known.
    """
    groups = _groups([fact.filename for fact in found.test_facts], config.dataset)
    published = checkpoint.published
    key = Key(
        method=METHOD.name,
        weights=config.checkpoint_path if published is None else published.name,
        backbone=f"{METHOD.backbones['rgb']} {checkpoint.architecture.width:g}X",
        modality="rgb",
        dataset=config.dataset,
        split=config.split,
        protocol=f"{PROTOCOL}@{TEMPORAL_CROPS}x{SPATIAL_CROPS}",
        metric="",
    )
    provenance = _provenance(found, config, fingerprint(checkpoint.narrow_tensors()))
    lines = []
    for k in (1, 5):
        correct = found.ranks.test < k
        interval, counted = None, {}
        if groups is not None:
            interval = bootstrap_interval(correct, groups, seed=config.seed)
            counted = {"test_groups": len(set(groups))}
        line = Result(
            key=replace(key, metric=f"top{k}"),
            value=float(correct.mean()),
            interval=interval,
            n=len(correct),
            provenance=provenance,
            details={"training_clips": float((found.ranks.train < k).mean()), **counted},
        )
        lines.append(line)
    return lines


def _groups(names: Sequence[str | None], dataset: str) -> list[str] | None:
    """The group of each video, where all are known and there are two or more."""
    groups = []
    for name in names:
        try:
            group = group_of(dataset, name or "")
        except DataError as error:
            _LOG.warning("no interval: %s", error)
            return None
        if group is None:
            return None
        groups.append(group)
    return groups if len(set(groups)) > 1 else None


def _provenance(
    found: Evaluation, config: EvaluateVideoEmbeddings, fingerprint_of_weights: str
) -> Provenance:
    facts = [[asdict(fact) for fact in part] for part in (found.train_facts, found.test_facts)]
    side = config.image_size
    clip = ClipSpec(
        "rgb",
        Steps(config.num_video_frames, config.video_step),
        Pixels(TEST_SHORT_SIDE, side, side),
        "loop",
    )
    settings = to_json(config)
    return Provenance(
        fingerprint=fingerprint_of_weights,
        data_hash=hashlib.sha256(canonical_json(facts).encode()).hexdigest(),
        clip=clip_to_json(clip),
        options={name: settings[name] for name in _OPTIONS},
        seed=config.seed,
        fidelity="default",
        code_version=f"brave {METHOD.version}, core {software()['ssvideo-core']}",
    )
