"""Training samples from DMVR's shards, read in worker processes; no framework.

A clip leaves a worker as the stored pixels of its crop, uint8: the resize, which makes float32 of
them, is left to the device (`device_augmentations`). Of a crop larger than twice the view's size
only the rows and columns cross that the resize reads, so a frame never has more bytes than the
resized one would have as float32.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import DataError, DecodeError, NoSoundError
from ssvideo_core.formats.sequence_examples import VideoRecord
from ssvideo_core.samples import SampleLoader
from ssvideo_core.views import Clip, VideoEntry, VideoInfo, View

from brave.images import Frames, jpeg_shape
from brave.records import LabelledVideos
from brave.sampling import shared_frames
from brave.view_sampling import Placement, RecordView, ViewSampler, cut_sound
from brave.views import ViewSpec

PADDED_TO = 64  # pixels; few shapes, so that the device's programs are compiled a few times only
_CHECKED = 32  # records that are read before training
_MOST_RATIO = 1.5  # of the lengths of pictures and sound

logger = logging.getLogger(__name__)


class TrainingRecords(SampleLoader):
    """The sample of a task from shards: one clip for the narrow view, then one for each broad one.

    patterns: globs of shard files. audio_rate_hz, video_rate_hz: of the stored data, which is not
    resampled. narrow_placement: see `view_sampling.ViewSampler`. Picklable; called and counted as
    `ssvideo_core.samples.SampleLoader` says, which replaces records that cannot be used. Labels are
    not read.

    Clips of pictures are [T, h, w, 3] uint8, zeros below and to the right of the crop; h and w are
    multiples of 64, at most twice the view's size. Clips of sound are [N] float32.

    Raises DataError for a pattern without files and for damaged files, ConfigError for shards
    without records and for views that do not go together.
    """

    def __init__(
        self,
        patterns: str | Sequence[str],
        narrow: ViewSpec,
        broad: Sequence[ViewSpec],
        *,
        audio_rate_hz: int = 48_000,
        video_rate_hz: float = 25.0,
        seed: int = 0,
        narrow_placement: Placement = "start",
    ) -> None:
        sampler = ViewSampler(
            narrow=narrow,
            broad=tuple(broad),
            audio_rate_hz=audio_rate_hz,
            video_rate_hz=video_rate_hz,
            narrow_placement=narrow_placement,
        )
        self.records = RecordSource(patterns, sampler)
        super().__init__(self.records, sampler, seed=seed)

    def check(self) -> None:
        """Read some records, spread over all, before training begins.

        Logs a warning for those that cannot be used, and when pictures and sound do not last
        equally long, as of data with other rates. Raises DataError, or NoSoundError where sound is
        missing, with the first one's reason when none of them can.
        """
        numbers = np.unique(np.linspace(0, len(self) - 1, _CHECKED).astype(int)).tolist()
        errors, lengths = [], []
        for number in numbers:
            try:
                info = self.records.info(number)
            except DataError as error:
                errors.append(error)
            else:
                lengths.append((info.num_frames / float(info.rate), info.sound_duration_s))
        if len(errors) == len(numbers):
            raise errors[0]
        if errors:
            logger.warning(
                "%d of %d records that were looked at cannot be used for these views and will be "
                "replaced by others: %s",
                len(errors),
                len(numbers),
                errors[0],
            )
        if "sound" in self.records.modalities:
            _compare_lengths(*np.median(lengths, axis=0).tolist())


def _compare_lengths(pictures_s: float, sound_s: float) -> None:
    """Log a warning when typical pictures and sound differ more than cut ends explain."""
    if max(pictures_s, sound_s) > _MOST_RATIO * min(pictures_s, sound_s):
        logger.warning(
            "pictures last %.3g s and sound %.3g s in the middle of the records that were looked "
            "at: are input_video_sample_rate and input_audio_sample_rate those of the shards? "
            "Nothing is resampled",
            pictures_s,
            sound_s,
        )


class RecordSource:
    """A `VideoSource` over shards, for the views of `view_sampling`.

    A record is read once for its facts and its clips; each of its frames is decoded once.
    """

    def __init__(self, patterns: str | Sequence[str], sampler: ViewSampler) -> None:
        self._videos = LabelledVideos(patterns)
        self._audio_rate_hz = sampler.audio_rate_hz
        self._rate = Fraction(str(sampler.video_rate_hz))
        self.modalities = {view.modality for view in (sampler.narrow, *sampler.broad)}
        self._latest: tuple[int, VideoRecord] | None = None

    def __len__(self) -> int:
        return len(self._videos)

    def entry(self, index: int) -> VideoEntry:
        return VideoEntry(self._videos.key(index))

    def info(self, index: int) -> VideoInfo:
        """Raises DataError when a view cannot be made of the record: NoSoundError without sound,
        DecodeError for a first frame that is no picture; or when frames and flow do not match.
        """
        record = self._record(index)
        name, num_frames = self._videos.name(index), len(record.frames)
        if not num_frames:
            raise DataError(f"{name}: image/encoded holds no frame; expected JPEGs")
        wave = np.empty(0, np.float32) if record.waveform is None else record.waveform
        samples = len(wave)
        if "sound" in self.modalities and not samples:
            raise NoSoundError(
                f"{name}: no sound: WAVEFORM/feature/floats is empty, but a broad view is of "
                "sound. Write the shards with sound, or train with a broad view of video"
            )
        # One such clip would make all statistics of the batch, and so the whole network, NaN.
        if "sound" in self.modalities and not np.isfinite(wave).all():
            raise DataError(
                f"{name}: WAVEFORM/feature/floats holds NaN or infinity; expected samples in "
                "[-1, 1]. It was probably written as integers: write the shards again"
            )
        # Flow lies between frames, so that one picture may be missing at the end.
        if "flow" in self.modalities and len(record.flow) not in (
            num_frames,
            max(num_frames - 1, 1),
        ):
            raise DataError(
                f"{name}: flow/encoded holds {len(record.flow)} pictures for {num_frames} frames, "
                "but a broad view is of flow; expected one for each frame. Write the shards with "
                "flow, or train with other broad views"
            )
        height, width = jpeg_shape(record.frames[0])
        return VideoInfo(
            video_id=self._videos.key(index),
            num_frames=num_frames,
            header_frames=None,
            rate=self._rate,
            time_base=1 / self._rate,
            duration=None,
            pts=None,
            height=height,
            width=width,
            sound_rate_hz=self._audio_rate_hz if samples else None,
            sound_start_s=0.0,
            sound_duration_s=samples / self._audio_rate_hz,
        )

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        """One clip for each RecordView, as `TrainingRecords` says. Raises DecodeError."""
        record = self._record(index)
        wanted = [view for view in views if isinstance(view, RecordView)]
        pictures = self._pictures(index, record, wanted, flow=False)
        flow = self._pictures(index, record, wanted, flow=True)
        return [
            Clip((flow if view.flow else pictures).pop(0), None)
            if view.frames is not None
            else self._sound(record, view)
            for view in wanted
        ]

    def _record(self, index: int) -> VideoRecord:
        if self._latest is None or self._latest[0] != index:
            self._latest = index, self._videos.read(index)
        return self._latest[1]

    def _pictures(
        self, index: int, record: VideoRecord, views: Sequence[RecordView], *, flow: bool
    ) -> list[Frames]:
        """The clips of the views of pictures, or of flow, in their order."""
        chosen = [view for view in views if view.frames is not None and view.flow == flow]
        if not chosen:
            return []
        last = len(record.flow if flow else record.frames) - 1
        numbers = [np.minimum(view.frames, last) for view in chosen if view.frames is not None]
        needed, places = shared_frames(numbers)
        frames = self._videos.decode(index, record, needed, flow=flow)
        stored = jpeg_shape(record.frames[0])
        if frames.shape[1:3] != stored:
            raise DecodeError(
                f"{self._videos.name(index)}: {'flow' if flow else 'frames'} of "
                f"{frames.shape[2]}x{frames.shape[1]} pixels, but frame 0 has "
                f"{stored[1]}x{stored[0]}; expected one size. Write the record again"
            )
        return [_cut(frames, own, view) for own, view in zip(places, chosen, strict=True)]

    def _sound(self, record: VideoRecord, view: RecordView) -> Clip:
        assert view.sound is not None and record.waveform is not None, "as the sampler was told"
        samples, missing = cut_sound(
            record.waveform,
            first=round(view.sound.start_s * view.sound.rate_hz),
            num_samples=view.sound.num_samples,
            repeats=view.sound_repeats,
        )
        return Clip(None, samples, missing)


def _cut(frames: Frames, places: NDArray[np.int64], view: RecordView) -> Frames:
    """The rows and columns of a view in the top left corner of a clip of its own.

    frames: [F, H, W, 3], shared. places: [T] there.
    """
    assert view.size is not None, "a view of pictures has a size"
    height, width = (
        min(-(-len(needed) // PADDED_TO) * PADDED_TO, 2 * size)
        for needed, size in zip((view.rows, view.columns), view.size, strict=True)
    )
    clip = np.zeros((len(places), height, width, 3), np.uint8)
    inside = clip[:, : len(view.rows), : len(view.columns)]
    for target, place in zip(inside, places.tolist(), strict=True):
        target[:] = frames[place][view.rows[:, None], view.columns]
    return clip
