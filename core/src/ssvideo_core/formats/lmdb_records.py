"""CoCLR's frame databases: one LMDB file that holds the JPEGs of all videos of a data set.

| key | value, packed by msgpack |
|---|---|
| `%09d`, the id of a video | array of byte strings: its frames as JPEG files |
| `__len__` | number of videos |
| `__keys__` | array of the 9-character keys in folder order: by class, then by video |
| `__vlen__` | array of the numbers of frames, in the order of `__keys__` |
| `__order__` | array of texts `class/video`; the position of a name is its id |

`msgpack_arrays` reads and writes the values; what LMDB itself stores is checked as far as that
library does. Needs lmdb (extra `lmdb`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ssvideo_core.errors import ConfigError, DataError, DecodeError
from ssvideo_core.extras import optional_module
from ssvideo_core.files import replacing, write_text
from ssvideo_core.formats.msgpack_arrays import (
    byte_strings,
    integer,
    integers,
    pack_array,
    pack_integer,
)
from ssvideo_core.loading import ordered_map
from ssvideo_core.progress import Meter, Report

T = TypeVar("T")
SHUFFLE_SEED = 0  # of the ids, in the original and here: other seeds make other databases
FIRST_MAP_BYTES = 1 << 26  # of a database that is written; twice as many whenever they are full


@dataclass(frozen=True)
class Contents:
    """What a database holds. names[i], num_frames[i]: `class/video` and frames of the video i."""

    names: tuple[str, ...]
    num_frames: tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """A new database. empty: names of the videos that have no frames."""

    path: Path
    num_videos: int
    num_frames: int
    empty: tuple[str, ...]


def key_of(number: int) -> bytes:
    """The key of the video with this id."""
    return b"%09d" % number


@contextmanager
def reading(path: Path) -> Iterator[Callable[[bytes], memoryview]]:
    """Values by key, in place: they end with the context.

    path: a database file, or a folder with data.mdb. It is opened once in a process, read-only and
    without a lock file, and never handed to a forked process, which opens it anew.
    Raises DataError for what is no database and for a file that was cut off, DecodeError, with file
    and key, for a key that is not there.
    """
    lmdb = optional_module("lmdb", "lmdb")
    with _environment(path).begin(buffers=True) as transaction:

        def get(key: bytes) -> memoryview:
            try:
                value = transaction.get(key)
            except lmdb.Error as error:
                raise DecodeError(f"{_place(path, key)}: {error}; copy the file again") from None
            if value is None:
                raise DecodeError(
                    f"{_place(path, key)}: there is no such key; expected a database of CoCLR's "
                    "form, with a key a video and __len__, __keys__, __vlen__, __order__"
                )
            return memoryview(value)

        yield get


def read_contents(path: Path) -> Contents:
    """Names and numbers of frames, by id. Raises DataError where the four lists do not agree."""
    with reading(path) as get:
        length = _parsed(path, get, b"__len__", integer)
        names = _parsed(path, get, b"__order__", _names)
        keys = _parsed(path, get, b"__keys__", _keys)
        counts = _parsed(path, get, b"__vlen__", integers)
    if not length == len(names) == len(keys) == len(counts):
        raise DataError(
            f"{path}: __len__ is {length}, but there are {len(names)} names in __order__, "
            f"{len(keys)} keys in __keys__ and {len(counts)} numbers of frames in __vlen__; "
            "expected as many of each. Make or copy the database again"
        )
    by_key = dict(zip(keys, counts, strict=True))
    try:
        return Contents(tuple(names), tuple(by_key[key_of(number)] for number in range(length)))
    except KeyError as error:
        raise DataError(
            f"{_place(path, b'__keys__')}: {error.args[0].decode()} is not listed; expected the "
            f"keys of {length} videos, each once. Make or copy the database again"
        ) from None


def write_database(
    path: Path, root: Path, *, workers: int = 0, progress: Report | None = None
) -> Written:
    """Pack root/class/video/*.jpg, whole or not at all.

    Ids are the original's: all `class/video` sorted as paths, then shuffled by Python's `random`
    with seed 0. Frames are sorted by name; hidden files and folders are left out. Unlike in the
    original, videos whose names hold brackets have their frames. Beside the database stands
    PATH-order with the names by id, for people. workers: processes that read the frames.

    Raises ConfigError when `path` exists, DataError when there is no video, and for a name that is
    not UTF-8 and a frame that does not begin as a JPEG.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; delete it, or choose another name")
    names = _video_folders(root)
    by_folder = sorted(names, key=lambda name: name.split("/"))
    random.Random(SHUFFLE_SEED).shuffle(names)
    counts: dict[str, int] = {}
    meter = Meter(len(names), 0, progress)
    packing = ordered_map(partial(_packed_video, root), names, workers=workers)
    with closing(packing) as packed, replacing(path) as file, _new(Path(file.name)) as put:
        for number, (count, value) in enumerate(meter.watch(packed)):
            put(key_of(number), value)
            counts[names[number]] = count
            meter.advance(failed=False)
        ids = {name: number for number, name in enumerate(names)}
        put(b"__keys__", pack_array([key_of(ids[name]) for name in by_folder]))
        put(b"__len__", pack_integer(len(names)))
        put(b"__order__", pack_array(names))
        put(b"__vlen__", pack_array([counts[name] for name in by_folder]))
    write_text(path.with_name(f"{path.name}-order"), "\n".join(names))
    empty = tuple(name for name in names if not counts[name])
    return Written(path, len(names), sum(counts.values()), empty)


def _keys(value: memoryview) -> list[bytes]:
    return list(byte_strings(value))


def _names(value: memoryview) -> list[str]:
    names: dict[str, None] = {}
    for raw in byte_strings(value):
        name = raw.decode()  # a UnicodeDecodeError is a ValueError that says what was found
        parts = name.split("/")
        if len(parts) != 2 or {"", ".", ".."} & set(parts) or name in names:
            raise ValueError(f"found the name {name!r}, expected class/video, each once")
        names[name] = None
    return list(names)


def _parsed(
    path: Path, get: Callable[[bytes], memoryview], key: bytes, parse: Callable[[memoryview], T]
) -> T:
    try:
        return parse(get(key))
    except ValueError as error:
        raise DataError(f"{_place(path, key)}: {error}. Make or copy the database again") from None


def _place(path: Path, key: bytes) -> str:
    return f"{path}, key {key.decode()}"


# Databases this process has open, by device and number of their files, with their names. LMDB
# refuses to open a file twice in a process, and one that was opened before a fork must not be used
# after it.
_OPENED: dict[tuple[int, int], tuple[str, Any]] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OPENED.clear)


def _environment(path: Path) -> Any:
    file = path / "data.mdb" if path.is_dir() else path
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(
            f"{file}: {error.strerror}; expected an LMDB file, or a folder with data.mdb"
        ) from None
    identity = status.st_dev, status.st_ino  # a file keeps it while it is open
    if identity not in _OPENED:
        _close_replaced()
        _OPENED[identity] = os.path.realpath(file), _open(path, file, status.st_size)
    return _OPENED[identity][1]


def _close_replaced() -> None:
    """Close the databases in whose place is another file, or none."""
    for identity, (name, environment) in list(_OPENED.items()):
        with suppress(OSError):
            status = os.stat(name)
            if (status.st_dev, status.st_ino) == identity:
                continue
        del _OPENED[identity]
        environment.close()


def _open(path: Path, file: Path, size: int) -> Any:
    lmdb = optional_module("lmdb", "lmdb")
    # The original switches reading ahead off. But a video is read from front to back; page by page
    # that takes ten times as long from a disk.
    options = {"readonly": True, "create": False, "lock": False, "readahead": True}
    try:
        environment = lmdb.open(str(path), subdir=path.is_dir(), **options)
    except lmdb.Error as error:
        raise DataError(f"{file} cannot be opened as an LMDB database: {error}") from None
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:  # reading what is not there would end the process by a signal
        environment.close()
        raise DataError(
            f"{file} was cut off: it has {size} bytes, expected {needed}. Copy or unpack it again"
        )
    return environment


@contextmanager
def _new(path: Path) -> Iterator[Callable[[bytes, bytes], None]]:
    """A function that adds rows in the order of their keys. The map grows as they need it."""
    lmdb = optional_module("lmdb", "lmdb")
    environment = lmdb.open(
        str(path), subdir=False, map_size=FIRST_MAP_BYTES, lock=False, sync=False
    )

    def put(key: bytes, value: bytes) -> None:
        while True:
            try:
                with environment.begin(write=True) as transaction:
                    transaction.put(key, value, append=True)
                return
            except lmdb.MapFullError:
                environment.set_mapsize(2 * environment.info()["map_size"])

    with environment:
        yield put
        environment.sync(True)


def _video_folders(root: Path) -> list[str]:
    """All `class/video`, sorted as paths: "a-b/c" is before "a/c"."""
    names = sorted(
        f"{folder.name}/{video.name}" for folder in _folders(root) for video in _folders(folder)
    )
    if not names:
        raise DataError(f"{root} holds no videos; expected folders of frames, {root}/class/video")
    for name in names:
        if name.encode(errors="ignore").decode() != name:
            raise DataError(f"{root}: the name {name!r} is not UTF-8; rename the folder")
    return names


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.name[0] != "." and path.is_dir()]


def _packed_video(root: Path, name: str) -> tuple[int, bytes]:
    """The number of frames of a video, and its value."""
    files = [path for path in (root / name).iterdir() if path.suffix == ".jpg"]
    frames = []
    for file in sorted(path for path in files if path.name[0] != "."):
        frames.append(file.read_bytes())
        if frames[-1][:2] != b"\xff\xd8":
            raise DataError(f"{file} is no JPEG: expected a file that begins with ff d8")
    return len(frames), pack_array(frames)
