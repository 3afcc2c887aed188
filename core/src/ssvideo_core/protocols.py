"""The protocols under which every method is measured alike, and how features become Results.

A protocol has a version: a change that could change a number is a new version. Its name in a table
also says the views of a video, "common-svm/1@10x3", because numbers from other views are not
comparable. Each method's own protocols live in its package.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.datasets.splits import Split, group_of
from ssvideo_core.errors import ConfigError, ProtocolError
from ssvideo_core.results import Key, Provenance, Result, canonical_json

if TYPE_CHECKING:
    from ssvideo_core.features import FeatureSet

_LOG = logging.getLogger(__name__)

DEFAULT_VIEWS = (10, 3)
SVM_CS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
SVM_FOLDS = 5
RETRIEVAL_KS = (1, 5, 10, 20, 50)
INTERVAL_LEVEL = 0.95


@dataclass(frozen=True)
class Protocol:
    """A way of measuring. metrics: names of what `evaluate` returns; values are fractions."""

    name: str
    version: int
    title: str
    description: str
    metrics: tuple[str, ...]


_FEATURES = "A video's feature is L2(mean over its views of L2(embedding)). "
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="common-svm",
            version=1,
            title="linear SVM on frozen features",
            description=_FEATURES
            + "Linear SVM, one against the rest: squared hinge, L2, regularised intercept, no "
            "standardisation; C from 0.001, 0.01, …, 100 by 5-fold cross-validation on the "
            "training split that keeps groups together, of equal ones the smaller, then fitted on "
            "all of it.",
            metrics=("top1", "top5"),
        ),
        Protocol(
            name="common-retrieval",
            version=1,
            title="nearest neighbours among frozen features",
            description=_FEATURES
            + "A test video is right at k if any of the k training videos with the largest dot "
            "product has its label; of equal ones the first in the list.",
            metrics=tuple(f"recall@{k}" for k in RETRIEVAL_KS),
        ),
    )
}
COMMON_SVM = "common-svm/1"
COMMON_RETRIEVAL = "common-retrieval/1"
_REQUEST = re.compile(
    r"(?P<name>[a-z0-9-]+)(/(?P<version>\d+))?(@(?P<temporal>[1-9]\d*)x(?P<spatial>[1-9]\d*))?"
)


@dataclass(frozen=True)
class Request:
    """A protocol and the views of a video: (clips over time, crops over space)."""

    protocol: Protocol
    views: tuple[int, int]

    def __str__(self) -> str:
        temporal, spatial = self.views
        return f"{self.protocol.name}/{self.protocol.version}@{temporal}x{spatial}"


def parse_protocol(text: str) -> Request:
    """ "common-svm", "common-svm/1", "common-svm@2x1" or "common-svm/1@2x1" to a Request.

    Without views they are 10x3. Raises ConfigError for another name, form or version.
    """
    match = _REQUEST.fullmatch(text.strip())
    if match is None or match["name"] not in PROTOCOLS:
        raise ConfigError(
            f"'{text}' is no protocol; there is {', '.join(PROTOCOLS)}, with views other than 10x3 "
            "as in common-svm@2x1"
        )
    protocol = PROTOCOLS[match["name"]]
    if match["version"] not in (None, str(protocol.version)):
        raise ConfigError(
            f"'{text}': this release has version {protocol.version} of {protocol.name}; "
            "numbers of another version are made with the release that had it"
        )
    views = (int(match["temporal"]), int(match["spatial"])) if match["temporal"] else DEFAULT_VIEWS
    return Request(protocol, views)


def parse_protocols(text: str) -> list[Request]:
    """Requests from a list with commas; "common" or "common@2x1" stands for all of them."""
    requests = []
    for item in text.split(","):
        name, _, rest = item.strip().partition("@")
        names = PROTOCOLS if name == "common" else [name]
        requests += [parse_protocol(f"{each}@{rest}" if rest else each) for each in names]
    return requests


def evaluate(
    protocol: str, features: FeatureSet | Sequence[FeatureSet], split: Split, *, seed: int = 0
) -> list[Result]:
    """Run a protocol on one split.

    protocol: as in `parse_protocol`. features: a folder opened by `open_features`, or several that
    together hold the split's videos. seed: of the intervals; nothing else draws.
    Returns one Result per metric, with an interval over groups of test videos: UCF101 (class, g),
    HMDB51 (class, source), else the work list's groups, else each video is its own group.

    Videos of the split that extraction listed as failed are left out, of training and of test, and
    counted in `Result.failed`. top5 needs more than 5 classes, recall@k a gallery of k videos: such
    a metric is left out, and that is logged.

    Raises ProtocolError, with counts and the first example, for features that are scores, of other
    views or of several encoders; for NaN; for videos that are listed twice, both in training and in
    test, without features, or without a label; and for classes that occur only in the test split.
    """
    request = parse_protocol(protocol)
    sets = list(features) if isinstance(features, Sequence) else [features]
    _check_features(sets, request)
    _check_split(split)
    videos = _videos(sets)
    train, test = (_part(videos, part, split) for part in (split.train, split.test))
    if unseen := sorted(set(test.labels) - set(train.labels)):
        raise ProtocolError(
            f"{_name(split)}: {len(unseen)} classes occur only in the test videos, first: "
            f"'{unseen[0]}'; no protocol can get them right"
        )
    run = _svm if request.protocol.name == "common-svm" else _retrieval
    correct, details = run(train, test)
    results = []
    for metric, answers in correct.items():
        result = Result(
            key=_key(sets[0], split, request, metric),
            value=float(answers.mean()),
            interval=_interval(answers, test.groups, seed),
            n=len(answers),
            failed=train.failed + test.failed,
            provenance=_provenance(sets[0], videos, split, request, seed),
            details={
                **details,
                "train": len(train.labels),
                "classes": len(set(train.labels)),
                "test_groups": len(set(test.groups)),
            },
        )
        results.append(result)
    return results


@dataclass(frozen=True)
class _Videos:
    """What the folders hold, by video id. row: of x, [N, D] float32; failed ones have none."""

    row: Mapping[str, int]
    x: NDArray[np.float32]
    label: Mapping[str, str | None]
    group: Mapping[str, str | None]
    failed: frozenset[str]


@dataclass(frozen=True)
class _Part:
    """The training or the test videos that can be used: x [n, D] with rows of length 1."""

    x: NDArray[np.float32]
    labels: list[str]
    groups: list[str]
    failed: int


def _check_features(sets: Sequence[FeatureSet], request: Request) -> None:
    if not sets:
        raise ProtocolError("there are no features to evaluate")
    first = sets[0]
    for features in sets:
        info = features.info
        if info.kind != "features":
            raise ProtocolError(f"{features.folder} holds {info.kind}, {request} needs features")
        # Sound has no crops, so only the clips over time count.
        compared = slice(1 if info.modality == "sound" else 2)
        if info.views[compared] != request.views[compared]:
            found, wanted = ("x".join(map(str, views)) for views in (info.views, request.views))
            raise ProtocolError(
                f"{features.folder} has {found} views of each video, {request} needs {wanted}: "
                f"extract with --views {wanted}, or ask for {request.protocol.name}@{found}"
            )
        for name in ("fingerprint", "method", "weights", "backbone", "modality", "clip"):
            found, wanted = getattr(info, name), getattr(first.info, name)
            if found != wanted:
                raise ProtocolError(
                    f"{features.folder} and {first.folder} are not of one encoder: {name} {found} "
                    f"and {wanted}. Extract all videos with the same weights and settings"
                )


def _check_split(split: Split) -> None:
    for part, videos in (("training", split.train), ("test", split.test)):
        if not videos:
            raise ProtocolError(f"{_name(split)} has no {part} videos")
        if twice := _repeated(videos):
            raise ProtocolError(
                f"{_name(split)} lists {len(twice)} {part} videos twice, first: '{twice[0]}'"
            )
    if both := sorted(set(split.train) & set(split.test)):
        raise ProtocolError(
            f"{_name(split)} has {len(both)} videos in both training and test, first: '{both[0]}'"
        )


def _videos(sets: Sequence[FeatureSet]) -> _Videos:
    listed = [video for features in sets for video in features.video_ids]
    if twice := _repeated(listed):
        raise ProtocolError(
            f"{len(twice)} videos are listed twice in {', '.join(str(f.folder) for f in sets)}, "
            f"first: '{twice[0]}'"
        )
    matrices = [features.matrix() for features in sets]
    ids = [video for found, _ in matrices for video in found]
    labels = [label for features in sets for label in features.labels]
    groups = [group for features in sets for group in features.groups]
    return _Videos(
        row={video: row for row, video in enumerate(ids)},
        x=np.concatenate([x for _, x in matrices]),
        label=dict(zip(listed, labels, strict=True)),
        group=dict(zip(listed, groups, strict=True)),
        failed=frozenset(video for features in sets for video in features.failed),
    )


def _part(videos: _Videos, wanted: Sequence[str], split: Split) -> _Part:
    from ssvideo_core.features import unit_rows

    if absent := [video for video in wanted if video not in videos.label]:
        known = next(iter(videos.label), None)
        raise ProtocolError(
            f"{_name(split)}: {len(absent)} of {len(wanted)} videos are not among the "
            f"{len(videos.label)} of the features, first: '{absent[0]}' (the features begin with "
            f"'{known}'). Extract them, or give the splits of these videos with --split-files"
        )
    used = [video for video in wanted if video not in videos.failed]
    if not used:
        raise ProtocolError(f"{_name(split)}: all {len(wanted)} videos of a part failed")
    if unlabelled := [video for video in used if videos.label[video] is None]:
        raise ProtocolError(
            f"{_name(split)}: {len(unlabelled)} of {len(used)} videos have no label, first: "
            f"'{unlabelled[0]}'. Extract from class folders or a CSV with a column label"
        )
    x = videos.x[[videos.row[video] for video in used]]
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ProtocolError(
            f"{_name(split)}: the features of {len(bad)} of {len(used)} videos hold NaN or "
            f"infinity, first: '{used[bad[0]]}'. The network or its weights are broken"
        )
    return _Part(
        x=unit_rows(x),
        labels=[str(videos.label[video]) for video in used],
        groups=[_group(videos, split.dataset, video) for video in used],
        failed=len(wanted) - len(used),
    )


def _group(videos: _Videos, dataset: str, video: str) -> str:
    return group_of(dataset, video) or videos.group.get(video) or video


def _svm(train: _Part, test: _Part) -> tuple[dict[str, NDArray[np.bool_]], dict[str, Any]]:
    from ssvideo_core.evaluate.accuracy import label_ranks
    from ssvideo_core.evaluate.svm import choose_C

    chosen = choose_C(train.x, np.array(train.labels), train.groups, SVM_CS, folds=SVM_FOLDS)
    classes = chosen.classifier.classes
    index = np.searchsorted(classes, np.array(test.labels))
    ranks = label_ranks(chosen.classifier.decision(test.x), index)
    correct = {"top1": ranks < 1}
    if len(classes) > 5:
        correct["top5"] = ranks < 5
    else:
        _LOG.info("top5 is left out: there are only %d classes", len(classes))
    accuracy = {f"{C:g}": share for C, share in chosen.accuracy.items()}
    return correct, {"C": chosen.C, "folds": chosen.folds, "cross_validation": accuracy}


def _retrieval(train: _Part, test: _Part) -> tuple[dict[str, NDArray[np.bool_]], dict[str, Any]]:
    from ssvideo_core.evaluate.retrieval import recall_at_k

    ks = [k for k in RETRIEVAL_KS if k <= len(train.x)]
    for k in set(RETRIEVAL_KS) - set(ks):
        _LOG.info("recall@%d is left out: the gallery has only %d videos", k, len(train.x))
    labels = np.array(test.labels), np.array(train.labels)
    found = recall_at_k(test.x, train.x, *labels, ks)
    return {f"recall@{k}": found.hits[k] for k in ks}, {}


def _interval(
    answers: NDArray[np.bool_], groups: Sequence[str], seed: int
) -> tuple[float, float] | None:
    """None for a single group: one recording says nothing about others."""
    from ssvideo_core.evaluate.intervals import bootstrap_interval

    if len(set(groups)) < 2:
        return None
    return bootstrap_interval(answers, groups, level=INTERVAL_LEVEL, seed=seed)


def _key(features: FeatureSet, split: Split, request: Request, metric: str) -> Key:
    info = features.info
    return Key(
        method=info.method,
        weights=info.weights,
        backbone=info.backbone,
        modality=info.modality,
        dataset=split.dataset,
        split=split.name,
        protocol=str(request),
        metric=metric,
    )


def _provenance(
    features: FeatureSet, videos: _Videos, split: Split, request: Request, seed: int
) -> Provenance:
    from ssvideo_core.feature_writer import software

    made = features.info.provenance
    rows = {
        part: [
            [v, videos.label[v], _group(videos, split.dataset, v), v in videos.failed] for v in ids
        ]
        for part, ids in (("train", split.train), ("test", split.test))
    }
    return Provenance(
        fingerprint=made["fingerprint"],
        data_hash=hashlib.sha256(canonical_json(rows).encode()).hexdigest(),
        clip=made["clip"],
        options={**made["options"], "protocol": str(request), "interval_seed": seed},
        seed=made["seed"],
        fidelity=made["fidelity"],
        code_version=f"{made['code_version']}; evaluated with core {software()['ssvideo-core']}",
    )


def _name(split: Split) -> str:
    return f"{split.dataset} split {split.name}"


def _repeated(videos: Iterable[str]) -> list[str]:
    return [video for video, count in Counter(videos).items() if count > 1]
