"""What is said in a video, and when: one CSV file a video with the columns start, end, text.

Axes: N captions of a video.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError
from ssvideo_core.views import VideoInfo

from gdt_stica.data import duration_s
from gdt_stica.words import Vocabulary

COLUMNS = ("start", "end", "text")
MIN_SECONDS = 4.0  # of the stretch of time that a caption stands for


class Caption(NamedTuple):
    """start_s, end_s: seconds on the video's clock, 0 <= start_s <= end_s."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class CaptionFiles:
    """The captions FOLDER/ID.csv of videos ID.mp4, and the words that count."""

    folder: Path
    vocabulary: Vocabulary

    def of(self, info: VideoInfo) -> list[Caption]:
        """The captions of a video that begin before its end, in the order of the file.

        Raises DataError for a file that is absent or no list of captions, and when there is no
        such caption or none has a known word.
        """
        path = self.folder / Path(info.video_id).with_suffix(".csv")
        end_s = duration_s(info)
        captions = [caption for caption in read_captions(path) if caption.start_s < end_s]
        if not any(self.vocabulary.numbers(caption.text).any() for caption in captions):
            raise DataError(
                f"{path}: no usable caption; expected one with a known word that begins within "
                f"the {end_s:.1f} s of the video"
            )
        return captions


def read_captions(path: Path) -> list[Caption]:
    """The captions of one file; lines whose times are no stretch of time are left out.

    Other columns are ignored. Raises DataError for a file that is absent, is no CSV in UTF-8 or
    lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: its first line is {','.join(reader.fieldnames or ())!r}, without "
                    f"{', '.join(missing)}; expected {','.join(COLUMNS)}"
                )
            found = [_caption(row["start"], row["end"], row["text"]) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: no captions: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8: {error}") from error
    return [caption for caption in found if caption is not None]


def _caption(start: str | None, end: str | None, text: str | None) -> Caption | None:
    try:
        caption = Caption(float(start or ""), float(end or ""), text or "")
    except ValueError:
        return None
    return caption if 0 <= caption.start_s <= caption.end_s < math.inf else None


def window(caption: Caption, *, min_seconds: float = MIN_SECONDS) -> tuple[int, int]:
    """(start, end) in whole seconds of the time that a caption stands for.

    A caption shorter than min_seconds is given as much time before as after it, but none before
    the video begins. Both ends are rounded down.
    """
    start_s, end_s, _ = caption
    missing_s = min_seconds - (end_s - start_s)
    if missing_s > 0:
        start_s = max(0.0, start_s - missing_s / 2)
        end_s = start_s + min_seconds
    return int(start_s), int(end_s)


def nearest_rows(captions: list[Caption], row: int, num_candidates: int) -> range:
    """Up to num_candidates rows in a stretch that holds `row`, those nearest to it in time.

    The stretch grows by the neighbour that leaves it shorter, by the later of equal ones, and at
    an end of the list by the other neighbour.
    """
    first, last = row, row
    while last - first + 1 < min(num_candidates, len(captions)):
        earlier_s = math.inf if first == 0 else captions[last].end_s - captions[first - 1].start_s
        later_s = math.inf
        if last + 1 < len(captions):
            later_s = captions[last + 1].end_s - captions[first].start_s
        if earlier_s < later_s:
            first -= 1
        else:
            last += 1
    return range(first, last + 1)


def candidate_numbers(
    captions: list[Caption], row: int, vocabulary: Vocabulary, *, num_candidates: int
) -> NDArray[np.int64]:
    """[num_candidates, max_words] int64 word numbers of `nearest_rows`, in the order of time.

    Rows of zeros fill up what a video has too few captions for.
    """
    numbers = np.zeros((num_candidates, vocabulary.max_words), np.int64)
    for place, nearest in enumerate(nearest_rows(captions, row, num_candidates)):
        numbers[place] = vocabulary.numbers(captions[nearest].text)
    return numbers
