"""Unpacking zip, tar and rar files from the internet: a whole archive as a new folder, or nothing.

The kind follows from the content. An archive is refused, naming the member, for a name that leaves
the folder, is absolute, begins with "-", is reserved on some system, is not UTF-8 or differs from
another only in case; for links, devices and encrypted members; and beyond `Limits`. Files are
written by this module alone, never by an outside program.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import struct
import tarfile
import unicodedata
import uuid
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ssvideo_core.archive_readers import HEAD_BYTES, PIECE_BYTES, Member, Source, reader_of
from ssvideo_core.errors import ConfigError, DataError

MAX_NAME = 4096
_NOT_UTF8 = re.compile("[\ud800-\udfff\ufffd]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[. ]", re.IGNORECASE)
_DAMAGE = (  # what the readers raise for damaged archives, and the system for a full disk
    OSError, ValueError, EOFError, RuntimeError, OverflowError, IndexError, struct.error,
    zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to; videos hardly shrink when packed.

    members: files and folders. total_bytes: of all files. ratio: of those to the archive's own
    size, of which at least 1 MiB is counted.
    """

    members: int = 1_000_000
    total_bytes: int = 1 << 40
    ratio: float = 100.0


def extract(
    archive: Path,
    folder: Path,
    *,
    checksum: str | None = None,
    limits: Limits = Limits(),
    rar_tool: str | None = None,
) -> tuple[str, ...]:
    """Unpack `archive` into the new `folder`; returns the POSIX paths of its files.

    checksum: "sha256:…" or "md5:…" in hex, compared before anything else is read.
    rar_tool: a key of `archive_readers.RAR_TOOLS`, or a path to it; None: the first one on PATH.
    `folder` appears complete or not at all; what a kill leaves is a hidden folder beside it that
    ends in .tmp. Times and permissions are not taken over.

    Raises DataError for a damaged, refused or unknown archive, another checksum, and a `folder`
    that exists; ConfigError, saying what to install, for a rar file that nothing here can read.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already; remove it or unpack {archive} elsewhere")
    if checksum is not None:
        verify(archive, checksum)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        names = _unpack(archive, temporary, limits, rar_tool)
        os.sync()  # once: one call for each of thousands of files takes longer than unpacking
        temporary.rename(folder)
    except _DAMAGE as error:
        raise DataError(
            f"{archive} cannot be unpacked ({error}): damaged, cut off, or the disk is full. "
            "Nothing was kept; get it again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names


def verify(file: Path, checksum: str) -> None:
    """Raise DataError unless `file` has this checksum, "sha256:…" or "md5:…" in hex."""
    kind, _, expected = checksum.partition(":")
    if kind not in ("sha256", "md5") or not expected:
        raise ConfigError(f"found the checksum '{checksum}', expected sha256:… or md5:…")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != expected.lower():
        raise DataError(f"{file}: its {kind} is {found}, expected {expected}; get it again")


def is_archive(file: Path) -> bool:
    """Whether `file` begins like an archive that `extract` reads."""
    with file.open("rb") as stream:
        return reader_of(stream.read(HEAD_BYTES)) is not None


def _unpack(archive: Path, folder: Path, limits: Limits, rar_tool: str | None) -> tuple[str, ...]:
    size, names, files = archive.stat().st_size, _Names(archive), []
    left = total = min(limits.total_bytes, int(limits.ratio * max(size, 1 << 20)))
    with archive.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        reader = reader_of(head)
        if reader is None:
            raise DataError(f"{archive} begins with {head[:8]!r}; expected a zip, tar or rar file")
        with closing(reader(Source(archive, file, total, rar_tool))) as members:
            for number, member in enumerate(members):
                if number >= limits.members:
                    names.refuse(member.name, f"is one of more than {limits.members}")
                path = names.place(member)
                if member.kind == "folder":
                    (folder / path).mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    names.refuse(member.name, f"makes it unpack to more than {total} bytes (bomb?)")
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                if not _write(member, folder / path):
                    names.refuse(member.name, f"does not hold the {member.size} bytes it should")
                files.append(path)
    return tuple(files)


def _write(member: Member, target: Path) -> bool:
    """Whether the member had exactly the promised bytes."""
    content, left = member.content(), member.size
    with target.open("xb") as file:
        while left and (piece := content.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            file.write(piece)
    return left == 0 and not content.read(1)


class _Names:
    """The names of one archive's members, each checked by itself and against the others."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._taken: dict[str, tuple[str, bool]] = {}

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise DataError(f"{self._archive}: the member {name!r:.300} {reason}; nothing was kept")

    def place(self, member: Member) -> str:
        """The POSIX path of a member; "" for the folder itself."""
        name, folder = member.name, member.kind == "folder"
        parts = [part for part in name.split("/") if part not in ("", ".")]
        reason = (
            f"is {member.kind}" if member.kind not in ("file", "folder")
            else f"has a size of {member.size} bytes" if member.size < 0
            else f"has a name of more than {MAX_NAME} characters" if len(name) > MAX_NAME
            else "has a name that is not UTF-8" if _NOT_UTF8.search(name)
            else "has a name with control characters or backslashes" if _CONTROL.search(name)
            else "has an absolute name" if _ABSOLUTE.match(name)
            else "leaves the folder" if ".." in parts
            else 'begins with "-", like an option' if "".join(parts[:1]).startswith("-")
            else "has a reserved name" if any(map(_RESERVED.fullmatch, parts))
            else "has no name" if not parts and not folder
            else None
        )  # fmt: skip
        if reason:
            self.refuse(name, reason)
        for end in range(1, len(parts) + 1):
            path, is_folder = "/".join(parts[:end]), folder or end < len(parts)
            key = unicodedata.normalize("NFC", path).casefold()
            taken = self._taken.get(key)
            if taken is not None and (taken != (path, is_folder) or not is_folder):
                self.refuse(name, f"clashes with {taken[0]!r}")
            self._taken[key] = path, is_folder
        return "/".join(parts)
