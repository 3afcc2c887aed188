"""Sound of a video as mono samples at a wanted rate, placed on the video's clock."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from ssvideo_core.containers import decode, packets, sound_stream
from ssvideo_core.errors import DecodeError, NoSoundError
from ssvideo_core.views import SoundSpan, VideoInfo


def read_sound(
    container: InputContainer, path: Path, info: VideoInfo, spans: Sequence[SoundSpan]
) -> list[tuple[NDArray[np.float32], int]]:
    """For each span its [num_samples] float32 mono samples, and how many are missing.

    The container must be freshly opened. The sound is decoded once, from its beginning to the
    last sample wanted, so that a span equals the same stretch of the sound resampled as a whole.
    Its first sample lies at `info.sound_start_s`; a span begins at the sample nearest to its
    start. Samples before, after and beyond the stored sound are zeros and counted as missing.
    Channels are mixed down by FFmpeg, stereo to (left + right)/√2; values beyond ±1 are kept.

    Raises NoSoundError without a sound stream, DecodeError when a wanted sample does not decode.
    """
    stream = sound_stream(container)
    if stream is None or info.sound_rate_hz is None:
        raise NoSoundError(f"{path}: no sound: the file has no sound stream")
    tracks = {span.rate_hz: _Track(span.rate_hz) for span in spans}
    slots = [tracks[span.rate_hz].place(span, info.sound_start_s) for span in spans]
    for packet in packets(container, [stream], path):
        for frame in decode(packet, path):
            for track in tracks.values():
                track.add(frame, path)
        if all(track.complete for track in tracks.values()):
            break
    for track in tracks.values():
        track.add(None, path)
    return [(slot.samples, slot.missing) for slot in slots]


class _Slot:
    """Where one span lies among the samples of its track. start may be negative."""

    def __init__(self, start: int, num_samples: int) -> None:
        self.start = start
        self.samples = np.zeros(num_samples, np.float32)
        self.missing = num_samples

    def copy(self, chunk: NDArray[np.float32], position: int) -> None:
        first = max(self.start, position)
        stop = min(self.start + len(self.samples), position + len(chunk))
        if first < stop:
            found = chunk[first - position : stop - position]
            self.samples[first - self.start : stop - self.start] = found
            self.missing -= len(found)


class _Track:
    """The sound at one rate; `position` counts the samples that the resampler gave."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = AudioResampler(format="flt", layout="mono", rate=rate_hz)
        self._slots: list[_Slot] = []
        self._position = 0
        self._end = 0

    @property
    def complete(self) -> bool:
        return self._position >= self._end

    def place(self, span: SoundSpan, sound_start_s: float) -> _Slot:
        seconds = Fraction(span.start_s) - Fraction(sound_start_s)
        slot = _Slot(round(seconds * self._rate_hz), span.num_samples)
        self._slots.append(slot)
        self._end = max(self._end, slot.start + span.num_samples)
        return slot

    def add(self, frame: AudioFrame | None, path: Path) -> None:
        """Resample one decoded frame; None ends the sound."""
        if self.complete:
            return
        try:
            resampled = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:  # ValueError: the format changed midway
            raise DecodeError(f"{path}: the sound cannot be resampled: {error}") from error
        for part in resampled:
            chunk = part.to_ndarray()[0]
            for slot in self._slots:
                slot.copy(chunk, self._position)
            self._position += len(chunk)
