"""Official data sets made here, packed in every way, with a few bytes for each video."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ssvideo_core.datasets import check
from ssvideo_core.datasets import prepare as module
from ssvideo_core.datasets.official import official_videos
from ssvideo_core.datasets.prepare import main
from ssvideo_core.datasets.prepare import prepare as prepare_and_open
from ssvideo_core.datasets.splits import official_split
from ssvideo_core.errors import ConfigError, DataError, exit_code

prepare = partial(prepare_and_open, decode=False)


def hostile(name: str) -> ModuleType:
    """A module of the folder `hostile`, which is in no package."""
    path = Path(__file__).parent / "hostile" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


rar = hostile("rar")
needs_rarfile = pytest.mark.skipif(
    importlib.util.find_spec("rarfile") is None, reason="needs rarfile (extra rar)"
)


def content_for(video: str) -> bytes:
    return PurePosixPath(video).name.encode()


def contents(videos: Sequence[str]) -> dict[str, bytes]:
    return {video: content_for(video) for video in videos}


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def by_class(videos: Sequence[str], pack: Callable[[Mapping[str, bytes]], bytes], ending: str):
    """One archive for each class, as HMDB51 has them."""
    classes: dict[str, dict[str, bytes]] = {}
    for video in videos:
        classes.setdefault(video.split("/")[0], {})[video] = content_for(video)
    return {f"{name}.{ending}": pack(files) for name, files in classes.items()}


def assert_whole(out: Path, videos: Sequence[str]) -> None:
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }
    assert found == contents(videos)
    hidden = list(out.parent.glob(".*"))
    assert hidden == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """HMDB51 with five videos of three classes, one with a name that looks like an option."""
    every = official_videos("hmdb51")
    dashed = next(video for video in every if "/-" in video)
    videos = [v for v in every if v.startswith("wave/")][:2]
    videos += [v for v in every if v.startswith("climb/")][:2]
    videos = sorted([*videos, dashed])
    pretend(videos, monkeypatch)
    return videos


def pretend(videos: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That a data set has no other videos."""
    for place in (module, check):
        monkeypatch.setattr(place, "official_videos", lambda dataset: tuple(videos))


@pytest.fixture
def said() -> list[str]:
    return []


# ---- the whole data sets ------------------------------------------------------------------


@needs_rarfile
def test_hmdb51_as_it_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """A rar file of 51 rar files, 6766 videos."""
    videos = official_videos("hmdb51")
    archive = tmp_path / "in" / "copy.rar"
    write(tmp_path / "in", {"copy.rar": rar.of_files(by_class(videos, rar.of_files, "rar"))})
    calls = rar.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(calls.parent))
    report = prepare("hmdb51", archive, tmp_path / "out", say=said.append)
    assert report.ok and report.counts == {"videos": 6766, "classes": 51}
    assert len(calls.read_text().splitlines()) == 52
    assert_whole(tmp_path / "out", videos)
    assert said[0] == f"unpacking {archive}"
    assert said[-1] == f"6766 videos unpacked from {archive}"
    assert list((tmp_path / "in").iterdir()) == [archive]


