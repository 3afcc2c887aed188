"""Training data for BraVe from your own videos, or from arrays of your own program.

    python brave/examples/write_training_data.py --videos my_videos --out shards --flow dis

A folder CLASS/video, a flat folder or a CSV file (video,label) becomes OUT/train-00000-of-00010 and
so on: 25 frames a second, 48 kHz float sound where a video has some, optical flow if asked for
(V/AF, V/F), and labels if there are any, which training does not need. `python -m brave
convert-data` does the same with more options; `record_from_arrays` shows what a record is made of.

At last one training sample is read back, with the views that the data allow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from brave.training_data import TrainingRecords
from brave.views import ViewSpec
from numpy.typing import NDArray
from ssvideo_core.errors import EXIT_OK, exit_code
from ssvideo_core.formats.convert_tfrecord import classes_of, convert, parts_of
from ssvideo_core.formats.sequence_examples import VideoRecord, encode_record, parse_record
from ssvideo_core.formats.tfrecord import RecordFiles, find_shards
from ssvideo_core.formats.video_records import RecordForm
from ssvideo_core.progress import ProgressLines
from ssvideo_core.samples import Task
from ssvideo_core.source import open_source

NARROW = ViewSpec("narrow", "rgb", 16, 2, 224, "tsm_resnet")
BROAD = {
    "sound": ViewSpec("audio", "sound", 64, 4, 0, "audio_resnet"),
    "flow": ViewSpec("flow", "flow", 64, 4, 112, "tsm_resnet"),
    "rgb": ViewSpec("video", "rgb", 64, 4, 112, "tsm_resnet"),
}


def record_from_arrays(
    frames: NDArray[np.uint8], sound: NDArray[np.float32], label: int | None = None
) -> bytes:
    """One record: frames [T, H, W, 3] uint8 at 25 a second, sound [N] float32 at 48 kHz in [-1, 1].

    `ssvideo_core.formats.tfrecord.write_records(path, records)` makes a shard of such records.
    """
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=95) for frame in frames]
    labels = np.array([] if label is None else [label], np.int64)
    return encode_record(VideoRecord(frames=jpegs, waveform=sound, labels=labels))


def write_videos(videos: Path, out: Path, *, num_shards: int, flow: str, workers: int) -> list[str]:
    """Convert a folder or a CSV file; given again after an interruption it goes on.

    Returns the files.
    """
    source = open_source(videos)
    made = convert(
        source,
        out,
        name="train",
        parts=parts_of(source),
        classes=classes_of(source),
        num_shards=num_shards,
        form=RecordForm(rate_hz=25, sound_rate_hz=48_000, flow=flow),
        workers=workers,
        progress=ProgressLines(),
    )
    print(f"{out}: {made.num_records} records in {len(made.shards)} files")
    return [str(path) for path in made.shards]


def describe(shards: Sequence[str]) -> list[str]:
    """Which modalities the first record has; printed, with what else it holds."""
    record = parse_record(RecordFiles(find_shards(shards)).read(0))
    samples = 0 if record.waveform is None else len(record.waveform)
    print(
        f"first record: {len(record.frames)} frames, {samples} samples of sound, "
        f"{len(record.flow)} pictures of flow, label {record.labels.tolist()}"
    )
    there = {"sound": samples > 0, "flow": len(record.flow) > 0, "rgb": True}
    return [modality for modality, stored in there.items() if stored]


def read_back(shards: Sequence[str], modalities: Sequence[str]) -> None:
    """Load one training sample and say what its clips are."""
    broad = [BROAD[modality] for modality in modalities]
    sample = TrainingRecords(shards, NARROW, broad)(Task(epoch=0, index=0))
    for spec, clip in zip([NARROW, *broad], sample.clips, strict=True):
        array = clip.frames if clip.frames is not None else clip.sound
        assert array is not None, "a clip has frames or sound"
        print(f"view {spec.name}: {spec.modality}, {list(array.shape)} {array.dtype}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write and read back; returns the exit code."""
    parser = argparse.ArgumentParser(description="Videos to training data of BraVe.")
    parser.add_argument("--videos", type=Path, required=True, help="folder or CSV of videos")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the files")
    parser.add_argument("--num-shards", type=int, default=10)
    parser.add_argument("--flow", choices=["", "dis", "tvl1"], default="", help="optical flow")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode")
    flags = parser.parse_args(argv)

    def run() -> int:
        shards = write_videos(
            flags.videos,
            flags.out,
            num_shards=flags.num_shards,
            flow=flags.flow,
            workers=flags.workers,
        )
        read_back(shards, describe(shards))
        return EXIT_OK

    return exit_code("write_training_data", run)


if __name__ == "__main__":
    sys.exit(main())
