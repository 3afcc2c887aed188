"""Files of sound with their labels and folds: ESC-50, DCASE 2014 scenes, lists."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.containers import open_container
from ssvideo_core.errors import DataError, NoSoundError
from ssvideo_core.sound import read_sound
from ssvideo_core.views import SoundSpan, VideoInfo

TRAIN, TEST = "train", "test"
SOUND_ENDINGS = {".wav", ".ogg", ".flac", ".mp4", ".m4a"}


@dataclass(frozen=True)
class SoundFile:
    """fold: "train" and "test", or names of folds that are each the test set once.

    group: recordings that belong together, for intervals.
    """

    path: Path
    label: str
    fold: str
    group: str


@dataclass(frozen=True)
class Fold:
    """Indices of the files to train on and to test on, ascending."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def find_sounds(dataset: str, root: Path) -> list[SoundFile]:
    """The files of a data set in the order of its list.

    root: a CSV with columns file, label, fold and, if known, group; for "esc50" the folder with
    meta/esc50.csv and audio/; for "dcase2014" a folder with train/ and test/, whose files are
    called by class and number. Raises DataError for what is not there, naming it.
    """
    if root.is_file():
        names = {"path": "file", "label": "label", "fold": "fold", "group": "group"}
        found = _read_list(root, root.parent, names)
    elif dataset == "esc50":
        names = {"path": "filename", "label": "category", "fold": "fold", "group": "src_file"}
        found = _read_list(root / "meta" / "esc50.csv", root / "audio", names)
    else:
        found = [file for fold in (TRAIN, TEST) for file in _by_name(root / fold, fold)]
    absent = [file.path for file in found if not file.path.is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(found)} files of {root} are not there, first: {absent[0]}"
        )
    return found


def _read_list(path: Path, folder: Path, names: Mapping[str, str]) -> list[SoundFile]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected the list of files") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from None
    wanted = [names[name] for name in ("path", "label", "fold")]
    if not rows or not set(wanted) <= rows[0].keys():
        columns = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise DataError(f"{path} has {columns}; expected rows with columns {', '.join(wanted)}")
    for row in rows:
        inside = Path(row[names["path"]] or "")
        if inside.is_absolute() or not inside.parts or ".." in inside.parts:
            raise DataError(f"{path}: '{inside}' leaves {folder}; expected a file below it")
    return [
        SoundFile(
            folder / row[names["path"]],
            row[names["label"]],
            row[names["fold"]],
            row.get(names["group"]) or row[names["path"]],
        )
        for row in rows
    ]


def _by_name(folder: Path, fold: str) -> Iterator[SoundFile]:
    """ "bus01.wav" is of the class "bus"."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SOUND_ENDINGS)
    if not paths:
        raise DataError(f"{folder} has no sound files; expected some such as bus01.wav")
    for path in paths:
        match = re.fullmatch(r"([A-Za-z_-]+)\d+", path.stem)
        if match is None:
            raise DataError(f"{path}: expected a name of a class and a number, such as bus01.wav")
        yield SoundFile(path, match[1], fold, path.name)


def make_folds(files: Sequence[SoundFile]) -> list[Fold]:
    """One fold called "test" where files say train and test, else each fold as the test set once.

    Raises DataError when only one fold is there, and for test classes that training lacks.
    """
    names = sorted({file.fold for file in files})
    if names == [TEST, TRAIN]:
        names = [TEST]
    elif len(names) < 2:
        raise DataError(f"all files are of fold '{names[0]}'; expected train and test, or folds")
    of = np.array([file.fold for file in files])
    labels = np.array([file.label for file in files])
    folds = [Fold(name, np.flatnonzero(of != name), np.flatnonzero(of == name)) for name in names]
    for fold in folds:
        unseen = sorted(set(labels[fold.test]) - set(labels[fold.train]))
        if unseen:
            raise DataError(f"fold {fold.name}: no training file is of class '{unseen[0]}'")
    return folds


def read_clips(
    path: Path, starts_s: Sequence[float], *, num_samples: int, rate_hz: int
) -> NDArray[np.float32]:
    """Mono clips [len(starts_s), num_samples] of a file; what lies beyond its end is zeros.

    Raises DecodeError, naming the file, when it cannot be read or has no sound at all.
    """
    info = VideoInfo(
        video_id=path.name,
        num_frames=0,
        header_frames=None,
        rate=Fraction(1),
        time_base=Fraction(1),
        duration=None,
        pts=None,
        height=0,
        width=0,
        sound_rate_hz=rate_hz,
        sound_start_s=0.0,
        sound_duration_s=0.0,
    )
    spans = [SoundSpan(start_s, num_samples, rate_hz) for start_s in starts_s]
    with open_container(path) as container:
        read = read_sound(container, path, info, spans)
    if all(missing == num_samples for _, missing in read):
        raise NoSoundError(f"{path}: no sound: its stream is empty")
    return np.stack([samples for samples, _ in read])
