"""HowTo100M: a list of video ids, a folder of videos, a folder of captions.

ROOT/ID.mp4    CAPTIONS/ID.csv    a CSV list with the column video_id
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.source import VideoFiles
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import VideoEntry, VideoInfo

from gdt_stica.captions import CaptionFiles
from gdt_stica.data import Problem, TrainingVideos, duration_s, usable_videos

SHORTEST_S = 4.1  # as in the original's list of valid videos
COLUMN = "video_id"


def find_captioned_videos(
    listed: Path,
    root: Path | None,
    captions: CaptionFiles,
    *,
    num_data_samples: int | None = None,
    workers: int = 0,
) -> TrainingVideos:
    """The videos of a list that are there, last more than 4.1 s and have a usable caption.

    The others are left out: what is on a list of videos of the internet is gone in part.
    num_data_samples: only the first so many usable ones. Raises ConfigError without a root,
    DataError for a list that is none and as `data.usable_videos`.
    """
    if root is None:
        raise ConfigError("which videos? Give --root_dir, the folder of the videos ID.mp4")
    entries = [VideoEntry(f"{video}.mp4") for video in read_ids(listed)]
    is_here = [(root / entry.video_id).is_file() for entry in entries]
    here = [entry for entry, there in zip(entries, is_here, strict=True) if there]
    absent = {
        entry.video_id: f"no file in {root}"
        for entry, there in zip(entries, is_here, strict=True)
        if not there
    }
    if not here:
        raise DataError(f"{root}: holds none of the {len(entries)} videos ID.mp4 of {listed}")
    found = usable_videos(
        VideoFiles(root, here, index=VideoIndex(default_index_path())),
        range(len(here)),
        _CheckCaptions(captions),
        where=root,
        expected=f"more than {SHORTEST_S} s and a usable caption in {captions.folder}",
        num_data_samples=num_data_samples,
        workers=workers,
    )
    return TrainingVideos(found.source, found.indices, {**absent, **found.excluded})


def read_ids(path: Path) -> list[str]:
    """The column `video_id` of a CSV list, in order; other columns are ignored.

    Raises DataError for a file that is absent or no such list, for an id that is no plain file
    name, and for one that is listed twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if COLUMN not in (rows.fieldnames or ()):
                raise DataError(
                    f"{path}: its first line is {','.join(rows.fieldnames or ())!r}, expected the "
                    f"names of columns, {COLUMN} among them"
                )
            lines = [(rows.line_num, (row[COLUMN] or "").strip()) for row in rows]
    except OSError as error:
        raise DataError(
            f"{path}: the list of videos cannot be read: {error.strerror}. Name it by --ht100m_csv"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8: {error}") from error
    seen: dict[str, int] = {}
    for line, video in lines:
        if not video or Path(video).name != video:
            raise DataError(f"{path}, line {line}: '{video}' is no id, expected a plain file name")
        if video in seen:
            raise DataError(f"{path}, line {line}: '{video}' is on line {seen[video]} already")
        seen[video] = line
    if not seen:
        raise DataError(f"{path}: lists no videos; expected a line {COLUMN}, then one id a line")
    return list(seen)


@dataclass(frozen=True)
class _CheckCaptions:
    """Picklable for workers."""

    captions: CaptionFiles

    def __call__(self, info: VideoInfo) -> Problem | None:
        if duration_s(info) <= SHORTEST_S:
            return Problem(f"{duration_s(info):.2f} s, expected more than {SHORTEST_S} s")
        try:
            self.captions.of(info)
        except DataError as error:
            return Problem(str(error))
        return None
