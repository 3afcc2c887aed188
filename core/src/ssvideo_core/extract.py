"""Videos to features: one open per video, all its views, any number of processes.

Axes: B clips of a batch, V views of a video, T frames, S pixels, N samples of sound or videos,
D feature size.

The clips of a block (256 consecutive videos of the work list, those that fail left out) go through
the encoder in order, `batch_size` at a time, and no batch crosses a block. So what a clip meets in
its batch depends on nothing but the work list: features are equal to the bit for any number of
workers, processes and restarts. Another batch size gives other last digits (rtol 1e-5).

Memory does not grow with the number of videos. Over a million fake videos of one 2 x 2 frame it
peaks at 58 MB, over 50,000 at 57 MB; the finished set, which holds all names, takes 199 MB
(core/benchmarks/extract_memory.py, Python 3.11 on Linux).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.blocks import (
    MEAN_OF_VIEWS,
    NO_SOUND,
    Block,
    DamagedBlockError,
    Failure,
    block_path,
    block_span,
    num_blocks,
)
from ssvideo_core.errors import ConfigError, DataError, DecodeError, NoSoundError, SSVideoError
from ssvideo_core.feature_writer import FeatureWriter, allowed_failures, too_many_failed
from ssvideo_core.features import KEEP, KINDS, FeatureSet, Row, clip_to_json, one_row_a_video
from ssvideo_core.loading import ordered_map
from ssvideo_core.methods import Encoder
from ssvideo_core.progress import Meter, Report
from ssvideo_core.source import VideoFiles, VideoSource
from ssvideo_core.views import Clip, ClipSpec, VideoEntry, check_clip, plan

_LOG = logging.getLogger(__name__)
ON_BAD = ("skip", "raise")


@dataclass(frozen=True)
class Loaded:
    """One video as it crosses from a worker: [V, T, S, S, 3] uint8 or [V, N] float32 clips.

    video: its number in the work list. missing_samples: zeros in its clips that stand for sound
    that was not stored.
    """

    video: int
    video_id: str
    clips: NDArray[Any]
    missing_samples: int


@dataclass(frozen=True)
class LoadViews:
    """Reads all views of one video by its number; runs in the worker processes.

    listed: errors that become a Failure; others are raised.
    """

    source: VideoSource
    clip: ClipSpec
    temporal: int
    spatial: int
    listed: tuple[type[SSVideoError], ...]

    def __call__(self, video: int) -> Loaded | Failure:
        video_id = self.source.entry(video).video_id
        try:
            info = self.source.info(video)
            if info.damage is not None:
                raise DecodeError(info.damage)  # features of a part would pass for the whole
            views = plan(info, self.clip, temporal=self.temporal, spatial=self.spatial)
            clips = self.source.read(video, views)
        except self.listed as error:
            silent = isinstance(error, NoSoundError)
            return Failure(video, video_id, NO_SOUND if silent else str(error), bad=not silent)
        missing_samples = sum(clip.missing_samples for clip in clips)
        stacked = np.stack([_content(clip, self.clip) for clip in clips])
        return Loaded(video, video_id, stacked, missing_samples)


def _content(clip: Clip, spec: ClipSpec) -> NDArray[Any]:
    content = clip.sound if spec.modality == "sound" else clip.frames
    assert content is not None, "a source returns what the views name"
    return content


def extract(
    encoder: Encoder,
    source: VideoSource,
    out: Path,
    *,
    request: Mapping[str, Any],
    temporal: int = 10,
    spatial: int = 3,
    keep: str = "video",
    kind: str = "features",
    batch_size: int = 8,
    workers: int = 0,
    on_bad: str = "skip",
    shard: tuple[int, int] = (0, 1),
    progress: Report | None = None,
) -> FeatureSet | None:
    """Features of every video of `source` in the folder `out`.

    request: JSON values that say what is extracted; method, weights and backbone at least, and what
        else decides the numbers (seed, version, architecture, output).
    temporal, spatial: clips over time and crops over space of each video (`views.plan`).
    keep: "video" stores the mean of the views (`features.mean_of_views`), "views" each one.
    kind: what the encoder gives, "features" or "scores" of classes.
    on_bad: "skip" lists a video that cannot be read and goes on, up to `allowed_failures` of the
        list; "raise" stops at the first. A video without sound is listed as "no sound" by both and
        never counts.
    shard: (i, n): this process extracts the blocks b with b % n == i; whichever finds that all are
        there completes the folder. None is returned when blocks of others are missing.
    progress: called after each video; `progress.ProgressLines()` prints.

    A folder in which the same extraction was interrupted is continued: finished blocks are
    verified and kept, damaged ones computed anew, with a warning in the log. Raises ConfigError
    for wrong options, flow of a source that has none, and when `out` answers another request,
    DataError when too many videos fail or an embedding is not finite (it names the video), and with
    on_bad="raise" the video's error. The folder remains resumable after any of them.
    """
    _check_options(keep=keep, kind=kind, on_bad=on_bad, batch_size=batch_size, shard=shard)
    check_clip(encoder.clip)
    _check_modality(encoder.clip, source)
    own = {
        "kind": kind,
        "fingerprint": encoder.fingerprint,
        "clip": clip_to_json(encoder.clip),
        "modality": encoder.clip.modality,
        "views": [temporal, spatial],
        "keep": keep,
        "feature_size": encoder.feature_size,
        "batch_size": batch_size,
    }
    if twice := own.keys() & request.keys():
        raise ValueError(f"the request names {sorted(twice)}, which the extraction itself sets")
    writer = FeatureWriter(out, {**request, **own}, _rows(source))
    pending, resumed, bad = _unfinished(writer, shard, on_bad)
    spans = [block_span(number, writer.num_videos) for number in pending]
    listed = (NoSoundError,) if on_bad == "raise" else (NoSoundError, DataError)
    load = LoadViews(source, encoder.clip, temporal, spatial, listed)
    meter = Meter(resumed + sum(map(len, spans)), resumed, progress)
    with closing(_load_all(load, spans, workers)) as loaded:
        results = _accepted(meter.watch(loaded), meter, writer, bad)
        for number, span in zip(pending, spans, strict=True):
            own_results = islice(results, len(span))
            writer.write(embed_block(encoder, own_results, number, batch_size, keep, kind))
    return writer.finish()


def embed_videos(
    encoder: Encoder,
    paths: Sequence[str | Path],
    *,
    temporal: int = 10,
    spatial: int = 3,
    workers: int = 0,
    batch_size: int = 8,
) -> NDArray[np.float32]:
    """Embeddings of a few videos without a folder: [N, D] float32, one row a path, in order.

    The rows equal those of `extract` with keep="video". Raises ConfigError for an encoder of flow,
    which files of videos do not hold, and the error of the first video that cannot be read; for an
    encoder of sound, NoSoundError for a video without it.
    """
    _check_options(batch_size=batch_size)
    source = VideoFiles(Path(), [VideoEntry(str(path)) for path in paths])
    _check_modality(encoder.clip, source)
    spans = [block_span(number, len(source)) for number in range(num_blocks(len(source)))]
    load = LoadViews(source, encoder.clip, temporal, spatial, listed=())
    values = np.empty((len(source), encoder.feature_size), np.float32)
    with closing(_load_all(load, spans, workers)) as loaded:
        for number, span in enumerate(spans):
            own = islice(loaded, len(span))
            block = embed_block(encoder, own, number, batch_size, "video", "features")
            values[span.start : span.stop] = block.values
    return values


def embed_block(
    encoder: Encoder,
    results: Iterable[Loaded | Failure],
    number: int,
    batch_size: int,
    keep: str,
    kind: str,
) -> Block:
    """The block `number` from its loaded videos in order; how clips are batched: see the module.

    Raises DataError when an embedding is not finite, ValueError when the encoder breaks its
    contract (dtype or shape).
    """
    failures: list[Failure] = []
    missing_samples = 0

    def clips() -> Iterator[tuple[Loaded, int]]:
        nonlocal missing_samples
        for result in results:
            if isinstance(result, Failure):
                failures.append(result)
            else:
                missing_samples += result.missing_samples
                yield from ((result, view) for view in range(len(result.clips)))

    remaining = clips()
    rows = [np.empty((0, encoder.feature_size), np.float32)]
    keys: list[tuple[int, int]] = []
    while batch := list(islice(remaining, batch_size)):
        rows.append(_embed(encoder, batch))
        keys.extend((loaded.video, view) for loaded, view in batch)
    values = np.concatenate(rows)
    video, view = np.array(keys, np.int64).reshape(-1, 2).T
    if keep == "video":
        video, values = one_row_a_video(video, values, kind)
        view = np.full(len(video), MEAN_OF_VIEWS)
    return Block(number, values, video, view.astype(np.int32), tuple(failures), missing_samples)


def _embed(encoder: Encoder, batch: Sequence[tuple[Loaded, int]]) -> NDArray[np.float32]:
    rows = encoder.embed(np.stack([loaded.clips[view] for loaded, view in batch]))
    if rows.dtype != np.float32 or rows.shape != (len(batch), encoder.feature_size):
        raise ValueError(
            f"{type(encoder).__name__}.embed gave {rows.dtype} {rows.shape}, expected float32 "
            f"{(len(batch), encoder.feature_size)}"
        )
    for (loaded, view), row in zip(batch, rows, strict=True):
        if not np.isfinite(row).all():
            raise DataError(
                f"view {view} of video '{loaded.video_id}' has an embedding with NaN or infinity: "
                "the weights are damaged, or the arithmetic overflows; nothing of its block was "
                "stored"
            )
    return rows.copy()  # an encoder may fill the same memory again for the next batch


def _load_all(
    load: LoadViews, spans: Iterable[range], workers: int
) -> Generator[Loaded | Failure, None, None]:
    # One pass over all blocks: workers go on reading while a block is embedded and written.
    videos = chain.from_iterable(spans)
    yield from ordered_map(
        load, videos, workers=workers, name=lambda video: load.source.entry(video).video_id
    )


def _accepted(
    results: Iterable[Loaded | Failure], meter: Meter, writer: FeatureWriter, bad: int
) -> Iterator[Loaded | Failure]:
    """The same results until too many videos are bad; `bad`: those of finished blocks."""
    for result in results:
        if isinstance(result, Failure) and result.bad:
            bad += 1
            if bad > allowed_failures(writer.num_videos):
                last = f"{result.video_id}: {result.reason}"
                raise too_many_failed(writer.folder, bad, writer.num_videos, last)
        meter.advance(failed=isinstance(result, Failure))
        yield result


def _unfinished(
    writer: FeatureWriter, shard: tuple[int, int], on_bad: str
) -> tuple[list[int], int, int]:
    """Blocks of this process still to do; videos, and bad ones, of those that are finished."""
    pending: list[int] = []
    resumed = bad = 0
    for number in range(shard[0], num_blocks(writer.num_videos), shard[1]):
        path = block_path(writer.folder, number)
        try:
            block = writer.read(number) if path.exists() else None
        except DamagedBlockError as error:
            _LOG.warning("%s", error)
            block = None
        if block is None:
            pending.append(number)
            continue
        resumed += len(block_span(number, writer.num_videos))
        bad_here = [failure for failure in block.failures if failure.bad]
        bad += len(bad_here)
        if bad_here and on_bad == "raise":
            raise DataError(
                f"{path} lists a failed video, {bad_here[0].video_id}: {bad_here[0].reason}. "
                "Delete the file to try its videos again, or accept them with on_bad 'skip'"
            )
    if bad > allowed_failures(writer.num_videos):
        raise too_many_failed(writer.folder, bad, writer.num_videos)
    return pending, resumed, bad


def _rows(source: VideoSource) -> Iterator[Row]:
    for video in range(len(source)):
        entry = source.entry(video)
        yield entry.video_id, entry.label, entry.group


def _check_modality(clip: ClipSpec, source: VideoSource) -> None:
    if clip.modality == "flow" and isinstance(source, VideoFiles):
        raise ConfigError(
            "this encoder takes optical flow, and these are files of videos; make folders of its "
            "pictures by: python -m ssvideo_core extract-flow --videos VIDEOS --out FLOW"
        )


def _check_options(
    *,
    batch_size: int,
    keep: str = "video",
    kind: str = "features",
    on_bad: str = "skip",
    shard: tuple[int, int] = (0, 1),
) -> None:
    choices = (("keep", keep, KEEP), ("kind", kind, KINDS), ("on_bad", on_bad, ON_BAD))
    for name, value, known in choices:
        if value not in known:
            raise ConfigError(f"{name} is '{value}', expected one of {', '.join(known)}")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, expected 1 or more")
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f"shard is {shard}, expected (i, n) with 0 <= i < n")
