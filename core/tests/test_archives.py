"""Archives made here, good, hostile and damaged."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ssvideo_core.archive_readers import RAR_TOOLS
from ssvideo_core.archives import Limits, extract, is_archive, verify
from ssvideo_core.errors import ConfigError, DataError

FILES = {
    "wave/a b [1].avi": b"first" * 1000,
    "wave/-c @2;#.avi": b"",
    "run/ü.avi": bytes(range(256)) * 8,
    "readme.txt": b"text",
}


def hostile(name: str) -> ModuleType:
    """A module of the folder `hostile`, which is in no package."""
    path = Path(__file__).parent / "hostile" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rar = hostile("rar")
needs_rarfile = pytest.mark.skipif(
    importlib.util.find_spec("rarfile") is None, reason="needs rarfile (extra rar)"
)


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], *, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


MAKE: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda files: gzip.compress(tarred(files)),
    "tar.bz2": lambda files: bz2.compress(tarred(files)),
    "tar.xz": lambda files: lzma.compress(tarred(files)),
    "rar": rar.of_files,
}
KINDS = [name if name != "rar" else pytest.param(name, marks=needs_rarfile) for name in MAKE]


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The calls of a program that reads rar files, which is the only one on PATH."""
    noted: Path = rar.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(noted.parent))
    return noted


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(archive: Path, match: str, **options: Any) -> None:
    """The archive is refused, and nothing is left of it."""
    before = content_of(archive.parent)
    with pytest.raises(DataError, match=match) as caught:
        extract(archive, archive.parent / "out", **options)
    assert str(archive) in str(caught.value)
    after = content_of(archive.parent)
    assert {name: c for name, c in after.items() if name != "bin/calls.txt"} == {
        name: c for name, c in before.items() if name != "bin/calls.txt"
    }
    assert not (archive.parent / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_unpacked_as_a_whole(kind: str, tmp_path: Path) -> None:
    """Whatever the file is called."""
    archive = put(tmp_path / "any name", MAKE[kind](FILES))
    assert is_archive(archive)
    assert sorted(extract(archive, tmp_path / "deep" / "out")) == sorted(FILES)
    assert content_of(tmp_path / "deep" / "out") == FILES
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    for name in ("", "wave", "readme.txt"):
        mode = (tmp_path / "deep" / "out" / name).stat().st_mode
        assert stat.S_IMODE(mode) == (0o666 if name == "readme.txt" else 0o777) & ~umask


def test_folders_and_names_from_the_current_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (".", "./empty", "./empty"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("./a//b"), io.BytesIO())
    assert extract(put(tmp_path / "t", buffer.getvalue()), tmp_path / "out") == ("a/b",)
    assert (tmp_path / "out" / "empty").is_dir()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_the_checksum_comes_first(kind: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(FILES))
    right = hashlib.new(kind, archive.read_bytes()).hexdigest()
    verify(archive, f"{kind}:{right.upper()}")
    extract(archive, tmp_path / "right", checksum=f"{kind}:{right}")
    wrong = f"{kind}:{'0' * len(right)}"
    refused(archive, f"its {kind} is {right}, expected 000", checksum=wrong)
    refused(put(tmp_path / "damaged", b"PK\x03\x04"), f"its {kind} is", checksum=wrong)
    for checksum in (right, "crc32:00", "md5:"):
        with pytest.raises(ConfigError, match="expected sha256:… or md5:…"):
            extract(archive, tmp_path / "out", checksum=checksum)


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(FILES))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out is there already; remove it"):
        extract(archive, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x1f\x8b\x08\x00", gzip.compress(b"no tar" * 200, mtime=0)],
)
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    refused(put(tmp_path / "a.zip", content), "expected a zip, tar or rar|cannot be unpacked")


# ---- names --------------------------------------------------------------------------------

