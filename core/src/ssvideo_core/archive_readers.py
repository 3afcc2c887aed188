"""What is in a zip, tar or rar file, member after member; `archives` decides what may be written.

Nothing here writes a file: of a rar file, an outside program writes all contents to a pipe.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ssvideo_core.errors import ConfigError, DataError
from ssvideo_core.extras import optional_module

HEAD_BYTES = 512  # enough of a file to tell what it is
PIECE_BYTES = 1 << 20  # in one read
LINK = "a link or a device"
RAR_NAME_IN_UNICODE = 0x200
_PACKED: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open,
}  # fmt: skip
# Programs that write all members of a rar file to their output, and how they are asked to.
RAR_TOOLS = {
    "unrar": ("p", "-inul", "-p-", "--"),
    "bsdtar": ("-xOf",),
    "7zz": ("e", "-so", "-bd", "--"),
    "7z": ("e", "-so", "-bd", "--"),
}


class Readable(Protocol):
    """What the content of a member is read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One entry, as the archive describes it; nothing of it was checked.

    size: bytes once unpacked. kind: "file", "folder", or what else it is. content: opens it, once
    and before the next member is asked for; a wrong checksum raises at the end of its bytes.
    """

    name: str
    size: int
    kind: str
    content: Callable[[], Readable]


@dataclass(frozen=True)
class Source:
    """file: at its start. total: bytes that may be unpacked. rar_tool: None for any."""

    path: Path
    file: BinaryIO
    total: int
    rar_tool: str | None


Reader = Callable[[Source], Generator[Member, None, None]]


def reader_of(head: bytes) -> Reader | None:
    """Who reads a file that begins with `head`; None for no archive."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members
    if head.startswith(b"Rar!\x1a\x07"):
        return _rar_members
    packed = head.startswith(tuple(_PACKED))
    return _tar_members if packed or head[257:262] == b"ustar" else None


def _zip_members(source: Source) -> Generator[Member, None, None]:
    with zipfile.ZipFile(source.file) as archive:
        for info in archive.infolist():
            name = info.orig_filename
            if not info.flag_bits & 0x800:  # zipfile took it for DOS text; most are UTF-8
                name = name.encode("cp437").decode(errors="surrogateescape")
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = (
                "encrypted" if info.flag_bits & 1
                else "folder" if name.endswith("/")
                else "file" if mode in (0, stat.S_IFREG)
                else LINK
            )  # fmt: skip
            yield Member(name, info.file_size, kind, partial(archive.open, info))


class _Forward:
    """A tar stream, read forward in pieces: headers may ask for any length and any place."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left = stream, limit
        self.last = b""

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, position: int) -> None:
        if position < self.tell() - 1:  # tarfile rereads the last byte of a member
            raise ValueError("a header points backwards")
        self._stream.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= PIECE_BYTES:
            raise ValueError(f"a header of {size} bytes")
        self.last = self._stream.read(size)
        self._left -= len(self.last)
        if self._left < 0:
            raise ValueError("it holds far more than its size allows (a bomb?)")
        return self.last


def _tar_members(source: Source) -> Generator[Member, None, None]:
    head = source.file.read(HEAD_BYTES)
    source.file.seek(0)
    unpack = next((_PACKED[magic] for magic in _PACKED if head.startswith(magic)), None)
    limit = 2 * source.total + PIECE_BYTES  # headers and padding count too
    stream: Any = _Forward(unpack(source.file) if unpack else source.file, limit)
    # "r:" takes the stream as it is: tarfile's own unpacking is not bounded.
    with tarfile.open(None, "r:", stream, encoding="utf-8", errors="surrogateescape") as tar:
        for info in tar:
            regular = info.isreg() and not info.issparse()
            kind = "folder" if info.isdir() else "file" if regular else LINK
            yield Member(info.name, info.size, kind, partial(tar.extractfile, info))  # type: ignore[arg-type]
    if stream.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for the end
        raise DataError(f"{source.path}: damaged or cut off at byte {stream.tell()}; get it again")
    while stream.read(PIECE_BYTES):  # the checksum of a packed stream is at its end
        pass


def _rar_members(source: Source) -> Generator[Member, None, None]:
    """Names and sizes from the headers, contents from one run of a program, cut by those sizes."""
    archive = source.path
    tool = _rar_tool(archive, source.rar_tool)
    rarfile = optional_module("rarfile", "rar")
    try:
        with rarfile.RarFile(archive, errors="strict") as rar:
            infos, volumes = rar.infolist(), rar.volumelist()
    except rarfile.Error as error:
        raise DataError(f"{archive} is not a whole rar file ({error}); get it again") from error
    if len(volumes) != 1:
        raise DataError(f"{archive} is one of {len(volumes)} volumes; unpack them by hand")
    command = [tool, *RAR_TOOLS[Path(tool).name], str(archive.resolve())]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=quiet, stdout=pipe, stderr=said) as process,
    ):
        output: Any = process.stdout

        def ended() -> DataError:
            code = process.wait()
            said.seek(0)
            return DataError(
                f"{archive}: {tool} ended with {code} before or at the end of it, saying "
                f"{said.read(300)!r}; get it again, or use another of {', '.join(RAR_TOOLS)}"
            )

        try:
            for info in infos:
                kind = (
                    "encrypted" if info.needs_password()
                    else "folder" if info.is_dir()
                    else "file" if info.is_file() and not info.file_redir
                    else LINK
                )  # fmt: skip
                content = partial(_Section, output, info, archive, ended)
                yield Member(_rar_name(info), info.file_size, kind, content)
            if output.read(1):
                raise DataError(f"{archive}: {tool} found more in it than it lists; get it again")
            if process.wait():
                raise ended()
        finally:
            process.kill()


def _rar_name(info: Any) -> str:
    if info.flags & RAR_NAME_IN_UNICODE:
        return str(info.filename)
    # rarfile would guess an encoding.
    return str(info.orig_filename.decode(errors="surrogateescape")).replace("\\", "/")


class _Section:
    """One member's part of the output for all of them."""

    def __init__(
        self, output: BinaryIO, info: Any, archive: Path, ended: Callable[[], DataError]
    ) -> None:
        self._output, self._info, self._archive, self._ended = output, info, archive, ended
        self._left, self._crc = info.file_size, 0

    def read(self, size: int) -> bytes:
        piece = self._output.read(min(size, self._left))
        if self._left and not piece:
            raise self._ended()
        self._left -= len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if self._left == 0 and self._info.CRC not in (None, self._crc):
            raise DataError(
                f"{self._archive}: the member {self._info.filename!r} does not match its checksum"
            )
        return piece


def _rar_tool(archive: Path, wanted: str | None) -> str:
    for name in RAR_TOOLS if wanted is None else (wanted,):
        tool = shutil.which(name)
        if tool is not None and Path(tool).name in RAR_TOOLS:
            return tool
    known = ", ".join(RAR_TOOLS)
    raise ConfigError(
        f"{archive} is a rar file, which needs the extra rar (pip install 'ssvideo-core[rar]') and "
        f"one of the programs {known}; found "
        f"{'none on PATH' if wanted is None else f'no such program at {wanted}'}. Install one, or "
        "unpack it and give the folder"
    )
