"""Features for other tools, and from them: NumPy archives and CSV files.

FILE.npz, arrays of M rows (`numpy.load`; nothing is pickled)

    values     [M, D] floating point
    video_id   [M] text: the path from the root of the data set, `class/file.avi`
    label      [M] text or whole numbers; optional
    group      [M] text: videos of one group are not independent; optional
    view       [M] whole numbers, 0 to V - 1 of each video; absent or -1: one row a video
    info       text: the JSON of features.json; `export_npz` adds it, importing ignores it

FILE.csv, a line a row, the columns video_id[,label][,group][,view],0,1,…,D-1 in any order.

FOLDER of such tables, together one set; `export_csv` writes ID.csv for each video, and info.json.

`feature_import` reads all three. Axes: M rows, D feature size, V views of one video.
"""

from __future__ import annotations

import csv
import json
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core import config as configs
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, ConfigError, DataError
from ssvideo_core.features import FeatureSet, open_features
from ssvideo_core.files import replacing, write_text

TEXTS = ("video_id", "label", "group")
FORMATS = ("npz", "csv")


@dataclass(frozen=True)
class Export:
    """Features as files of other tools: one NumPy archive, or one CSV file a video."""

    features: Path = option(help="folder that `extract` made")
    out: Path = option(help="FILE.npz, or a new folder for csv", operational=True)
    format: str = option("npz", help="which files", choices=FORMATS)


def main(argv: Sequence[str], prog: str) -> int:
    """`export`: features as files of other tools."""
    config = configs.parse(Export, argv, prog=prog)
    if (config.format == "npz") != (config.out.suffix == ".npz"):
        raise ConfigError(f"--out is {config.out}; expected FILE.npz, or a folder for --format csv")
    features = open_features(config.features)
    write = export_npz if config.format == "npz" else export_csv
    rows = write(features, config.out)
    left_out = f", {len(features.failed)} videos without features" if features.failed else ""
    print(f"{config.out}: {rows} rows of {features.info.feature_size} numbers{left_out}")
    return EXIT_OK


def export_npz(features: FeatureSet, path: Path) -> int:
    """Write FILE.npz as a whole or not at all; returns the number of rows.

    The rows are in the order of the work list; videos that failed have none. One block is held at
    a time. The same features give the same bytes.
    """
    keys = [(block.video, block.view) for block in features.blocks()]
    video, view = (np.concatenate(column) for column in zip(*keys, strict=True))
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        shape = (len(video), features.info.feature_size)
        _add_array(archive, "values", shape, (block.values for block in features.blocks()))
        for name, column in _texts(features).items():
            _add_array(archive, name, video.shape, [np.array(column)[video]])
        _add_array(archive, "view", view.shape, [view])
        _add_array(archive, "info", (), [np.array(_info_json(features))])
    return len(video)


def export_csv(features: FeatureSet, folder: Path) -> int:
    """Write a folder with one CSV file a video, all or nothing; returns the number of rows.

    Numbers have the fewest digits that tell float32 values apart. Videos that failed have no file.
    Raises ConfigError when `folder` is there and not empty, DataError for a video id that is no
    path below it.
    """
    texts, count = _texts(features), 0
    header = [*texts, "view", *range(features.info.feature_size)]
    with new_folder(Path(folder)) as draft:
        for block in features.blocks():
            for video in np.unique(block.video).tolist():
                path = draft / f"{inside(features.video_ids[video], features.folder)}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                # Names of files need not be UTF-8: such bytes are written as they are.
                with path.open("w", newline="", errors="surrogateescape", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(header)
                    for row in np.flatnonzero(block.video == video).tolist():
                        facts = [column[video] for column in texts.values()]
                        writer.writerow([*facts, block.view[row], *map(str, block.values[row])])
                        count += 1
        write_text(draft / "info.json", _info_json(features) + "\n")
    return count


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the name `path` only at the end; after an error nothing is left.

    Raises ConfigError when `path` is a file or holds anything.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{path} is there already: choose another folder, or move it away")
    whole = path.absolute()
    draft = whole.with_name(f".{whole.name}.{uuid.uuid4().hex}.tmp")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.replace(whole)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def inside(name: str, place: object) -> str:
    """`name` if it is a path that stays below its folder, else DataError."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"{place}: '{name}' is no path below a folder; expected one like class/file.avi"
        )
    return name


def _texts(features: FeatureSet) -> dict[str, list[str]]:
    """The columns of the work list that say anything, "" where they say nothing of a video."""
    columns: dict[str, Sequence[str | None]] = {
        "video_id": features.video_ids,
        "label": features.labels,
        "group": features.groups,
    }
    said = {name: [text or "" for text in column] for name, column in columns.items()}
    return {name: column for name, column in said.items() if any(column)}


def _add_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], parts: Iterable[NDArray[Any]]
) -> None:
    """One array of an .npz, from parts along its first axis."""
    remaining = iter(parts)
    first = next(remaining)
    # A ZipInfo has no date: equal arrays are equal bytes. Above 4 GB a member needs zip64.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        descr = np.lib.format.dtype_to_descr(first.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in chain([first], remaining):
            file.write(part.tobytes())


def _info_json(features: FeatureSet) -> str:
    return json.dumps(features.info.to_json(), indent=1, sort_keys=True)
