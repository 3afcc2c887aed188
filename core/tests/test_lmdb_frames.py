from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from ssvideo_core.batches import SampleLoader, Task
from ssvideo_core.errors import ConfigError, DataError, DecodeError, NoSoundError
from ssvideo_core.formats.lmdb_frames import (
    ListedVideo,
    LmdbFrames,
    read_class_list,
    read_frame_list,
)
from ssvideo_core.formats.lmdb_records import key_of
from ssvideo_core.formats.msgpack_arrays import pack_array, pack_integer
from ssvideo_core.loading import ordered_map
from ssvideo_core.views import ClipSpec, Pixels, SoundSpan, Steps, VideoEntry, View, plan

HEIGHT, WIDTH = 24, 40


def jpeg(seed: int, height: int = HEIGHT, width: int = WIDTH, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=80)
    return file.getvalue()


def by_pillow(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


@contextmanager
def changing(path: Path) -> Iterator[lmdb.Transaction]:
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        yield transaction


def write(path: Path, videos: Mapping[str, list[bytes]]) -> Path:
    """Ids in the order of the mapping."""
    keys = [key_of(number) for number in range(len(videos))]
    rows = dict(zip(keys, map(pack_array, videos.values()), strict=True)) | {
        b"__len__": pack_integer(len(videos)),
        b"__keys__": pack_array(keys),
        b"__vlen__": pack_array([len(frames) for frames in videos.values()]),
        b"__order__": pack_array(list(videos)),
    }
    with changing(path) as transaction:
        for key, value in rows.items():
            transaction.put(key, value)
    return path


VIDEOS = {
    "wave/[Truman]_wave_1": [jpeg(10 + n) for n in range(7)],
    "Biking/v_Biking_g01_c01": [jpeg(20 + n) for n in range(3)],
    "wave/b": [jpeg(30, 16, 16, "L")],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lmdb") / "frames.lmdb", VIDEOS)


def frames(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers)


def test_facts_need_no_decoding(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(simplejpeg, "decode_jpeg")
    source = LmdbFrames(path)
    assert len(source) == 3
    assert source.entry(0) == VideoEntry("wave/[Truman]_wave_1", "wave")
    facts = source.info(0)
    assert (facts.video_id, facts.num_frames, facts.header_frames) == (
        "wave/[Truman]_wave_1",
        7,
        7,
    )
    assert (facts.height, facts.width, facts.pts) == (HEIGHT, WIDTH, None)
    assert (facts.rate, facts.time_base) == (Fraction(25), Fraction(1, 25))
    assert (facts.sound_rate_hz, facts.duration, facts.damage) == (None, None, None)
    assert LmdbFrames(path, rate=Fraction(30)).info(2).rate == 30
    assert source.notices == []


def test_frames_are_pillows(path: Path) -> None:
    source = LmdbFrames(path)
    for index, contents in enumerate(VIDEOS.values()):
        (clip,) = source.read(index, [View(np.arange(len(contents)))])
        assert clip.sound is None
        assert clip.frames is not None
        assert np.array_equal(clip.frames, [by_pillow(content) for content in contents])


def test_views_are_cropped_and_resized(path: Path) -> None:
    views = [
        View(frames(6, 0, 0, 3), box=(2, 5, 20, 30), size=(12, 12), resample="bicubic"),
        View(frames(0, 6), box=(2, 5, 20, 30)),
        View(frames(3), size=(48, 80)),
    ]
    clips = LmdbFrames(path).read(0, views)
    stored = [by_pillow(content) for content in VIDEOS["wave/[Truman]_wave_1"]]
    crops = [Image.fromarray(frame[2:22, 5:35]) for frame in stored]
    small = [np.asarray(crops[n].resize((12, 12), Image.Resampling.BICUBIC)) for n in (6, 0, 0, 3)]
    assert np.array_equal(clips[0].frames, small)
    assert np.array_equal(clips[1].frames, [np.asarray(crops[n]) for n in (0, 6)])
    large = Image.fromarray(stored[3]).resize((80, 48), Image.Resampling.BILINEAR)
    assert np.array_equal(clips[2].frames, [np.asarray(large)])


def test_wanted_frames_are_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = simplejpeg.decode_jpeg

    def watch(content: memoryview) -> NDArray[np.uint8]:
        decoded.append(bytes(content))
        return decode(content)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watch)
    LmdbFrames(path).read(0, [View(frames(4, 1, 4)), View(frames(1, 2), size=(8, 8))])
    contents = VIDEOS["wave/[Truman]_wave_1"]
    assert decoded == [contents[1], contents[2], contents[4]]


def test_common_views_and_samples_are_read(path: Path) -> None:
    source = LmdbFrames(path)
    clip = ClipSpec("rgb", Steps(4), Pixels(24, 16, 8, "bicubic"), "pad_first")
    views = plan(source.info(0), clip, temporal=2, spatial=3)
    assert {clip.frames.shape for clip in source.read(0, views)} == {(4, 8, 8, 3)}
    loader = SampleLoader(source, lambda info, _: plan(info, clip, temporal=1), seed=0)
    sample = loader(Task(0, 1))
    assert sample.clips[0].frames.shape == (4, 8, 8, 3)


def test_workers_open_it_themselves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    worker_tasks = importlib.import_module("worker_tasks")
    source = LmdbFrames(path)
    tasks = [(index, [View(frames(0))]) for index in (0, 1, 2, 0)]
    expected = [source.read(*task) for task in tasks]
    found = ordered_map(partial(worker_tasks.read, source), tasks, workers=2)
    for (clip,), (other,) in zip(found, expected, strict=True):
        assert np.array_equal(clip.frames, other.frames)


def test_a_pickle_holds_lists_alone(path: Path) -> None:
    source = LmdbFrames(path)
    before = pickle.dumps(source)
    source.read(0, [View(frames(0))])
    assert pickle.dumps(source) == before
    assert pickle.loads(before).info(1).num_frames == 3


def test_other_frames_may_be_damaged(tmp_path: Path) -> None:
    good, name = [jpeg(n) for n in range(4)], "c/v"
    bad = [good[0], good[1][:-40], b"no jpeg", jpeg(9, 24, 41)]
    path = write(tmp_path / "bad.lmdb", {"c/first": good, name: bad})
    source = LmdbFrames(path)
    assert source.info(1).num_frames == 4
    assert np.array_equal(source.read(1, [View(frames(0))])[0].frames, by_pillow(good[0])[None])
    for frame, message in (
        (1, "frame 1 cannot be decoded: Premature end"),
        (2, "frame 2 is no JPEG"),
        (3, "frame 3 has 24 x 41 pixels, expected 24 x 40"),
    ):
        with pytest.raises(DecodeError, match=message) as error:
            source.read(1, [View(frames(0, frame))])
        assert f"{path}, key 000000001 (c/v)" in str(error.value)


def claiming(height: int, width: int) -> bytes:
    """A JPEG with another size in its header."""
    content = jpeg(0)
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pack_array([]), r"it has no frames. Converters that take brackets"),
        (pack_array([b"text"]), "frame 0 is no JPEG"),
        (pack_array([claiming(65000, 65000)]), "frame 0 claims 65000 x 65000 pixels"),
        (pack_array([1]), "item 0 is an integer, expected bytes"),
        (b"\xdd\xff\xff\xff\xff", "5 bytes claim to be an array of 4294967295 items"),
        (b"\x91\xc6\xff\xff\xff\xff\xff\xd8", "item 0 claims 4294967295 of the 2 bytes left"),
        (b"\x91\xc7\x04\x7f\x00\x00\x00\x00", "item 0 is of type 0xc7"),
        (b"\x81\xa1x\x07", "it is of type 0x81, expected an array"),
    ],
)
def test_hostile_videos_are_refused(tmp_path: Path, value: bytes, message: str) -> None:
    path = write(tmp_path / "bad.lmdb", {"c/v": [jpeg(0)]})
    with changing(path) as transaction:
        transaction.put(key_of(0), value)
    source = LmdbFrames(path)
    for call in (source.info, lambda index: source.read(index, [View(frames(0))])):
        with pytest.raises(DecodeError, match=message) as error:
            call(0)
        assert f"{path}, key 000000000 (c/v)" in str(error.value)


