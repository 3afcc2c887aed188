"""Features of a list of videos as a folder that any process, framework or language can read.

    videos.csv                  video_id,label,group: the work list, written first
    extract.json                the request; a folder answers exactly one
    block-000000.safetensors    256 consecutive videos each (`blocks`)
    failures.csv                video_id,reason: videos without features
    features.json               written last; where it is missing, the folder is incomplete

Each video is there once, whatever the splits: a `Split` selects rows.

Axes: N videos with features, V views of one video, D feature size.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.blocks import Block, block_path, num_blocks, read_block
from ssvideo_core.errors import DataError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread, Steps

SCHEMA = 1
VIDEOS, FAILURES = "videos.csv", "failures.csv"
REQUEST, COMPLETE = "extract.json", "features.json"
KINDS = ("features", "scores")
KEEP = ("video", "views")

Row = tuple[str, str | None, str | None]  # video_id, label, group
_TIMES: dict[str, Callable[..., Steps | Spread | Samples]] = {
    "Steps": Steps,
    "Spread": Spread,
    "Samples": Samples,
}


@dataclass(frozen=True)
class FeatureInfo:
    """What features.json says.

    kind: "features" or "scores" (of classes). weights: published name, "random" or the user's
    label. views: (clips over time, crops over space). keep: "video", one row a video, or "views".
    bad, no_sound: videos without rows; `failures.csv` lists both. missing_samples: samples of sound
    that were zeros because none were stored, over all clips. request: digest that every block
    carries. provenance: what `results.Provenance` records. versions: of the software.
    """

    method: str
    weights: str
    backbone: str
    modality: str
    kind: str
    fingerprint: str
    clip: ClipSpec
    views: tuple[int, int]
    keep: str
    feature_size: int
    batch_size: int
    videos: int
    bad: int
    no_sound: int
    missing_samples: int
    request: str
    provenance: dict[str, Any]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """JSON values; `info_from_json` reads them."""
        return {"schema": SCHEMA, **asdict(self), "clip": clip_to_json(self.clip)}


def info_from_json(record: Mapping[str, Any]) -> FeatureInfo:
    """The opposite of `FeatureInfo.to_json`. KeyError or TypeError when a field is missing."""
    values = {name: value for name, value in record.items() if name != "schema"}
    values["clip"] = clip_from_json(record["clip"])
    values["views"] = tuple(record["views"])
    return FeatureInfo(**values)


def clip_to_json(clip: ClipSpec) -> dict[str, Any]:
    """JSON values of a ClipSpec; "time" also names its class."""
    return {**asdict(clip), "time": {"kind": type(clip.time).__name__, **asdict(clip.time)}}


def clip_from_json(record: Mapping[str, Any]) -> ClipSpec:
    """The opposite of `clip_to_json`. KeyError or TypeError when a field is missing."""
    time = {name: value for name, value in record["time"].items() if name != "kind"}
    pixels = None if record["pixels"] is None else Pixels(**record["pixels"])
    return ClipSpec(
        modality=record["modality"],
        time=_TIMES[record["time"]["kind"]](**time),
        pixels=pixels,
        when_short=record["when_short"],
    )


@dataclass(frozen=True)
class FeatureSet:
    """A complete folder, made by `open_features`.

    video_ids, labels, groups: of all videos of the work list, in its order. failed: video to
    reason, for those without features; "no sound" is one of the reasons.
    """

    folder: Path
    info: FeatureInfo
    video_ids: list[str] = field(repr=False)
    labels: list[str | None] = field(repr=False)
    groups: list[str | None] = field(repr=False)
    failed: dict[str, str] = field(repr=False)

    def blocks(self) -> Iterator[Block]:
        """The stored rows, 256 videos at a time. DataError when a block is not what was written."""
        for number in range(num_blocks(len(self.video_ids))):
            yield read_block(self.folder, number, self.info.request, len(self.video_ids))

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """One row a video, in the order of the work list: ids, and [N, D] float32.

        Videos that failed are left out. Stored views are averaged as `mean_of_views` does; the
        rows equal those that keep="video" would have stored. They are not normalised again.
        """
        ids: list[str] = []
        values = np.empty((len(self.video_ids) - len(self.failed), self.info.feature_size), "<f4")
        for block in self.blocks():
            videos, rows = block.video, block.values
            if self.info.keep == "views":
                videos, rows = one_row_a_video(videos, rows, self.info.kind)
            values[len(ids) : len(ids) + len(rows)] = rows
            ids.extend(self.video_ids[video] for video in videos)
        return ids, values


def one_row_a_video(
    video: NDArray[np.int64], values: NDArray[np.float32], kind: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The videos of a block, and `mean_of_views` of each; video: [M] ascending, values: [M, D]."""
    if not len(video):
        return video, values
    videos, starts = np.unique(video, return_index=True)
    return videos, np.stack([mean_of_views(v, kind) for v in np.split(values, starts[1:])])


