from __future__ import annotations

import gzip
import logging
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.formats import tfrecord
from ssvideo_core.formats.tfrecord import (
    DamagedRecordError,
    RecordFiles,
    find_shards,
    masked_crc,
    read_record,
    read_records,
    record_offsets,
    shard_path,
    write_records,
)

RECORDS = [b"first", b"", b"\0" * 1000, b"last"]


def framed(payload: bytes) -> bytes:
    """One record, written out from the table of the format."""
    length = len(payload).to_bytes(8, "little")
    return b"".join(
        [
            length,
            masked_crc(length).to_bytes(4, "little"),
            payload,
            masked_crc(payload).to_bytes(4, "little"),
        ]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "records"
    write_records(file, RECORDS)
    return file


def castagnoli(data: bytes) -> int:
    """The checksum bit by bit, masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@given(st.binary(max_size=40))
def test_checksum_is_castagnolis_masked(data: bytes) -> None:
    assert masked_crc(data) == castagnoli(data)


def test_bytes_are_those_of_the_format(path: Path) -> None:
    assert path.read_bytes() == b"".join(map(framed, RECORDS))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(st.binary(max_size=300), max_size=6),
    compression=st.sampled_from([None, "gzip"]),
)
def test_what_is_written_is_read(tmp_path: Path, records: list[bytes], compression) -> None:
    file = tmp_path / "any"
    assert write_records(file, iter(records), compression=compression) == len(records)
    assert list(read_records(file)) == records
    if compression is None:
        rows = record_offsets(file)
        assert rows[:, 1].tolist() == [len(record) for record in records]
        assert [read_record(file, offset) for offset in rows[:, 0].tolist()] == records


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert list(read_records(tmp_path / "empty")) == []
    assert record_offsets(tmp_path / "empty").shape == (0, 2)
    assert len(RecordFiles([tmp_path / "empty"])) == 0
    assert len(RecordFiles([])) == 0


@pytest.mark.parametrize("level", [0, 9])
def test_compression_is_told_by_content(tmp_path: Path, level: int) -> None:
    content = b"".join(map(framed, RECORDS))
    for name, packed in {
        "gzip": gzip.compress(content, level),
        "zlib": zlib.compress(content, level),
        "two members": gzip.compress(content[:100], level) + gzip.compress(content[100:], level),
    }.items():
        (tmp_path / name).write_bytes(packed)
        assert list(read_records(tmp_path / name)) == RECORDS, name
        with pytest.raises(DataError, match="compressed"):
            record_offsets(tmp_path / name)


@pytest.mark.parametrize("length", [0x088B1F, 0x9C78, 0x0178])
def test_a_length_that_looks_packed_is_a_length(tmp_path: Path, length: int) -> None:
    """Their first bytes are those of gzip and zlib."""
    write_records(tmp_path / "records", [bytes(length), b"next"])
    assert list(read_records(tmp_path / "records")) == [bytes(length), b"next"]
    assert record_offsets(tmp_path / "records")[:, 1].tolist() == [length, 4]


def test_compressed_bytes_depend_on_records_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / name, RECORDS, compression="gzip")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def starts(records: list[bytes]) -> list[int]:
    return np.cumsum([0, *(len(framed(record)) for record in records)]).tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_gives_the_records_before(tmp_path: Path, packed: bool) -> None:
    records = [b"first", b"", b"second record", b"last"]
    content = b"".join(map(framed, records))
    places = starts(records)
    file = tmp_path / "cut"
    for end in range(len(content) + 1):
        cut = content[:end]
        file.write_bytes(gzip.compress(cut, 0) if packed else cut)
        whole = sum(place <= end for place in places) - 1
        assert list(read_records(file, on_damage="skip_rest")) == records[:whole]
        if end in places:
            assert list(read_records(file)) == records[:whole]
            continue
        with pytest.raises(DamagedRecordError, match=f"record {whole} at byte {places[whole]} "):
            list(read_records(file))
        if not packed:
            with pytest.raises(DamagedRecordError, match=f"record {whole} at byte {places[whole]}"):
                record_offsets(file)


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_any_flipped_bit_is_found(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)
    damaged = sum(place <= position for place in starts(RECORDS)) - 1
    found = []
    with pytest.raises(DamagedRecordError, match=f"{path}: record {damaged} ") as error:
        for record in read_records(path):
            found.append(record)
    assert found == RECORDS[:damaged]
    assert str(error.value).count("\n") == 0


def test_what_is_left_out_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert list(read_records(path, on_damage="skip_rest")) == RECORDS[:-1]
    assert "record 3 " in caplog.text and "the rest of the file is left out" in caplog.text
    with pytest.raises(ConfigError, match="raise or skip_rest"):
        list(read_records(path, on_damage="ignore"))  # type: ignore[arg-type]


@pytest.mark.parametrize("sound_header", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_length_that_lies_takes_no_memory(
    tmp_path: Path, sound_header: bool, packed: bool
) -> None:
    length = struct.pack("<Q", 1 << 62)
    crc = masked_crc(length) if sound_header else masked_crc(length) ^ 1
    content = framed(b"good") + length + struct.pack("<I", crc) + b"little"
    file = tmp_path / "lie"
    file.write_bytes(gzip.compress(content) if packed else content)
    readers = [lambda: list(read_records(file))]
    if not packed:
        readers += [lambda: record_offsets(file), lambda: read_record(file, len(framed(b"good")))]
    tracemalloc.start()
    try:
        for reader in readers:
            with pytest.raises(DamagedRecordError):
                reader()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20  # two pieces of a read at most


@pytest.mark.parametrize("packing", [gzip.compress, zlib.compress])
def test_a_truncated_compressed_file(tmp_path: Path, packing) -> None:
    rng = np.random.default_rng(0)
    records = [rng.bytes(200_000) for _ in range(4)]
    packed = packing(b"".join(map(framed, records)))
    file = tmp_path / "cut.gz"
    file.write_bytes(packed[: len(packed) * 5 // 8])
    assert list(read_records(file, on_damage="skip_rest")) == records[:2]
    with pytest.raises(DamagedRecordError, match=r"record 2 at byte 400032 .* ends too early"):
        list(read_records(file))
    # All content is there, but not the checksum of the compression.
    file.write_bytes(packed[:-2])
    with pytest.raises(DamagedRecordError, match="record 4 "):
        list(read_records(file))


def test_a_damaged_compressed_file(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"".join(map(framed, RECORDS))))
    packed[-5] ^= 1
    (tmp_path / "x.gz").write_bytes(packed)
    with pytest.raises(DamagedRecordError, match="cannot be unpacked"):
        list(read_records(tmp_path / "x.gz"))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no records here, only words")
    with pytest.raises(DamagedRecordError, match=r"record 0 at byte 0 .* is no TFRecord file"):
        list(read_records(tmp_path / "text"))
    with pytest.raises(DamagedRecordError, match="is no TFRecord file"):
        RecordFiles([tmp_path / "text"])


def test_an_offset_between_records(path: Path) -> None:
    with pytest.raises(DamagedRecordError, match="the record at byte 3 "):
        read_record(path, 3)
    with pytest.raises(DamagedRecordError, match="the file ends there"):
        read_record(path, path.stat().st_size)


def test_nothing_is_left_of_a_file_that_fails(tmp_path: Path) -> None:
    def records():
        yield b"one"
        raise DataError("no second")

    write_records(tmp_path / "file", [b"old"])
    with pytest.raises(DataError, match="no second"):
        write_records(tmp_path / "file", records())
    assert list(read_records(tmp_path / "file")) == [b"old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ConfigError, match="'zip'"):
        write_records(tmp_path / "file", [], compression="zip")  # type: ignore[arg-type]


def test_shard_names(tmp_path: Path) -> None:
    assert shard_path(tmp_path / "hmdb51", 3, 10) == tmp_path / "hmdb51-00003-of-00010"
    for index, total in ((10, 10), (-1, 10), (0, 0)):
        with pytest.raises(ConfigError, match=f"no shard {index} of {total}"):
            shard_path(tmp_path / "x", index, total)


def test_patterns(tmp_path: Path) -> None:
    shards = [shard_path(tmp_path / "x", index, 3) for index in (2, 0, 1)]
    for shard in shards:
        shard.touch()
    for name in ("classes.txt", "convert.json", "failures.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert find_shards(str(tmp_path / "*")) == sorted(shards)
    both = [str(shards[0]), str(tmp_path / "x-*-of-00003")]
    assert find_shards(both) == [shards[0], *sorted(shards)[:2]]
    odd = tmp_path / "[odd]"
    odd.touch()
    assert find_shards(str(odd)) == [odd]
    for pattern, said in (
        ("y-*", "matches no file;"),
        ("f*", f"matches no file but the folder {tmp_path / 'folder'};"),
        ("classes.txt", "matches no file;"),
    ):
        with pytest.raises(DataError, match=re.escape(said)):
            find_shards([str(tmp_path / "x-*"), str(tmp_path / pattern)])


def test_random_access(tmp_path: Path) -> None:
    paths = [tmp_path / "train" / "a", tmp_path / "empty", tmp_path / "test" / "a"]
    contents = [[b"0", b"1", b"2"], [], [b"3", b"4"]]
    for path, content in zip(paths, contents, strict=True):
        write_records(path, content)
    files = RecordFiles(paths)
    assert files.paths == tuple(paths) and len(files) == 5
    assert [files.read(number) for number in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    keys = [files.key(number) for number in range(5)]
    assert keys == ["train/a:0", "train/a:1", "train/a:2", "test/a:0", "test/a:1"]
    copy = pickle.loads(pickle.dumps(files))
    assert copy.read(3) == b"3" and copy.key(4) == "test/a:1"
    for number in (-1, 5):
        with pytest.raises(IndexError):
            files.read(number)


def test_random_access_verifies(path: Path) -> None:
    files = RecordFiles([path])
    content = bytearray(path.read_bytes())
    content[starts(RECORDS)[2] + 500] ^= 1
    path.write_bytes(content)
    assert files.read(3) == RECORDS[3]
    with pytest.raises(DamagedRecordError, match=r"record 2 .* checksum of its content"):
        files.read(2)


def test_missing_modules_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    tfrecord._crc32c.cache_clear()
    with pytest.raises(ConfigError, match=r"google_crc32c.*pip install 'ssvideo-core\[tfrecord\]'"):
        write_records(tmp_path / "x", [b""])


def test_importing_needs_none_of_them() -> None:
    code = """
import sys
import ssvideo_core.formats.convert_tfrecord
wanted = ("google_crc32c", "google.protobuf", "simplejpeg")
print([name for name in wanted if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
