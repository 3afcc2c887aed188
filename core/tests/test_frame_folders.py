from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from ssvideo_core.errors import ConfigError, DataError, DecodeError, NoSoundError
from ssvideo_core.formats import frame_folders
from ssvideo_core.formats.frame_folders import FrameFolders, frame_names, frames_depth, scan
from ssvideo_core.views import SoundSpan, VideoEntry, View

HEIGHT, WIDTH = 20, 28


def jpeg(number: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height)))
    encoded: bytes = simplejpeg.encode_jpeg(picture, colorsubsampling="420")
    return encoded


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def write(folder: Path, names: Sequence[str]) -> Path:
    """Frame i of the folder is jpeg(i)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(jpeg(number))
    return folder


def coclr(count: int, kind: str = "image_") -> list[str]:
    return [f"{kind}{number:05d}.jpg" for number in range(1, count + 1)]


def sce(count: int) -> list[str]:
    return [f"{number:08d}.jpg" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "names",
    [
        coclr(12),
        coclr(12, "flow_"),
        sce(12),
        [f"{number}.jpg" for number in range(12)],
        [f"img{number}.JPEG" for number in range(1, 13)],
        [f"v2_{number:03d}.jpg" for number in range(1, 13)],
    ],
    ids=["coclr", "flow", "sce", "no padding, from 0", "jpeg", "number before the number"],
)
def test_pixels_are_pillows_in_the_order_of_the_numbers(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path / "class" / "video", names)
    source = FrameFolders(tmp_path)
    info = source.info(0)
    assert (info.num_frames, info.height, info.width) == (12, HEIGHT, WIDTH)
    assert (info.pts, info.rate, info.time_base) == (None, 25, Fraction(1, 25))
    assert (info.header_frames, info.duration, info.sound_rate_hz) == (None, None, None)
    wanted = np.array([11, 0, 10, 1, 1])
    (clip,) = source.read(0, [View(wanted)])
    assert clip.frames is not None
    for frame, number in zip(clip.frames, wanted.tolist(), strict=True):
        assert np.array_equal(frame, pillow(jpeg(number)))


def test_boxes_and_sizes_are_those_of_pillow(tmp_path: Path) -> None:
    write(tmp_path / "class" / "video", coclr(3))
    box, size = (2, 4, 10, 12), (5, 7)
    views = [
        View(np.array([0, 2]), box=box, size=size, resample="bicubic"),
        View(np.array([2]), box=box),
        View(np.array([2]), size=size),
    ]
    cut, boxed, small = FrameFolders(tmp_path).read(0, views)
    assert cut.frames is not None and boxed.frames is not None and small.frames is not None
    for frame, number in zip(cut.frames, (0, 2), strict=True):
        part = Image.fromarray(pillow(jpeg(number))[2:12, 4:16])
        assert np.array_equal(frame, np.asarray(part.resize((7, 5), Image.Resampling.BICUBIC)))
    whole = pillow(jpeg(2))
    assert np.array_equal(boxed.frames[0], whole[2:12, 4:16])
    shrunk = Image.fromarray(whole).resize((7, 5), Image.Resampling.BILINEAR)
    assert np.array_equal(small.frames[0], np.asarray(shrunk))


def test_only_wanted_frames_are_opened_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "class" / "video", coclr(9))
    source, opened = FrameFolders(tmp_path), []
    read = frame_folders._jpeg

    def spy(path: Path) -> frame_folders.Jpeg:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(frame_folders, "_jpeg", spy)
    source.info(0)
    assert opened == ["image_00001.jpg"]
    opened.clear()
    source.read(0, [View(np.array([7, 3])), View(np.array([3]), size=(4, 4))])
    assert opened == ["image_00004.jpg", "image_00008.jpg"]


def test_classes_and_splits(tmp_path: Path) -> None:
    for name in ("b/x", "a/v [1]", "a/v.2"):
        write(tmp_path / "classes" / name, sce(2))
        write(tmp_path / "splits" / "train" / name, sce(2))
    write(tmp_path / "splits" / "val" / "a" / "y", sce(2))
    (tmp_path / "classes" / "flow.json").write_text("{}")
    (tmp_path / "classes" / "a" / ".draft.tmp").mkdir()
    assert scan(tmp_path / "classes") == [
        VideoEntry("a/v [1]", "a"),
        VideoEntry("a/v.2", "a"),
        VideoEntry("b/x", "b"),
    ]
    assert scan(tmp_path / "splits") == [
        VideoEntry("train/a/v [1]", "a", "train"),
        VideoEntry("train/a/v.2", "a", "train"),
        VideoEntry("train/b/x", "b", "train"),
        VideoEntry("val/a/y", "a", "val"),
    ]
    assert scan(tmp_path / "classes" / "a") == [VideoEntry("v [1]"), VideoEntry("v.2")]
    assert FrameFolders(tmp_path / "classes").info(0).num_frames == 2


def test_ids_of_official_lists(tmp_path: Path) -> None:
    write(tmp_path / "class" / "video", coclr(2))
    source = FrameFolders(tmp_path, ending=".avi")
    assert source.entry(0) == VideoEntry("class/video.avi", "class")
    assert source.path(0) == tmp_path / "class" / "video"
    assert source.info(0).video_id == "class/video.avi"
    listed = FrameFolders(tmp_path, [VideoEntry("class/video", "own", "test")])
    assert listed.entry(0).split == "test" and listed.info(0).num_frames == 2


def test_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "video", coclr(2))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "class").symlink_to(tmp_path / "elsewhere")
    assert scan(tmp_path / "root") == [VideoEntry("class/video", "class")]
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    assert frames_depth(tmp_path / "loop") is None


def test_a_folder_without_frames_is_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "class" / "a").mkdir(parents=True)
    write(tmp_path / "class" / "b", coclr(2))
    source = FrameFolders(tmp_path)
    assert len(source) == 2
    with pytest.raises(DecodeError, match=r"class/a has no frames; expected image_00001\.jpg"):
        source.info(0)
    assert source.info(1).num_frames == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image_00001.jpg", "image_00004.jpg"], "2 frames are missing before frame 4: 2, 3;"),
        (["00000003.jpg"], "2 frames are missing before frame 3: 1, 2;"),
        (["0.jpg", "20231224.jpg"], "20231223 frames .* 20231224: 1, 2, 3, 4, 5, …;"),
        (["1.jpg", "2.jpg", "001.jpg"], "1.jpg is a frame as 001.jpg is; expected each number"),
        (["1.jpg", "1.jpeg"], "1.jpg is a frame as 1.jpeg is; expected each number"),
        (["cover.jpg"], "cover.jpg is a frame but has no number"),
        (["image_1.jpg", "flow_1.jpg"], "begin with 'flow_' and 'image_'; name one as prefix"),
    ],
)
def test_numbers_that_are_missing_or_double(tmp_path: Path, names: list[str], message: str) -> None:
    folder = write(tmp_path / "video", names)
    with pytest.raises(DecodeError, match=message) as error:
        frame_names(folder)
    assert str(folder) in str(error.value)


def test_one_kind_of_frames_among_several(tmp_path: Path) -> None:
    write(tmp_path / "class" / "video", coclr(4, "flow_x_"))
    write(tmp_path / "class" / "video", [*coclr(5), "._image_00001.jpg", "n_frames", "cover.jpg"])
    assert FrameFolders(tmp_path, prefix="image_").info(0).num_frames == 5
    assert FrameFolders(tmp_path, prefix="flow_x_").info(0).num_frames == 4
    with pytest.raises(DecodeError, match=r"has no frames; expected flow_y_00001\.jpg"):
        FrameFolders(tmp_path, prefix="flow_y_").info(0)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "has frames 0 folders deep"),
        ("train/class/more/video", "has frames 4 folders deep"),
        ("own/class/video", "in 'own', expected train or val or validation or test there"),
        (None, "has no JPEG files below it; give the folder above root/video, root/class/video"),
    ],
)
def test_frames_at_another_depth(tmp_path: Path, folder: str | None, message: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    if folder is not None:
        write(tmp_path / folder, coclr(2))
    with pytest.raises(DataError, match=message):
        FrameFolders(tmp_path)


def test_damaged_frames(tmp_path: Path) -> None:
    folder = write(tmp_path / "class" / "video", coclr(5))
    (folder / "image_00002.jpg").write_bytes(jpeg(1, height=18))
    (folder / "image_00003.jpg").write_bytes(jpeg(2)[:-200])
    (folder / "image_00004.jpg").write_bytes(b"no picture")
    source = FrameFolders(tmp_path)
    assert source.info(0).num_frames == 5
    source.read(0, [View(np.array([0, 4]))])
    (folder / "image_00005.jpg").unlink()
    for number, message in (
        (1, "image_00002.jpg has 18 x 28 pixels, expected 20 x 28"),
        (2, "image_00003.jpg cannot be decoded"),
        (3, "image_00004.jpg is no JPEG"),
        (4, "image_00005.jpg cannot be read: No such file"),
        (5, "frame 5 is wanted, but the video ends after 5 frames"),
    ):
        with pytest.raises(DecodeError, match=message):
            source.read(0, [View(np.array([0, number]))])


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    folder = write(tmp_path / "class" / "video", ["1.jpg"])
    data = bytearray(jpeg(0))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">2H", 60000, 50000)
    (folder / "1.jpg").write_bytes(data)
    with pytest.raises(DecodeError, match=r"1\.jpg claims 60000 x 50000 pixels"):
        FrameFolders(tmp_path).info(0)


def test_grey_pictures_are_read_as_colours(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "video"
    folder.mkdir(parents=True)
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    Image.fromarray(grey).save(folder / "1.jpg", quality=100)
    (clip,) = FrameFolders(tmp_path).read(0, [View(np.array([0]))])
    assert clip.frames is not None
    assert np.array_equal(clip.frames[0], pillow((folder / "1.jpg").read_bytes()))


def test_views_that_cannot_be(tmp_path: Path) -> None:
    write(tmp_path / "class" / "video", coclr(2))
    source = FrameFolders(tmp_path)
    with pytest.raises(NoSoundError, match=r"class/video: no sound"):
        source.read(0, [View(None, sound=SoundSpan(0, 10, 100))])
    with pytest.raises(ValueError, match="does not lie in the frame of 20 x 28 pixels"):
        source.read(0, [View(np.array([0]), box=(0, 0, 21, 28))])
    with pytest.raises(ConfigError, match="0 frames per second"):
        FrameFolders(tmp_path, rate=Fraction(0))


def test_copies_read_the_same(tmp_path: Path) -> None:
    write(tmp_path / "class" / "video", coclr(3))
    source = FrameFolders(tmp_path, rate=Fraction(30))
    source.info(0)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.info(0) == source.info(0) and copy.info(0).rate == 30
    views = [View(np.array([2, 0]))]
    assert np.array_equal(copy.read(0, views)[0].frames, source.read(0, views)[0].frames)
