"""The videos of a training set: found, checked once, the usable ones kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.loading import ordered_map
from ssvideo_core.source import FoundVideos, open_source
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import VideoInfo

SHORTEST_S = 1.1  # of picture and sound, as in the original's list of valid videos
LISTED = 5


@dataclass(frozen=True)
class TrainingVideos:
    """indices: of the usable videos in `source`, ascending. excluded: video to reason."""

    source: FoundVideos
    indices: NDArray[np.int64]
    excluded: dict[str, str]

    def __str__(self) -> str:
        shown = [f"  {video}: {reason}" for video, reason in list(self.excluded.items())[:LISTED]]
        more = len(self.excluded) - len(shown)
        rest = [f"  and {more} more"] if more > 0 else []
        return "\n".join([
            f"{len(self.indices)} videos to train on, {len(self.excluded)} of other kinds left out",
            *shown,
            *rest,
        ])  # fmt: skip


def find_videos(
    root: Path | None, *, num_data_samples: int | None = None, workers: int = 0
) -> TrainingVideos:
    """Videos with picture and sound of more than 1.1 s each.

    root: a folder of class folders, the same below train/ (other parts are not trained on), a flat
    folder, or a CSV list. num_data_samples: only the first so many usable ones.
    Raises ConfigError without a root; DataError when nothing is usable, and when more than 1 % of
    the videos (and more than 3) cannot be opened, naming them.
    """
    if root is None:
        raise ConfigError("which videos? Give --root_dir, a folder of class folders or a CSV list")
    source = open_source(root, index=VideoIndex(default_index_path()))
    entries = [source.entry(index) for index in range(len(source))]
    has_train = any(entry.split == "train" for entry in entries)
    wanted = [i for i, entry in enumerate(entries) if not has_train or entry.split == "train"]
    reasons = ordered_map(
        partial(_problem, source), wanted, workers=workers, name=lambda i: entries[i].video_id
    )
    found = dict(zip(wanted, reasons, strict=True))
    _refuse_many_broken(root, [p for p in found.values() if p is not None and p.broken], wanted)
    usable = [index for index, problem in found.items() if problem is None]
    if not usable:
        first = next(iter(found.values()))
        raise DataError(
            f"{root}: none of its {len(wanted)} videos has picture and sound of more than "
            f"{SHORTEST_S} s; the first: {first.text if first else 'there is none'}"
        )
    excluded = {entries[i].video_id: p.text for i, p in found.items() if p is not None}
    return TrainingVideos(source, np.array(usable[:num_data_samples], np.int64), excluded)


@dataclass(frozen=True)
class _Problem:
    text: str
    broken: bool


def _problem(source: FoundVideos, index: int) -> _Problem | None:
    try:
        info = source.info(index)
    except DataError as error:
        return _Problem(str(error), broken=True)
    if info.sound_rate_hz is None:
        return _Problem("no sound", broken=False)
    shorter_s = min(_duration_s(info), info.sound_duration_s)
    if shorter_s <= SHORTEST_S:
        return _Problem(f"{shorter_s:.2f} s of picture or sound", broken=False)
    return None


def _duration_s(info: VideoInfo) -> float:
    return float(info.num_frames / info.rate)


def _refuse_many_broken(root: Path, broken: Sequence[_Problem], wanted: Sequence[int]) -> None:
    if len(broken) > max(0.01 * len(wanted), 3):
        texts = "\n".join(f"  {problem.text}" for problem in broken[:LISTED])
        raise DataError(
            f"{root}: {len(broken)} of {len(wanted)} videos cannot be opened, more than 1 %:\n"
            f"{texts}\nRun check-data on it and repair or remove them"
        )
