from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import lmdb
import pytest
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.formats import lmdb_records
from ssvideo_core.formats.lmdb_records import key_of, read_contents, reading, write_database
from ssvideo_core.formats.msgpack_arrays import byte_strings, pack_array, pack_integer
from ssvideo_core.progress import Progress

VIDEOS = {
    "a/one": [b"\xff\xd8first", b"\xff\xd8second"],
    "a/[two]": [b"\xff\xd8only"],
    "a-b/three": [b"\xff\xd8x" * 100],
    "c/none": [],
}


def make_folders(root: Path, videos: Mapping[str, list[bytes]]) -> Path:
    for name, frames in videos.items():
        (root / name).mkdir(parents=True)
        for number, frame in enumerate(frames, start=1):
            (root / name / f"image_{number:05d}.jpg").write_bytes(frame)
    return root


def write_rows(path: Path, rows: Mapping[bytes, bytes], **options: object) -> Path:
    options = {"subdir": False, "lock": False, **options}
    with lmdb.open(str(path), **options) as environment, environment.begin(write=True) as rows_in:
        for key, value in rows.items():
            rows_in.put(key, value)
    return path


def rows_of(path: Path) -> dict[bytes, bytes]:
    options = {"subdir": False, "readonly": True, "lock": False}
    with lmdb.open(str(path), **options) as environment, environment.begin() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor()}


