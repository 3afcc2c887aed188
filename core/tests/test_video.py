from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image
from ssvideo_core import containers, video
from ssvideo_core.errors import DecodeError
from ssvideo_core.video import probe, read_views
from ssvideo_core.views import SoundSpan, VideoInfo, View

# name: frames, frames in the header, upright height and width, rate, usable times, stored rate and
# length of the sound in seconds
FACTS = {
    "k400_R6llTwEh07w.mp4": (303, 303, 256, 340, "30", True, 44100, 10.008),
    "k400_SOX5yA1l24A.mp4": (332, 332, 256, 340, "30000/1001", True, 48000, 11.072),
    "k400_WUzgd7C1pWA.mp4": (327, 327, 256, 340, "30000/1001", True, 48000, 10.901),
    "k400_noaudio_armwrestling.mp4": (280, 280, 256, 340, "28", True, None, 0),
    "hmdb51_RATRACE_wave_f_nm_np1_fr_goo_37.avi": (72, 73, 240, 560, "30", False, None, 0),
    "hmdb51_TrumanShow_wave_f_nm_np1_fr_med_26.avi": (48, 49, 240, 432, "30", False, None, 0),
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": (
        *(83, 84, 240, 320, "30", False, None, 0),
    ),
    "ucf101_v_SoccerJuggling_g23_c01.avi": (240, 240, 240, 320, "30000/1001", True, None, 0),
    "ucf101_with_audio_mpeg4_mp3.avi": (164, 164, 240, 320, "25", False, 44100, 6.557),
    "flipping_a_pancake_opus.mkv": (310, None, 240, 426, "30", True, 48000, 10.368),
    "odd_321x241_vp9.mp4": (25, 25, 241, 321, "25", True, None, 0),
    "rotated90_nasa.mp4": (17, 17, 480, 270, "30000/1001", True, None, 0),
}
Frames = list[NDArray[np.uint8]]


