"""The embedded data set: what its files hold, and that its scenes know no class."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.testing import synthetic
from ssvideo_core.testing.mp4 import write_mp4
from ssvideo_core.testing.synthetic import main, render_video, write_dataset
from ssvideo_core.testing.synthetic_scenes import (
    CLASSES,
    SHAPES,
    SOUND_RATE_HZ,
    draw_scene,
    render_frames,
)

SMALL = {"num_train": 32, "num_test": 16, "seed": 3, "size": 32, "num_frames": 6, "rate": 12}
NAME = re.compile(r"(?P<group>tape\d{4})_(?P<label>[a-z]+)_f_nm_np1_fr_goo_(?P<take>[01])\.mp4")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("synthetic") / "data", **SMALL)


def videos(root: Path) -> list[Path]:
    return sorted((root / "videos").glob("*/*.mp4"))


def tags(root: Path, split: int) -> dict[str, str]:
    """Video id to tag, from lines of HMDB51's form: name, space, tag, space."""
    found = {}
    for name in CLASSES:
        text = (root / "splits" / f"{name}_test_split{split}.txt").read_text()
        for line in text.splitlines():
            file, tag, rest = line.split(" ")
            assert rest == ""
            found[f"{name}/{file}"] = tag
    return found


def contents(root: Path) -> Mapping[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def decode(path: Path) -> tuple[NDArray[np.uint8], list[Fraction], NDArray[np.float32], float]:
    """Frames, their times, samples, and the time of the first sample."""
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    with av.open(str(path)) as container:
        blocks = list(container.decode(audio=0))
    times = [p.pts * p.time_base for p in pictures]
    frames = np.stack([p.to_ndarray(format="rgb24") for p in pictures])
    return frames, times, np.concatenate([b.to_ndarray()[0] for b in blocks]), blocks[0].time


def test_tree_names_and_list(small: Path) -> None:
    assert sorted(p.name for p in small.iterdir()) == ["data.json", "splits", "videos"]
    assert sorted(p.name for p in (small / "videos").iterdir()) == sorted(
        [*CLASSES, "videos.csv", "train1.csv", "train2.csv", "train3.csv"]
    )
    with (small / "videos" / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(r["video"] for r in rows) == [
        p.relative_to(small / "videos").as_posix() for p in videos(small)
    ]
    for row in rows:
        folder, _, file_name = row["video"].partition("/")
        match = NAME.fullmatch(file_name)
        assert match and match["label"] == folder == row["label"] and match["group"] == row["group"]
    assert set(Counter(r["label"] for r in rows).values()) == {6}
    assert set(Counter(r["group"] for r in rows).values()) == {2}


def test_description(small: Path) -> None:
    found = json.loads((small / "data.json").read_text())
    assert found == {
        "format": "ssvideo-synthetic/2",
        "parameters": SMALL,
        "classes": list(CLASSES),
    }


@pytest.mark.parametrize("split", [1, 2, 3])
def test_splits(small: Path, split: int) -> None:
    found = tags(small, split)
    assert sorted(found) == [p.relative_to(small / "videos").as_posix() for p in videos(small)]
    counts = Counter((video.partition("/")[0], tag) for video, tag in found.items())
    assert counts == {(name, tag): n for name in CLASSES for tag, n in (("1", 4), ("2", 2))}
    sides: dict[str, set[str]] = {}
    for video, tag in found.items():
        sides.setdefault(video.partition("/")[2].partition("_")[0], set()).add(tag)
    assert all(len(side) == 1 for side in sides.values())
    with (small / "videos" / f"train{split}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} == {video for video, tag in found.items() if tag == "1"}
    assert all(row["label"] == row["video"].partition("/")[0] for row in rows)


def test_splits_are_drawn_again(small: Path) -> None:
    drawn = [tags(small, split) for split in (1, 2, 3)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_each_file_decodes_to_what_was_asked_for(small: Path) -> None:
    for path in videos(small):
        frames, times, sound, start = decode(path)
        assert frames.shape == (6, 32, 32, 3)
        assert times == [Fraction(i, 12) for i in range(6)]
        assert start == 0
        assert len(sound) >= 6 / 12 * SOUND_RATE_HZ
    with av.open(str(path)) as container:
        picture, voice = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt) == ("h264", "yuv420p")
        assert (picture.frames, picture.average_rate) == (6, 12)
        assert (voice.codec_context.name, voice.rate, voice.channels) == ("aac", SOUND_RATE_HZ, 1)


def test_compression_keeps_pixels_and_sound(tmp_path: Path) -> None:
    frames, sound = render_video(2, 5)
    assert frames.shape == (32, 64, 64, 3) and frames.dtype == np.uint8
    assert sound.shape == (48000,) and sound.dtype == np.float32
    write_mp4(tmp_path / "a.mp4", frames, sound, rate=16)
    decoded, times, heard, start = decode(tmp_path / "a.mp4")
    assert times == [Fraction(i, 16) for i in range(32)]
    difference = np.abs(decoded.astype(float) - frames)
    assert difference.mean() < 6  # pixel noise alone has a mean of 3.2
    assert start == 0 and len(heard) >= 48000
    heard, written = heard[:48000], sound[:48000]
    assert np.square(heard - written).mean() < 0.02 * np.square(written).mean()


def test_sound_is_not_delayed(tmp_path: Path) -> None:
    frames, sound = render_video(0, 0)
    burst = np.zeros_like(sound)
    burst[12000:18000] = np.random.default_rng(0).normal(0, 0.2, 6000)
    write_mp4(tmp_path / "a.mp4", frames, burst, rate=16)
    heard = decode(tmp_path / "a.mp4")[2]
    shifts = range(-2000, 2001)
    likeness = [heard[12000 + s : 18000 + s] @ burst[12000:18000] for s in shifts]
    assert shifts[int(np.argmax(likeness))] == 0


def test_key_frame_every_second(tmp_path: Path) -> None:
    frames, sound = render_video(0, 0, size=32, num_frames=20, rate=8)
    write_mp4(tmp_path / "a.mp4", frames, sound, rate=8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [p.pts * p.time_base for p in container.demux(video=0) if p.size and p.is_keyframe]
    assert keys == [0, 1, 2]


def test_same_bytes_for_any_number_of_workers(small: Path, tmp_path: Path) -> None:
    assert contents(write_dataset(tmp_path / "again", **SMALL, workers=3)) == contents(small)


def test_seed_changes_every_video(small: Path, tmp_path: Path) -> None:
    other = contents(write_dataset(tmp_path / "other", **{**SMALL, "seed": 4}))
    for name, data in contents(small).items():
        assert name.endswith(".csv") or "splits" in name or other[name] != data


def test_small_data_set_is_the_start_of_a_larger_one(small: Path, tmp_path: Path) -> None:
    larger = write_dataset(tmp_path / "larger", **{**SMALL, "num_test": 32})
    assert len(videos(larger)) == 64
    found, expected = contents(larger), contents(small)
    for path in videos(small):
        name = path.relative_to(small).as_posix()
        assert found[name] == expected[name]


def test_scene_knows_no_class() -> None:
    """Without shapes all classes of a seed are the same pictures, with the same pixel noise."""
    bare = replace(draw_scene(11), radius=0.0)
    frames = [render_frames(c, bare) for c in range(8)]
    assert all(np.array_equal(f, frames[0]) for f in frames)
    assert not np.array_equal(frames[0], render_frames(0, replace(draw_scene(12), radius=0.0)))


def test_each_class_has_its_own_pictures_and_sound() -> None:
    made = [render_video(c, 11) for c in range(8)]
    for i in range(8):
        for j in range(i):
            assert (made[i][0] != made[j][0]).mean() > 0.02
            assert not np.array_equal(made[i][1], made[j][1])


def test_source_seed_shares_the_background_alone() -> None:
    a, b = draw_scene(1, source_seed=7), draw_scene(2, source_seed=7)
    shared = {f.name for f in fields(a) if np.array_equal(getattr(a, f.name), getattr(b, f.name))}
    assert shared - {"direction"} == {"background"}


def test_scenes_keep_their_ranges() -> None:
    scenes = [draw_scene(seed) for seed in range(300)]
    for name, low, high in (
        ("background", 20, 110),
        ("colour", 150, 255),
        ("radius", 0.12, 0.16),
        ("orientation", -0.3, 0.3),
        ("rate_hz", 0.8, 1.3),
        ("phase", 0, 2 * np.pi),
        ("pitch_shift", -0.12, 0.12),
        ("level", 0.1, 0.3),
        ("hiss", 10**-2.5, 10**-1.5),
    ):
        values = np.array([getattr(s, name) for s in scenes])
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert {s.direction for s in scenes} == {-1, 1}


def test_all_classes_cover_the_same_area_over_a_period() -> None:
    """So the share of bright pixels tells nothing; within 4 %, of edges and overlaps."""
    scene = replace(
        draw_scene(0),
        background=np.zeros(3),
        colour=np.full(3, 250.0),
        texture=np.zeros((8, 8, 3)),
        rate_hz=1.0,
        radius=0.14,
        phase=0.1,
    )
    expected = 4 * np.pi * 0.14**2
    for index, name in enumerate(CLASSES):
        frames = render_frames(index, scene, size=64, num_frames=96, rate=96)
        assert (frames > 125).mean() == pytest.approx(expected, rel=0.04), name


def test_shape_areas_are_those_of_their_outlines() -> None:
    angle = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    for shape in SHAPES.values():
        outer = np.mean((1 + shape.depth * np.cos(shape.lobes * angle)) ** 2) * np.pi
        assert shape.area == pytest.approx(outer - np.pi * shape.hole**2, rel=1e-9)


def test_motion_is_where_it_should_be() -> None:
    """The centre of brightness moves along x, along y, along both, or not at all."""
    expected = {"horizontal": (0, 1), "vertical": (1, 0), "orbit": (1, 1), "still": (0, 0)}
    scene = replace(
        draw_scene(0),
        texture=np.zeros((8, 8, 3)),
        places=np.array([[0.5, 0.5]]),
        rate_hz=1.0,
        phase=0.0,
    )
    for name, moves in expected.items():
        frames = render_frames(CLASSES.index(name), scene, num_frames=16).mean(axis=-1)
        bright = frames > frames.mean(axis=(1, 2), keepdims=True) + 20
        centres = np.array([np.argwhere(b).mean(axis=0) for b in bright]) / 64
        swing = np.ptp(centres, axis=0)
        assert swing == pytest.approx(0.2 * np.array(moves), abs=0.02), name


def test_pitch_is_that_of_the_class() -> None:
    for index in range(8):
        scene = draw_scene(index)
        sound = render_video(index, index)[1]
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        pitch = 220 * 2 ** (0.55 * index + scene.pitch_shift)
        loudest = np.fft.rfftfreq(len(sound), 1 / SOUND_RATE_HZ)[spectrum.argmax()]
        assert loudest == pytest.approx(pitch, rel=0.09)  # 8 % vibrato
        assert np.abs(sound).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 24}, "num_train = 24: expected at least 16, a multiple of 16"),
        ({"num_test": 0}, "num_test = 0: expected at least 16, a multiple of 16"),
        ({"size": 33}, "size = 33: expected at least 32, a multiple of 2"),
        ({"num_frames": 1}, "num_frames = 1: expected at least 2"),
        ({"rate": 0}, "rate = 0: expected at least 1"),
        ({"seed": -1}, "seed = -1: expected at least 0"),
        ({"workers": -1}, "workers = -1: expected 0 or more threads"),
    ],
)
def test_parameters_out_of_range(change: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        write_dataset(tmp_path / "data", **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []


def test_class_out_of_range() -> None:
    with pytest.raises(ConfigError, match="class 8 of the embedded data set: expected 0 to 7"):
        render_video(8, 0)


def test_a_complete_folder_is_used_as_it_is(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert write_dataset(small, **SMALL) == small
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_other_parameters_are_refused(small: Path) -> None:
    with pytest.raises(DataError, match=r'was written with .*"seed": 3.*; expected .*"seed": 9'):
        write_dataset(small, **{**SMALL, "seed": 9})


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=r"no complete embedded data set: .*data\.json cannot be"):
        write_dataset(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_lost_video_is_named(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "data", **SMALL)
    lost = videos(out)[5]
    lost.unlink()
    with pytest.raises(DataError, match=f"lacks {lost.relative_to(out)}, which was written"):
        write_dataset(out, **SMALL)


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("."), **{**SMALL, "num_train": 16})
    assert len(videos(tmp_path)) == 32


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def fail_at_the_tenth(path: Path, *args: object, **options: object) -> None:
        written.append(path)
        if len(written) == 10:
            raise OSError("no space left")
        path.write_bytes(b"")

    monkeypatch.setattr(synthetic, "write_mp4", fail_at_the_tenth)
    with pytest.raises(OSError, match="no space left"):
        write_dataset(tmp_path / "data", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_process_leaves_no_data_set(small: Path, tmp_path: Path) -> None:
    """Killed after all videos, before the description: the next call writes the whole set."""
    script = (
        "import os, pathlib, signal, sys\n"
        "from ssvideo_core.testing import synthetic\n"
        "synthetic.write_mp4 = lambda path, *a, **k: path.write_bytes(b'')\n"
        "synthetic._description = lambda p: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"synthetic.write_dataset(pathlib.Path(sys.argv[1]), **{SMALL})\n"
    )
    out = tmp_path / "data"
    done = subprocess.run([sys.executable, "-c", script, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert contents(write_dataset(out, **SMALL)) == contents(small)


def test_command_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"train": 32, "test": 16, "seed": 3, "size": 32, "frames": 6, "rate": 12}
    flags = [f"--{name}={value}" for name, value in asked.items()]
    out = tmp_path / "data"
    assert main(["--out", str(out), *flags]) == 0
    assert capsys.readouterr().out == f"{out}: 32 training and 16 test videos, 3 splits\n"
    assert contents(out) == contents(small)
    assert main(["--out", str(out), *flags, "--seed", "8"]) == 2
    assert capsys.readouterr().err.startswith(f"{out.resolve()} was written with ")


def test_help_loads_no_decoder() -> None:
    script = (
        "import sys\n"
        "from ssvideo_core.testing.synthetic import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'av', 'torch', 'PIL', 'sklearn', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "--train" in done.stdout and done.stdout.endswith("[]\n")
