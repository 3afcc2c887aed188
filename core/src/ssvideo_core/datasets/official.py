"""The packaged lists of HMDB51 and UCF101: which videos there are."""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib import resources

OFFICIAL_COUNTS = {
    "hmdb51": ((3570, 1530), (3570, 1530), (3570, 1530)),
    "ucf101": ((9537, 3783), (9586, 3734), (9624, 3696)),
}


@cache
def official_videos(dataset: str) -> tuple[str, ...]:
    """All videos of hmdb51 (6766, of which 395 are in no split) or ucf101 (13320)."""
    return tuple(row["video"] for row in csv.DictReader(io.StringIO(packaged_list(dataset))))


def packaged_list(dataset: str) -> str:
    """The CSV file of hmdb51 or ucf101 with the columns video, split1, split2, split3."""
    folder = resources.files("ssvideo_core.datasets")
    return folder.joinpath("data", f"{dataset}.csv").read_text("utf-8")
