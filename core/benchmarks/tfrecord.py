"""What reading records costs: python core/benchmarks/tfrecord.py [--records N]

Prints CSV: what is done, records a second in the median round, and the ratio to reading the same
files without verifying a checksum. Records are those of a training clip: 64 JPEGs of 16 kB and five
seconds of sound. Files are in the page cache; rounds alternate, so that other work on the machine
disturbs all alike. Results are compared first.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record, parse_record
from ssvideo_core.formats.tfrecord import RecordFiles, read_records, write_records


def make_records(count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        sound = rng.uniform(-1, 1, 240_000).astype(np.float32)
        frames = [rng.bytes(16_000) for _ in range(64)]
        yield encode_record(VideoRecord(frames, sound, labels=np.array([1])))


def unverified(path: Path) -> Iterator[bytes]:
    """The payloads without a look at their checksums."""
    with path.open("rb") as file:
        while header := file.read(12):
            yield file.read(struct.unpack("<Q", header[:8])[0])
            file.read(4)


def in_any_order(path: Path) -> Iterator[bytes]:
    files = RecordFiles([path])
    return (files.read(number) for number in reversed(range(len(files))))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ways: dict[str, Callable[[Path], Iterator[object]]] = {
        "unverified": unverified,
        "read_records": read_records,
        "RecordFiles, with its index": in_any_order,
        "read_records, parse_record": lambda path: map(parse_record, read_records(path)),
    }
    names = ("google-crc32c", "protobuf", "numpy")
    print(f"# Python {platform.python_version()}, {os.cpu_count()} cores,", end=" ")
    print(", ".join(f"{name} {version(name)}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        write_records(path, make_records(arguments.records))
        for own, other in zip(read_records(path), unverified(path), strict=True):
            assert own == other
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, read in ways.items():
                start = time.perf_counter()
                for _ in read(path):
                    pass
                seconds[name].append(time.perf_counter() - start)
        print(f"# {path.stat().st_size / 1e6:.0f} MB")
    print("way,records_per_s,ratio")
    for name, measured in seconds.items():
        pairs = zip(seconds["unverified"], measured, strict=True)
        ratio = statistics.median(first / second for first, second in pairs)
        print(f"{name},{arguments.records / statistics.median(measured):.0f},{ratio:.2f}")


if __name__ == "__main__":
    main()
