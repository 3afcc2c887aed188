"""TFRecord files: records of bytes one after the other, each with its length and two checksums.

| bytes | content |
|---|---|
| 8 | payload length n, little-endian |
| 4 | masked CRC32C of those 8 bytes |
| n | payload |
| 4 | masked CRC32C of the payload |

Both checksums are always verified, that of the length before anything of that length is read. A
whole file may be packed with gzip or zlib; that is told by its content. What the payloads mean is
`sequence_examples`' business. Needs google-crc32c (extra `tfrecord`).
"""

from __future__ import annotations

import glob
import gzip
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.extras import optional_module
from ssvideo_core.files import replacing

_LOG = logging.getLogger(__name__)
# What `convert_tfrecord` writes beside shards; a pattern never means them.
CLASSES, LEDGER, FAILURES = "classes.txt", "convert.json", "failures.csv"

_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_PIECE = 1 << 24  # bytes that one read may ask for: a length that lies costs no more memory
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class DamagedRecordError(DataError):
    """A record that is not what was written. The message names file, record and byte."""


def masked_crc(data: bytes) -> int:
    """CRC32C (Castagnoli), rotated right by 15 bits plus a constant: the form that files store."""
    crc = _crc32c()(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(
    path: Path, *, on_damage: Literal["raise", "skip_rest"] = "raise"
) -> Iterator[bytes]:
    """The payloads of one file in order.

    on_damage: at a wrong checksum or a file that ends within a record, "raise" raises
    DamagedRecordError and "skip_rest" ends with a warning in the log; the records before are
    delivered by both, nothing after it by either. TensorFlow does the same, except that it takes
    a file that ends within a header for complete. An empty file has no records.
    """
    if on_damage not in ("raise", "skip_rest"):
        raise ConfigError(f"on_damage is '{on_damage}', expected raise or skip_rest")
    offset = 0
    with _opened(path) as stream:
        for record in count():
            place = _Place(path, record, offset)
            try:
                payload = _read_next(stream, place)
            except DamagedRecordError as error:
                if on_damage == "raise":
                    raise
                _LOG.warning("%s; the rest of the file is left out", error)
                return
            if payload is None:
                return
            yield payload
            offset = place.end(len(payload))


def record_offsets(path: Path) -> NDArray[np.int64]:
    """[R, 2] int64: the byte at which each record begins, and the bytes of its payload.

    Only headers are read, so payloads may still be damaged. Raises DamagedRecordError, and
    DataError for a compressed file, which allows no random access.
    """
    rows: list[tuple[int, int]] = []
    size, place = path.stat().st_size, _Place(path, 0, 0)
    with path.open("rb", buffering=0) as file:
        if _is_compressed(file):
            raise DataError(
                f"{path} is compressed, which allows no random access: decompress it "
                "('gzip -dc FILE > NEW'), or read it in order"
            )
        while header := file.read(_HEADER.size):
            length = _read_length(header, place)
            if place.end(length) > size:
                raise place.damaged(f"the file ends within its {length} bytes")
            rows.append((place.offset, length))
            place = _Place(path, len(rows), place.end(length))
            file.seek(place.offset)
    return np.array(rows, np.int64).reshape(-1, 2)


def read_record(path: Path, offset: int) -> bytes:
    """The payload of the record that begins at byte `offset` of an uncompressed file.

    Raises DamagedRecordError, also when no record begins there.
    """
    return _read_at(_Place(path, None, offset))


def write_records(
    path: Path, records: Iterable[bytes], *, compression: Literal["gzip"] | None = None
) -> int:
    """Write payloads as one file, whole or not at all; returns how many there were.

    Equal records give equal bytes, compressed too (by the same zlib). Raises ConfigError for
    another compression.
    """
    if compression not in (None, "gzip"):
        raise ConfigError(f"compression is '{compression}', expected gzip or none")
    with replacing(path) as file:
        if compression is None:
            return _write_all(file, records)
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            return _write_all(packed, records)


def shard_path(base: Path, index: int, total: int) -> Path:
    """BASE-%05d-of-%05d. Raises ConfigError unless 0 <= index < total."""
    if not 0 <= index < total:
        raise ConfigError(f"{base}: there is no shard {index} of {total}")
    return base.with_name(f"{base.name}-{index:05d}-of-{total:05d}")


def find_shards(patterns: str | Sequence[str]) -> list[Path]:
    """The files that glob patterns match, pattern by pattern, each in the order of names.

    A file that several patterns match counts once; what the converter writes beside its shards is
    left out. Raises DataError for a pattern that matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        names = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern))
        paths = [Path(name) for name in names if os.path.isfile(name)]
        shards = [path for path in paths if path.name not in (CLASSES, LEDGER, FAILURES)]
        if not shards:
            folder = next((f" but the folder {name}" for name in names if os.path.isdir(name)), "")
            raise DataError(
                f"'{pattern}' matches no file{folder}; expected record files such as "
                "'DIR/hmdb51-*-of-00010', in quotes so that the shell leaves the pattern alone"
            )
        found.update(dict.fromkeys(shards))
    return list(found)


class RecordFiles:
    """The records of several files by number, 0 to len - 1: file by file, each in its order.

    paths: uncompressed files; their headers are read here, and raise as `record_offsets` does.
    Picklable. Each read opens its file, so processes share nothing and divide the work by number.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        offsets = [record_offsets(path)[:, 0] for path in self.paths]
        self._offsets = np.concatenate([np.empty(0, np.int64), *offsets])
        self._ends = np.cumsum([len(rows) for rows in offsets])

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, number: int) -> bytes:
        """One payload. Raises DamagedRecordError, IndexError for a number that is not there."""
        file, record = self._position(number)
        return _read_at(_Place(self.paths[file], record, int(self._offsets[number])))

    def key(self, number: int) -> str:
        """A name that no other record has: "FILE:RECORD", the file as a POSIX path from the folder
        that all files share.
        """
        file, record = self._position(number)
        shared = os.path.commonpath([path.absolute().parent for path in self.paths])
        return f"{self.paths[file].absolute().relative_to(shared).as_posix()}:{record}"

    def _position(self, number: int) -> tuple[int, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no record {number} of {len(self)}")
        file = int(np.searchsorted(self._ends, number, side="right"))
        return file, number - (int(self._ends[file - 1]) if file else 0)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class _Place:
    """A record of a file: its number where known, and its first byte (of the unpacked content)."""

    path: Path
    record: int | None
    offset: int

    def end(self, length: int) -> int:
        return self.offset + _HEADER.size + length + _CRC.size

    def damaged(self, found: str) -> DamagedRecordError:
        which = "the record" if self.record is None else f"record {self.record}"
        return DamagedRecordError(
            f"{self.path}: {which} at byte {self.offset} is damaged: {found}. Copy or make the "
            "file again"
        )


@cache
def _crc32c() -> Callable[[bytes], int]:
    value: Callable[[bytes], int] = optional_module("google_crc32c", "tfrecord").value
    return value


def _read_at(place: _Place) -> bytes:
    with place.path.open("rb", buffering=0) as file:
        file.seek(place.offset)
        payload = _read_next(file, place)
    if payload is None:
        raise place.damaged("the file ends there")
    return payload


def _read_next(stream: _Stream, place: _Place) -> bytes | None:
    """The payload at the stream's position; None at the end of the file."""
    try:
        header = _take(stream, _HEADER.size)
        if not header:
            return None
        length = _read_length(header, place)
        payload, stored = _take(stream, length), _take(stream, _CRC.size)
    except (zlib.error, EOFError) as error:
        raise place.damaged(f"the compressed file cannot be unpacked: {error}") from None
    if len(stored) < _CRC.size:
        raise place.damaged(f"the file ends within its {length} bytes")
    if _CRC.unpack(stored)[0] != masked_crc(payload):
        raise place.damaged("the checksum of its content is wrong")
    return payload


def _read_length(header: bytes, place: _Place) -> int:
    if len(header) < _HEADER.size:
        raise place.damaged(f"the file ends within its header, after {len(header)} bytes")
    length, crc = _HEADER.unpack(header)
    if crc != masked_crc(header[: _LENGTH.size]):
        raise place.damaged("the checksum of its length is wrong, or this is no TFRecord file")
    return int(length)


def _take(stream: _Stream, size: int) -> bytes:
    """`size` bytes, fewer at the end of the file."""
    pieces = []
    while size and (piece := stream.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(file: BinaryIO | gzip.GzipFile, records: Iterable[bytes]) -> int:
    written = 0
    for payload in records:
        length = _LENGTH.pack(len(payload))
        file.write(length + _CRC.pack(masked_crc(length)))
        file.write(payload)
        file.write(_CRC.pack(masked_crc(payload)))
        written += 1
    return written


@contextmanager
def _opened(path: Path) -> Iterator[_Stream]:
    with path.open("rb") as file:
        yield _Unpacked(file) if _is_compressed(file) else file


def _is_compressed(file: BinaryIO) -> bool:
    """Whether the content is packed; a sound first header is not, whatever its length looks like.

    Leaves the file at its beginning.
    """
    header = file.read(_HEADER.size)
    file.seek(0)
    if len(header) == _HEADER.size:
        length, crc = _HEADER.unpack(header)
        if crc == masked_crc(_LENGTH.pack(length)):
            return False
    is_zlib = header[:1] == b"\x78" and int.from_bytes(header[:2], "big") % 31 == 0
    return header[:3] == b"\x1f\x8b\x08" or is_zlib


class _Unpacked:
    """What a gzip or zlib file holds, of all its members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._member = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._packed = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._packed:
                self._packed = self._file.read(1 << 16)
            if self._member.eof:
                if not self._packed:
                    return b""
                self._member = zlib.decompressobj(_GZIP_OR_ZLIB)
            elif not self._packed:
                raise EOFError("it ends too early")
            content = self._member.decompress(self._packed, size)
            self._packed = self._member.unused_data or self._member.unconsumed_tail
            if content:
                return content
