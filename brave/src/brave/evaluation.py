"""BraVe's own evaluation: a linear SVM on frozen features of the narrow video backbone.

Train: every video gives one clip an epoch, randomly placed, cut, mirrored and coloured, but not
blurred. Test: 10 clips over time x 3 squares; a video is what the mean of their 30 decision values
says. Every record is read, and every frame that any clip needs decoded, once.

N examples, D feature size, B crops of a batch, T frames, S pixels per side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.blocks import block_span, num_blocks
from ssvideo_core.errors import DataError, ProtocolError
from ssvideo_core.evaluate.accuracy import group_average, label_ranks
from ssvideo_core.evaluate.svm import fit_linear_svc
from ssvideo_core.loading import ordered_map
from ssvideo_core.progress import Meter, Report

from brave.augmentations import augment, resize_grid, stack
from brave.config import TEST_SHORT_SIDE
from brave.crops import (
    SPATIAL_CROPS,
    TEMPORAL_CROPS,
    Crop,
    CropLoader,
    TestCrops,
    TrainCrops,
    stack_crops,
)
from brave.kept_features import KeptFeatures
from brave.records import LabelledVideos, RecordFacts
from brave.sampling import FALLBACK_PADDING

_LOG = logging.getLogger(__name__)

Facts = tuple[list[RecordFacts], list[RecordFacts]]  # of the training and of the test videos
Backbone = Callable[[Any], NDArray[np.float32]]  # uint8, or float in [0, 1]: [B, T, S, S, 3]


@dataclass(frozen=True)
class Features:
    """values: [N, D] float32, the crops of a video consecutive. labels: [N] int64."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Ranks:
    """How many classes are placed before the right one: of every training clip, every test video.

    train, test: [N] int64.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def accuracies(self) -> dict[str, float]:
        """top_1_train, top_5_train, top_1_test, top_5_test in [0, 1].

        With 5 classes or fewer top-5 is 1.
        """
        parts = {"train": self.train, "test": self.test}
        return {
            f"top_{k}_{part}": float((ranks < k).mean())
            for part, ranks in parts.items()
            for k in (1, 5)
        }


@dataclass(frozen=True)
class Evaluation:
    """What was found, and what it was found from."""

    ranks: Ranks
    train: Features
    test: Features
    train_facts: list[RecordFacts]
    test_facts: list[RecordFacts]


def evaluate(
    backbone: Backbone,
    train: LabelledVideos,
    test: LabelledVideos,
    *,
    C: float,
    batch_size: int,
    facts: Facts | None = None,
    num_frames: int = 32,
    step: int = 2,
    size: int = 224,
    short_side: int = TEST_SHORT_SIDE,
    epochs: int = 10,
    seed: int = 0,
    workers: int = 0,
    progress: Report | None = None,
    unfinished: Path | None = None,
) -> Evaluation:
    """The whole protocol. num_frames, step: of a clip; size: pixels per side, at most `short_side`.

    short_side: pixels to which a test picture is scaled before its squares are cut out; random
    parts of a training picture are fractions of it, whatever its size. facts: what `check_videos`
    returned, if it was called before. epochs: random clips of each training video. seed: of these
    and of the solver. workers: processes that decode; the numbers do not depend on them. progress:
    called for every video. unfinished: a folder for features on the way, its name of this
    evaluation alone; given again, what is there is taken from there. Raises as `check_videos`
    before anything is computed, DecodeError for a damaged frame, and DataError for a `size` above
    `short_side`.
    """
    train_facts, test_facts = facts or check_videos(train, test, workers=workers)
    group = TEMPORAL_CROPS * SPATIAL_CROPS

    def features(part: str, load: CropLoader, facts: list[RecordFacts], crops: int) -> Features:
        _LOG.info("features of %d clips of each of %d videos", crops, len(facts))
        values = embed_videos(
            backbone,
            load,
            size=size,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
            kept=None if unfinished is None else KeptFeatures(unfinished / part, unfinished.name),
        )
        return Features(values, np.repeat([fact.label for fact in facts], crops))

    train_crops = TrainCrops(train, num_frames, step, epochs, seed)
    test_crops = TestCrops(test, num_frames, step, size, short_side)
    of_train = features("train", train_crops, train_facts, epochs)
    of_test = features("test", test_crops, test_facts, group)
    _LOG.info("linear SVM on %d x %d features", *of_train.values.shape)
    ranks = svm_ranks(of_train, of_test, C=C, group=group, seed=seed)
    return Evaluation(ranks, of_train, of_test, train_facts, test_facts)


def check_videos(train: LabelledVideos, test: LabelledVideos, *, workers: int = 0) -> Facts:
    """Read all records of both parts before anything is computed.

    Returns what is known of each. Raises DataError and DecodeError as `LabelledVideos.facts`,
    DataError for a training picture that is too small for random crops, ProtocolError for fewer
    than two training classes, no test video, or a class that only the test videos have.
    """
    _LOG.info("checking %d training and %d test videos", len(train), len(test))
    of_train, of_test = (
        list(ordered_map(videos.facts, range(len(videos)), workers=workers, name=videos.name))
        for videos in (train, test)
    )
    for index, fact in enumerate(of_train):
        if min(fact.height, fact.width) <= 2 * FALLBACK_PADDING:
            raise DataError(
                f"{train.name(index)}: {fact.width}x{fact.height} pixels; expected a shorter side "
                f"above {2 * FALLBACK_PADDING}, as random crops need it"
            )
    known = {fact.label for fact in of_train}
    if len(known) < 2:
        raise ProtocolError(
            f"the training shards hold {len(of_train)} videos of {len(known)} classes; expected 2 "
            "classes or more"
        )
    if not of_test:
        raise ProtocolError("the test shards hold no video; expected 1 or more")
    for index, fact in enumerate(of_test):
        if fact.label not in known:
            raise ProtocolError(
                f"{test.name(index)} is of class {fact.label}, which no training video has; both "
                "parts must be written with one list of classes"
            )
    return of_train, of_test


def embed_videos(
    backbone: Backbone,
    load: CropLoader,
    *,
    size: int,
    batch_size: int,
    workers: int = 0,
    progress: Report | None = None,
    kept: KeptFeatures | None = None,
) -> NDArray[np.float32]:
    """Features of all crops of all videos, [N, D], in order.

    load: gives the crops of one video; called in worker processes. size: pixels per side. A batch
    takes crops as they come, also from several videos of the same 256; the last one is filled up
    with its last crop, so that the network is compiled for one shape. kept: blocks of 256 videos
    that are there are taken, the others put there, equal to the bit.
    """
    count = len(load.videos)
    values = {} if kept is None else kept.read(count)
    spans = {number: block_span(number, count) for number in range(num_blocks(count))}
    left = [number for number in spans if number not in values]
    meter = Meter(count, count - sum(len(spans[number]) for number in left), progress)
    videos = chain.from_iterable(spans[number] for number in left)
    with closing(ordered_map(load, videos, workers=workers, name=load.videos.name)) as loaded:
        watched = meter.watch(loaded)
        for number in left:
            crops = _crops(islice(watched, len(spans[number])), meter)
            values[number] = _embed(backbone, crops, size=size, batch_size=batch_size)
            if kept is not None:
                kept.write(number, count, values[number])
    return np.concatenate([values[number] for number in spans])


def _crops(videos: Iterable[Iterable[Crop]], meter: Meter) -> Iterator[Crop]:
    for video in videos:
        yield from video
        meter.advance(failed=False)


def _embed(
    backbone: Backbone, crops: Iterable[Crop], *, size: int, batch_size: int
) -> NDArray[np.float32]:
    rows = []
    for batch in _batches(crops, batch_size):
        missing = batch_size - len(batch)
        features = backbone(network_input(batch + batch[-1:] * missing, size=size))
        rows.append(np.asarray(features)[: len(batch)])
    return np.concatenate(rows)


def network_input(crops: list[Crop], *, size: int) -> Any:
    """The pixels of a batch: uint8 as they are at test time, else augmented float on the device.

    Returns [B, T, S, S, 3].
    """
    frames = stack_crops(crops)
    draws = [crop.augmentation for crop in crops if crop.augmentation is not None]
    if not draws:
        return frames
    grid = resize_grid([(crop.box.height, crop.box.width) for crop in crops], size)
    return augment(frames, grid, stack(draws))


def svm_ranks(train: Features, test: Features, *, C: float, group: int, seed: int = 0) -> Ranks:
    """Standardise, fit a linear SVM, and place the right class of every example.

    group: consecutive rows of `test` that are one video. Mean and deviation are those of the
    training features. The classifier is scikit-learn's LinearSVC in its dual form with 1000
    rounds at most, as in the version that made the published numbers; seed: of its order. Of equal
    decision values the later class wins. Raises ProtocolError for NaN, fewer than two classes,
    mixed groups, or test labels that are not among the training labels.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.values)
    x_train, x_test = scaler.transform(train.values), scaler.transform(test.values)
    classifier = fit_linear_svc(x_train, train.labels, C, seed=seed)
    scores, labels = group_average(classifier.decision(x_test), test.labels, group)
    parts = ((classifier.decision(x_train), train.labels), (scores, labels))
    return Ranks(
        *(
            label_ranks(values, _places(classifier.classes, wanted), ties="higher")
            for values, wanted in parts
        )
    )


def _places(classes: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns of the decision values: class numbers may have gaps."""
    places = np.searchsorted(classes, labels)
    known = classes[np.minimum(places, len(classes) - 1)] == labels
    if not known.all():
        raise ProtocolError(
            f"class {labels[~known][0]} of the test videos is none of the {len(classes)} classes "
            "of the training videos"
        )
    return places


def _batches(crops: Iterable[Crop], batch_size: int) -> Iterator[list[Crop]]:
    batch: list[Crop] = []
    for crop in crops:
        batch.append(crop)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
