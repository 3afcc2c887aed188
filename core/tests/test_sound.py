from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.errors import DecodeError, NoSoundError
from ssvideo_core.video import probe, read_views
from ssvideo_core.views import Clip, SoundSpan, View

WITH_SOUND = [
    "k400_R6llTwEh07w.mp4",
    "k400_SOX5yA1l24A.mp4",
    "k400_WUzgd7C1pWA.mp4",
    "ucf101_with_audio_mpeg4_mp3.avi",
    "flipping_a_pancake_opus.mkv",
]


@lru_cache(maxsize=2)
def whole_sound(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """The whole file by PyAV alone."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    with av.open(str(path), metadata_errors="ignore") as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def read(path: Path, *spans: SoundSpan) -> list[Clip]:
    return read_views(path, probe(path), [View(None, sound=span) for span in spans])


@pytest.mark.parametrize("rate_hz", [16000, 24000, 48000])
@pytest.mark.parametrize("name", WITH_SOUND)
def test_a_slice_equals_the_slice_of_the_whole(clips: Path, name: str, rate_hz: int) -> None:
    expected = whole_sound(clips / name, rate_hz)
    starts = [2 * rate_hz + 1, 0, rate_hz // 3, 1]
    spans = [SoundSpan(start / rate_hz, rate_hz, rate_hz) for start in starts]
    for start, clip in zip(starts, read(clips / name, *spans), strict=True):
        assert (clip.frames, clip.missing_samples) == (None, 0)
        assert clip.sound.dtype == np.float32
        assert np.array_equal(clip.sound, expected[start : start + rate_hz])


@pytest.mark.parametrize("name", WITH_SOUND)
def test_what_is_not_stored_is_zero_and_counted(clips: Path, name: str) -> None:
    expected = whole_sound(clips / name, 24000)
    before, after, far, over = read(
        clips / name,
        SoundSpan(-0.5, 24000, 24000),
        SoundSpan((len(expected) - 6000) / 24000, 24000, 24000),
        SoundSpan(100.0, 10, 24000),
        SoundSpan(-1.0, 24000 * 20, 24000),
    )
    assert before.missing_samples == 12000
    assert not before.sound[:12000].any()
    assert np.array_equal(before.sound[12000:], expected[:12000])
    assert after.missing_samples == 18000
    assert np.array_equal(after.sound[:6000], expected[-6000:])
    assert not after.sound[6000:].any()
    assert (far.missing_samples, far.sound.tolist()) == (10, [0.0] * 10)
    assert over.missing_samples == 24000 * 20 - len(expected)
    assert np.array_equal(over.sound[24000 : 24000 + len(expected)], expected)


def test_several_rates_at_once(clips: Path) -> None:
    path = clips / "ucf101_with_audio_mpeg4_mp3.avi"
    for clip, rate in zip(
        read(path, SoundSpan(1.0, 800, 16000), SoundSpan(1.0, 1200, 24000)),
        (16000, 24000),
        strict=True,
    ):
        assert np.array_equal(clip.sound, whole_sound(path, rate)[rate : rate + rate // 20])


def test_a_start_between_samples_goes_to_the_nearest(clips: Path) -> None:
    path = clips / "ucf101_with_audio_mpeg4_mp3.avi"
    expected = whole_sound(path, 16000)
    low, high = read(
        path, SoundSpan(1000.4 / 16000, 100, 16000), SoundSpan(1000.6 / 16000, 100, 16000)
    )
    assert np.array_equal(low.sound, expected[1000:1100])
    assert np.array_equal(high.sound, expected[1001:1101])


def test_values_beyond_one_are_kept(clips: Path) -> None:
    (clip,) = read(clips / "ucf101_with_audio_mpeg4_mp3.avi", SoundSpan(0.0, 24000 * 7, 24000))
    assert np.abs(clip.sound).max() > 1.1


TONE = np.sin(np.arange(24000) * 0.1) / 2


def write_with_tone(path: Path, pictures_s: float, sound_s: float) -> None:
    """Two seconds of pictures and half a second of a tone that begin at the given times."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        for k in range(20):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            picture.pts = k + round(10 * pictures_s)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        samples = np.round(TONE * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate, frame.pts = 48000, round(sound_s * 48000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


@pytest.mark.parametrize(("pictures_s", "sound_s"), [(0.0, 0.5), (0.3, 0.8), (0.5, 0.0)])
def test_sound_is_placed_by_its_first_time(
    tmp_path: Path, pictures_s: float, sound_s: float
) -> None:
    path = tmp_path / "a.mkv"
    write_with_tone(path, pictures_s, sound_s)
    info = probe(path)
    assert info.sound_start_s == pytest.approx(sound_s - pictures_s)
    assert info.sound_duration_s == pytest.approx(0.5, abs=0.01)
    start = round((sound_s - pictures_s) * 48000)
    (clip,) = read(path, SoundSpan(-1.0, 96000, 48000))
    assert clip.missing_samples == 72000
    first = 48000 + start
    assert np.abs(clip.sound[first : first + 24000] - TONE).max() < 1e-4
    assert not clip.sound[:first].any()
    assert not clip.sound[first + 24000 :].any()


def test_stereo_is_added_at_equal_power(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="stereo")
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        channels = np.array([[0.25, -0.5]] * 4000) * 32768
        frame = av.AudioFrame.from_ndarray(channels.astype(np.int16).reshape(1, -1), "s16")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    (clip,) = read(path, SoundSpan(0.1, 800, 8000))
    assert np.abs(clip.sound - (0.25 - 0.5) / np.sqrt(2)).max() < 1e-4


def test_a_video_without_sound(clips: Path) -> None:
    path = clips / "rotated90_nasa.mp4"
    with pytest.raises(NoSoundError, match=r"rotated90_nasa\.mp4: no sound"):
        read(path, SoundSpan(0.0, 10, 24000))
    with pytest.raises(NoSoundError, match="no sound"):
        claims = replace(probe(path), sound_rate_hz=48000)
        read_views(path, claims, [View(None, sound=SoundSpan(0.0, 10, 24000))])


def test_damaged_sound_ends(clips: Path) -> None:
    path = clips / "broken" / "corrupt_middle.mp4"
    (clip,) = read(path, SoundSpan(1.0, 4 * 24000, 24000))
    expected = whole_sound(clips / "k400_R6llTwEh07w.mp4", 24000)
    assert np.array_equal(clip.sound, expected[24000 : 5 * 24000])
    for start_s in (5.0, 9.0):
        with pytest.raises(DecodeError, match=r"corrupt_middle\.mp4: decoding stops"):
            read(path, SoundSpan(start_s, 24000, 24000))
