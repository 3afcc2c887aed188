"""Rar files of stored members, and a program that reads them: nothing free writes such files."""

from __future__ import annotations

import stat
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

MARKER = b"Rar!\x1a\x07\x00"
LONG, FOLDER, PASSWORD, VOLUME = 0x8000, 0x00E0, 0x0004, 0x0001

# What `unrar p` does, for these files only. It notes how it was called.
PROGRAM = """#!{python}
import struct, sys
with open({calls!r}, "a") as file:
    print(*sys.argv[1:], sep="\\t", file=file)
data, place = open(sys.argv[-1], "rb").read(), 7
while place < len(data) and not {skip}:
    _, kind, flags, size = struct.unpack_from("<HBHH", data, place)
    packed = struct.unpack_from("<I", data, place + 7)[0] if kind == 0x74 else 0
    sys.stdout.buffer.write(data[place + size : place + size + packed])
    place += size + packed
sys.stdout.buffer.write({more!r})
sys.stderr.write({said!r})
sys.exit({code})
"""


def _block(kind: int, flags: int, body: bytes) -> bytes:
    rest = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest


def member(
    name: str | bytes,
    content: bytes = b"",
    *,
    mode: int = stat.S_IFREG | 0o644,
    flags: int = 0,
    size: int | None = None,
    crc: int | None = None,
) -> bytes:
    """Header and stored content; `size` and `crc` are those of the content unless given."""
    raw = name if isinstance(name, bytes) else name.encode()
    if stat.S_ISDIR(mode):
        flags |= FOLDER
    size = len(content) if size is None else size
    crc = zlib.crc32(content) if crc is None else crc
    body = struct.pack("<IIBIIBBHI", len(content), size, 3, crc, 0, 20, 0x30, len(raw), mode)
    return _block(0x74, LONG | flags, body + raw) + content


def archive(*members: bytes, flags: int = 0) -> bytes:
    """A whole file of such members."""
    return MARKER + _block(0x73, flags, bytes(6)) + b"".join(members) + _block(0x7B, 0x4000, b"")


def of_files(files: Mapping[str, bytes]) -> bytes:
    return archive(*(member(name, content) for name, content in files.items()))


def install(
    folder: Path,
    *,
    name: str = "unrar",
    more: bytes = b"",
    said: str = "",
    code: int = 0,
    skip: bool = False,
) -> Path:
    """Put the program into a new folder for PATH; returns the list of its calls.

    more, said, code: what it adds to its output, to its errors, and its exit code. skip: it leaves
    the members out.
    """
    folder.mkdir()
    calls, program = folder / "calls.txt", folder / name
    text = PROGRAM.format(
        python=sys.executable, calls=str(calls), more=more, said=said, code=code, skip=skip
    )
    program.write_text(text)
    program.chmod(0o755)
    return calls