ROWS = {
    key_of(0): pack_array([b"frame 0"]),
    key_of(1): pack_array([b"frame 1", b"frame 2"]),
    b"__len__": pack_integer(2),
    b"__keys__": pack_array([key_of(1), key_of(0)]),
    b"__vlen__": pack_array([2, 1]),
    b"__order__": pack_array(["b/x", "a/y"]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "frames.lmdb", ROWS)


def frames_of(path: Path, number: int) -> list[bytes]:
    with reading(path) as get:
        return list(byte_strings(get(key_of(number))))


def test_contents_are_by_id(path: Path) -> None:
    contents = read_contents(path)
    assert (contents.names, contents.num_frames) == (("b/x", "a/y"), (1, 2))
    assert frames_of(path, 1) == [b"frame 1", b"frame 2"]


def test_values_are_read_in_place(path: Path) -> None:
    with reading(path) as get:
        value = get(key_of(0))
        assert value.readonly
        assert value == ROWS[key_of(0)]
    assert not path.with_name("frames.lmdb-lock").exists()


@pytest.mark.parametrize("map_bytes", [1 << 16, 1 << 40])
def test_folders_and_any_map_size_are_read(tmp_path: Path, map_bytes: int) -> None:
    folder = write_rows(tmp_path / "folder", ROWS, subdir=True, map_size=map_bytes)
    assert read_contents(folder).names == ("b/x", "a/y")
    assert [entry.name for entry in folder.iterdir()] == ["data.mdb"]


def test_one_file_by_several_names_is_opened_once(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.lmdb").symlink_to(path)
    with reading(path), reading(tmp_path / "link.lmdb") as get:
        assert get(b"__len__") == b"\x02"


def test_a_new_file_at_its_place_is_opened_anew(path: Path, tmp_path: Path) -> None:
    assert frames_of(path, 0) == [b"frame 0"]
    other = write_rows(tmp_path / "other", ROWS | {key_of(0): pack_array([b"new"])})
    other.replace(path)
    assert frames_of(path, 0) == [b"new"]
    path.unlink()
    path.write_bytes(bytes(9000))
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be opened"):
            frames_of(path, 0)


def test_a_database_that_was_replaced_is_closed(path: Path, tmp_path: Path) -> None:
    replaced = lmdb_records._environment(path)
    kept = write_rows(tmp_path / "kept", ROWS)
    kept_open = lmdb_records._environment(kept)
    write_rows(tmp_path / "other", ROWS).replace(path)
    assert frames_of(path, 0) == [b"frame 0"]
    with pytest.raises(lmdb.Error, match="closed"):
        replaced.info()
    assert kept_open.info() and lmdb_records._environment(kept) is kept_open


def test_a_forked_process_opens_it_itself(path: Path) -> None:
    """In a fresh interpreter, because this one may run threads."""
    program = f"""
import os
from pathlib import Path
from ssvideo_core.formats import lmdb_records
path, names = Path({str(path)!r}), ("b/x", "a/y")
assert lmdb_records.read_contents(path).names == names
mine = id(lmdb_records._environment(path))
if not os.fork():
    assert not lmdb_records._OPENED
    assert lmdb_records.read_contents(path).names == names
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert id(lmdb_records._environment(path)) == mine
assert lmdb_records.read_contents(path).names == names
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_missing_key_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"frames.lmdb, key 000000007: there is no such key"):
        frames_of(path, 7)


def test_other_databases_are_told(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "other", {b"k": b"v"})
    with pytest.raises(DataError, match=r"other, key __len__: there is no such key.*CoCLR"):
        read_contents(path)


@pytest.mark.parametrize("content", [b"", b"text", bytes(9000), b"x" * 9000])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="file cannot be opened as an LMDB database"):
        read_contents(tmp_path / "file")


def test_absent_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.lmdb: No such file"):
        read_contents(tmp_path / "absent.lmdb")
    with pytest.raises(DataError, match=r"data.mdb: No such file.*folder with data.mdb"):
        read_contents(tmp_path)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(path: Path, share: float) -> None:
    """Else reading it ends the process by SIGBUS."""
    whole = path.read_bytes()
    path.write_bytes(whole[: max(int(share * len(whole)), 8192)])
    with pytest.raises(DataError, match=f"was cut off: .* expected {len(whole)}"):
        read_contents(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"__len__", pack_integer(3), "__len__ is 3, but there are 2 names"),
        (b"__len__", pack_array([2]), "key __len__: item 0 is an array"),
        (b"__keys__", pack_array([key_of(0)]), "1 keys in __keys__"),
        (b"__keys__", pack_array([key_of(0)] * 2), "000000001 is not listed"),
        (b"__keys__", pack_array([b"0", b"1"]), "000000000 is not listed"),
        (b"__vlen__", pack_array([1, 2, 3]), "3 numbers of frames in __vlen__"),
        (b"__vlen__", pack_array(["1", "2"]), "key __vlen__: item 0 is bytes"),
        (b"__vlen__", b"\xdd\xff\xff\xff\xff", "key __vlen__: 5 bytes claim"),
        (b"__order__", pack_array(["b/x", "b/x"]), "the name 'b/x', expected class/video, each"),
        (b"__order__", pack_array(["b/x", "/etc"]), "the name '/etc'"),
        (b"__order__", pack_array(["b/x", "../x"]), "the name '../x'"),
        (b"__order__", pack_array(["b/x", "a/b/c"]), "the name 'a/b/c'"),
        (b"__order__", pack_array([b"b/x", b"b/\xff"]), "key __order__: 'utf-8' codec"),
    ],
)
def test_lists_that_cannot_be_are_refused(
    tmp_path: Path, key: bytes, value: bytes, message: str
) -> None:
    path = write_rows(tmp_path / "file", ROWS | {key: value})
    with pytest.raises(DataError, match=message) as error:
        read_contents(path)
    assert str(path) in str(error.value)


def test_what_the_library_says_is_passed_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise lmdb.Error("already open in this process")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(DataError, match=r"frames.lmdb cannot be opened .*: already open in this"):
        read_contents(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    root, path = make_folders(tmp_path / "root", VIDEOS), tmp_path / "out" / "new.lmdb"
    (root / "a" / "note.txt").touch()
    (root / "a" / "one" / "note.txt").touch()
    (root / "a" / "one" / ".hidden.jpg").touch()
    (root / ".hidden" / "video").mkdir(parents=True)
    seen: list[Progress] = []
    written = write_database(path, root, progress=seen.append)
    assert (written.num_videos, written.num_frames, written.empty) == (4, 4, ("c/none",))
    contents = read_contents(path)
    # "-" sorts before "/" and "[" before "o".
    expected = ["a-b/three", "a/[two]", "a/one", "c/none"]
    random.Random(0).shuffle(expected)
    assert list(contents.names) == expected
    assert path.with_name("new.lmdb-order").read_text() == "\n".join(expected)
    for number, name in enumerate(contents.names):
        assert frames_of(path, number) == VIDEOS[name]
        assert contents.num_frames[number] == len(VIDEOS[name])
    keys = [key_of(expected.index(name)) for name in ("a/[two]", "a/one", "a-b/three", "c/none")]
    assert rows_of_list(path, b"__keys__") == keys
    assert [progress.done for progress in seen] == [1, 2, 3, 4]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["new.lmdb", "new.lmdb-order"]


def rows_of_list(path: Path, key: bytes) -> list[bytes]:
    with reading(path) as get:
        return list(byte_strings(get(key)))


def test_old_libraries_read_what_is_written(tmp_path: Path) -> None:
    """Data format 1, that of LMDB 0.9; later libraries could write another one."""
    path = write_database(tmp_path / "new.lmdb", make_folders(tmp_path / "root", VIDEOS)).path
    magic, version = struct.unpack_from("=II", path.read_bytes(), 16)
    assert (magic, version) == (0xBEEFC0DE, 1)


def test_workers_and_small_maps_make_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = {f"c/{number}": [b"\xff\xd8" + bytes(9000)] * number for number in range(1, 40)}
    root = make_folders(tmp_path / "root", videos)
    expected = rows_of(write_database(tmp_path / "a", root).path)
    monkeypatch.setattr(lmdb_records, "FIRST_MAP_BYTES", 1 << 16)
    assert rows_of(write_database(tmp_path / "b", root, workers=2).path) == expected
    assert (tmp_path / "b").stat().st_size > 1 << 20


def test_writers_at_the_same_time_leave_a_whole_database(tmp_path: Path) -> None:
    root, path = make_folders(tmp_path / "root", VIDEOS), tmp_path / "new.lmdb"
    program = (
        "from pathlib import Path; from ssvideo_core.formats.lmdb_records import write_database\n"
        f"write_database(Path({str(path)!r}), Path({str(root)!r}))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    # One that began after the other's end is told that the file exists.
    assert any(writer.returncode == 0 for writer in writers), errors
    assert all(not error or "exists; delete it" in error for error in errors), errors
    assert set(read_contents(path).names) == set(VIDEOS)
    assert {entry.name for entry in tmp_path.iterdir()} == {"root", "new.lmdb", "new.lmdb-order"}


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "root", VIDEOS | {"d/bad": [b"\xff\xd8", b"\x89PNG"]})
    with pytest.raises(DataError, match=r"d/bad/image_00002.jpg is no JPEG"):
        write_database(tmp_path / "new.lmdb", root)
    assert os.listdir(tmp_path) == ["root"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "new.lmdb").write_text("mine")
    with pytest.raises(ConfigError, match=r"new.lmdb exists"):
        write_database(tmp_path / "new.lmdb", make_folders(tmp_path / "root", VIDEOS))
    assert (tmp_path / "new.lmdb").read_text() == "mine"


def test_roots_without_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root" / "class").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no videos; expected folders of frames"):
        write_database(tmp_path / "new.lmdb", tmp_path / "root")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path / "root" / "class") + b"/\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        write_database(tmp_path / "new.lmdb", tmp_path / "root")


def test_the_library_that_is_missing_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ConfigError, match="module lmdb"):
        read_contents(path)
