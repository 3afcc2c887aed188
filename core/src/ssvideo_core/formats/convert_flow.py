"""Videos to pictures of their optical flow, as CoCLR's converter to LMDB wants them.

    out/class/video/flow_00001.jpg    from frame 1 to frame 2, and so on: one less than frames
    out/flow.json                     the method that made them, and what else decides the pixels
    out/failures.csv                  videos that could not be read

A video is there as a whole or not at all, so an interrupted conversion goes on.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core import config as configs
from ssvideo_core.blocks import Failure
from ssvideo_core.command_flags import read_count
from ssvideo_core.config import option
from ssvideo_core.errors import EXIT_OK, ConfigError, DataError, DecodeError
from ssvideo_core.feature_writer import allowed_failures
from ssvideo_core.files import replacing, write_text
from ssvideo_core.formats.class_folders import VIDEO_ENDINGS
from ssvideo_core.formats.flow_frames import (
    BOUND,
    METHODS,
    QUALITY,
    RECORD,
    encode_flow,
    flow_method,
    grey,
    opencv,
    quantise,
    resized,
)
from ssvideo_core.loading import ordered_map
from ssvideo_core.progress import Meter, ProgressLines, Report
from ssvideo_core.source import VideoSource, open_source
from ssvideo_core.video_index import VideoIndex, default_index_path
from ssvideo_core.views import View

FAILURES = "failures.csv"

_PART_BYTES = 1 << 27  # of the frames that are in memory at once


@dataclass(frozen=True)
class FlowForm:
    """What decides the pixels.

    method: see `flow_frames.flow_method`. short_side: pixels to which frames are resized before, as
        in `flow_frames.resized`; 0 keeps the stored size, of which the published flow is.
    """

    method: str = "tvl1"
    short_side: int = 0

    def check(self) -> None:
        """Raise ConfigError for values that cannot be, and when OpenCV is not installed."""
        if not 0 <= self.short_side <= 8192:
            raise ConfigError(f"short_side is {self.short_side}, expected 0 to 8192")
        flow_method(self.method)


@dataclass(frozen=True)
class Extracted:
    """What a finished folder holds. kept: videos that were there before. failures: reason by id."""

    out: Path
    num_videos: int
    kept: int
    failures: Mapping[str, str]


def extract_flow(
    source: VideoSource,
    out: Path,
    *,
    form: FlowForm | None = None,
    workers: int = 0,
    progress: Report | None = None,
) -> Extracted:
    """Write OUT/<id of the video without its ending>/flow_%05d.jpg for each video.

    Videos that are there are kept, so the same call goes on after an interruption; those that
    failed are tried again. The pixels do not depend on `workers`. flow.json states the method, the
    settings, the versions of OpenCV that were used, and whether the folder is complete.

    Raises ConfigError for wrong options and for a folder that holds something else or was begun
    with another form; DataError for videos that would share a folder, and when all videos or more
    than `allowed_failures` cannot be read.
    """
    form = form or FlowForm()
    form.check()
    folders = _folders(source)
    record = _begin(out, form)
    pending = [video for video, folder in enumerate(folders) if not (out / folder).exists()]
    failures: dict[str, str] = {}
    _list_failures(out, failures)
    total, limit = len(folders), allowed_failures(len(folders))
    meter = Meter(total, total - len(pending), progress)
    results = ordered_map(
        ExtractVideo(source, out, form),
        pending,
        workers=workers,
        # Many, so that a long video does not keep the other workers waiting.
        in_flight=max(64 * workers, 1),
        name=lambda video: source.entry(video).video_id,
    )
    with closing(results):
        for result in results:
            meter.advance(failed=result is not None)
            if result is None:
                continue
            failures[result.video_id] = result.reason
            _list_failures(out, failures)
            if len(failures) > limit or len(failures) == total:
                raise DataError(
                    f"{out}: {len(failures)} of {total} videos failed, {limit} are allowed (1 %, "
                    f"at least 3); the last one is {result.video_id}: {result.reason}. Repair "
                    f"those that {FAILURES} there lists and give the same command again"
                )
    _write_record(out, record | {"complete": True})
    return Extracted(out, total - len(failures), total - len(pending), failures)


@dataclass(frozen=True)
class ExtractVideo:
    """Makes the folder of one video by its number; runs in the worker processes.

    A video that is damaged or has fewer than 2 frames is a Failure and leaves nothing behind.
    """

    source: VideoSource
    out: Path
    form: FlowForm

    def __call__(self, video: int) -> Failure | None:
        video_id = self.source.entry(video).video_id
        folder = self.out / video_folder(video_id)
        draft = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
        draft.mkdir(parents=True)
        try:
            self._write(video, draft)
            draft.rename(folder)
        except DataError as error:
            return Failure(video, video_id, str(error))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return None

    def _write(self, video: int, folder: Path) -> None:
        estimate, short_side = flow_method(self.form.method), self.form.short_side
        before: NDArray[np.uint8] | None = None
        for number, frame in enumerate(self._frames(video)):
            now = grey(resized(frame, short_side) if short_side else frame)
            if before is not None:
                with replacing(folder / f"flow_{number:05d}.jpg") as file:
                    file.write(encode_flow(quantise(estimate(before, now))))
            before = now

    def _frames(self, video: int) -> Iterator[NDArray[np.uint8]]:
        info = self.source.info(video)
        if info.damage is not None:
            raise DecodeError(info.damage)  # a part would pass for the whole
        if info.num_frames < 2:
            raise DecodeError(
                f"{info.video_id}: flow needs 2 frames or more, found {info.num_frames}"
            )
        part = max(_PART_BYTES // (3 * info.height * info.width), 1)
        for start in range(0, info.num_frames, part):
            numbers = np.arange(start, min(start + part, info.num_frames))
            frames = self.source.read(video, [View(numbers)])[0].frames
            assert frames is not None, "a source returns what the views name"
            yield from frames


def video_folder(video_id: str) -> PurePosixPath:
    """The path of a video without its ending; an id that is a folder of frames stays as it is."""
    path = PurePosixPath(video_id)
    return path.with_suffix("") if path.suffix.lower() in VIDEO_ENDINGS else path


def _folders(source: VideoSource) -> list[PurePosixPath]:
    """The folder of each video. Raises DataError where one would lie in another."""
    owners: dict[PurePosixPath, str] = {}
    for video_id in (source.entry(video).video_id for video in range(len(source))):
        other = owners.setdefault(video_folder(video_id), video_id)
        if other != video_id:
            raise DataError(f"{video_id} and {other} would share a folder; rename one of them")
    for folder, video_id in owners.items():
        if above := [parent for parent in folder.parents if parent in owners]:
            other = owners[above[0]]
            raise DataError(f"{video_id} would lie in the folder of {other}; rename one of them")
    return list(owners)


def _begin(out: Path, form: FlowForm) -> dict[str, Any]:
    """Begin the record of the folder, or check the one that is there."""
    path, versions = out / RECORD, {str(opencv().__version__)}
    wanted = asdict(form) | {"bound": BOUND, "quality": QUALITY}
    if path.exists():
        try:
            stored = json.loads(path.read_bytes())
            there = {name: stored[name] for name in wanted}
            versions.update(stored["opencv"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is not the record of flow ({error!r}): choose another folder"
            ) from None
        if there != wanted:
            raise ConfigError(
                f"{out} was begun with {there}, now it is {wanted}: give the same options, or "
                "choose another folder"
            )
    elif out.is_dir() and any(entry.name[0] != "." for entry in out.iterdir()):
        raise ConfigError(f"{out} is not empty and has no {RECORD}: choose another folder")
    record = wanted | {"opencv": sorted(versions), "complete": False}
    _write_record(out, record)
    return record


def _write_record(out: Path, record: Mapping[str, Any]) -> None:
    write_text(out / RECORD, json.dumps(record, indent=1) + "\n")


def _list_failures(out: Path, failures: Mapping[str, str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("video_id", "reason"), *failures.items()])
    write_text(out / FAILURES, text.getvalue())


@dataclass(frozen=True)
class ExtractFlow:
    """Optical flow of videos as pictures, in the coding of CoCLR and ViCC.

    OUT/class/video/flow_00001.jpg and so on, and flow.json with the method. Given again after an
    interruption, the same command keeps finished videos.
    """

    videos: Path = option(help="folder of videos, or CSV with a column 'video'")
    out: Path = option(help="new folder for the pictures")
    method: str = option("tvl1", help="dis is 100 times as fast and coarser", choices=METHODS)
    short_side: int = option(0, help="pixels of the shorter side; 0 keeps it, as published")
    workers: int = option(
        0, help="processes; one a core is best", read=read_count, operational=True
    )


def flow_main(argv: Sequence[str] | None = None, prog: str = "ssvideo_core extract-flow") -> int:
    """The command `extract-flow`; returns the exit code, raises SSVideoError."""
    config = configs.parse(ExtractFlow, argv, prog=prog)
    print(f"flow: {config.out}")
    source = open_source(config.videos, index=VideoIndex(default_index_path()))
    for notice in source.notices:
        print(notice)
    form = FlowForm(config.method, config.short_side)
    made = extract_flow(
        source, config.out, form=form, workers=config.workers, progress=ProgressLines()
    )
    listed = f" ({config.out / FAILURES})" if made.failures else ""
    print(
        f"{config.out}: flow of {made.num_videos} videos, {made.kept} of them from before, "
        f"{len(made.failures)} videos failed{listed}"
    )
    return EXIT_OK
