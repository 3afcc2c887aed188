from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ssvideo_core.__main__ import main
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.splits import Split
from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.formats.convert_tfrecord import Converted, Part, classes_of, convert, parts_of
from ssvideo_core.formats.sequence_examples import VideoRecord, parse_record
from ssvideo_core.formats.tfrecord import find_shards, read_records
from ssvideo_core.formats.video_records import RecordForm
from ssvideo_core.progress import Progress
from ssvideo_core.source import VideoFiles
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.views import Clip, VideoEntry, View

FORM = RecordForm(short_side=6, sound_rate_hz=100)
CLASSES = [str(number) for number in range(5)]


@dataclass(frozen=True)
class CountedVideos(FakeVideos):
    """reads: the numbers of the videos that were read, in this process."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int, views: Sequence[View]) -> list[Clip]:
        self.reads.append(index)
        return super().read(index, views)


def run(
    source: Any, out: Path, *, parts: Sequence[Part] | None = None, **options: Any
) -> Converted:
    given = {"name": "fake", "num_shards": 3, "classes": CLASSES, "form": FORM} | options
    return convert(source, out, parts=parts_of(source) if parts is None else parts, **given)


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def records(path: Path) -> list[VideoRecord]:
    return [parse_record(record) for record in read_records(path)]


def test_record_i_is_in_shard_i_mod_total(tmp_path: Path) -> None:
    source = FakeVideos(8, silent_every=4)
    made = run(source, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [
        "classes.txt",
        "convert.json",
        "failures.csv",
        *(f"fake-0000{shard}-of-00003" for shard in range(3)),
    ]
    assert made.num_records == 8 and made.failures == {}
    assert find_shards(str(tmp_path / "out" / "*")) == list(made.shards)
    for shard, path in enumerate(made.shards):
        found = records(path)
        assert len(found) == len(range(shard, 8, 3))
        for number, record in zip(range(shard, 8, 3), found, strict=True):
            assert record.filename == source.entry(number).video_id
            assert record.labels.tolist() == [number % 5] and record.label_text == (
                f"{number % 5}",
            )
            assert len(record.frames) == 12
            assert (record.waveform is None) == (number % 4 == 0)
    assert (tmp_path / "out" / "classes.txt").read_text() == "0\n1\n2\n3\n4\n"
    assert (tmp_path / "out" / "failures.csv").read_text() == "video_id,reason\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, workers: int) -> None:
    source = FakeVideos(11, bad_every=5)
    run(source, tmp_path / "alone")
    run(source, tmp_path / "together", workers=workers)
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")


class Stop(Exception):
    pass


def stop_after(count: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.done == count:
            raise Stop

    return report


def test_finished_shards_are_kept(tmp_path: Path) -> None:
    run(FakeVideos(9, bad_every=4), tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(Stop):
        run(FakeVideos(9, bad_every=4), out, progress=stop_after(5))
    assert len(find_shards(str(out / "*"))) == 1, "a shard that is not finished is not there"
    source, seen = CountedVideos(9, bad_every=4), []
    run(source, out, progress=seen.append)
    assert source.reads == [1, 4, 7, 2, 5, 8]
    assert [progress.done for progress in seen] == [4, 5, 6, 7, 8, 9]
    assert (seen[0].resumed, seen[0].total) == (3, 9)
    assert contents(out) == contents(tmp_path / "whole")
    again = CountedVideos(9, bad_every=4)
    assert run(again, out).num_records == 6 and again.reads == []


def test_shards_that_changed_are_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = run(FakeVideos(9, bad_every=4), out)
    before = contents(out)
    made.shards[1].unlink()
    made.shards[2].write_bytes(made.shards[2].read_bytes()[:-1])
    (out / ".fake-00001-of-00003.0123.tmp").write_bytes(b"of a killed process")
    source = CountedVideos(9, bad_every=4)
    run(source, out)
    assert source.reads == [1, 4, 7, 2, 5, 8]
    assert contents(out) == before


def test_another_request_is_refused(tmp_path: Path) -> None:
    source, out = FakeVideos(4), tmp_path / "out"
    run(source, out)
    before = contents(out)
    for options, found in (
        ({"form": RecordForm(short_side=8, sound_rate_hz=100)}, "short_side: 6 there, 8 now"),
        ({"num_shards": 4}, "num_shards: 3 there, 4 now"),
        ({"name": "other"}, "name: fake there, other now"),
        ({"parts": [Part("", (0, 1, 2))]}, "videos: "),
        ({"classes": [*CLASSES, "5"]}, "videos: "),
    ):
        with pytest.raises(ConfigError, match=f"another request .*{found}"):
            run(source, out, **options)
    assert contents(out) == before


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        run(FakeVideos(2), tmp_path)
    (tmp_path / "convert.json").write_text("{}")
    with pytest.raises(ConfigError, match="not the record of a conversion"):
        run(FakeVideos(2), tmp_path)
    assert sorted(contents(tmp_path)) == ["convert.json", "notes.txt"]


def test_bad_videos_are_listed_and_leave_gaps(tmp_path: Path) -> None:
    made = run(FakeVideos(9, bad_every=4), tmp_path / "out")
    bad = ["0/0.mp4", "3/8.mp4", "4/4.mp4"]
    assert sorted(made.failures) == bad and made.num_records == 6
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video_id"] for row in rows] == bad
    assert "a fake that cannot be read" in rows[0]["reason"]
    found = [[record.filename for record in records(path)] for path in made.shards]
    assert found == [["3/3.mp4", "1/6.mp4"], ["1/1.mp4", "2/7.mp4"], ["2/2.mp4", "0/5.mp4"]]
    with pytest.raises(DataError, match="lists failed videos"):
        run(FakeVideos(9, bad_every=4), tmp_path / "out", on_bad="raise")


def test_too_many_bad_videos(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"4 videos failed, 3 are allowed .* is 1/6\.mp4: .*a fake"):
        run(FakeVideos(12, bad_every=2), out, num_shards=2)
    listed = (out / "failures.csv").read_text().splitlines()
    bad = [line.partition(",")[0] for line in listed[1:]]
    assert bad == ["0/0.mp4", "1/6.mp4", "2/2.mp4", "4/4.mp4"]
    assert run(FakeVideos(12), out, num_shards=2).num_records == 12


def test_a_video_of_several_parts_counts_once(tmp_path: Path) -> None:
    source = FakeVideos(4, bad_every=2)
    parts = [Part(f"split_{number}/train", (0, 1, 2, 3)) for number in range(3)]
    made = run(source, tmp_path / "out", parts=parts)
    assert len(made.failures) == 2 and made.num_records == 6


def test_raising_at_the_first(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"4/4.mp4: a fake"):
        run(FakeVideos(9, bad_every=4), tmp_path / "out", parts=[Part("", (1, 4))], on_bad="raise")


def test_nothing_but_failures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every video failed"):
        run(FakeVideos(2, bad_every=1), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"name": "../x"}, "name is '../x'"),
        ({"name": ""}, "name is ''"),
        ({"num_shards": 0}, "num_shards is 0"),
        ({"on_bad": "replace"}, "on_bad is 'replace'"),
        ({"workers": -1}, "workers is -1"),
        ({"form": RecordForm(quality=0)}, "quality is 0"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        run(FakeVideos(2), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def entries(*videos: tuple[str, str | None]) -> VideoFiles:
    found = [VideoEntry(name, name.split("/")[-2], split) for name, split in videos]
    return VideoFiles(Path(), found)


def test_parts_of_splits(tmp_path: Path) -> None:
    source = FakeVideos(6)
    ids = [source.entry(number).video_id for number in range(6)]
    splits = [
        Split("own", "1", (ids[3], ids[0]), (ids[5],)),
        Split("own", "2", (ids[5],), (ids[1], ids[2])),
    ]
    parts = parts_of(source, splits)
    assert parts == [
        Part("split_1/train", (3, 0)),
        Part("split_1/test", (5,)),
        Part("split_2/train", (5,)),
        Part("split_2/test", (1, 2)),
    ]
    made = run(source, tmp_path / "out", parts=parts, num_shards=2)
    assert made.num_records == 6 and len(made.shards) == 8
    out = tmp_path / "out"
    assert made.shards[:3] == (
        out / "split_1/train/fake-00000-of-00002",
        out / "split_1/train/fake-00001-of-00002",
        out / "split_1/test/fake-00000-of-00002",
    )
    (record,) = records(made.shards[0])
    # Class 0 is not in this part: the label is its place among all.
    assert record.filename == ids[3] and record.labels.tolist() == [3]
    assert records(out / "split_2/train/fake-00001-of-00002") == []
    assert json.loads((out / "convert.json").read_text())["shards"].keys() == {
        path.relative_to(out).as_posix() for path in made.shards
    }
    missing = [Split("own", "1", (ids[0], "0/gone.mp4"), (ids[1],))]
    with pytest.raises(DataError, match=r"1 of 2 train videos of own, split 1.* 0/gone.mp4"):
        parts_of(source, missing)


# Videos 0 and 4 cannot be read; 0, 1 and 3 are in several parts.
SHARED = [Part("a", (3, 0, 1, 2, 5)), Part("b", (1, 4, 6, 3, 0)), Part("c", (6, 3, 0, 7))]


@pytest.mark.parametrize("workers", [0, 2])
def test_shared_videos_are_as_if_decoded_for_each_part(tmp_path: Path, workers: int) -> None:
    source, seen = FakeVideos(8, bad_every=4), []
    run(source, tmp_path, parts=SHARED, num_shards=2, workers=workers, progress=seen.append)
    for part in SHARED:
        alone = tmp_path / f"alone-{part.folder}"
        run(source, alone, parts=[part], num_shards=2)
        assert contents(tmp_path / part.folder) == contents(alone / part.folder)
    assert (seen[-1].done, seen[-1].failed) == (14, 4)
    listed = (tmp_path / "failures.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in listed] == ["video_id", "0/0.mp4", "4/4.mp4"]


def test_a_video_of_several_parts_is_decoded_once(tmp_path: Path) -> None:
    source = CountedVideos(8, bad_every=4)
    run(source, tmp_path, parts=SHARED, num_shards=2)
    assert sorted(source.reads) == list(range(8))


def test_copies_after_an_interruption(tmp_path: Path) -> None:
    options: dict[str, Any] = {"parts": SHARED, "num_shards": 2}
    run(FakeVideos(8, bad_every=4), tmp_path / "whole", **options)
    for done in range(1, 14):
        out = tmp_path / f"out-{done}"
        with pytest.raises(Stop):
            run(FakeVideos(8, bad_every=4), out, progress=stop_after(done), **options)
        run(FakeVideos(8, bad_every=4), out, **options)
        assert contents(out) == contents(tmp_path / "whole")


def test_a_damaged_shard_is_not_copied_from(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"parts": [Part("a", (0, 1)), Part("b", (1,))], "num_shards": 1}
    first, second = run(FakeVideos(2), out, **options).shards
    second.unlink()
    content = bytearray(first.read_bytes())
    content[-8] ^= 1
    first.write_bytes(content)
    with pytest.raises(DataError, match=r"a/fake-00000-of-00001: .* is damaged"):
        run(FakeVideos(2), out, **options)
    assert not second.exists()


def test_parts_of_a_divided_source() -> None:
    source = entries(("train/a/1.mp4", "train"), ("val/a/2.mp4", "val"), ("train/b/3.mp4", "train"))
    assert parts_of(source) == [Part("train", (0, 2)), Part("val", (1,))]
    assert parts_of(entries(("a/1.mp4", None), ("b/2.mp4", None))) == [Part("", (0, 1))]
    with pytest.raises(DataError, match=r"'../x'"):
        parts_of(entries(("a/1.mp4", "../x")))


def test_labels_are_places_in_the_whole_list() -> None:
    source = entries(("b/1.mp4", "train"), ("a/2.mp4", "test"), ("C/3.mp4", "train"))
    assert classes_of(source) == ["C", "a", "b"]
    one = entries(("wave/1.avi", None))
    assert classes_of(one, "hmdb51") == class_names("hmdb51")
    ucf101 = classes_of(entries(("Biking/1.avi", None)), "ucf101")
    assert ucf101 == sorted(ucf101) and len(ucf101) == 101
    with pytest.raises(DataError, match=r"no class 'waves'.*brush_hair"):
        classes_of(entries(("waves/1.avi", None)), "hmdb51")
    assert classes_of(VideoFiles(Path(), [VideoEntry("1.mp4")])) == []


@pytest.fixture
def videos(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "videos"
    for name, label in (("odd_321x241_vp9.mp4", "odd"), ("rotated90_nasa.mp4", "nasa")):
        (root / label).mkdir(parents=True)
        shutil.copy(clips / name, root / label)
    return root


def command(videos: Path, out: Path, *words: str) -> list[str]:
    fast = ["--short-side", "32", "--rate", "5", "--num-shards", "2"]
    return ["convert-data", "--videos", str(videos), "--out", str(out), *fast, *words]


def test_command(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(command(videos, out)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"records: {out}"
    assert lines[-1] == f"{out}: 2 records in 2 files, 0 videos failed"
    (upright,) = records(out / "videos-00000-of-00002")
    assert upright.filename == "nasa/rotated90_nasa.mp4" and upright.labels.tolist() == [0]
    assert main(command(videos, out, "--quality", "50")) == 2
    assert "quality: 95 there, 50 now" in capsys.readouterr().err


def test_replaced_videos_are_converted_again(videos: Path, tmp_path: Path, clips: Path) -> None:
    out, bad = tmp_path / "out", videos / "nasa" / "bad.mp4"
    bad.write_bytes(b"")
    words = command(videos, out, "--num-shards", "3")
    assert main(words) == 0
    paths = find_shards(str(out / "videos-*"))
    assert [len(records(path)) for path in paths] == [0, 1, 1]
    before = [path.stat() for path in paths]
    assert main(words) == 0
    assert [path.stat() for path in paths] == before
    shutil.copy(clips / "odd_321x241_vp9.mp4", bad)
    os.utime(videos / "odd" / "odd_321x241_vp9.mp4", (0, 0))
    assert main(words) == 0
    assert [len(records(path)) for path in paths] == [1, 1, 1]
    same = [path.stat() == old for path, old in zip(paths, before, strict=True)]
    assert same == [False, True, False]
    assert (out / "failures.csv").read_text() == "video_id,reason\n"


def test_command_with_a_list_and_splits(
    videos: Path, tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(clips / "broken" / "zero_bytes.mp4", videos / "odd")
    names = ["odd/odd_321x241_vp9.mp4", "nasa/rotated90_nasa.mp4", "odd/zero_bytes.mp4"]
    listed = [f"{name},{name.partition('/')[0]}\n" for name in names]
    (videos / "list.csv").write_text("video,label\n" + "".join(listed))
    parts = [
        f"{name},{part}\n" for name, part in zip(names, ("test", "train", "train"), strict=True)
    ]
    (tmp_path / "splits.csv").write_text("video,split1\n" + "".join(parts))
    words = ["--split-files", str(tmp_path / "splits.csv"), "--splits", "1", "--name", "own"]
    out = tmp_path / "out"
    assert main(command(videos / "list.csv", out, *words)) == 0
    shown = capsys.readouterr().out
    assert f"2 records in 4 files, 1 videos failed ({out / 'failures.csv'})" in shown
    found = {path: len(records(out / path)) for path in contents(out) if "own-" in path}
    assert found == {
        "split_1/train/own-00000-of-00002": 1,
        "split_1/train/own-00001-of-00002": 0,
        "split_1/test/own-00000-of-00002": 1,
        "split_1/test/own-00001-of-00002": 0,
    }
    (record,) = records(out / "split_1/test/own-00000-of-00002")
    assert record.labels.tolist() == [1] and record.label_text == ("odd",)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--dataset", "hmdb51", "--splits", "1"], "has no class 'nasa'|train videos of hmdb51"),
        (["--splits", "1"], "--split-files"),
        (["--sound", "-1"], "sound_rate_hz is -1"),
        (["--name", "a/b"], "name is 'a/b'"),
        (["--workers", "-1"], "workers is -1"),
    ],
)
def test_command_with_wrong_flags(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    found: str,
) -> None:
    assert main(command(videos, tmp_path / "out", *words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and any(part in error for part in found.split("|"))
    assert not (tmp_path / "out").exists()


def test_command_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "convert-data" in capsys.readouterr().out
    assert main(command(tmp_path / "none", tmp_path / "out")) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    for words in (["convert-data", "--to", "lmdb"], ["convert-data"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
