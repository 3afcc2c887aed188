"""The test of a fine-tuned network: the mean of its logits over ten clips of three crops a video.

A video is opened once for all its clips, in a worker; its clips go through the network by
themselves, so that scores do not depend on the number of workers or processes. Scores go to a
feature folder of core, 256 videos at a time: a test that was interrupted goes on there.

Axes: V clips of a video, C classes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, Failure, block_path, block_span, num_blocks
from ssvideo_core.errors import DataError, DecodeError
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import REQUEST, FeatureSet, Row, mean_of_views
from ssvideo_core.interruption import Interruption, requeue
from ssvideo_core.loading import ordered_map
from ssvideo_core.progress import Meter, ProgressLines
from ssvideo_core.randomness import generator
from ssvideo_core.samples import Batch, Sample, collate
from ssvideo_core.source import VideoSource
from ssvideo_core.views import View
from ssvideo_torch.loader import TorchView, to_device
from ssvideo_torch.start import Process
from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadTestVideo:
    """Reads all test clips of a video by its place in the work list; runs in workers.

    videos: [N] numbers in `source`. draw: views from a video's facts and `rng`. epoch: what draws
    depend on, beside `seed` and the place. clips_at_once: of a batch.
    """

    source: VideoSource
    videos: NDArray[np.int64]
    draw: Callable[..., list[View]]
    seed: int
    epoch: int
    clips_at_once: int

    def name(self, place: int) -> str:
        """The id of a video."""
        return self.source.entry(int(self.videos[place])).video_id

    def __call__(self, place: int) -> tuple[Batch, ...] | Failure:
        video = int(self.videos[place])
        try:
            info = self.source.info(video)
            if info.damage is not None:
                raise DecodeError(info.damage)  # scores of a part would pass for the whole
            views = self.draw(info, rng=generator(self.seed, self.epoch, place, "test"))
            clips = self.source.read(video, views)
        except DataError as error:
            return Failure(place, self.name(place), str(error))
        samples = [
            Sample(video, 0, (clip,), (view.params,))
            for clip, view in zip(clips, views, strict=True)
        ]
        starts = range(0, len(samples), self.clips_at_once)
        return tuple(collate(samples[start : start + self.clips_at_once]) for start in starts)


@dataclass(frozen=True)
class Scorer:
    """From the clips of a video to its scores. prepare: a network's input of a batch."""

    network: nn.Module
    prepare: Callable[[TorchView], Tensor]
    device: torch.device

    def __call__(self, batches: Sequence[Batch]) -> NDArray[np.float32]:
        """The mean of the logits over all clips, [C] float32."""
        logits = []
        with torch.inference_mode():
            for batch in batches:
                clips = self.prepare(to_device(batch, self.device).views[0])
                logits.append(self.network(clips).float().cpu())
        return mean_of_views(torch.cat(logits).numpy(), "scores")


def score_videos(
    scorer: Scorer,
    load: LoadTestVideo,
    folder: Path,
    *,
    request: Mapping[str, Any],
    rows: Sequence[Row],
    num_classes: int,
    workers: int,
    process: Process,
    interruption: Interruption,
) -> FeatureSet | None:
    """Scores of all videos of `load` as the feature folder `folder`; None on ranks above 0.

    request: of a `FeatureWriter`. rows: of the work list. All processes call it together; they take
    the videos of a block in turn, and rank 0 writes. Finished blocks of the same network are kept;
    a folder of another one is begun anew. A video that cannot be read is listed as failed.

    Raises KeyboardInterrupt on all ranks after a signal; DataError for too many videos that fail
    and for scores that are not finite.
    """
    writer = process.together(lambda: _open(folder, request, rows) if process.is_main else None)
    todo = _unfinished(process, writer, num_blocks(len(rows)))
    scorer.network.eval()
    share_buffers(scorer.network, process)
    own = [place for block in todo for place in _own(block_span(block, len(rows)), process)]
    meter = Meter(len(own), 0, ProgressLines() if process.is_main else None)
    loaded = ordered_map(load, own, workers=workers, in_flight=workers + 1, name=load.name)
    with closing(loaded):
        videos = meter.watch(loaded)
        for number in todo:
            span = block_span(number, len(rows))
            scores = _score_block(scorer, videos, span, num_classes, process, interruption, meter)
            process.together(partial(_write, writer, number, span, scores, scorer, load))
    return process.together(lambda: _finished(writer) if writer else None)


