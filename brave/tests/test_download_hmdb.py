"""HMDB51 of a few small videos, packed and unpacked, as shards that the evaluation reads."""

from __future__ import annotations

import hashlib
import importlib
import logging
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from brave.download_hmdb import PROG, main
from brave.records import LabelledVideos
from ssvideo_core.datasets import check, official, prepare, splits
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.official import official_videos
from ssvideo_core.datasets.splits import Split
from ssvideo_core.formats import convert_tfrecord
from ssvideo_core.formats.sequence_examples import VideoRecord, parse_record
from ssvideo_core.formats.tfrecord import read_records
from ssvideo_core.testing.mp4 import write_mp4

VIDEOS_MD5 = "517d6f1f19f215c45cdd4d25356be1fb"
NAMES = [
    next(v for v in official_videos("hmdb51") if v.startswith(f"{name}/"))
    for name in ("wave", "climb", "run", "eat", "jump")
]
TRAIN, TEST = tuple(NAMES[:3]), tuple(NAMES[3:])


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HMDB51 has five videos, its splits are equal, and nothing outside is touched."""
    for module in (prepare, check, official):
        monkeypatch.setattr(module, "official_videos", lambda dataset: tuple(sorted(NAMES)))
    found = [Split("hmdb51", number, TRAIN, TEST) for number in "123"]
    monkeypatch.setattr(splits, "find_splits", lambda dataset: found)
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLASS/video, each 0.4 s at 10 frames a second, each of another brightness."""
    root = tmp_path_factory.mktemp("hmdb") / "videos"
    silence = np.zeros(9600, np.float32)
    for number, name in enumerate(NAMES):
        frames = np.full((4, 64, 96, 3), 40 * (number + 1), np.uint8)
        (root / name).parent.mkdir(parents=True)
        write_mp4(root / name, frames, silence, rate=10)
    return root


def zipped(videos: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in NAMES:
            archive.write(videos / name, f"hmdb51/{name}")
    return target


def words(tmp_path: Path, *more: str) -> list[str]:
    places = ["--output_dir", str(tmp_path / "out"), "--work_dir", str(tmp_path / "work")]
    return [*places, "--num_shards", "2", *more]


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("split_*/*/*")}


def records(path: Path) -> list[VideoRecord]:
    return [parse_record(data) for data in read_records(path)]


