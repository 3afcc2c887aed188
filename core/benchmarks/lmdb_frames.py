"""32 of a video's 187 frames, beside unpacking all of them: python core/benchmarks/lmdb_frames.py

Prints CSV: what is done, whether the file lies in memory, videos a second by each in the median
round, and the median of the rounds' ratios (above 1: `LmdbFrames` is faster; target: 2). Videos are
like those of CoCLR's UCF101: 187 frames of 240 x 320 pixels, about 12 kB each.

- `find` ends with the bytes of the wanted frames: unpacking all frames against finding 32
- `decode` has [32, 240, 320, 3], by Pillow in the original
- `decode alike` gives the original our decoder. Of a file in memory, 97 % of both ways' time is
  then the same 32 JPEGs, so that nothing is left to gain

"from disk" drops the file from memory before each round, as databases of 29 GB are; there the
original's way to open the file, without reading ahead, decides. One thread; rounds alternate.
Seconds are of the processor in memory, so that other work disturbs little, and of the clock from
disk. Needs msgpack. Results are compared first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from plain_lmdb_frames import by_pillow, unpack_all
from ssvideo_core.formats import lmdb_records
from ssvideo_core.formats.lmdb_frames import LmdbFrames
from ssvideo_core.formats.lmdb_records import key_of, read_contents, reading, write_database
from ssvideo_core.formats.msgpack_arrays import byte_spans
from ssvideo_core.testing.benchmarks import publish
from ssvideo_core.views import View

FRAMES, WANTED = 187, 32
Read = Callable[[int, NDArray[np.int64]], object]


def make_database(folder: Path, videos: int) -> Path:
    """Shapes that move over a rough ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    for number in range(videos):
        video = folder / "frames" / "class" / f"v_{number:03d}"
        video.mkdir(parents=True)
        waves = 128 + 90 * np.sin(x * np.pi / 20 + number) * np.cos(y / 31)
        picture = np.clip(waves[..., None] + rng.normal(0, 7, (240, 320, 3)), 0, 255)
        for frame in range(FRAMES):
            moved = np.roll(picture, 3 * frame, axis=1).astype(np.uint8)
            jpeg = simplejpeg.encode_jpeg(moved, quality=80, colorsubsampling="420")
            (video / f"image_{frame + 1:05d}.jpg").write_bytes(jpeg)
    return write_database(folder / "frames.lmdb", folder / "frames").path


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """As the originals open it."""
    with lmdb.open(
        str(path), subdir=False, readonly=True, lock=False, readahead=False, meminit=False
    ) as environment:
        yield environment


def plain(
    decode: Callable[[bytes], Any], environment: Any, video: int, wanted: NDArray[np.int64]
) -> Any:
    with environment.begin() as transaction:
        frames = unpack_all(transaction.get(key_of(video)))
    decoded = [decode(frames[number]) for number in wanted.tolist()]
    return decoded if decode is bytes else np.stack(decoded)


def find(path: Path, video: int, wanted: NDArray[np.int64]) -> list[bytes]:
    with reading(path) as get:
        value = get(key_of(video))
        spans = byte_spans(value)[wanted].tolist()
        return [bytes(value[start : start + length]) for start, length in spans]


def frames(source: LmdbFrames, video: int, wanted: NDArray[np.int64]) -> Any:
    return source.read(video, [View(wanted)])[0].frames


def forget(path: Path) -> None:
    """Close the file and drop its pages from memory."""
    for _, environment in lmdb_records._OPENED.values():
        environment.close()
    lmdb_records._OPENED.clear()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def videos_per_s(read: Read, starts: NDArray[np.int64], *, warm: bool) -> float:
    if warm:
        for video in range(len(starts)):
            read(video, np.arange(WANTED))
    clock = time.process_time if warm else time.perf_counter
    begin = clock()
    for video, start in enumerate(starts.tolist()):
        read(video, np.arange(start, start + WANTED))
    return len(starts) / (clock() - begin)


def compare(
    path: Path, decode: Callable[[bytes], Any], ours: Read, starts: NDArray[np.int64], warm: bool
) -> tuple[float, float]:
    """Videos a second of one round: plain, ours."""
    forget(path)
    with opened(path) as environment:
        first = videos_per_s(partial(plain, decode, environment), starts, warm=warm)
    forget(path)
    return first, videos_per_s(ours, starts, warm=warm)


def check(path: Path, decode: Callable[[bytes], Any], ours: Read) -> None:
    for video, wanted in ((0, np.arange(5)), (3, np.arange(100, FRAMES, 3))):
        forget(path)
        with opened(path) as environment:
            expected = plain(decode, environment, video, wanted)
        assert np.array_equal(ours(video, wanted), expected)


def measure(path: Path, rounds: int) -> Iterator[tuple[object, ...]]:
    read = partial(frames, LmdbFrames(path))
    ways: dict[str, tuple[Callable[[bytes], Any], Read]] = {
        "find": (bytes, partial(find, path)),
        "decode": (by_pillow, read),
        "decode alike": (simplejpeg.decode_jpeg, read),
    }
    videos = len(read_contents(path).names)
    starts = np.random.default_rng(1).integers(0, FRAMES - WANTED, videos)
    for name, (decode, ours) in ways.items():
        check(path, decode, ours)
        for place, warm in (("in memory", True), ("from disk", False)):
            pairs = [compare(path, decode, ours, starts, warm) for _ in range(rounds)]
            plain_rate, own_rate = (
                statistics.median(column) for column in zip(*pairs, strict=True)
            )
            ratio = statistics.median(second / first for first, second in pairs)
            yield name, place, f"{plain_rate:.0f}", f"{own_rate:.0f}", f"{ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the database is written for a while")
    arguments = parser.parse_args()
    packages = ("lmdb", "msgpack", "simplejpeg", "pillow", "numpy")
    columns = ("way", "file", "plain_per_s", "ours_per_s", "ratio")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = make_database(Path(folder), arguments.videos)
        print(f"# {path.stat().st_size / arguments.videos / FRAMES / 1e3:.1f} kB a frame")
        publish("lmdb_frames", columns, measure(path, arguments.rounds), packages=packages)


if __name__ == "__main__":
    main()