NAMES = {
    "../up.avi": "leaves the folder",
    "a/../../up.avi": "leaves the folder",
    "a/..": "leaves the folder",
    "/etc/passwd": "has an absolute name",
    "C:/x.avi": "has an absolute name",
    "c:x.avi": "has an absolute name",
    "-rf": 'begins with "-"',
    "--checkpoint-action=exec=sh/x": 'begins with "-"',
    "./-rf": 'begins with "-"',
    "a/con": "has a reserved name",
    "NUL.avi": "has a reserved name",
    "com1.tar.gz/x": "has a reserved name",
    "a./x": "has a reserved name",
    "a ": "has a reserved name",
    "a\nb": "has a name with control characters or backslashes",
    "a\x1b[2Jb": "has a name with control characters",
    "x" * 5000: "has a name of more than 4096 characters",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES, ids=[repr(name)[1:20] for name in NAMES])
def test_names_that_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a", MAKE[kind]({"good.avi": b"x", name: b"x"}))
    refused(archive, f"the member .*{NAMES[name]}")


def test_backslashes_are_no_names(tmp_path: Path) -> None:
    for make in (zipped, tarred):
        archive = put(tmp_path / "a", make({"a\\..\\b": b"x"}))
        refused(archive, r"the member 'a\\\\..\\\\b' has a name with control .* backslashes")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("wave/a.avi", "wave/A.avi"),
        ("wave/a.avi", "Wave/b.avi"),
        ("straße", "STRASSE"),
        ("\u00e9", "e\u0301"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "./a//b"),
    ],
)
def test_names_that_clash(first: str, second: str, kind: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a", MAKE[kind]({first: b"1", second: b"2"}))
    refused(archive, f"the member .* clashes with '{first.split('/')[0]}")


def test_a_name_twice(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    refused(put(tmp_path / "a.zip", buffer.getvalue()), "the member 'a' clashes with 'a'")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    latin = zipped({"a\xfcb": b"x"}).replace("a\xfcb".encode(), b"a\xfc\xfcb")
    refused(put(tmp_path / "zip", latin), "cannot be unpacked .*can't decode")
    # Without the flag zipfile reads DOS text; here the bytes are Latin-1.
    dos = zipped({"a__b": b"x"}).replace(b"a__b", b"a\xfc\xfcb")
    refused(put(tmp_path / "dos", dos), r"the member 'a\\udcfc\\udcfcb' has a name that is not UTF")
    unflagged = zipped({"a__b": b"x"}).replace(b"a__b", "aüb".encode())
    assert extract(put(tmp_path / "unflagged", unflagged), tmp_path / "u") == ("aüb",)
    tar = tarred({"a__b": b"x"})
    header = bytearray(tar[:512].replace(b"a__b", b"a\xfc\xfcb"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    refused(put(tmp_path / "tar", bytes(header) + tar[512:]), "'a.*b' has a name that is not UTF-8")


# ---- what is no file ----------------------------------------------------------------------

TAR_TYPES = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "unknown": b"Z",
}


@pytest.mark.parametrize("kind", TAR_TYPES)
def test_links_and_devices_in_tar_files(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = TAR_TYPES[kind], "/etc/passwd"
        archive.addfile(info)
    refused(put(tmp_path / "a", buffer.getvalue()), "'odd' is a link or a device")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_zip_files(mode: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(put(tmp_path / "a.zip", buffer.getvalue()), "'odd' is a link or a device")


@needs_rarfile
@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR])
def test_links_in_rar_files(mode: int, tmp_path: Path) -> None:
    content = rar.archive(rar.member("odd", b"/etc/passwd", mode=mode | 0o777))
    if mode == stat.S_IFLNK:
        refused(put(tmp_path / "a", content), "'odd' is a link or a device")
    else:  # rar knows no devices: it stays a file
        assert extract(put(tmp_path / "a", content), tmp_path / "out") == ("odd",)
        assert stat.S_ISREG((tmp_path / "out" / "odd").lstat().st_mode)


def test_encrypted_members(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"x"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    refused(put(tmp_path / "a.zip", bytes(content)), "the member 'a' is encrypted")


# ---- bombs --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits(kind: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a", MAKE[kind]({f"f{i}": b"x" * 100 for i in range(5)}))
    exact = Limits(members=5, total_bytes=500)
    assert len(extract(archive, tmp_path / "ok", limits=exact)) == 5
    refused(archive, "the member 'f4' is one of more than 4", limits=Limits(members=4))
    refused(archive, "the member 'f4' makes it unpack to more than 499",
            limits=Limits(total_bytes=499))  # fmt: skip
    refused(archive, "more than 209 bytes", limits=Limits(ratio=0.0002))


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind not in ("tar", "rar")])
def test_much_from_little(kind: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a", MAKE[kind]({"zeros": bytes(101 << 20)}))
    assert archive.stat().st_size < 1 << 20
    refused(archive, "more than 104857600 bytes|far more than its size")


def test_a_zip_member_that_lies_about_its_size(tmp_path: Path) -> None:
    whole = zipped({"a": b"x" * 5000})
    for size in (4999, 5001, 0):
        content = bytearray(whole)
        struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, size)
        refused(put(tmp_path / "a.zip", bytes(content)), "cannot be unpacked|does not hold the")


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    header = bytearray(name.ljust(124, b"\0") + size.ljust(12, b"\0") + bytes(12) + b" " * 8 + kind)
    header += bytes(100) + b"ustar\x0000" + bytes(512 - len(header) - 108)
    header[100:108] = b"0000644\0"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (tar_header(b"a", b"\xff" * 12), "has a size of -1 bytes|cannot be unpacked"),
        (tar_header(b"a", b"\xff" * 8 + b"\xff\xff\x00\x00"), "has a size of -|cannot be unpacked"),
        (tar_header(b"a", b"77777777777"), "more than|does not hold|cannot be unpacked"),
        (tar_header(b"a", b"\x80" + b"\x7f" * 11), "more than"),
        (tar_header(b"a", b"77777777777", b"x"), "a header of 8589934592 bytes"),
        (tar_header(b"a", b"77777777777", b"L"), "a header of 8589934592 bytes"),
        (tar_header(b"a", b"\xff" * 12, b"x"), "cannot be unpacked"),
        (tar_header(b"a", b"\xff" * 12, b"L"), "cannot be unpacked"),
    ],
)
def test_tar_headers_that_lie(header: bytes, message: str, tmp_path: Path) -> None:
    content = tar_header(b"first", b"0") + header + bytes(10240)
    refused(put(tmp_path / "a", content), message)
    refused(put(tmp_path / "b", gzip.compress(content)), message)


