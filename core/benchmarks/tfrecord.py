"""What reading records costs: python core/benchmarks/tfrecord.py [--records N]

Prints CSV: what is done, records a second in the median round, and the medians of the rounds'
ratios: to reading the same file without verifying a checksum; to TensorFlow's parsing on one thread
(target for `read_records, parse_record`: 2), and the same in seconds of the processor instead of
the clock; to TensorFlow on as many threads as it chooses. Ours has one thread.

Records are those of a training clip: 64 JPEGs of 16 kB and five seconds of sound. The file is in
memory; rounds alternate. Results are compared first. Where other work delays the hand-over between
TensorFlow's threads, the processor's seconds are the fairer ones. Without TensorFlow, which nothing
here depends on, its lines are absent.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record, parse_record
from ssvideo_core.formats.tfrecord import RecordFiles, read_records, write_records
from ssvideo_core.testing.benchmarks import publish

UNVERIFIED, TENSORFLOW = "unverified", "TensorFlow, parsed"
ALL_THREADS = f"{TENSORFLOW}, all threads"
Ways = dict[str, Callable[[Path], Iterator[object]]]


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


def parsed(path: Path) -> Iterator[VideoRecord]:
    return map(parse_record, read_records(path))


def tensorflow_ways(path: Path) -> Ways:
    """TensorFlow's reading and parsing, if it is installed. What it finds is compared first."""
    if importlib.util.find_spec("tensorflow") is None:
        print("# TensorFlow is not installed: not compared")
        return {}
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import plain_tfrecord

    for own, other in zip(parsed(path), plain_tfrecord.parsed(path, 1), strict=True):
        frames, waveform, labels = other
        assert own.frames == tuple(frames.numpy().tolist())
        assert np.array_equal(own.waveform, waveform.values.numpy())
        assert np.array_equal(own.labels, labels.values.numpy())
    return {
        "TensorFlow, not parsed": lambda path: iter(plain_tfrecord.records(path, 1)),
        TENSORFLOW: lambda path: plain_tfrecord.parsed(path, 1),
        ALL_THREADS: lambda path: plain_tfrecord.parsed(path, None),
    }


def seconds(read: Callable[[Path], Iterator[object]], path: Path) -> tuple[float, float]:
    """Of the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    for _ in read(path):
        pass
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(path: Path, records: int, rounds: int) -> Iterator[tuple[object, ...]]:
    ways: Ways = {
        UNVERIFIED: unverified,
        "read_records": read_records,
        "RecordFiles, with its index": in_any_order,
        "read_records, parse_record": parsed,
    }
    ways |= tensorflow_ways(path)
    measured = [{name: seconds(read, path) for name, read in ways.items()} for _ in range(rounds)]

    def ratio(way: str, other: str, clock: int) -> str:
        if other not in ways:
            return ""
        found = statistics.median(times[other][clock] / times[way][clock] for times in measured)
        return f"{found:.2f}"

    for way in ways:
        rate = records / statistics.median(times[way][0] for times in measured)
        to_tensorflow = ratio(way, TENSORFLOW, 0), ratio(way, TENSORFLOW, 1)
        yield (
            way,
            f"{rate:.0f}",
            ratio(way, UNVERIFIED, 0),
            *to_tensorflow,
            ratio(way, ALL_THREADS, 0),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    packages = ["google-crc32c", "protobuf", "numpy"]
    packages += packages_distributions().get("tensorflow", [])[:1]  # or tensorflow-cpu
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        write_records(path, make_records(arguments.records))
        for own, other in zip(read_records(path), unverified(path), strict=True):
            assert own == other
        ratios = ("to_unverified", "to_tensorflow", "the_same_cpu", "to_its_all_threads")
        columns = ("way", "records_per_s", *ratios)
        rows = measure(path, arguments.records, arguments.rounds)
        publish("tfrecord", columns, rows, packages=packages)


if __name__ == "__main__":
    main()
