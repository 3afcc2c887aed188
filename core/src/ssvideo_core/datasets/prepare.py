"""HMDB51 or UCF101 as one checked folder OUT/class/video, from what is on this machine.

Nothing is downloaded: the public host of HMDB51 is gone. Archives, archives of archives (HMDB51 is
a rar file of 51 rar files) and folders that were unpacked already are taken alike; videos are
recognised by their names, which are unique in both data sets, wherever they lie.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from ssvideo_core import config as configs
from ssvideo_core.archives import extract, is_archive, verify
from ssvideo_core.config import option
from ssvideo_core.datasets.check import DataReport, check_data
from ssvideo_core.datasets.official import OFFICIAL_COUNTS, official_videos
from ssvideo_core.datasets.splits import official_split, read_splits
from ssvideo_core.errors import EXIT_OK, EXIT_USER, ConfigError, DataError
from ssvideo_core.files import remove_leftovers, replacing

Placing = Literal["link", "move", "copy"]
ROUNDS = 4  # archives in archives in a folder, and a look whether all is there
# Of HMDB51's official files only the MD5 was published; of UCF101's nothing.
KNOWN = {
    "hmdb51_org.rar": "md5:517d6f1f19f215c45cdd4d25356be1fb",
    "test_train_splits.rar": "md5:15e67781e70dcfbdce2d7dbb9b3344b5",
}
UNCHECKED = "none"
_WHOLE = {"hmdb51": re.compile(r"hmdb", re.I), "ucf101": re.compile(r"ucf.?101(?!.*split)", re.I)}


@dataclass(frozen=True)
class Prepare:
    """HMDB51 or UCF101 as a checked folder OUT/class/video, from what is on this machine.

    Nothing is downloaded. Give the official archive, a folder of archives, or a folder of videos.
    OUT appears when it is complete. After an interruption the same command goes on; what it has
    so far is in a hidden folder beside OUT.
    """

    archive: Path = option(help="archive, or folder of archives or videos")
    out: Path = option(help="new folder")
    splits: Path | None = option(
        None, help="archive, folder or CSV of the official splits, to compare with the packaged"
    )
    files: str = option(
        "link",
        help="videos that are unpacked already: link (hard links, no copy), move or copy",
        choices=("link", "move", "copy"),
    )
    checksum: str = option(
        "",
        help="of the archive: sha256:…, md5:…, or none for any; that of HMDB51's official files, "
        "hmdb51_org.rar and test_train_splits.rar, is known",
    )
    decode: bool = option(True, help="open every video")
    workers: int = option(0, help="processes that decode", operational=True)
    rar_tool: str = option(
        "", help="unrar, bsdtar, 7zz or 7z, or a path to it; the first on PATH if absent"
    )


def main(argv: Sequence[str], prog: str = "ssvideo_core prepare") -> int:
    """`prepare hmdb51|ucf101 --archive … --out …`; exit code 2 when videos cannot be read."""
    names = " or ".join(OFFICIAL_COUNTS)
    dataset, flags = (argv[0], argv[1:]) if argv and argv[0] in OFFICIAL_COUNTS else ("", argv)
    config = configs.parse(Prepare, flags, prog=f"{prog} {dataset or 'hmdb51|ucf101'}")
    if not dataset:
        raise ConfigError(f"the first word after prepare is the data set: {names}")
    report = prepare(
        dataset,
        config.archive,
        config.out,
        splits=config.splits,
        files=config.files,  # type: ignore[arg-type]
        checksum=config.checksum or None,
        decode=config.decode,
        workers=config.workers,
        rar_tool=config.rar_tool or None,
    )
    print(report)
    return EXIT_OK if report.ok else EXIT_USER


def prepare(
    dataset: str,
    archive: Path,
    out: Path,
    *,
    splits: Path | None = None,
    files: Placing = "link",
    checksum: str | None = None,
    decode: bool = True,
    workers: int = 0,
    rar_tool: str | None = None,
    say: Callable[[str], object] = print,
) -> DataReport:
    """Make `out` with all videos of hmdb51 or ucf101; returns what `check_data` finds there.

    archive: an archive of any kind, also of archives, or a folder with videos or archives at any
    depth; archives of videos that are there already stay packed. splits: compared with the
    packaged official lists first. files: how videos of a folder come to `out`; "link" copies only
    what lies on another disk. checksum: of `archive`; "none" also switches off the check of files
    in `KNOWN`. say: receives a line for each step. One process at a time.

    `out` appears when no video is missing. An `out` that is complete already is only checked.
    Raises DataError for missing videos, other splits, two different videos of one name, a refused
    or damaged archive, and an `out` that is something else; ConfigError without a rar program, and
    for the checksum of a folder.
    """
    if not archive.exists():
        raise DataError(
            f"{archive} is not there; expected the archive of {dataset} or a folder with its "
            "archives or videos. Nothing is downloaded here"
        )
    if archive.is_dir() and checksum not in (None, UNCHECKED):
        raise ConfigError(
            f"{archive} is a folder, which has no checksum: give the archive, or no --checksum"
        )
    work = _work_folder(dataset, archive, out)
    if out.exists():
        report = check_data(dataset, out, decode=decode, workers=workers)
        if report.mismatch is None:
            say(f"{out} is there already; nothing was changed")
            if not (work / "videos").exists():
                shutil.rmtree(work, ignore_errors=True)
            return report
        raise DataError(f"{out} is there already and is no {dataset}: {report.mismatch}")
    _clear(work)
    run = _Run(dataset, archive.resolve(), work, checksum, rar_tool, say)
    if splits is not None:
        run.compare_splits(splits)
    if archive.is_file():
        run.unpack(run.archive)
    run.place(run.collect(), files)
    run.videos.rename(out)
    shutil.rmtree(work)
    return check_data(dataset, out, decode=decode, workers=workers)


def _work_folder(dataset: str, archive: Path, out: Path) -> Path:
    """Where everything is until `out` is complete: on its disk, another one for other input."""
    facts = archive.stat()
    version = (facts.st_size, facts.st_mtime_ns) if archive.is_file() else ()
    digest = hashlib.sha256(repr((dataset, str(archive.resolve()), version)).encode()).hexdigest()
    return out.absolute().with_name(f".{out.name}.{digest[:8]}.preparing")


def _clear(work: Path) -> None:
    """Make the folder, or remove what a kill left half-done in it."""
    for unfinished in work.glob(".*.tmp"):
        shutil.rmtree(unfinished)
    for folder in work.glob("videos/*/"):
        remove_leftovers(folder)
    work.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class _Run:
    """The way of one data set from `archive` to the folder `videos`, both beside others in `work`.

    Every step leaves something whole that a later run recognises.
    """

    dataset: str
    archive: Path
    work: Path
    checksum: str | None
    rar_tool: str | None
    say: Callable[[str], object]

    @cached_property
    def ids(self) -> dict[str, str]:
        return {PurePosixPath(video).name: video for video in official_videos(self.dataset)}

    @property
    def videos(self) -> Path:
        return self.work / "videos"

    def folder_of(self, archive: Path) -> Path:
        """For an archive's content, apart from that of its namesakes elsewhere."""
        return self.work / f"{archive.name}.{hashlib.sha256(bytes(archive)).hexdigest()[:8]}"

    def unpack(self, archive: Path) -> Path:
        """The folder with what is in an archive, made unless an earlier run did."""
        folder = self.folder_of(archive)
        given = self.checksum if archive == self.archive else None
        checksum = given or KNOWN.get(archive.name)
        # Also of what an earlier run unpacked: that one may have been given another checksum.
        if checksum and self.checksum != UNCHECKED:
            try:
                verify(archive, checksum)
            except DataError as error:
                raise DataError(f"{error}, or take it as it is with --checksum none") from None
        if not folder.exists():
            self.say(f"unpacking {archive}")
            extract(archive, folder, rar_tool=self.rar_tool)
        return folder

    def compare_splits(self, path: Path) -> None:
        """Raise DataError unless these are the official splits."""
        folder = path
        if path.is_file() and is_archive(path):
            folder = self.unpack(path.resolve())
        if folder.is_dir():
            lists = (folder.rglob(name) for name in ("*_test_split1.txt", "trainlist01.txt"))
            folder = next((file.parent for files in lists for file in files), folder)
        found = read_splits(folder, dataset=self.dataset)
        for name, split in found.items():
            official = official_split(self.dataset, int(name) if name.isdecimal() else 0)
            for part in ("train", "test"):
                differing = set(getattr(split, part)) ^ set(getattr(official, part))
                if differing:
                    raise DataError(
                        f"{path}: the {part} list of split {name} differs from the official one in "
                        f"{len(differing)} videos, first {min(differing)}; leave --splits out"
                    )
        self.say(f"{path}: splits {', '.join(found)} are the official ones")

    def collect(self) -> dict[str, Path]:
        """All videos by official path, after unpacking what is needed to have them."""
        for _ in range(ROUNDS):
            found = self.find()
            missing = self.ids.values() - found.keys()
            needed = self.archives({PurePosixPath(video).parts[0] for video in missing})
            for archive in needed:
                self.unpack(archive)
                if self.work in archive.parents:
                    archive.unlink()
            if not needed:
                break
        if missing:
            raise DataError(
                f"{self.archive}: {len(missing)} of {len(self.ids)} videos of {self.dataset} are "
                f"missing, first {min(missing)}. Give a folder that has all of them, packed or "
                f"not; what was unpacked is kept in {self.work}"
            )
        return found

    def find(self) -> dict[str, Path]:
        """The videos that are there by now; DataError for two that differ in size."""
        found: dict[str, Path] = {}
        for file in self.files():
            video = self.ids.get(file.name)
            if video is None:
                continue
            other = found.setdefault(video, file)
            if other.stat().st_size != file.stat().st_size:
                raise DataError(f"{other} and {file} differ; remove the wrong one")
        return found

    def files(self) -> Iterator[Path]:
        """What lies in the work folder and in the given folder, hidden things left out."""
        for root in (self.work, self.archive):
            for folder, subfolders, names in os.walk(root):
                subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
                yield from (Path(folder, name) for name in sorted(names) if name[0] != ".")

    def archives(self, classes: Collection[str]) -> list[Path]:
        """Those that may hold videos of `classes`; in the given folder their names tell."""
        whole = _WHOLE[self.dataset]
        return [
            file
            for file in self.files()
            if classes and file.name not in self.ids and file.is_file()
            if self.work in file.parents
            or file.name.split(".")[0] in classes or whole.search(file.name)
            if not self.folder_of(file).exists() and is_archive(file)
        ]  # fmt: skip

    def place(self, found: Mapping[str, Path], files: Placing) -> None:
        """Bring every video to its place in `videos`."""
        ways: Counter[str] = Counter()
        for video, source in sorted(found.items()):
            target = self.videos / video
            if source != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                if self.work in source.parents:
                    source.rename(target)
                    ways["unpacked from"] += 1
                else:
                    ways[_bring(source, target, files)] += 1
        for way, count in ways.items():
            self.say(f"{count} videos {way} {self.archive}")


def _bring(source: Path, target: Path, files: Placing) -> str:
    """Make `target`, whole or not at all; returns how, for the user."""
    source = source.resolve()
    with suppress(OSError):  # another disk, or one that knows no hard links
        if files == "move":
            source.rename(target)
            return "moved from"
        if files == "link":
            os.link(source, target)
            return "hard-linked (the same bytes on the disk, not copied) from"
    with source.open("rb") as content, replacing(target) as file:
        shutil.copyfileobj(content, file)
    if files == "move":
        source.unlink()
    return "copied from" if files != "move" else "moved to another disk from"
