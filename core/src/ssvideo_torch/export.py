"""Features as the files that SCE's commands read: plain tensors, one folder a split.

    train_features.pth   [N, D] float32, the training videos in the order of the split's list
    train_labels.pth     [N] int64 numbers of classes
    train_ids.pth        [N] int64 places in the split's list, from 0
    val_features.pth, val_labels.pth, val_ids.pth    the test videos

`sce.extract_features` writes these six, `sce.retrieval_from_bank` reads the features and labels of
both (bank.features_path is train_features.pth, query.features_path val_features.pth).
`torch.load(path, weights_only=True)` opens them.

Axes: N videos, V views of one, D feature size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.official import OFFICIAL_COUNTS
from ssvideo_core.datasets.splits import Split, find_splits
from ssvideo_core.errors import EXIT_OK, ConfigError, DataError
from ssvideo_core.feature_files import new_folder
from ssvideo_core.features import FeatureSet, one_row_a_video, open_features

AVERAGES = ("plain", "unit")


@dataclass(frozen=True)
class Export:
    """Features of one split as SCE's six .pth files of plain tensors.

    SCE averages the views of a video as they are, which needs features stored with --keep views.
    """

    features: Path = option(help="folder that `extract` made")
    out: Path = option(help="new folder for the files", operational=True)
    dataset: str = option("", help="hmdb51, ucf101 (their splits are built in) or your own name")
    split: str = option("", help="name of the split, if there are several")
    split_files: Path | None = option(None, help="CSV or folder with your own splits")
    average: str = option(
        "plain", help="of the views: plain as SCE, or unit as `common` protocols", choices=AVERAGES
    )


def main(argv: Sequence[str], prog: str) -> int:
    """Read the flags and export; returns the exit code."""
    config = configs.parse(Export, argv, prog=prog)
    names = (config.split,) if config.split else ()
    splits = find_splits(config.dataset, names=names, files=config.split_files)
    if len(splits) > 1:
        known = ", ".join(split.name for split in splits)
        raise ConfigError(f"one split has one folder: name it with --split, one of {known}")
    features = open_features(config.features)
    counts = export_pth(features, splits[0], config.out, average=config.average)
    shown = ", ".join(f"{count} {part}" for part, count in counts.items())
    print(f"{config.out}: {shown} videos, {features.info.feature_size} numbers of each")
    return EXIT_OK


def export_pth(
    features: FeatureSet,
    split: Split,
    folder: Path,
    *,
    average: str = "plain",
    classes: Sequence[str] | None = None,
) -> dict[str, int]:
    """Write the six files, all or none; returns how many videos "train" and "val" have.

    average: "plain", the mean of the views as they are (SCE), or "unit", the mean of the views
    divided by their lengths (`features.mean_of_views`). classes: the position of a label is its
    number; None: the official numbers of hmdb51 and ucf101, else the labels of the split, sorted.
    Videos that failed are left out, and missing among the ids.

    Raises DataError for features that were averaged otherwise before they were stored, for videos
    of the split that are not among the features, and for labels that are absent or no class;
    ConfigError when `folder` is not empty or `average` is another word.
    """
    import torch

    rows = _rows(features, average)
    label = dict(zip(features.video_ids, features.labels, strict=True))
    parts = {"train": split.train, "val": split.test}
    if absent := [video for part in parts.values() for video in part if video not in label]:
        raise DataError(
            f"{len(absent)} videos of {split.dataset} split {split.name} are not among the "
            f"{len(label)} of {features.folder}, first: '{absent[0]}'. Extract them, or give the "
            "splits of these videos with --split-files"
        )
    number: dict[str | None, int] = {
        name: index for index, name in enumerate(classes or _classes(split, label))
    }
    counts = {}
    with new_folder(Path(folder)) as draft:
        for part, videos in parts.items():
            ids = [index for index, video in enumerate(videos) if video in rows]
            used = [videos[index] for index in ids]
            if unknown := [video for video in used if label[video] not in number]:
                raise DataError(
                    f"{features.folder}: {len(unknown)} of {len(used)} {part} videos have no label "
                    f"or none of the {len(number)} classes, first: '{unknown[0]}' with "
                    f"{label[unknown[0]]!r}"
                )
            if not used:
                raise DataError(f"{features.folder}: all {len(videos)} {part} videos failed")
            tensors = {
                "features": torch.from_numpy(np.stack([rows[video] for video in used])),
                "labels": torch.tensor([number[label[video]] for video in used]),
                "ids": torch.tensor(ids),
            }
            for name, tensor in tensors.items():
                torch.save(tensor, draft / f"{part}_{name}.pth")
            counts[part] = len(used)
    return counts


def _rows(features: FeatureSet, average: str) -> dict[str, NDArray[np.float32]]:
    """[D] of each video that has features."""
    if average not in AVERAGES:
        raise ConfigError(f"average is '{average}', expected one of {', '.join(AVERAGES)}")
    info = features.info
    if average == "unit" or info.kind == "scores":
        ids, values = features.matrix()
        return dict(zip(ids, values, strict=True))
    if info.keep != "views":
        raise DataError(
            f"{features.folder} holds means of views that were divided by their lengths; the plain "
            "mean needs the views. Extract with --keep views, or ask for --average unit"
        )
    rows = {}
    for block in features.blocks():
        # Scores are averaged as they are.
        videos, means = one_row_a_video(block.video, block.values, "scores")
        rows.update({features.video_ids[v]: row for v, row in zip(videos, means, strict=True)})
    return rows


def _classes(split: Split, label: dict[str, str | None]) -> list[str]:
    if split.dataset in OFFICIAL_COUNTS:
        return class_names(split.dataset)
    return sorted({text for v in (*split.train, *split.test) if (text := label[v]) is not None})