def test_ucf101_as_zip_and_its_lists(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every tenth of its 13320 videos."""
    videos = official_videos("ucf101")[::10]
    pretend(videos, monkeypatch)
    archive = tmp_path / "UCF101.zip"
    archive.write_bytes(zipped({f"UCF-101/{v}": c for v, c in contents(videos).items()}))
    lists = {}
    for number in (1, 2, 3):
        split = official_split("ucf101", number)
        lists[f"ucfTrainTestlist/trainlist0{number}.txt"] = "".join(
            f"{video} 1\n" for video in split.train
        ).encode()
        lists[f"ucfTrainTestlist/testlist0{number}.txt"] = "".join(
            f"{video}\n" for video in split.test
        ).encode()
    splits = tmp_path / "UCF101TrainTestSplits-RecognitionTask.zip"
    splits.write_bytes(zipped(lists))
    report = prepare("ucf101", archive, tmp_path / "out", splits=splits, say=said.append)
    assert report.ok and report.counts == {"videos": 1332, "classes": 101}
    assert f"{splits}: splits 1, 2, 3 are the official ones" in said
    assert_whole(tmp_path / "out", videos)


# ---- every form ---------------------------------------------------------------------------


@needs_rarfile
@pytest.mark.parametrize("prefix", ["", "hmdb51_org/"])
def test_a_folder_of_archives_is_left_as_it_is(
    prefix: str, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = by_class(few, rar.of_files, "rar")
    folder = write(tmp_path / "in", {f"{prefix}{name}": c for name, c in packed.items()})
    monkeypatch.setenv("PATH", str(rar.install(tmp_path / "bin").parent))
    assert prepare("hmdb51", folder, tmp_path / "out").ok
    assert_whole(tmp_path / "out", few)
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*.rar")}
    assert kept == {f"{prefix}{name}" for name in packed}


@pytest.mark.parametrize(
    "files",
    [
        lambda v: {"wave.zip": zipped(contents(v))},
        lambda v: {"HMDB51.tar.gz": tarred({f"deep/er/{n}": c for n, c in contents(v).items()})},
        lambda v: {"hmdb51_org.zip": zipped(by_class(v, tarred, "tgz"))},
        lambda v: {"hmdb.zip": zipped({"x": b"x"}), **by_class(v, zipped, "zip")},
        lambda v: {"hmdb.zip": zipped({"all.zip": zipped(by_class(v, tarred, "tar.gz"))})},
    ],
)
def test_archives_of_other_kinds_in_a_folder(
    files: Callable[[list[str]], dict[str, bytes]], few: list[str], tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", files(few))
    assert prepare("hmdb51", folder, tmp_path / "out").ok
    assert_whole(tmp_path / "out", few)


@pytest.mark.parametrize("form", ["{class_name}/{name}", "a/train/{class_name}/{name}", "{name}"])
def test_unpacked_videos_are_found_wherever_they_lie(
    form: str, few: list[str], tmp_path: Path
) -> None:
    files = {
        form.format(class_name=video.split("/")[0], name=video.split("/")[1]): content_for(video)
        for video in few
    }
    prepare("hmdb51", write(tmp_path / "in", files), tmp_path / "out")
    assert_whole(tmp_path / "out", few)


def test_hard_links_are_the_default(few: list[str], tmp_path: Path, said: list[str]) -> None:
    folder = write(tmp_path / "in", contents(few))
    prepare("hmdb51", folder, tmp_path / "out", say=said.append)
    for video in few:
        assert (tmp_path / "out" / video).samefile(folder / video)
    assert said == [f"5 videos hard-linked (the same bytes on the disk, not copied) from {folder}"]


def test_copies_and_moves(few: list[str], tmp_path: Path, said: list[str]) -> None:
    folder = write(tmp_path / "in", contents(few))
    prepare("hmdb51", folder, tmp_path / "copy", files="copy", say=said.append)
    assert (folder / few[0]).stat().st_nlink == 1
    assert_whole(tmp_path / "copy", few)
    prepare("hmdb51", folder, tmp_path / "move", files="move", say=said.append)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert_whole(tmp_path / "move", few)
    assert said == [f"5 videos copied from {folder}", f"5 videos moved from {folder}"]


@pytest.mark.parametrize(
    ("files", "way"), [("link", "copied"), ("move", "moved to another disk"), ("copy", "copied")]
)
def test_another_disk(
    files: Any,
    way: str,
    few: list[str],
    tmp_path: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write(tmp_path / "in", contents(few))

    def refuse(old: Callable[..., Any], source: Any, *args: Any) -> Any:
        if folder in Path(source).parents:
            raise OSError(18, "Invalid cross-device link", str(source))
        return old(source, *args)

    monkeypatch.setattr(module.os, "link", partial(refuse, os.link))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: refuse(rename, path, to))
    prepare("hmdb51", folder, tmp_path / "out", files=files, say=said.append)
    assert said == [f"5 videos {way} from {folder}"]
    assert (folder / few[0]).exists() == (files != "move")
    assert_whole(tmp_path / "out", few)


def test_symbolic_links_give_the_file(few: list[str], tmp_path: Path) -> None:
    store, folder = write(tmp_path / "store", contents(few)), tmp_path / "in"
    folder.mkdir()
    for video in few:
        (folder / video.split("/")[1]).symlink_to(store / video)
    prepare("hmdb51", folder, tmp_path / "out")
    assert not (tmp_path / "out" / few[0]).is_symlink()
    assert_whole(tmp_path / "out", few)


def test_archives_beside_their_videos_stay_packed(
    few: list[str], tmp_path: Path, said: list[str]
) -> None:
    folder = write(tmp_path / "in", {**contents(few), "wave.zip": b"PK\x03\x04", "x.txt": b""})
    prepare("hmdb51", folder, tmp_path / "in" / "out", say=said.append)
    assert not any("unpacking" in line for line in said)
    assert prepare("hmdb51", folder, tmp_path / "in" / "out").ok


# ---- what is wrong ------------------------------------------------------------------------


def test_missing_videos_are_named_and_nothing_is_moved(few: list[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "in", contents(few[1:]))
    with pytest.raises(DataError, match="1 of 5 videos of hmdb51 are missing, first ") as caught:
        prepare("hmdb51", folder, tmp_path / "out", files="move")
    assert few[0] in str(caught.value)
    assert all((folder / video).exists() for video in few[1:])
    assert not (tmp_path / "out").exists()
    write(folder, contents(few[:1]))
    prepare("hmdb51", folder, tmp_path / "out", files="move")
    assert_whole(tmp_path / "out", few)


def test_two_videos_of_one_name(few: list[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "in", contents(few))
    write(folder / "again", contents(few))
    assert prepare("hmdb51", folder, tmp_path / "same").ok
    write(folder / "again", {few[0]: b"another"})
    with pytest.raises(DataError, match=r"again.* differ; remove the wrong one"):
        prepare("hmdb51", folder, tmp_path / "out")


def test_an_out_that_is_there(few: list[str], tmp_path: Path, said: list[str]) -> None:
    folder, out = write(tmp_path / "in", contents(few)), tmp_path / "out"
    prepare("hmdb51", folder, out)
    prepare("hmdb51", folder, out, say=said.append)
    assert said == [f"{out} is there already; nothing was changed"]
    (out / few[0]).unlink()
    with pytest.raises(DataError, match="is there already and is no hmdb51: expected"):
        prepare("hmdb51", folder, out)
    with pytest.raises(DataError, match="absent is not there; expected the archive of hmdb51"):
        prepare("hmdb51", tmp_path / "absent", out)


def test_the_checksums(few: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "hmdb51_org.rar"  # a zip file under the official name
    archive.write_bytes(zipped(contents(few)))
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"expected 517d6f1f19f215.*--checksum none"):
        prepare("hmdb51", archive, out)
    with pytest.raises(DataError, match=r"its sha256 is .*expected 00"):
        prepare("hmdb51", archive, out, checksum="sha256:00")
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert prepare("hmdb51", archive, out, checksum=f"sha256:{right}").ok
    shutil.rmtree(out)
    assert prepare("hmdb51", archive, out, checksum="none").ok
    folder = write(tmp_path / "in", {"hmdb51_org.rar": archive.read_bytes()})
    with pytest.raises(DataError, match="expected 517d6f1f19f215c45cdd4d25356be1fb"):
        prepare("hmdb51", folder, tmp_path / "other")


def test_a_checksum_is_of_an_archive(few: list[str], tmp_path: Path) -> None:
    folder = write(tmp_path / "in", contents(few))
    with pytest.raises(ConfigError, match="in is a folder, which has no checksum: give the arch"):
        prepare("hmdb51", folder, tmp_path / "out", checksum="sha256:00")
    assert prepare("hmdb51", folder, tmp_path / "out", checksum="none").ok


def test_what_an_earlier_run_unpacked_is_checked_too(few: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(contents(few[1:])))
    with pytest.raises(DataError, match="1 of 5 videos of hmdb51 are missing"):
        prepare("hmdb51", archive, tmp_path / "out")
    with pytest.raises(DataError, match=r"its sha256 is .*expected 00"):
        prepare("hmdb51", archive, tmp_path / "out", checksum="sha256:00")


def test_a_hostile_archive(few: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "hmdb51.zip"
    archive.write_bytes(zipped({**contents(few), "../wave/up.avi": b"x"}))
    with pytest.raises(DataError, match=r"the member '\.\./wave/up\.avi' leaves the folder"):
        prepare("hmdb51", archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "wave").exists()


HMDB51_LINE = re.compile(rb"^(\S+) 1", re.M)


def hmdb51_lists() -> dict[str, bytes]:
    """The official form, made from the packaged lists."""
    files: dict[str, list[str]] = {}
    for number in (1, 2, 3):
        split = official_split("hmdb51", number)
        tags = {**dict.fromkeys(split.train, 1), **dict.fromkeys(split.test, 2)}
        for video in official_videos("hmdb51"):
            name, file = video.split("/")
            rows = files.setdefault(f"testTrainMulti_7030_splits/{name}_test_split{number}.txt", [])
            rows.append(f"{file} {tags.get(video, 0)} \n")
    return {name: "".join(rows).encode() for name, rows in files.items()}


def test_the_splits_are_compared(few: list[str], tmp_path: Path, said: list[str]) -> None:
    folder, lists = write(tmp_path / "in", contents(few)), hmdb51_lists()
    splits = write(tmp_path / "splits", lists)
    packed = tmp_path / "splits.tgz"
    packed.write_bytes(tarred(lists))
    for number, path in enumerate((splits, splits / "testTrainMulti_7030_splits", packed)):
        prepare("hmdb51", folder, tmp_path / f"out{number}", splits=path, say=said.append)
        assert f"{path}: splits 1, 2, 3 are the official ones" in said
    name = "testTrainMulti_7030_splits/wave_test_split2.txt"
    changed = HMDB51_LINE.sub(rb"\1 0", lists[name], count=1)
    write(splits, {name: changed})
    with pytest.raises(DataError, match=r"the train list of split 2 differs .* in 1 videos, first"):
        prepare("hmdb51", folder, tmp_path / "out", splits=splits)
    with pytest.raises(DataError, match="holds no splits"):
        prepare("hmdb51", folder, tmp_path / "out", splits=folder)


# ---- interruptions ------------------------------------------------------------------------


@pytest.mark.parametrize("moment", range(4))
def test_unpacking_goes_on_where_it_stopped(
    moment: int, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "hmdb51.zip"
    archive.write_bytes(zipped(by_class(few, zipped, "zip")))
    unpacked: list[str] = []

    def stop(source: Path, folder: Path, **options: Any) -> Any:
        if len(unpacked) == moment:
            folder.with_name(f".{folder.name}.tmp").mkdir()  # as a kill leaves it
            raise KeyboardInterrupt
        unpacked.append(source.name)
        return extract(source, folder, **options)

    extract = module.extract
    monkeypatch.setattr(module, "extract", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare("hmdb51", archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    moment = -1
    assert prepare("hmdb51", archive, tmp_path / "out").ok
    assert sorted(unpacked) == ["climb.zip", "hmdb51.zip", "hug.zip", "wave.zip"]
    assert_whole(tmp_path / "out", few)


@pytest.mark.parametrize("files", ["link", "move", "copy"])
def test_placing_goes_on_where_it_stopped(
    files: Any, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "in", contents(few))
    placed: list[str] = []

    def stop(source: Path, target: Path, way: Any) -> str:
        if len(placed) == 2:
            target.with_name(f".{target.name}.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        placed.append(target.name)
        return bring(source, target, way)

    bring = module._bring
    monkeypatch.setattr(module, "_bring", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare("hmdb51", folder, tmp_path / "out", files=files)
    monkeypatch.setattr(module, "_bring", bring)
    prepare("hmdb51", folder, tmp_path / "out", files=files)
    assert_whole(tmp_path / "out", few)


def test_an_interruption_before_cleaning_up(
    few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "hmdb51.zip"
    archive.write_bytes(zipped(contents(few)))

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "shutil", SimpleNamespace(rmtree=stop))
        with pytest.raises(KeyboardInterrupt):
            prepare("hmdb51", archive, tmp_path / "out")
    assert list(tmp_path.glob(".*"))
    assert prepare("hmdb51", archive, tmp_path / "out").ok
    assert_whole(tmp_path / "out", few)


# ---- the command --------------------------------------------------------------------------


def test_the_command_opens_every_video(
    few: list[str], tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (clips / "hmdb51_TrumanShow_wave_f_nm_np1_fr_med_26.avi").read_bytes()
    folder = write(tmp_path / "in", dict.fromkeys(few, good))
    words = ["hmdb51", "--archive", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert f"5 videos hard-linked (the same bytes on the disk, not copied) from {folder}" in printed
    assert printed.endswith("ok\n")
    write(folder, {few[0]: good[:1000]})
    words[-1] = str(tmp_path / "bad")
    assert main(words) == 2
    assert f"1 videos cannot be read:\n  {few[0]}: " in capsys.readouterr().out
    assert main([*words, "--decode", "no"]) == 0


@pytest.mark.parametrize("words", [[], ["kinetics400"], ["--archive", "x", "--out", "y"]])
def test_a_command_without_a_data_set(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = exit_code("p", lambda: main(words))
    except SystemExit as error:
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert "hmdb51|ucf101" in said or "hmdb51 or ucf101" in said


def test_without_a_rar_program(few: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "a.rar"
    archive.write_bytes(rar.of_files(contents(few)))
    words = ["hmdb51", "--archive", str(archive), "--out", str(tmp_path / "out")]
    with pytest.raises(ConfigError, match=r"[Oo]r unpack it and give the folder"):
        main([*words, "--rar-tool", str(tmp_path / "unrar")])