# ---- damage -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_off_archives(kind: str, share: float, tmp_path: Path) -> None:
    content = MAKE[kind](FILES)
    cut = content[: int(share * len(content.rstrip(b"\0")))]
    refused(put(tmp_path / "a", cut), r"cut off|get it again|expected a zip|does not (hold|match)")


def test_a_damaged_header_is_not_the_end_of_a_tar_file(tmp_path: Path) -> None:
    content = bytearray(tarred({"a": b"1", "b": b"2"}))
    content[1024] ^= 1
    refused(put(tmp_path / "a", bytes(content)), "damaged or cut off at byte 1536")


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage(kind: str, tmp_path: Path) -> None:
    """Refused, or unpacked into whole files; with the right bytes where there are checksums."""
    content = MAKE[kind](FILES)
    rng = np.random.default_rng(3)
    refusals = 0
    for number in range(20 if kind == "rar" else 150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] ^= 1 << int(rng.integers(8))
        archive, out = put(tmp_path / "a", bytes(damaged)), tmp_path / f"out{number}"
        try:
            extract(archive, out)
        except DataError as error:
            refusals += 1
            assert str(archive) in str(error)
            assert not out.exists()
            continue
        if kind != "tar":
            assert set(content_of(out).values()) <= set(FILES.values())
    assert refusals > 0
    assert not list(tmp_path.glob(".*"))


# ---- rar ----------------------------------------------------------------------------------


