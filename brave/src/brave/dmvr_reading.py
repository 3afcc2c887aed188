"""Batches of records as DMVR reads them for a test, with its default steps.

    for batch in read_batches(shards, image=ImageReading(min_resize=256, crop_size=224),
                              label=LabelReading(num_classes=51), batch_size=16):
        batch["image"], batch["label"]

In the order of the files, each record once, the incomplete last batch too. B records, C clips of
each; the steps are those of `dmvr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError
from ssvideo_core.formats.sequence_examples import VideoRecord

from brave.dmvr import crop_or_pad, looped, middle_offset, spectrogram, spread_offsets
from brave.flow import displacements, resize_min_flow
from brave.images import resize_min
from brave.records import LabelledVideos
from brave.sampling import shared_frames

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """num_frames, stride: of a clip. min_resize: pixels of the shorter side; crop_size: of the
    square in its middle. num_test_clips: C. zero_centering: values in [-1, 1] instead of [0, 1].
    """

    num_frames: int = 32
    stride: int = 1
    min_resize: int = 224
    crop_size: int = 200
    num_test_clips: int = 1
    zero_centering: bool = False


@dataclass(frozen=True, kw_only=True)
class FlowReading:
    """As ImageReading; displacements are always in [-1, 1]."""

    num_frames: int = 32
    stride: int = 1
    min_resize: int = 224
    crop_size: int = 200
    num_test_clips: int = 1


@dataclass(frozen=True, kw_only=True)
class AudioReading:
    """num_samples, stride: of a clip. features: options of `dmvr.spectrogram`, None for none.

    layout: of several clips, "clips" (B·C, num_samples), or "released" (B, C·num_samples).
    """

    num_samples: int = 30_720
    stride: int = 1
    num_test_clips: int = 1
    features: Mapping[str, Any] | None = None
    layout: Literal["clips", "released"] = "clips"


@dataclass(frozen=True, kw_only=True)
class LabelReading:
    """num_classes: for one-hot labels, None for numbers. add_name: the class's name too."""

    num_classes: int | None = None
    add_name: bool = False


def read_batches(
    patterns: str | Sequence[str],
    *,
    batch_size: int,
    image: ImageReading | None = None,
    flow: FlowReading | None = None,
    audio: AudioReading | None = None,
    label: LabelReading | None = None,
) -> Iterator[Arrays]:
    """What is asked for, by name.

    "image" [B·C, T, S, S, 3] and "flow" [B·C, T, S, S, 2] float32. "audio" [B·C, N] float32 and
    "audio_mel" [B·C, frames, bins] with features. "label" [B, classes] float32, the sum of all
    labels, or [B, 1] int64; "label_name" [B, 1] text.

    Raises DataError for records that lack what is asked for.
    """
    videos = LabelledVideos(patterns)
    numbers = iter(range(len(videos)))
    while chosen := list(islice(numbers, batch_size)):
        rows: list[Arrays] = []
        for number in chosen:
            record = videos.read(number)
            row: Arrays = {}
            if image is not None:
                row["image"] = _image(videos, number, record, image)
            if flow is not None:
                row["flow"] = _flow(videos, number, record, flow)
            if audio is not None:
                row |= _audio(videos.name(number), record, audio)
            if label is not None:
                row |= _label(videos.name(number), record, label)
            rows.append(row)
        yield {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _image(
    videos: LabelledVideos, number: int, record: VideoRecord, wanted: ImageReading
) -> NDArray[np.float32]:
    clips = []
    for frames in _clips(videos, number, record, wanted):
        pixels = crop_or_pad(resize_min(frames, wanted.min_resize), *[wanted.crop_size] * 2)
        clips.append(displacements(pixels) if wanted.zero_centering else pixels / np.float32(255))
    return np.stack(clips)


def _flow(
    videos: LabelledVideos, number: int, record: VideoRecord, wanted: FlowReading
) -> NDArray[np.float32]:
    clips = []
    for frames in _clips(videos, number, record, wanted):
        flow = resize_min_flow(displacements(frames), wanted.min_resize)
        clips.append(np.clip(crop_or_pad(flow, *[wanted.crop_size] * 2)[..., :2], -1, 1))
    return np.stack(clips)


def _clips(
    videos: LabelledVideos, number: int, record: VideoRecord, wanted: ImageReading | FlowReading
) -> Iterator[NDArray[np.uint8]]:
    flow = isinstance(wanted, FlowReading)
    stored = len(record.flow if flow else record.frames)
    if not stored:
        feature = "flow/encoded" if flow else "image/encoded"
        raise DataError(f"{videos.name(number)}: {feature} holds no picture; expected JPEGs")
    form = {"num_frames": wanted.num_frames, "stride": wanted.stride}
    places = [looped(o, stored, **form) for o in _offsets(stored, wanted.num_test_clips, **form)]
    needed, rows = shared_frames(places)
    frames = videos.decode(number, record, needed, flow=flow)
    return (frames[own] for own in rows)


def _audio(name: str, record: VideoRecord, wanted: AudioReading) -> Arrays:
    wave = record.waveform
    if wave is None or not len(wave):
        raise DataError(f"{name}: WAVEFORM/feature/floats is empty; expected sound")
    form = {"num_frames": wanted.num_samples, "stride": wanted.stride}
    offsets = _offsets(len(wave), wanted.num_test_clips, **form)
    clips = wave[np.stack([looped(offset, len(wave), **form) for offset in offsets])]
    arrays = {"audio": clips if wanted.layout == "clips" else clips.reshape(1, -1)}
    if wanted.features is not None:
        arrays["audio_mel"] = spectrogram(clips, **wanted.features)
    return arrays


def _label(name: str, record: VideoRecord, wanted: LabelReading) -> Arrays:
    if wanted.num_classes is None:
        if record.labels.shape != (1,):
            raise DataError(
                f"{name}: clip/label/index holds {record.labels.tolist()}, expected one number"
            )
        arrays: Arrays = {"label": record.labels[None]}
    else:
        if not set(record.labels.tolist()) <= set(range(wanted.num_classes)):
            raise DataError(
                f"{name}: clip/label/index holds {record.labels.tolist()}, expected 0 to "
                f"{wanted.num_classes - 1}"
            )
        counts = np.bincount(record.labels, minlength=wanted.num_classes)
        arrays = {"label": counts.astype(np.float32)[None]}
    if wanted.add_name:
        if len(record.label_text) != 1:
            raise DataError(
                f"{name}: clip/label/text holds {list(record.label_text)}, expected one name"
            )
        arrays["label_name"] = np.array([record.label_text])
    return arrays


def _offsets(length: int, count: int, *, num_frames: int, stride: int) -> list[int]:
    if count == 1:
        return [middle_offset(length, num_frames=num_frames, stride=stride)]
    return spread_offsets(length, count, num_frames=num_frames, stride=stride)
