"""From the scores of a test to numbers that can stand in a table.

The last epoch is the result. The best of the tested epochs, which the paper reports, was picked on
the test videos themselves: it has a protocol name of its own and is marked as selected.

Axes: N videos, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError
from ssvideo_core.evaluate.accuracy import label_ranks
from ssvideo_core.evaluate.intervals import bootstrap_interval
from ssvideo_core.features import FeatureSet
from ssvideo_core.files import write_text
from ssvideo_core.results import Key, Provenance, Result, append_results, read_results

from gdt_stica.eval_config import PROTOCOL
from gdt_stica.eval_data import Fold
from gdt_stica.method import METHOD

VERSION = 1  # a change of numbers is a new one
METRICS = {"top1": 1, "top5": 5}
BACKBONES = {"r2plus1d_18": "R(2+1)D-18", "r2plus1d_34": "R(2+1)D-34"}


@dataclass(frozen=True)
class Start:
    """What is evaluated: weights before fine-tuning, and how.

    weights: published name, the file's or folder's name, or "random". fingerprint: of trunk and
    pooling. clip: a ClipSpec as JSON. options: what else decides the numbers.
    """

    weights: str
    fingerprint: str
    backbone: str
    clip: Mapping[str, Any]
    views: tuple[int, int]
    options: Mapping[str, Any]
    seed: int
    fidelity: str


@dataclass(frozen=True)
class EpochScores:
    """A test after an epoch. correct: by metric, whether it is right, [N] of videos with scores."""

    epoch: int
    features: FeatureSet = field(repr=False)
    correct: Mapping[str, NDArray[np.bool_]] = field(repr=False)

    @property
    def accuracy(self) -> dict[str, float]:
        """By metric, a fraction."""
        return {name: float(answers.mean()) for name, answers in self.correct.items()}


def correct_answers(
    scores: NDArray[Any], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Whether the class of each is among the 1 and the 5 with the highest scores.

    scores: [N, C]; labels: [N]. Of equal scores the lower class comes first. Raises ProtocolError
    for NaN.
    """
    ranks = label_ranks(scores, labels)
    return {name: ranks < k for name, k in METRICS.items()}


def read_scores(epoch: int, features: FeatureSet, fold: Fold) -> EpochScores:
    """What a folder of scores says. Raises DataError when all its videos failed."""
    ids, scores = features.matrix()
    if not ids:
        raise DataError(f"{features.folder}: none of its videos could be read")
    label = dict(zip(features.video_ids, features.labels, strict=True))
    numbers = np.array([fold.classes.index(str(label[video])) for video in ids], np.int64)
    return EpochScores(epoch, features, correct_answers(scores, numbers))


def best_of(tests: Sequence[EpochScores]) -> EpochScores:
    """The highest top-1, of equal ones the earliest."""
    return max(tests, key=lambda test: (test.accuracy["top1"], -test.epoch))


def results_of(test: EpochScores, fold: Fold, start: Start, *, best: bool) -> list[Result]:
    """One Result for each metric. best: whether the epoch was picked by these numbers."""
    features = test.features
    groups = _groups(features)
    temporal, spatial = start.views
    name = f"{PROTOCOL}-best" if best else PROTOCOL
    provenance = Provenance(
        fingerprint=start.fingerprint,
        data_hash=fold.data_hash,
        clip=start.clip,
        options=start.options,
        seed=start.seed,
        fidelity=start.fidelity,
        code_version=features.info.provenance["code_version"],
    )
    return [
        Result(
            key=Key(
                method=METHOD.name,
                weights=start.weights,
                backbone=start.backbone,
                modality="rgb",
                dataset=fold.dataset,
                split=fold.name,
                protocol=f"{name}/{VERSION}@{temporal}x{spatial}",
                metric=metric,
            ),
            value=test.accuracy[metric],
            interval=bootstrap_interval(answers, groups) if len(set(groups)) > 1 else None,
            n=len(answers),
            failed=len(features.failed) + len(fold.excluded),
            selected_on_test=best,
            provenance=provenance,
            details={
                "epoch": None if start.options["test_only"] else test.epoch,
                "fine_tuned": features.info.fingerprint,
                "train": None if start.options["test_only"] else len(fold.train),
                "classes": len(fold.classes),
                "test_groups": len(set(groups)),
            },
        )
        for metric, answers in test.correct.items()
    ]


def record_results(path: Path, results: Sequence[Result]) -> None:
    """Append those that are not in the file yet: a command that is given again adds nothing."""
    known = read_results(path) if path.exists() else []
    append_results(path, [result for result in results if result not in known])


def means(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Over folds: protocol to metric to mean."""
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        metrics = found.setdefault(result.key.protocol, {})
        metrics.setdefault(result.key.metric, []).append(result.value)
    return {
        protocol: {metric: float(np.mean(values)) for metric, values in metrics.items()}
        for protocol, metrics in found.items()
    }


def write_summary(path: Path, results: Sequence[Result]) -> str:
    """Write the means over the folds of these results; returns them in words."""
    folds = list(dict.fromkeys(result.key.split for result in results))
    selected = {r.key.protocol: r.selected_on_test for r in results}
    record = {
        "dataset": results[0].key.dataset,
        "weights": results[0].key.weights,
        "folds": folds,
        "means": means(results),
        "selected_on_test": selected,
    }
    write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    lines = []
    for protocol, metrics in means(results).items():
        shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in metrics.items())
        how = " (best epoch, selected on the test split)" if selected[protocol] else ""
        lines.append(
            f"mean over {record['dataset']} folds {', '.join(folds)}, {protocol}: {shown}{how}"
        )
    return "\n".join(lines)


def _groups(features: FeatureSet) -> list[str]:
    """Of the videos with scores; a video without a group is one of its own."""
    return [
        group or video
        for video, group in zip(features.video_ids, features.groups, strict=True)
        if video not in features.failed
    ]
