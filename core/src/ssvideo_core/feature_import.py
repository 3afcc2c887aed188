"""Features that another tool made as a feature folder, with everything checked.

The layouts are those of `feature_files`. Axes: M rows, N videos, V views of one, D feature size.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core import config as configs
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, block_span, num_blocks
from ssvideo_core.command_flags import read_grid
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, ConfigError, DataError
from ssvideo_core.feature_files import TEXTS, inside, new_folder
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import KINDS, FeatureSet, Row, clip_to_json, open_features
from ssvideo_core.views import ClipSpec, Samples, Steps


@dataclass(frozen=True)
class ImportFeatures:
    """Features that another tool made, as a folder like those of `extract`.

    Sources are FILE.npz with the arrays values and video_id (optional: label, group, view), or
    FILE.csv with the columns video_id, 0, 1, … (optional: label, group, view), or folders of such
    tables; several together are one set.
    """

    source: tuple[Path, ...] = option(help="what to read", metavar="FILE")
    out: Path = option(help="new folder for the features", operational=True)
    method: str = option(help="name of the method in tables")
    weights: str = option(help="name of the weights in tables")
    backbone: str = option("", help="name of the network in tables")
    modality: str = option("rgb", help="what was seen", choices=("rgb", "flow", "sound"))
    kind: str = option("features", help="what the numbers are", choices=KINDS)
    views: tuple[int, int] = option(
        (1, 1),
        help="clips x crops that were seen of a video",
        read=read_grid,
        metavar="TxS",
        shown="1x1",
    )


def main(argv: Sequence[str], prog: str) -> int:
    """`import-features`: features that another tool made."""
    config = configs.parse(ImportFeatures, argv, prog=prog)
    options = dict(vars(config))
    features = import_features(options.pop("source"), options.pop("out"), **options)
    labels = len(set(features.labels) - {None})
    size = features.info.feature_size
    print(f"{config.out}: {features.info.videos} videos, {size} numbers of each, {labels} labels")
    return EXIT_OK


def import_features(
    sources: Path | Sequence[Path],
    out: Path,
    *,
    method: str,
    weights: str,
    backbone: str = "",
    modality: str = "rgb",
    kind: str = "features",
    views: tuple[int, int] = (1, 1),
    clip: ClipSpec | None = None,
) -> FeatureSet:
    """A feature folder from files of other tools; all of it is there afterwards, or nothing.

    sources: .npz, .csv or a folder of .csv; several together are one set. method, weights,
    backbone, modality: what tables call them. kind: "features" or "scores" of classes. views:
    (clips over time, crops over space) that were seen of a video; protocols compare it, and of
    several rows a video there must be as many. clip: what the network saw of each; None is stored
    as a clip of 0 frames or samples, which stands for "not stated".

    Values are stored as float32 and not changed; videos keep the order of their first rows. The
    fingerprint, "imported:" and a sha256 of ids, views and values, tells one import from another;
    which network made them is the user's word. Nothing is unpickled.

    Raises DataError for files of another layout or type, NaN or infinity, a video (or a view of
    it) that is there twice, views that are not 0, 1, … of every video, labels or groups that differ
    between the views of a video, and labels for some videos only; ConfigError when `out` is not
    empty.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is '{kind}', expected one of {', '.join(KINDS)}")
    rows = _read_all([sources] if isinstance(sources, Path) else sources)
    videos, video = _videos(rows)
    per_video = views[0] if modality == "sound" else views[0] * views[1]
    order = _order(rows, video, 1 if rows.view is None else per_video)
    values, video = rows.values[order], video[order]
    view = np.full(len(video), MEAN_OF_VIEWS) if rows.view is None else rows.view[order]
    request = {
        "method": method,
        "weights": weights,
        "backbone": backbone,
        "modality": modality,
        "kind": kind,
        "fingerprint": f"imported:{_digest(videos, view, values)}",
        "clip": clip_to_json(clip or _clip_not_stated(modality)),
        "views": list(views),
        "keep": "video" if rows.view is None else "views",
        "feature_size": values.shape[1],
        "batch_size": 0,
        "version": "imported",
    }
    with new_folder(Path(out)) as draft:
        writer = FeatureWriter(draft, request, videos)
        for number in range(num_blocks(len(videos))):
            span = block_span(number, len(videos))
            own = slice(*np.searchsorted(video, [span.start, span.stop]))
            writer.write(Block(number, values[own], video[own], view[own].astype(np.int32)))
        writer.finish()
    return open_features(Path(out))