def share_buffers(network: nn.Module, process: Process) -> None:
    """Give all ranks the buffers of rank 0: statistics of batch norms that each took by itself."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if process.world_size == 1 or not buffers:
        return
    of_first = process.gather(torch.cat([buffer.flatten() for buffer in buffers]))[0]
    parts = torch.split(of_first, [buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        buffer.copy_(part.view_as(buffer))


def _open(folder: Path, request: Mapping[str, Any], rows: Sequence[Row]) -> FeatureWriter:
    try:
        stored = json.loads((folder / REQUEST).read_bytes())["request"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        stored = None
    if folder.exists() and stored != request["fingerprint"]:
        logger.info("%s has scores of another network; testing anew", folder)
        shutil.rmtree(folder)
    return FeatureWriter(folder, request, rows)


def _unfinished(process: Process, writer: FeatureWriter | None, blocks: int) -> list[int]:
    """What rank 0 finds, on all ranks."""
    missing = torch.zeros(blocks, dtype=torch.int64)
    if writer is not None:
        for number in range(blocks):
            missing[number] = not block_path(writer.folder, number).exists()
    return process.gather(missing)[0].nonzero().flatten().tolist()


def _own(span: range, process: Process) -> range:
    return span[process.rank :: process.world_size]


def _score_block(
    scorer: Scorer,
    videos: Iterator[tuple[Batch, ...] | Failure],
    span: range,
    num_classes: int,
    process: Process,
    interruption: Interruption,
    meter: Meter,
) -> NDArray[np.float32]:
    """[videos of the span, C + 1]: scores, and 1, or 0 for a video that this rank cannot read."""
    rounds = -(-len(span) // process.world_size)
    found = torch.zeros(rounds, num_classes + 1)
    for number in range(rounds):
        if number < len(_own(span, process)):
            video = next(videos)
            if not isinstance(video, Failure):
                found[number, :-1] = torch.from_numpy(scorer(video))
                found[number, -1] = 1
            meter.advance(failed=isinstance(video, Failure))
        if process.agreed(interruption.requested is not None):
            _stop(interruption, process)
    everyone = process.gather(found)  # (ranks, rounds, C + 1)
    scores: NDArray[np.float32] = everyone.transpose(0, 1).flatten(0, 1)[: len(span)].numpy()
    return scores


def _stop(interruption: Interruption, process: Process) -> None:
    logger.info("stopped in a test; the same command goes on from there")
    if process.is_main and interruption.requested is not None:
        requeue(interruption.requested)
    raise KeyboardInterrupt


def _write(
    writer: FeatureWriter | None,
    number: int,
    span: range,
    scores: NDArray[np.float32],
    scorer: Scorer,
    load: LoadTestVideo,
) -> None:
    """Store a block, on rank 0. Videos that failed are tried once more, by this process."""
    if writer is None:
        return
    failures, values = [], {}
    for place, row in zip(span, scores, strict=True):
        video = None if row[-1] else load(place)
        if isinstance(video, Failure):
            failures.append(video)
            continue
        values[place] = row[:-1] if video is None else scorer(video)
        if not np.isfinite(values[place]).all():
            raise DataError(
                f"{load.name(place)}: the network's scores are not finite, so training diverged; "
                "start again with lower rates"
            )
    block = Block(
        number,
        np.stack([*values.values()]) if values else scores[:0, :-1],
        np.array([*values], np.int64),
        np.full(len(values), MEAN_OF_VIEWS, np.int32),
        tuple(failures),
    )
    writer.write(block)


def _finished(writer: FeatureWriter) -> FeatureSet:
    features = writer.finish()
    assert features is not None, "all blocks were written"
    return features