def mean_of_views(views: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """One row for a video from its views: [V, D] to [D] float32.

    kind "features": the mean of the views, each divided by its length; a view of zeros stays zero
    and so pulls the mean towards it. kind "scores": the plain mean. Sums are in float64.
    """
    rows = views.astype(np.float64)
    mean = (unit_rows(rows) if kind == "features" else rows).mean(axis=0)
    return np.asarray(mean, np.float32)


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """[N, D] rows divided by their Euclidean length; rows of zeros stay zero, never NaN."""
    lengths = np.sqrt(np.sum(np.square(rows, dtype=np.float64), axis=1, keepdims=True))
    units: NDArray[Any] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def open_features(folder: Path) -> FeatureSet:
    """A complete feature folder; every block is read once and verified.

    Raises DataError when it is none, when it is incomplete (how far it is, how to continue), and
    when the work list, a block or a count is not what was written.
    """
    folder = Path(folder)
    info = _read_info(folder)
    ids, labels, groups = _read_videos(folder / VIDEOS, info)
    features = FeatureSet(folder, info, ids, labels, groups, failed={})
    bad = 0
    for block in features.blocks():
        if block.values.shape[1] != info.feature_size:
            raise DataError(
                f"{block_path(folder, block.number)} has features of size {block.values.shape[1]}, "
                f"{COMPLETE} says {info.feature_size}: {_ANEW}"
            )
        features.failed.update((failure.video_id, failure.reason) for failure in block.failures)
        bad += sum(failure.bad for failure in block.failures)
    silent = len(features.failed) - bad
    if (bad, silent) != (info.bad, info.no_sound):
        raise DataError(
            f"{folder}: blocks list {bad} bad videos and {silent} without sound, {COMPLETE} "
            f"{info.bad} and {info.no_sound}: {_ANEW}"
        )
    return features


_ANEW = "run the same `extract` command again, which repairs it, or extract into another folder"


def _read_info(folder: Path) -> FeatureInfo:
    path = folder / COMPLETE
    if not path.exists():
        raise DataError(_incomplete(folder))
    try:
        record = json.loads(path.read_bytes())
        if record["schema"] != SCHEMA:
            raise DataError(
                f"{path} has schema {record['schema']}, this version reads {SCHEMA}: read it with "
                "the version that wrote it, or extract again"
            )
        return info_from_json(record)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}): {_ANEW}") from None


def _incomplete(folder: Path) -> str:
    try:
        videos = json.loads((folder / REQUEST).read_bytes())["request"]["videos"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder} holds no features: expected a folder that `extract` wrote ({COMPLETE})"
    total = num_blocks(videos)
    done = sum(block_path(folder, number).exists() for number in range(total))
    return (
        f"{folder} is incomplete: {done} of {total} blocks ({videos} videos) are done. Run the "
        "same `extract` command again: it goes on where it stopped"
    )


def _read_videos(
    path: Path, info: FeatureInfo
) -> tuple[list[str], list[str | None], list[str | None]]:
    try:
        with path.open("rb") as raw:
            data_hash = hashlib.file_digest(raw, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {_ANEW}") from None
    if data_hash != info.provenance["data_hash"]:
        raise DataError(
            f"{path} is not the work list of these features: its sha256 is {data_hash}, expected "
            f"{info.provenance['data_hash']}: {_ANEW}"
        )
    known: dict[str, str | None] = {"": None}  # a million rows share few labels
    ids: list[str] = []
    labels: list[str | None] = []
    groups: list[str | None] = []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for video_id, label, group in islice(csv.reader(file), 1, None):
            ids.append(video_id)
            labels.append(known.setdefault(label, label))
            groups.append(known.setdefault(group, group))
    if len(set(ids)) != len(ids):
        twice = next(a for a, b in pairwise(sorted(ids)) if a == b)
        raise DataError(f"{path} lists '{twice}' more than once: extract from a list without it")
    return ids, labels, groups


def join(a: FeatureSet, b: FeatureSet) -> tuple[list[str], NDArray[np.float32]]:
    """Two streams as one: ids, and [N, Da + Db] float32 for the videos that both have.

    Each stream is centred by its mean over these N videos (labels play no part) and its rows
    divided by their length, so that both weigh the same; the result is not normalised again.
    Raises DataError for scores, for different work lists, and when no video is in both.
    """
    ids, left, right = _common(a, b, "features")
    return ids, np.concatenate([_centred(left), _centred(right)], axis=1)


def mean_scores(a: FeatureSet, b: FeatureSet) -> tuple[list[str], NDArray[np.float32]]:
    """The mean of two streams' scores: ids, and [N, D] float32 for the videos that both have.

    Raises DataError for features that are no scores, for different numbers of classes, for
    different work lists, and when no video is in both.
    """
    if a.info.feature_size != b.info.feature_size:
        raise DataError(
            f"{a.folder} has scores of {a.info.feature_size} classes, {b.folder} of "
            f"{b.info.feature_size}: only scores of the same classes have a mean"
        )
    ids, left, right = _common(a, b, "scores")
    return ids, (left + right) / np.float32(2)


def _centred(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return unit_rows(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32))


def _common(
    a: FeatureSet, b: FeatureSet, kind: str
) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    for features in (a, b):
        if features.info.kind != kind:
            raise DataError(f"{features.folder} holds {features.info.kind}, expected {kind}")
    _require_same_videos(a, b)
    (left_ids, left), (right_ids, right) = a.matrix(), b.matrix()
    in_left, in_right = set(left_ids), set(right_ids)
    ids = [video for video in left_ids if video in in_right]
    if not ids:
        raise DataError(f"{a.folder} and {b.folder} have no video with features in common")
    return (
        ids,
        left[[video in in_right for video in left_ids]],
        right[[video in in_left for video in right_ids]],
    )


def _require_same_videos(a: FeatureSet, b: FeatureSet) -> None:
    for name in ("video_ids", "labels", "groups"):
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            row = next((i for i, (x, y) in pairs if x != y), min(len(left), len(right)))
            raise DataError(
                f"{a.folder} and {b.folder} are of different work lists: {len(left)} and "
                f"{len(right)} videos, {name} differ first at row {row}. Extract both from the same"
            )
