"""What an evaluation leaves behind: features, and numbers that stand beside those of papers."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ssvideo_core.config import to_json
from ssvideo_core.datasets.splits import group_of
from ssvideo_core.errors import DataError
from ssvideo_core.evaluate.intervals import bootstrap_interval
from ssvideo_core.feature_writer import software
from ssvideo_core.features import clip_to_json
from ssvideo_core.files import replacing
from ssvideo_core.formats.tfrecord import find_shards
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.results import (
    Key,
    Provenance,
    Result,
    append_results,
    canonical_json,
    read_results,
)
from ssvideo_core.views import ClipSpec, Pixels, Steps
from ssvideo_core.weights import fingerprint

from brave.checkpoints import Checkpoint
from brave.config import TEST_SHORT_SIDE, EvaluateVideoEmbeddings
from brave.crops import SPATIAL_CROPS, TEMPORAL_CROPS
from brave.evaluation import Evaluation, Facts
from brave.method import METHOD
from brave.published_numbers import MEAN, NOT_STATED, SETTINGS, SPLITS, published_top1

_LOG = logging.getLogger(__name__)

PROTOCOL = "brave-svm/1"
RESULTS = "results.jsonl"
_OPTIONS = ("batch_size", "svm_regularization", "train_epochs", "protocol")


def prepare(out: Path) -> None:
    """Find out before the work whether results can be written there."""
    append_results(out / RESULTS, [])


def store(
    folder: Path, found: Evaluation, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> None:
    """Write the features as train.npz and test.npz to `folder`, and add to results.jsonl of --out.

    The arrays are `values` [N, D] float32 and `labels` [N] int64, the clips of a video consecutive.
    """
    assert config.out is not None, "the caller asks"
    for name, features in (("train", found.train), ("test", found.test)):
        with replacing(folder / f"{name}.npz") as file:
            np.savez(file, values=features.values, labels=features.labels)
    append_results(config.out / RESULTS, results(found, config=config, checkpoint=checkpoint))


def unfinished_folder(
    facts: Facts, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> Path:
    """Where --out has the features of an evaluation on its way, for this one alone.

    Also for these files as they are, this version of JAX and this kind of device.
    """
    assert config.out is not None, "the caller asks"
    shards = find_shards([*config.train_dataset_shards, *config.test_dataset_shards])
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    digest = _provenance(facts, config, checkpoint).digest
    decisive = [digest, files, jax.__version__, config.device or jax.default_backend()]
    return config.out / "unfinished" / hashlib.sha256(canonical_json(decisive).encode()).hexdigest()


def remove(unfinished: Path) -> None:
    """Remove what `unfinished_folder` named, and the folder around it unless others are there."""
    shutil.rmtree(unfinished, ignore_errors=True)
    with suppress(OSError):
        unfinished.parent.rmdir()


def known_accuracies(
    facts: Facts, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> dict[str, float] | None:
    """Those that results.jsonl of --out has of the same weights, videos and options; else None.

    As `evaluation.Ranks.accuracies`.
    """
    assert config.out is not None, "the caller asks"
    key = _key(config, checkpoint)
    digest = _provenance(facts, config, checkpoint).digest
    lines = {
        line.key.metric: line
        for line in read_results(config.out / RESULTS)
        if line.provenance is not None and line.provenance.digest == digest
        if replace(line.key, metric="") == key
    }
    if not {"top1", "top5"} <= lines.keys():
        return None
    of_train = {f"top_{k}_train": lines[f"top{k}"].details["training_clips"] for k in (1, 5)}
    return of_train | {f"top_{k}_test": lines[f"top{k}"].value for k in (1, 5)}


def summary(
    found: Mapping[str, Mapping[str, float]],
    config: EvaluateVideoEmbeddings,
    checkpoint: Checkpoint,
) -> Mapping[str, Any]:
    """What the command prints: the accuracies of the only split, else of each and their mean.

    found: accuracies by split. Several splits have the numbers that `published_numbers` finds
    beside them, as fractions too.
    """
    if len(found) == 1:
        return next(iter(found.values()))
    names = list(next(iter(found.values())))
    mean = {name: float(np.mean([one[name] for one in found.values()])) for name in names}
    whole: dict[str, Any] = {"splits": found, "mean": mean}
    record, stated = published_weights(config, checkpoint), published_numbers(config, checkpoint)
    if record is not None and stated:
        fractions = {split: round(percent / 100, 5) for split, percent in stated.items()}
        whole["published"] = {"weights": record.name, "top_1_test": fractions}
    return whole


def published_numbers(
    config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> Mapping[str, float]:
    """What the original's README states for these weights and settings: top-1 in percent by split.

    Nothing where it does not; else of the splits that `config` names, their mean when it names all
    three, and what is stated without a split.
    """
    record = published_weights(config, checkpoint)
    if record is None:
        return {}
    named = {*config.splits, config.split, NOT_STATED}
    if named >= set(SPLITS):
        named.add(MEAN)
    stated = published_top1(record.name, config.dataset)
    return {split: percent for split, percent in stated.items() if split in named}


def published_weights(
    config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> PublishedWeights | None:
    """The record that an evaluation reproduces, if any.

    The checkpoint was asked for by its name or has a published file's, and the width of its record;
    clips and C are those of the published numbers.
    """
    files = {record.file: record for record in METHOD.weights}
    record = checkpoint.published or files.get(checkpoint.path.name)
    same_settings = all(getattr(config, name) == value for name, value in SETTINGS.items())
    same_width = record and checkpoint.architecture.width == record.architecture["width"]
    return record if same_settings and same_width else None


def results(
    found: Evaluation, *, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> list[Result]:
    """top1 and top5 of the test videos.

    The interval is over groups of videos (`datasets.splits.group_of`). It is None where the records
    do not name the videos they were made from, or the data set's groups are not known.
    """
    groups = _groups([fact.filename for fact in found.test_facts], config.dataset)
    key = _key(config, checkpoint)
    provenance = _provenance((found.train_facts, found.test_facts), config, checkpoint)
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


def _key(config: EvaluateVideoEmbeddings, checkpoint: Checkpoint) -> Key:
    """Of the results, but for the metric."""
    record = published_weights(config, checkpoint)
    return Key(
        method=METHOD.name,
        weights=config.checkpoint_path if record is None else record.name,
        backbone=f"{METHOD.backbones['rgb']} {checkpoint.architecture.width:g}X",
        modality="rgb",
        dataset=config.dataset,
        split=config.split,
        protocol=f"{PROTOCOL}@{TEMPORAL_CROPS}x{SPATIAL_CROPS}",
        metric="",
    )


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
    facts: Facts, config: EvaluateVideoEmbeddings, checkpoint: Checkpoint
) -> Provenance:
    listed = [[asdict(fact) for fact in part] for part in facts]
    side = config.image_size
    clip = ClipSpec(
        "rgb",
        Steps(config.num_video_frames, config.video_step),
        Pixels(TEST_SHORT_SIDE, side, side),
        "loop",
    )
    settings = to_json(config)
    return Provenance(
        fingerprint=fingerprint(checkpoint.narrow_tensors()),
        data_hash=hashlib.sha256(canonical_json(listed).encode()).hexdigest(),
        clip=clip_to_json(clip),
        options={name: settings[name] for name in _OPTIONS},
        seed=config.seed,
        fidelity="default",
        code_version=f"brave {METHOD.version}, core {software()['ssvideo-core']}",
    )