@dataclass(frozen=True)
class _Rows:
    """Rows as they stand in their files.

    place: the file, for messages. texts: video_id and, where known, label and group, [M] each.
    values: [M, D] float32. view: [M] int64, None for one row a video.
    """

    place: str
    texts: dict[str, list[str]]
    values: NDArray[np.float32]
    view: NDArray[np.int64] | None

    @property
    def layout(self) -> str:
        """What must be equal to stand in one set."""
        several = "" if self.view is None else ", view"
        return f"{', '.join(self.texts)}{several} and {self.values.shape[1]} numbers a row"


def _read_all(sources: Sequence[Path]) -> _Rows:
    files: list[Path] = []
    for path in sources:
        files += sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    parts = [_read(file) for file in files]
    if not parts:
        raise DataError(f"{', '.join(map(str, sources)) or 'nothing'}: there is no .npz or .csv")
    for part in parts:
        if part.layout != parts[0].layout:
            raise DataError(
                f"{part.place} has {part.layout}, {parts[0].place} has {parts[0].layout}: they do "
                "not belong together, import them separately"
            )
    views = [part.view for part in parts if part.view is not None]
    return _Rows(
        ", ".join(map(str, sources)),
        {name: [text for part in parts for text in part.texts[name]] for name in parts[0].texts},
        np.concatenate([part.values for part in parts]),
        np.concatenate(views) if views else None,
    )


def _read(path: Path) -> _Rows:
    if path.suffix.lower() not in (".npz", ".csv") or not path.is_file():
        found = "is of another kind" if path.exists() else "does not exist"
        raise DataError(f"{path} {found}; expected .npz, .csv or a folder of .csv")
    texts, numbers, view = (_read_npz if path.suffix.lower() == ".npz" else _read_csv)(path)
    if len({len(numbers), len(view), *map(len, texts.values())}) > 1 or not numbers.size:
        lengths = {"values": numbers.shape, **{name: len(text) for name, text in texts.items()}}
        raise DataError(f"{path}: found {lengths}; expected as many of each, and at least one")
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused with the rest
        values = numbers.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: {len(bad)} of {len(values)} rows hold NaN, infinity or numbers beyond "
            f"float32, first: row {bad[0]}, '{texts['video_id'][bad[0]]}'. Leave such videos out, "
            "or repair what made them"
        )
    no_views = (view == MEAN_OF_VIEWS).all()
    return _Rows(str(path), texts, values, None if no_views else view.astype(np.int64))


_Columns = tuple[dict[str, list[str]], NDArray[Any], NDArray[Any]]  # texts, values, view
# Kinds of dtype and axes of each array.
_ARRAYS = {
    "values": ("f", "floating point [M, D]", 2),
    "video_id": ("U", "text [M]", 1),
    "label": ("Uiu", "text or whole numbers [M]", 1),
    "group": ("Uiu", "text or whole numbers [M]", 1),
    "view": ("iu", "whole numbers [M]", 1),
    "info": ("U", "text []", 0),
}


def _read_npz(path: Path) -> _Columns:
    arrays = _load(path)
    if not {"values", "video_id"} <= arrays.keys() <= _ARRAYS.keys():
        raise DataError(
            f"{path} has the arrays {', '.join(sorted(arrays)) or 'none'}; expected values and "
            "video_id, and besides only label, group and view"
        )
    for name, array in arrays.items():
        kinds, expected, axes = _ARRAYS[name]
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise DataError(f"{path}: {name} is {array.dtype} {array.shape}, expected {expected}")
    texts = {name: list(map(str, arrays[name].tolist())) for name in TEXTS if name in arrays}
    values = arrays["values"]
    return texts, values, arrays.get("view", np.full(len(values), MEAN_OF_VIEWS))


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # All that numpy, zipfile and zlib raise for a file that is not what it should be.
    except (
        *(ValueError, TypeError, AttributeError, EOFError, MemoryError, OverflowError),
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, SyntaxError),
    ) as error:
        raise DataError(
            f"{path} is no archive of plain arrays ({error}): write it with numpy.savez, ids and "
            "labels as text (np.array(ids, dtype=str)), never as Python objects"
        ) from None