def test_an_archive_becomes_shards(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(videos, tmp_path / "in" / "copy.zip")
    assert main(words(tmp_path, "--videos_archive", str(archive), "--workers", "2")) == 0
    out = tmp_path / "out"
    assert capsys.readouterr().out == f"{out}: 15 records in 12 files\n"
    shards = [f"hmdb51-0000{index}-of-00002" for index in range(2)]
    assert sorted(contents(out)) == [
        f"split_{split}/{part}/{shard}"
        for split in "123"
        for part in ("test", "train")
        for shard in shards
    ]
    first, second = (records(out / "split_2/train" / shard) for shard in shards)
    assert [record.filename for record in (*first, *second)] == [TRAIN[0], TRAIN[2], TRAIN[1]]
    order = class_names("hmdb51", "alphabetical")
    for record in (*first, *second):
        assert record.waveform is None and record.flow == ()
        assert record.labels.tolist() == [order.index(record.filename.split("/")[0])]
        assert len(record.frames) == 10, "0.4 s at 25 frames a second"
        shape = simplejpeg.decode_jpeg_header(record.frames[0])[:2]
        assert shape == (256, 384)
    grey = 40 * (1 + NAMES.index(TRAIN[1]))
    frame = simplejpeg.decode_jpeg(second[0].frames[0]).astype(int)
    assert np.abs(frame - grey).mean() < 4
    of_test = LabelledVideos(f"{out}/split_1/test/*")
    labels = [of_test.facts(index).label for index in range(len(of_test))]
    assert labels == [order.index(name.split("/")[0]) for name in TEST]


def test_the_same_command_goes_on_after_an_interruption(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wanted = words(tmp_path, "--videos_dir", str(videos))
    assert main(wanted) == 0
    straight = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    write, written = convert_tfrecord.write_records, []

    def stop_at_the_fourth(path: Path, data: Any) -> int:
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        return write(path, data)

    monkeypatch.setattr(convert_tfrecord, "write_records", stop_at_the_fourth)
    assert main(wanted) == 75
    assert "the same command goes on where it stopped" in capsys.readouterr().err
    assert len(contents(tmp_path / "out")) == 3
    assert main(wanted) == 0
    assert contents(tmp_path / "out") == straight
    assert len(written) == 13 and len(set(written)) == 12
    assert main(words(tmp_path, "--videos_dir", str(videos), "--num_shards", "3")) == 2
    assert "num_shards: 2 there, 3 now" in capsys.readouterr().err


def test_unpacked_videos_are_used_where_they_are(videos: Path, tmp_path: Path) -> None:
    assert main(words(tmp_path, "--videos_dir", str(videos))) == 0
    assert not (tmp_path / "work").exists()


def test_scattered_videos_are_gathered(videos: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        shutil.copy(videos / name, tmp_path / "in" / str(number))
    assert main(words(tmp_path, "--videos_dir", str(tmp_path / "in"))) == 0
    gathered = [path.relative_to(tmp_path / "work/hmdb51") for path in tmp_path.glob("work/*/*/*")]
    assert sorted(map(str, gathered)) == sorted(NAMES)


def test_what_is_in_the_work_folder_is_used(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(videos, tmp_path / "work" / "hmdb51_org.rar")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(prepare.KNOWN, "hmdb51_org.rar", f"md5:{digest}")
    assert main(words(tmp_path)) == 0
    archive.unlink()
    shutil.rmtree(tmp_path / "out")
    assert main(words(tmp_path)) == 0, "from the folder that was unpacked"


def test_other_bytes_than_the_official_are_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(videos, tmp_path / "in" / "mine.rar")
    wanted = words(tmp_path, "--videos_archive", str(archive))
    assert main(wanted) == 2
    assert f"expected {VIDEOS_MD5}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*wanted, "--checksum", "none"]) == 0


def test_other_splits_are_refused(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    official = Split("hmdb51", "1", TRAIN, TEST)
    monkeypatch.setattr(prepare, "official_split", lambda dataset, number: official)
    folder = tmp_path / "splits"
    folder.mkdir()
    wanted = words(tmp_path, "--videos_dir", str(videos), "--splits_archive", str(folder))
    for number, name in enumerate(NAMES):
        file = folder / f"{name.split('/')[0]}_test_split1.txt"
        file.write_text(f"{name.split('/')[1]} {1 if number < 3 else 2}\n")
    assert main(wanted) == 0
    for made in ("out", "work"):
        shutil.rmtree(tmp_path / made)
    file.write_text(f"{NAMES[-1].split('/')[1]} 1\n")
    assert main(wanted) == 2
    assert "list of split 1 differs from the official one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_rar_program_is_passed_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(dataset: str, archive: Path, out: Path, **options: Any) -> None:
        asked.append(options["rar_tool"])
        shutil.copytree(videos, out)

    monkeypatch.setattr(prepare, "prepare", note)
    archive = zipped(videos, tmp_path / "in" / "copy.zip")
    for more in (["--unrar_command", "/opt/unrar"], []):
        assert main(words(tmp_path, "--videos_archive", str(archive), *more)) == 0
        shutil.rmtree(tmp_path / "work")
    assert asked == ["/opt/unrar", None]


def test_nothing_is_downloaded_unless_asked(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert main(words(tmp_path)) == 2
    message = capsys.readouterr().err
    assert "the host it was published on is gone" in message
    assert str(tmp_path / "work" / "hmdb51_org.rar") in message and VIDEOS_MD5 in message
    asked = []

    def absent(address: str) -> Any:
        asked.append(address)
        raise OSError("no such host")

    monkeypatch.setattr(importlib.import_module("ssvideo_core.weights.locate"), "OPEN", absent)
    assert main(words(tmp_path, "--download")) == 2
    message = capsys.readouterr().err
    assert len(asked) == 1 and asked[0].startswith("https://")
    assert "no such host" in message and "get it by hand and put it at" in message
    assert main(words(tmp_path, "--download", "--videos_dir", str(videos))) == 0
    assert len(asked) == 1


def test_a_folder_of_something_else_is_left_alone(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    archive = zipped(videos, tmp_path / "in" / "copy.zip")
    assert main(words(tmp_path, "--videos_archive", str(archive))) == 2
    assert f"{tmp_path / 'out'} is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "work").exists(), "found before anything was unpacked"


def test_bad_videos_are_listed(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    shutil.copytree(videos, tmp_path / "in")
    (tmp_path / "in" / TEST[0]).write_bytes(b"no video")
    wanted = words(tmp_path, "--videos_dir", str(tmp_path / "in"))
    with caplog.at_level(logging.WARNING):
        assert main(wanted) == 0
    assert "1 videos are missing in the shards" in caplog.text
    assert TEST[0] in (tmp_path / "out" / "failures.csv").read_text()
    shutil.rmtree(tmp_path / "out")
    assert main([*wanted, "--on-bad", "raise"]) == 2
    assert TEST[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num_shards", "0"], "--num_shards is 0, expected 1 or more"),
        (["--workers", "-1"], "--workers is -1, expected 0 or more"),
        (["--videos_archive", "absent.rar"], "absent.rar is not a file"),
        (["--videos_dir", "absent"], "absent is not a folder"),
        (["--splits_archive", "absent"], "--splits_archive: absent does not exist"),
        (["--videos_dir", ".", "--videos_archive", "a.rar"], "are both given; give one"),
        (["--output_dir", __file__], "test_download_hmdb.py is a file, expected a folder"),
    ],
)
def test_wrong_flags(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, *more)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"{PROG}: ") and message in printed


def test_help_is_quick_and_the_original_line_is_read() -> None:
    code = (
        "import sys; from brave.download_hmdb import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'jax', 'flax', 'sklearn', 'simplejpeg', 'av'} & set(sys.modules)"
    )
    for words in (["--help"], ["--output_dir", "/tmp/hmdb51/", "--check-only"]):
        subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.PIPE)
