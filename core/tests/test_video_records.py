from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from ssvideo_core.blocks import Failure
from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.formats.sequence_examples import VideoRecord, parse_record
from ssvideo_core.formats.video_records import (
    EncodeVideo,
    RecordForm,
    frame_size,
    frames_at_rate,
)
from ssvideo_core.source import VideoFiles
from ssvideo_core.views import SoundSpan, VideoEntry, VideoInfo, View


def info(
    pts: list[int] | None = None,
    *,
    time_base: Fraction = Fraction(1, 1000),
    rate: Fraction = Fraction(25),
    num_frames: int = 1,
    height: int = 240,
    width: int = 320,
) -> VideoInfo:
    return VideoInfo(
        video_id="a/b.mp4",
        num_frames=num_frames if pts is None else len(pts),
        header_frames=None,
        rate=rate,
        time_base=time_base,
        duration=None,
        pts=None if pts is None else np.array(pts),
        height=height,
        width=width,
        sound_rate_hz=None,
        sound_start_s=0.0,
        sound_duration_s=0.0,
    )


def by_ffmpeg(pts: list[int], time_base: Fraction, duration: int, rate: float) -> list[int]:
    """What FFmpeg's own filter shows; frames are told apart by their grey."""
    graph = av.filter.Graph()
    start = graph.add_buffer(width=16, height=16, format="gray", time_base=time_base)
    fps, end = graph.add("fps", f"fps={rate}"), graph.add("buffersink")
    start.link_to(fps)
    fps.link_to(end)
    graph.configure()
    shown: list[int] = []
    for number, time in enumerate([*pts, None]):
        frame = None
        if time is not None:
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
            frame.pts, frame.time_base, frame.duration = time, time_base, duration
        graph.push(frame)
        while True:
            try:
                shown.append(int(graph.pull().to_ndarray()[0, 0]))
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    return shown


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.integers(1, 400), min_size=0, max_size=40),
    first=st.integers(0, 50),
    time_base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 30000)]),
    rate=st.sampled_from([25, 10, 12.5, 30, 60]),
    duration=st.integers(1, 300),
)
def test_frames_are_those_of_ffmpeg(steps, first, time_base, rate, duration) -> None:
    pts = np.cumsum([0, *steps]).tolist()
    if time_base == Fraction(1, 90000):
        pts, duration = [time * 30 for time in pts], duration * 30
    if time_base == Fraction(1001, 30000):
        pts, duration = [time // 30 + k for k, time in enumerate(pts)], 1 + duration // 30
    expected = by_ffmpeg(pts, time_base, duration, rate)
    later = [time + first for time in pts]  # the clock begins at the first frame
    video = info(later, time_base=time_base, rate=1 / (duration * time_base))
    found = frames_at_rate(video, rate, 1e5).tolist()
    if expected:
        assert found == expected
    else:  # FFmpeg shows nothing of less than half a frame
        assert len(found) == 1


def test_frames_of_an_ordinary_video() -> None:
    """30 a second to 25: every sixth is left out."""
    video = info([0, 33, 67, 100, 133, 167, 200, 233], rate=Fraction(30))
    assert frames_at_rate(video, 25, 20).tolist() == [0, 1, 2, 4, 5, 6, 7]
    counted = info(num_frames=12, rate=Fraction(30))
    assert frames_at_rate(counted, 25, 20).tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]
    assert frames_at_rate(counted, 60, 20).tolist() == np.repeat(range(12), 2).tolist()


def test_only_the_first_seconds() -> None:
    video = info(list(range(0, 60_000, 40)))
    frames = frames_at_rate(video, 25, 20)
    assert frames.dtype == np.int64 and frames.tolist() == list(range(500))
    assert frames_at_rate(video, 10, 0.35).tolist() == frames_at_rate(video, 10, 1).tolist()[:4]
    assert frames_at_rate(video, 25, 0.001).tolist() == [0]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (240, 320, (256, 341)),
        (240, 560, (256, 597)),
        (320, 240, (341, 256)),
        (480, 270, (455, 256)),
        (1080, 1920, (256, 455)),
        (256, 256, (256, 256)),
        (265, 266, (256, 256)),
    ],
)
def test_frame_size(height: int, width: int, expected: tuple[int, int]) -> None:
    assert frame_size(info(height=height, width=width), 256) == expected


def source(clips: Path, *names: str) -> VideoFiles:
    return VideoFiles(clips, [VideoEntry(name, name.partition("_")[0]) for name in names])


def record_of(encode: EncodeVideo, video: int = 0) -> VideoRecord:
    data = encode(video)
    assert isinstance(data, bytes)
    return parse_record(data)