def test_a_video_without_its_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.lmdb", {"c/v": [jpeg(0)]})
    with changing(path) as transaction:
        transaction.delete(key_of(0))
    with pytest.raises(DecodeError, match=r"bad.lmdb, key 000000000: there is no such key"):
        LmdbFrames(path).info(0)


@pytest.mark.parametrize(
    ("view", "error", "message"),
    [
        (View(frames(7)), DecodeError, "frame 7 is wanted, but the video ends after 7"),
        (View(frames(-1)), ValueError, "frame -1"),
        (View(frames(0), box=(0, 0, 25, 40)), ValueError, "does not lie in the frame of 24 x 40"),
        (View(frames(0), size=(8, 8), resample="best"), ValueError, "resample 'best'"),
        (View(None), ValueError, "neither frames nor sound"),
        (View(frames(0), sound=SoundSpan(0, 8, 8)), NoSoundError, "no sound"),
        (View(None, sound=SoundSpan(0, 8, 8)), NoSoundError, "no sound"),
    ],
)
def test_views_that_cannot_be_are_refused(
    path: Path, view: View, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        LmdbFrames(path).read(0, [view])
    assert f"{path}/wave/[Truman]_wave_1" in str(raised.value)


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, Path]:
    texts = {
        "train": "/home/x/frames/wave/b/,1\n/home/x/frames/Biking/v_Biking_g01_c01/,2\n",
        "test": "/home/x/frames/wave/[Truman]_wave_1/,0\n",
    }
    for split, text in texts.items():
        (tmp_path / f"{split}_split01.csv").write_text(text)
    return {split: tmp_path / f"{split}_split01.csv" for split in texts}