def sequential(path: Path) -> Frames:
    """Every frame from the beginning, by PyAV alone."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            for frame in container.decode(video=0)
        ]


def assert_equal(frames: NDArray[np.uint8], numbers: NDArray[np.int64], expected: Frames) -> None:
    assert frames.dtype == np.uint8
    assert len(frames) == len(numbers)
    for number, frame in zip(numbers, frames, strict=True):
        assert np.array_equal(frame, expected[number]), f"frame {number} differs"


@dataclass
class Decoded:
    path: Path
    info: VideoInfo
    frames: Frames


@pytest.fixture(scope="module", params=FACTS)
def decoded(request: pytest.FixtureRequest, clips: Path) -> Decoded:
    path = clips / request.param
    return Decoded(path, probe(path), sequential(path))


def test_every_clip_is_covered(clips: Path) -> None:
    assert {p.name for p in clips.iterdir() if p.is_file()} - {"README.md"} == set(FACTS)


def test_facts(decoded: Decoded) -> None:
    info = decoded.info
    frames, header, height, width, rate, timed, sound_rate, sound_s = FACTS[decoded.path.name]
    assert info.num_frames == frames == len(decoded.frames)
    assert (info.header_frames, info.rate) == (header, Fraction(rate))
    assert (info.height, info.width) == (height, width) == decoded.frames[0].shape[:2]
    assert (info.pts is not None) is timed
    if info.pts is not None:
        assert info.pts.dtype == np.int64
        assert (np.diff(info.pts) > 0).all()
    assert info.video_id == decoded.path.name
    assert probe(decoded.path, "a/b").video_id == "a/b"
    assert info.sound_rate_hz == sound_rate
    assert info.sound_start_s == 0
    assert info.sound_duration_s == pytest.approx(sound_s, abs=0.02)


def test_times_are_those_of_decoded_frames(decoded: Decoded) -> None:
    with av.open(str(decoded.path), metadata_errors="ignore") as container:
        times = [frame.pts for frame in container.decode(video=0)]
    if decoded.info.pts is None:
        assert times != sorted(times)
    else:
        assert decoded.info.pts.tolist() == times


def test_random_frames_are_those_of_sequential_decoding(decoded: Decoded) -> None:
    rng = np.random.default_rng(0)
    count = decoded.info.num_frames
    for size, views in ((1, 1), (1, 1), (5, 1), (8, 3)):
        wanted = [View(rng.integers(0, count, size)) for _ in range(views)]  # unordered, repeated
        read = read_views(decoded.path, decoded.info, wanted)
        for view, clip in zip(wanted, read, strict=True):
            assert_equal(clip.frames, view.frames, decoded.frames)
            assert (clip.sound, clip.missing_samples) == (None, 0)


@pytest.mark.parametrize("share", [0.35, 0.7, 1.0])
def test_one_late_frame(decoded: Decoded, share: float) -> None:
    number = np.array([round(share * (decoded.info.num_frames - 1))])
    (clip,) = read_views(decoded.path, decoded.info, [View(number)])
    assert_equal(clip.frames, number, decoded.frames)


def test_boxes_and_sizes(decoded: Decoded) -> None:
    height, width = decoded.info.height, decoded.info.width
    numbers = np.array([decoded.info.num_frames - 1, 0, 3, 3])
    box = (height // 3, width // 5, 101, 87)
    views = [
        View(numbers, box=box),
        View(numbers, box=box, size=(56, 64), resample="area"),
        View(numbers, size=(120, 40), resample="bicubic"),
        View(numbers[1:], box=box, size=(56, 64)),
        View(numbers, box=box, size=(101, 87)),
    ]
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for view, clip in zip(views, read_views(decoded.path, decoded.info, views), strict=True):
        y, x, h, w = view.box or (0, 0, height, width)
        expected = {}
        for number in set(numbers.tolist()):
            cut = Image.fromarray(decoded.frames[number].copy()).crop((x, y, x + w, y + h))
            if view.size:
                resample = filters.get(view.resample, Image.Resampling.BOX)
                cut = cut.resize(view.size[::-1], resample)
            expected[number] = np.asarray(cut)
        assert_equal(clip.frames, view.frames, expected)


def test_an_area_of_whole_pixels_is_their_mean(clips: Path) -> None:
    path = clips / "odd_321x241_vp9.mp4"
    view = View(np.array([7]), box=(10, 20, 100, 120), size=(50, 60), resample="area")
    (clip,) = read_views(path, probe(path), [view])
    frame = sequential(path)[7][10:110, 20:140].reshape(50, 2, 60, 2, 3)
    # Pillow rounds once along each axis.
    assert np.abs(clip.frames[0] - frame.mean((1, 3))).max() <= 1


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    opened: list[str] = []
    real = av.open

    def counting(file: str, **options: object) -> object:
        opened.append(file)
        return real(file, **options)

    monkeypatch.setattr(containers.av, "open", counting)
    yield opened


def test_one_open_and_each_wanted_frame_converted_once(
    decoded: Decoded, opens: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[int] = []
    put = video._Pictures.put

    def counting(self: video._Pictures, number: int, frame: av.VideoFrame) -> None:
        converted.append(number)
        put(self, number, frame)

    monkeypatch.setattr(video._Pictures, "put", counting)
    views = [View(np.array([9, 4, 4])), View(np.array([5, 9])), View(np.array([11]))]
    read_views(decoded.path, decoded.info, views)
    assert opens == [str(decoded.path)]
    assert converted == [4, 5, 9, 11]


def test_pictures_and_sound_of_one_open(clips: Path, opens: list[str]) -> None:
    path = clips / "k400_R6llTwEh07w.mp4"
    info, expected = probe(path), sequential(path)
    opens.clear()
    numbers = np.array([260, 20])
    span = SoundSpan(0.5, 2400, 24000)
    views = [View(numbers, sound=span), View(None, sound=span), View(numbers)]
    both, sound, frames = read_views(path, info, views)
    assert opens == [str(path)]
    assert_equal(both.frames, numbers, expected)
    assert_equal(frames.frames, numbers, expected)
    assert sound.frames is None
    assert np.array_equal(sound.sound, both.sound)
    assert sound.sound.any()


def test_frames_are_counted_from_the_beginning_after_sound(clips: Path) -> None:
    path = clips / "ucf101_with_audio_mpeg4_mp3.avi"
    numbers = np.array([100, 3])
    view = View(numbers, sound=SoundSpan(5.0, 4410, 44100))
    (clip,) = read_views(path, probe(path), [view])
    assert_equal(clip.frames, numbers, sequential(path))
    assert clip.missing_samples == 0


@pytest.mark.parametrize(
    ("view", "error", "message"),
    [
        (View(np.array([0, 25])), DecodeError, "frame 25 is wanted, but the video ends after 25"),
        (View(np.array([3, -1])), ValueError, "frame -1 is wanted"),
        (View(np.array([0.0])), ValueError, r"frames are float64 \(1,\), expected whole numbers"),
        (View(np.array([[0]])), ValueError, r"int64 \(1, 1\)"),
        (View(np.array([], np.int64)), ValueError, r"int64 \(0,\)"),
        (View(None), ValueError, "neither frames nor sound"),
        (View(np.array([0]), box=(0, 0, 242, 10)), ValueError, "frame of 241 x 321 pixels"),
        (View(np.array([0]), box=(0, 312, 10, 10)), ValueError, r"box \(0, 312, 10, 10\)"),
        (View(np.array([0]), box=(-1, 0, 10, 10)), ValueError, "box"),
        (View(np.array([0]), box=(0, 0, 0, 10)), ValueError, "box"),
        (View(np.array([0]), size=(0, 8)), ValueError, r"size \(0, 8\)"),
        (View(np.array([0]), resample="lanczos"), ValueError, "'lanczos' is unknown, expected one"),
        (View(None, sound=SoundSpan(0.0, 0, 24000)), ValueError, "1 sample or more"),
    ],
)
def test_views_that_the_video_cannot_fulfil(
    clips: Path, view: View, error: type[Exception], message: str
) -> None:
    path = clips / "odd_321x241_vp9.mp4"
    with pytest.raises(error, match=message) as raised:
        read_views(path, probe(path), [View(np.array([0])), view])
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["zero_bytes.mp4", "random_bytes.mp4", "truncated_half.mp4"])
def test_files_that_do_not_open(clips: Path, name: str) -> None:
    with pytest.raises(DecodeError, match=f"cannot open .*{name}"):
        probe(clips / "broken" / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"cannot open .*none\.mp4: No such file"):
        probe(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("name", "whole", "frames", "header"),
    [
        ("truncated_half.avi", "ucf101_v_SoccerJuggling_g23_c01.avi", 120, 240),
        ("corrupt_middle.mp4", "k400_R6llTwEh07w.mp4", 154, 303),
    ],
)
def test_damage_ends_the_video(
    clips: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    whole: str,
    frames: int,
    header: int,
) -> None:
    path, intact = clips / "broken" / name, probe(clips / whole)
    info = probe(path)
    assert (info.num_frames, info.header_frames) == (frames, header)
    assert f"ends after {frames} frames; the header says {header}" in caplog.text
    numbers = np.array([frames - 1, 0, frames // 2])
    (clip,) = read_views(path, info, [View(numbers)])
    assert_equal(clip.frames, numbers, sequential(clips / whole))
    for beyond in (frames, frames + 46, header - 1):  # the last lies behind an intact key frame
        with pytest.raises(DecodeError, match=f"{name}: frame {beyond} is wanted, but the video"):
            read_views(path, info, [View(np.array([beyond]))])
    with pytest.raises(DecodeError, match=f"{name}: decoding stops"):
        read_views(path, intact, [View(np.array([0, frames]))])


def test_a_file_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DecodeError, match="found no video stream"):
        probe(path)


def write_video(
    path: Path,
    codec: str,
    times: list[int],
    *,
    count: int = 60,
    b_frames: int = 0,
    rate: int = 25,
    **options: str,
) -> None:
    """Noise that moves, frame k at times[k] / 1000 s if they are uneven."""
    base = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    base = base.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=rate, options=options)
        pictures.height, pictures.width = base.shape[:2]
        pictures.pix_fmt = "yuv420p"
        pictures.gop_size, pictures.max_b_frames = 12, b_frames
        if times:
            pictures.codec_context.time_base = Fraction(1, 1000)
        for k in range(len(times) or count):
            frame = av.VideoFrame.from_ndarray(np.roll(base, 3 * k, axis=1), "rgb24")
            frame.pts = times[k] if times else k
            frame.time_base = Fraction(1, 1000 if times else rate)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "timed"),
    [
        ("a.ts", "libx264", 2, True),  # a seek lands behind the wanted key frame
        ("b.avi", "libx264", 2, False),
        ("c.mkv", "mpeg4", 2, True),
        ("d.mpg", "mpeg1video", 2, True),
        ("e.webm", "libvpx", 0, True),
        ("f.flv", "flv", 0, True),
        ("g.wmv", "wmv2", 0, True),
        ("h.wmv", "libx264", 2, False),
    ],
)
def test_other_containers(
    tmp_path: Path, name: str, codec: str, b_frames: int, timed: bool
) -> None:
    path = tmp_path / name
    write_video(path, codec, [], b_frames=b_frames)
    info, expected = probe(path), sequential(path)
    assert (info.num_frames, info.pts is not None) == (60, timed)
    assert info.rate == 25
    for numbers in (np.array([2]), np.array([30, 7]), np.array([59]), np.array([12, 0, 37])):
        (clip,) = read_views(path, info, [View(numbers)])
        assert_equal(clip.frames, numbers, expected)


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "most"),
    [
        ("a.mp4", "libx264", 2, 10),
        ("b.mp4", "mpeg4", 2, 10),
        ("c.avi", "mpeg4", 0, 10),
        ("d.flv", "flv", 0, 10),
        # Here key frames are known after a seek only, or never, or times are not usable.
        ("e.mkv", "libx264", 2, 310),
        ("f.webm", "libvpx", 0, 310),
        ("g.wmv", "wmv2", 0, 310),
        ("h.ts", "libx264", 2, 310),
        ("i.mpg", "mpeg1video", 2, 310),
        # A seek lands on a predicted picture, and the decoder makes up what it is predicted from.
        ("k.ts", "mpeg4", 2, 900),
        ("l.mpg", "mpeg4", 2, 900),
        ("j.avi", "mpeg4", 2, 310),
    ],
)
def test_long_gaps_need_not_be_decoded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    b_frames: int,
    most: int,
) -> None:
    path = tmp_path / name
    write_video(path, codec, [], count=300, b_frames=b_frames)
    info, expected = probe(path), sequential(path)
    decoded: list[object] = []
    real = video.decode

    def counting(*arguments: object) -> Iterator[object]:
        for frame in real(*arguments):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(video, "decode", counting)
    for numbers in ([277, 3, 101, 100], [14, 62, 111, 160, 209, 258], [299, 95], [0, 100, 277]):
        decoded.clear()
        (clip,) = read_views(path, info, [View(np.array(numbers))])
        assert_equal(clip.frames, np.array(numbers), expected)
    assert len(decoded) <= most


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [0, 33, 133, 166, 266, 299]
    write_video(tmp_path / "a.mp4", "libx264", times)
    info = probe(tmp_path / "a.mp4")
    assert [round(float(t * info.time_base) * 1000) for t in info.pts] == times


def test_frames_that_an_edit_list_cuts_away_do_not_count(clips: Path, tmp_path: Path) -> None:
    whole, path = clips / "k400_SOX5yA1l24A.mp4", tmp_path / "cut.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 40 * 1001, packet.dts - 40 * 1001
                packet.stream = stream
                target.mux(packet)
    info = probe(path)
    assert (info.num_frames, info.header_frames, info.pts[0]) == (292, 332, 0)
    expected = sequential(whole)[40:]
    for numbers in (np.array([0]), np.array([5]), np.array([97, 98, 99]), np.array([291, 200])):
        (clip,) = read_views(path, info, [View(numbers)])
        assert_equal(clip.frames, numbers, expected)


def test_facts_of_another_file_are_noticed(clips: Path) -> None:
    path = clips / "odd_321x241_vp9.mp4"
    info = probe(path)
    with pytest.raises(DecodeError, match="frame 3 is 241 x 321 pixels, expected 241 x 300"):
        read_views(path, replace(info, width=300), [View(np.array([3]))])
    with pytest.raises(DecodeError, match="the time 0, which its probe did not find"):
        read_views(path, replace(info, pts=info.pts + 7), [View(np.array([0]))])
    with pytest.raises(DecodeError, match="frame 25 is wanted, but the video ends before it"):
        read_views(path, replace(info, num_frames=30, pts=None), [View(np.array([2, 25]))])


def test_a_name_with_a_colon_is_a_file(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a:b [1]#;~&().mp4"
    (tmp_path / name).write_bytes((clips / "rotated90_nasa.mp4").read_bytes())
    assert probe(Path(name)).num_frames == 17


def test_six_hundred_opens_leak_nothing(clips: Path) -> None:
    process, path = psutil.Process(os.getpid()), clips / "rotated90_nasa.mp4"
    info, broken = probe(path), clips / "broken" / "random_bytes.mp4"
    with_sound = clips / "ucf101_with_audio_mpeg4_mp3.avi"
    sound_info, span = probe(with_sound), View(None, sound=SoundSpan(0.0, 100, 44100))

    def use(number: int) -> None:
        if number % 4 == 0:
            with pytest.raises(DecodeError):
                probe(broken)
        elif number % 4 == 1:
            read_views(with_sound, sound_info, [span])
        else:
            read_views(path, info, [View(np.array([0]), size=(8, 8))])

    for number in range(100):
        use(number)
    memory, files = process.memory_info().rss, process.num_fds()
    for number in range(600):
        use(number)
    assert process.num_fds() == files
    assert process.memory_info().rss - memory < 20 * 2**20


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"],
)
def test_a_list_of_other_files_is_no_video(clips: Path, tmp_path: Path, text: str) -> None:
    """A text that FFmpeg would follow: what it names could be any file of this machine."""
    shutil.copy(clips / "rotated90_nasa.mp4", tmp_path / "other.mp4")
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(DecodeError, match=r"cannot open .*list\.mp4"):
        probe(tmp_path / "list.mp4")