SMALL = RecordForm(rate_hz=10, short_side=64, max_seconds=2)


def test_a_real_video(clips: Path) -> None:
    name = "k400_SOX5yA1l24A.mp4"
    videos = source(clips, name)
    record = record_of(EncodeVideo(videos, ("hmdb51", "k400"), SMALL, ()))
    assert record.labels.tolist() == [1] and record.label_text == ("k400",)
    assert (record.filename, record.start_us, record.end_us) == (name, 0, 2_000_000)
    numbers = frames_at_rate(videos.info(0), 10, 2)
    assert len(record.frames) == len(numbers) == 20
    view = View(numbers, size=(64, 85), resample="bicubic", sound=SoundSpan(0.0, 96_000, 48_000))
    (clip,) = videos.read(0, [view])
    assert record.waveform is not None and np.array_equal(record.waveform, clip.sound)
    for jpeg, frame in zip(record.frames, clip.frames, strict=True):
        _, _, colours, subsampling = simplejpeg.decode_jpeg_header(jpeg)
        assert (colours, subsampling) == ("YCbCr", "420")
        error = simplejpeg.decode_jpeg(jpeg).astype(int) - frame
        assert np.abs(error).mean() <= 3 and np.abs(error).max() <= 60


def test_frames_that_are_repeated_are_equal_bytes(clips: Path) -> None:
    videos = source(clips, "odd_321x241_vp9.mp4")
    form = RecordForm(rate_hz=50, short_side=32, max_seconds=0.4)
    record = record_of(EncodeVideo(videos, ("odd",), form, ()))
    assert record.frames[::2] == record.frames[1::2]
    assert len(set(record.frames)) == 10
    assert record.waveform is None, "the file has no sound"


def test_sound_as_long_as_the_frames(clips: Path) -> None:
    """Its last 0.09 s are not stored: zeros."""
    videos = source(clips, "k400_R6llTwEh07w.mp4")
    form = RecordForm(rate_hz=1, short_side=16, max_seconds=20, sound_rate_hz=8000)
    record = record_of(EncodeVideo(videos, ("k400",), form, ()))
    assert record.waveform is not None and record.waveform.shape == (80_000,)
    long = RecordForm(rate_hz=10, short_side=16, max_seconds=20, sound_rate_hz=8000)
    waveform = record_of(EncodeVideo(videos, ("k400",), long, ())).waveform
    assert waveform is not None and waveform.shape == (80_800,)
    assert not waveform[80_100:].any() and waveform[79_000:80_000].any()
    silent = RecordForm(rate_hz=1, short_side=16, sound_rate_hz=0)
    assert record_of(EncodeVideo(videos, ("k400",), silent, ())).waveform is None


def test_quality_is_that_of_the_jpegs(clips: Path) -> None:
    videos = source(clips, "ucf101_v_SoccerJuggling_g23_c01.avi")
    sizes = [
        len(
            record_of(EncodeVideo(videos, ("ucf101",), RecordForm(1, 64, 1, quality), ())).frames[0]
        )
        for quality in (50, 95, 100)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] < sizes[2]


def test_videos_that_cannot_be_read(clips: Path) -> None:
    videos = source(clips, "broken/zero_bytes.mp4", "broken/corrupt_middle.mp4")
    listed = EncodeVideo(videos, ("broken",), SMALL, (DataError,))
    for video, reason in ((0, "cannot open"), (1, "ends after 154 frames")):
        failure = listed(video)
        assert isinstance(failure, Failure) and reason in failure.reason
        assert failure.video_id == videos.entry(video).video_id
        with pytest.raises(DecodeError, match=reason):
            EncodeVideo(videos, ("broken",), SMALL, ())(video)


@pytest.mark.parametrize(
    "form",
    [
        RecordForm(rate_hz=0),
        RecordForm(rate_hz=float("nan")),
        RecordForm(short_side=0),
        RecordForm(max_seconds=float("inf")),
        RecordForm(quality=101),
        RecordForm(quality=0),
        RecordForm(sound_rate_hz=-1),
    ],
)
def test_forms_that_cannot_be(form: RecordForm) -> None:
    with pytest.raises(ConfigError, match="expected more than"):
        form.check()
    RecordForm().check()


def test_without_a_list_of_classes_labels_have_no_number(clips: Path) -> None:
    record = record_of(EncodeVideo(source(clips, "odd_321x241_vp9.mp4"), (), SMALL, ()))
    assert record.labels.size == 0 and record.label_text == ("odd",)