@needs_rarfile
def test_the_program_is_called_once_with_a_list_of_arguments(tmp_path: Path, calls: Path) -> None:
    archive = put(tmp_path / "-p; touch x.rar", rar.of_files(FILES))
    extract(archive, tmp_path / "out")
    assert calls.read_text() == f"p\t-inul\t-p-\t--\t{archive}\n"
    assert not (tmp_path / "x.rar").exists()


@needs_rarfile
@pytest.mark.parametrize("name", RAR_TOOLS)
def test_any_of_the_programs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = put(tmp_path / "a.rar", rar.of_files(FILES))
    noted = rar.install(tmp_path / "other", name=name)
    extract(archive, tmp_path / "by path", rar_tool=str(noted.with_name(name)))
    assert str(archive) in noted.read_text()
    monkeypatch.setenv("PATH", str(noted.parent))
    extract(archive, tmp_path / "by PATH")
    assert content_of(tmp_path / "by PATH") == content_of(tmp_path / "by path") == FILES


@needs_rarfile
def test_without_a_program_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = put(tmp_path / "a.rar", rar.of_files(FILES))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="one of the programs unrar, bsdtar, 7zz, 7z; found none"):
        extract(archive, tmp_path / "out")
    for tool in ("/no/unrar", "/bin/cat"):
        with pytest.raises(ConfigError, match=f"found no such program at {tool}. Install one"):
            extract(archive, tmp_path / "out", rar_tool=tool)
    assert not list(tmp_path.glob(".*"))


def test_without_rarfile_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = put(tmp_path / "a.rar", rar.of_files(FILES))
    monkeypatch.setitem(sys.modules, "rarfile", None)
    with pytest.raises(ConfigError, match=r"rarfile .*: pip install 'ssvideo-core\[rar\]'"):
        extract(archive, tmp_path / "out")


@needs_rarfile
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"more": b"x"}, "found more in it than it lists"),
        (
            {"code": 3, "said": "bad block"},
            "ended with 3 before or at the end of it, saying b'bad block'; get it again, or use",
        ),
        ({"skip": True, "code": 2, "said": "no rar"}, "ended with 2 before .*saying b'no rar'"),
        ({"more": bytes(1 << 20)}, "found more in it than it lists"),
    ],
)
def test_a_program_that_fails(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = rar.install(tmp_path / "failing", **options)
    monkeypatch.setenv("PATH", str(noted.parent))
    archive = put(tmp_path / "a.rar", rar.of_files(FILES))
    with pytest.raises(DataError, match=message):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


@needs_rarfile
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rar.archive(rar.member("a", b"x", crc=1)), "the member 'a' does not match its checksum"),
        (rar.archive(rar.member("a", b"xy", size=3)), "unrar ended with 0 before or at the end"),
        (rar.archive(rar.member("a", b"x", flags=rar.PASSWORD)), "the member 'a' is encrypted"),
        (rar.archive(rar.member("a\\..\\..\\b", b"x")), "the member 'a/../../b' leaves the folder"),
        (
            rar.archive(rar.member(b"a\xff\xfe", b"x")),
            r"'a\\udcff\\udcfe' has a name that is not UTF-8",
        ),
        (rar.archive(rar.member("a", b"x"))[:-9], "not a whole rar file|does not"),
    ],
)
def test_bad_rar_files(content: bytes, message: str, tmp_path: Path) -> None:
    refused(put(tmp_path / "a.rar", content), message)


def real_tools() -> list[str]:
    """Those found that do read rar files: some systems ship them without."""
    found = [tool for tool in map(shutil.which, ("unrar", "bsdtar")) if tool]
    asked = {tool: subprocess.run([tool, "--version"], capture_output=True) for tool in found}
    known = (b"Alexander Roshal", b"libarchive")
    return [tool for tool in found if any(name in asked[tool].stdout for name in known)]


@needs_rarfile
@pytest.mark.parametrize("tool", real_tools())
def test_with_a_real_program(tool: str, tmp_path: Path) -> None:
    archive = put(tmp_path / "a.rar", rar.of_files(FILES))
    extract(archive, tmp_path / "out", rar_tool=tool)
    assert content_of(tmp_path / "out") == FILES