def test_lists_choose_and_split(path: Path, lists: dict[str, Path]) -> None:
    source = LmdbFrames(path, lists=lists, ending=".avi")
    assert [source.entry(index) for index in range(len(source))] == [
        VideoEntry("wave/b.avi", "wave", "train"),
        VideoEntry("Biking/v_Biking_g01_c01.avi", "Biking", "train"),
        VideoEntry("wave/[Truman]_wave_1.avi", "wave", "test"),
    ]
    facts = source.info(1)
    assert (facts.video_id, facts.num_frames, facts.header_frames) == (
        "Biking/v_Biking_g01_c01.avi",
        3,
        2,
    )
    (clip,) = source.read(2, [View(frames(6))])
    assert np.array_equal(clip.frames[0], by_pillow(VIDEOS["wave/[Truman]_wave_1"][6]))
    assert "0 frames were counted of 1 of 3 videos, which are kept" in source.notices[0]


def test_uncounted_videos_can_be_left_out(path: Path, lists: dict[str, Path]) -> None:
    source = LmdbFrames(path, lists=lists, drop_uncounted=True)
    assert [source.entry(index).split for index in range(len(source))] == ["train", "train"]
    assert "which are left out; the first is wave/[Truman]_wave_1" in source.notices[0]


def test_videos_stored_without_frames_are_uncounted(tmp_path: Path) -> None:
    path = write(tmp_path / "some.lmdb", {"c/[v]": [], "c/w": [jpeg(0)]})
    assert "1 of 2 videos, which are kept" in LmdbFrames(path).notices[0]
    source = LmdbFrames(path, drop_uncounted=True)
    assert source.entry(0).video_id == "c/w"
    assert source.info(0).num_frames == 1


def test_lists_of_other_data_are_refused(path: Path, lists: dict[str, Path]) -> None:
    lists["test"].write_text("a/b/,3\nwave/b/,4\nwave/c/,5\n")
    with pytest.raises(DataError, match=r"test_split01.csv: 2 of 3 videos are not in .*is a/b"):
        LmdbFrames(path, lists=lists)
    lists["test"].write_text("wave/b/,4\n")
    with pytest.raises(DataError, match=r"test_split01.csv: wave/b is in another list too"):
        LmdbFrames(path, lists=lists)


def test_lists_of_both_forms_are_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "/proj/frames/clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0/,64\n"
        "air drumming/-3q2zp_000012_000022,250\r\n"
        '"/x/run/a, b [v](1)!;/",0\n'
        "\n"
        "/x/ball/Ärger/, 7\n"
    )
    assert read_frame_list(tmp_path / "list.csv") == [
        ListedVideo("clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0", 64),
        ListedVideo("air drumming/-3q2zp_000012_000022", 250),
        ListedVideo("run/a, b [v](1)!;", 0),
        ListedVideo("ball/Ärger", 7),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no videos"),
        ("a/b/,3\na/c/\n", "line 2: found 'a/c/'"),
        ("a/b/,3,4\n", "line 1: found 'a/b/,3,4'"),
        ("a/b/,-3\n", "line 1"),
        ("a/b/," + 9000 * "1" + "\n", "line 1"),
        ("video,frames\n", "line 1: found 'video,frames', expected '.../class/video/"),
        ("b/,3\n", "line 1"),
        ("/a//,3\n", "line 1"),
        ("x/a/b/,3\ny/a/b,3\n", "line 2: .* each video once"),
        ('"a/b/,3\n', "is no CSV"),
        ("a/\udcff/,3\n", "is no CSV in UTF-8"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=message) as error:
        read_frame_list(tmp_path / "list.csv")
    assert str(tmp_path / "list.csv") in str(error.value)


def test_class_lists_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "ClassInd.txt"
    for text in ("wave\nbrush hair\n", "0,wave\n1,brush hair\n", "0,x,wave\r\n1,y,brush hair"):
        path.write_text(text)
        assert read_class_list(path) == ["wave", "brush hair"]
    for text in ("", "a\n\nb\n", "a\nb\na\n", "0,a\n1,\n", "a\nb\udcff\n"):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(DataError, match=r"ClassInd.txt is no list of classes"):
            read_class_list(path)


def test_the_decoder_that_is_missing_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = LmdbFrames(path)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ConfigError, match="module simplejpeg"):
        source.info(0)


def test_a_rate_above_0_is_needed(path: Path) -> None:
    with pytest.raises(ConfigError, match="0 frames per second"):
        LmdbFrames(path, rate=Fraction(0))