def _read_csv(path: Path) -> _Columns:
    line = 1
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            column = _columns(path, next(reader, []))
            numbers = [column[name] for name in column if name not in (*TEXTS, "view")]
            texts: dict[str, list[str]] = {name: [] for name in TEXTS if name in column}
            values: list[NDArray[np.float64]] = []
            view: list[np.int64] = []
            for cells in filter(None, reader):
                line = reader.line_num
                if len(cells) != len(column):
                    raise ValueError(f"{len(cells)} cells, expected {len(column)}")
                values.append(np.array([float(cells[place]) for place in numbers]))
                view.append(np.int64(cells[column["view"]] if "view" in column else MEAN_OF_VIEWS))
                for name, found in texts.items():
                    found.append(cells[column[name]])
    except (ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"{path}, line {line}: {error}; expected a CSV of numbers") from None
    return texts, np.array(values).reshape(len(values), len(numbers)), np.array(view, np.int64)


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Where each column is: video_id and the rest of the texts, then 0, 1, … in this order."""
    column = {name.strip(): place for place, name in enumerate(header)}
    others = column.keys() - {*TEXTS, "view"}
    numbers = [str(number) for number in range(len(others))]
    if "video_id" not in column or others != set(numbers) or len(column) < len(header):
        raise DataError(
            f"{path} has the columns {', '.join(header[:8]) or 'none'}{' …' * (len(header) > 8)}; "
            "expected video_id and 0, 1, … for the numbers, and besides only label, group and "
            "view, each once"
        )
    ordered = [name for name in (*TEXTS, "view") if name in column] + numbers
    return {name: column[name] for name in ordered}


def _videos(rows: _Rows) -> tuple[list[Row], NDArray[np.int64]]:
    """(id, label, group) of every video in the order of first rows, and the video of each row."""
    facts: dict[str, Row] = {}
    number: dict[str, int] = {}
    empty = [""] * len(rows.values)
    for row in zip(*(rows.texts.get(name, empty) for name in TEXTS), strict=True):
        video_id, label, group = inside(row[0], rows.place), row[1] or None, row[2] or None
        number.setdefault(video_id, len(number))
        known = facts.setdefault(video_id, (video_id, label, group))
        if known != (video_id, label, group):
            raise DataError(
                f"{rows.place}: the rows of '{video_id}' say (label, group) {known[1:]} and "
                f"{(label, group)}; expected the same in all"
            )
    unlabelled = [video_id for video_id, label, _ in facts.values() if label is None]
    if 0 < len(unlabelled) < len(facts):
        raise DataError(
            f"{rows.place}: {len(unlabelled)} of {len(facts)} videos have no label, first: "
            f"'{unlabelled[0]}'; expected a label of all or of none"
        )
    index = np.array([number[video_id] for video_id in rows.texts["video_id"]], np.int64)
    return list(facts.values()), index


def _order(rows: _Rows, video: NDArray[np.int64], num_views: int) -> NDArray[np.int64]:
    """The rows sorted by video and view: each video has the views 0 to num_views - 1 once."""
    view = np.zeros_like(video) if rows.view is None else rows.view
    order = np.lexsort((view, video))
    starts = np.flatnonzero(np.diff(video[order], prepend=-1))
    for own in np.split(order, starts[1:]):
        if not np.array_equal(view[own], np.arange(num_views)):
            name = rows.texts["video_id"][own[0]]
            found = (
                f"{len(own)} times" if rows.view is None else f"with views {view[own][:8].tolist()}"
            )
            expected = "once" if rows.view is None else f"with views 0 to {num_views - 1} (--views)"
            raise DataError(f"{rows.place}: '{name}' is there {found}, expected {expected}")
    return order


def _clip_not_stated(modality: str) -> ClipSpec:
    if modality == "sound":
        return ClipSpec("sound", Samples(0, 0), None, "zeros")
    return ClipSpec("flow" if modality == "flow" else "rgb", Steps(0), None, "loop")


def _digest(videos: Sequence[Row], view: NDArray[Any], values: NDArray[np.float32]) -> str:
    ids = "\0".join(video_id for video_id, _, _ in videos)
    digest = hashlib.sha256(ids.encode("utf-8", "surrogateescape"))
    for array in (view.astype(np.int64), np.ascontiguousarray(values)):
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
