"""The videos of a training set: found, checked once, the usable ones kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

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


class Problem(NamedTuple):
    """Why a video is left out. broken: it cannot be opened, which should be rare."""

    text: str
    broken: bool = False


CheckVideo = Callable[[VideoInfo], Problem | None]
"""What keeps a video of these facts from training; None for a usable one."""


def find_videos(
    root: Path | None, *, num_data_samples: int | None = None, workers: int = 0
) -> TrainingVideos:
    """Videos with picture and sound of more than 1.1 s each.

    root: a folder of class folders, the same below train/ (other parts are not trained on), a flat
    folder, or a CSV list; classes are not needed. num_data_samples: only the first so many usable
    ones. Raises ConfigError without a root; DataError as `usable_videos`.
    """
    if root is None:
        raise ConfigError("which videos? Give --root_dir, a folder of class folders or a CSV list")
    source = open_source(root, index=VideoIndex(default_index_path()))
    entries = [source.entry(index) for index in range(len(source))]
    has_train = any(entry.split == "train" for entry in entries)
    wanted = [i for i, entry in enumerate(entries) if not has_train or entry.split == "train"]
    return usable_videos(
        source,
        wanted,
        _check_sound,
        where=root,
        expected=f"picture and sound of more than {SHORTEST_S} s",
        num_data_samples=num_data_samples,
        workers=workers,
    )


def usable_videos(
    source: FoundVideos,
    wanted: Sequence[int],
    check: CheckVideo,
    *,
    where: Path,
    expected: str,
    num_data_samples: int | None,
    workers: int,
) -> TrainingVideos:
    """Those of the videos `wanted` in which `check`, picklable, finds no problem.

    where, expected: for messages, where the videos are from and what they need.
    Raises DataError when nothing is usable, and when more than 1 % of the videos (and more than 3)
    cannot be opened, naming them.
    """
    problems = ordered_map(
        partial(_problem, source, check),
        wanted,
        workers=workers,
        name=lambda index: source.entry(index).video_id,
    )
    found = dict(zip(wanted, problems, strict=True))
    _refuse_many_broken(where, [p for p in found.values() if p is not None and p.broken], wanted)
    usable = [index for index, problem in found.items() if problem is None]
    if not usable:
        first = next(iter(found.values()), None)
        raise DataError(
            f"{where}: none of its {len(wanted)} videos has {expected}; the first: "
            f"{first.text if first else 'there is none'}"
        )
    excluded = {source.entry(i).video_id: p.text for i, p in found.items() if p is not None}
    return TrainingVideos(source, np.array(usable[:num_data_samples], np.int64), excluded)


def duration_s(info: VideoInfo) -> float:
    """Seconds that the frames of a video last."""
    return float(info.num_frames / info.rate)


def _problem(source: FoundVideos, check: CheckVideo, index: int) -> Problem | None:
    try:
        info = source.info(index)
    except DataError as error:
        return Problem(str(error), broken=True)
    return check(info)


def _check_sound(info: VideoInfo) -> Problem | None:
    if info.sound_rate_hz is None:
        return Problem("no sound")
    shorter_s = min(duration_s(info), info.sound_duration_s)
    if shorter_s <= SHORTEST_S:
        return Problem(f"{shorter_s:.2f} s of picture or sound")
    return None


def _refuse_many_broken(where: Path, broken: Sequence[Problem], wanted: Sequence[int]) -> None:
    if len(broken) > max(0.01 * len(wanted), 3):
        texts = "\n".join(f"  {problem.text}" for problem in broken[:LISTED])
        raise DataError(
            f"{where}: {len(broken)} of {len(wanted)} videos cannot be opened, more than 1 %:\n"
            f"{texts}\nRun check-data on it and repair or remove them"
        )
