"""The embedded data set: short mp4 files with sound, drawn from a seed, of eight classes.

    python -m ssvideo_core.testing.synthetic --out DATA --train 160 --test 320 --seed 0

    DATA/videos/<class>/<source>_<class>_f_nm_np1_fr_goo_<k>.mp4     H.264 and AAC
    DATA/videos/videos.csv                                           video, label, group
    DATA/videos/train<1|2|3>.csv                                     the same, training videos only
    DATA/splits/<class>_test_split<1|2|3>.txt                        HMDB51's form
    DATA/data.json                                                   parameters; written last

Two videos of one source share their background and are never apart in a split. The class is a
shape, a motion and a pitch together (`synthetic_scenes`); whatever else is seen or heard does not
depend on it. Synthetic videos show that a method learns, not which method is better.

Measured on the 320 test videos of split 1 (chance 12.5 %, one standard error 1 to 3 points):

    features                                       limit, %    data seed 0     data seed 1
                                                               svm    R@1      svm    R@1
    colour histogram, 64 bins                      <= 25       14.1   13.1     9.7    11.9
    sound: mean log mel energies                   >= 90 svm   100    100      99.4   100
    R(2+1)D-18, width 16, untrained                <= 50       15-39  19-39    24-41  22-43
    the same, batch norm statistics of the data    <= 50       14-19  12-13    12-19  11-13
    the same, 60 s of training with labels         >= 75 svm   81-94  82-94    82-93  83-92

    python core/benchmarks/synthetic_limits.py --seeds 0 1 --network-seeds 0 1 2

Ranges are over network seeds 0 to 2; seconds are of CPU on one thread, 152 to 162 steps of 16
clips. Parameters were chosen on data seed 0.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import EXIT_USER, ConfigError, DataError, SSVideoError
from ssvideo_core.randomness import generator
from ssvideo_core.testing.mp4 import write_mp4
from ssvideo_core.testing.synthetic_scenes import (
    CLASSES,
    SOUND_RATE_HZ,
    draw_scene,
    render_frames,
    render_sound,
)

FORMAT = "ssvideo-synthetic/2"  # a change of pixels, samples, names or splits is a new number
VIDEOS_PER_SOURCE = 2
SPLITS = (1, 2, 3)
TRAIN, TEST = 1, 2  # the tags of HMDB51's lists
SMALLEST_SIZE = 32  # below, a shape is a few pixels


@dataclass(frozen=True)
class Parameters:
    """All that decides the content of a data set.

    num_train, num_test: videos in every split, multiples of 16 (8 classes, 2 videos of a source).
    size: height and width in pixels, even, at least 32. num_frames: of each video, at least 2.
    rate: frames a second. Raises ConfigError for values outside these.
    """

    num_train: int = 160
    num_test: int = 320
    seed: int = 0
    size: int = 64
    num_frames: int = 32
    rate: int = 16

    def __post_init__(self) -> None:
        block = len(CLASSES) * VIDEOS_PER_SOURCE
        for name, low, step in (
            ("num_train", block, block),
            ("num_test", block, block),
            ("seed", 0, 1),
            ("size", SMALLEST_SIZE, 2),
            ("num_frames", 2, 1),
            ("rate", 1, 1),
        ):
            value = getattr(self, name)
            if value < low or value % step:
                of = f", a multiple of {step}" if step > 1 else ""
                raise ConfigError(
                    f"the embedded data set with {name} = {value}: expected at least {low}{of}"
                )

    @property
    def sources_per_class(self) -> int:
        return (self.num_train + self.num_test) // (len(CLASSES) * VIDEOS_PER_SOURCE)


@dataclass(frozen=True)
class _Video:
    class_index: int
    source: int  # counted over all classes; fixed by the class and the place within it
    take: int  # 0 or 1 within the source

    @property
    def group(self) -> str:
        return f"tape{self.source:04d}"

    @property
    def video_id(self) -> str:
        name = CLASSES[self.class_index]
        return f"{name}/{self.group}_{name}_f_nm_np1_fr_goo_{self.take}.mp4"


def render_video(
    class_index: int,
    seed: int,
    *,
    source_seed: int | None = None,
    size: int = 64,
    num_frames: int = 32,
    rate: int = 16,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One video before it is compressed: frames [T, H, W, 3] and mono sound [N] in [-1, 1].

    Frames are `rate` a second, samples 24000 a second, for at least as long as the frames. The seed
    decides everything but shape, motion and pitch, so it gives every class the same scene; videos
    with one source_seed share their background. Raises ConfigError for a class outside 0 to 7.
    """
    scene = draw_scene(seed, source_seed=source_seed)
    frames = render_frames(class_index, scene, size=size, num_frames=num_frames, rate=rate)
    num_samples = math.ceil(Fraction(num_frames * SOUND_RATE_HZ, rate))
    return frames, render_sound(class_index, scene, num_samples=num_samples)


def write_dataset(
    out: Path,
    *,
    num_train: int = 160,
    num_test: int = 320,
    seed: int = 0,
    size: int = 64,
    num_frames: int = 32,
    rate: int = 16,
    workers: int = 0,
) -> Path:
    """Write the data set into the folder `out` and return `out`.

    The folder appears whole or not at all; one that is there with the same parameters is used as it
    is. workers: threads; files do not depend on it. The meaning of the others: `Parameters`.
    Raises ConfigError for a parameter out of range or a PyAV without H.264, DataError when `out`
    is something else, is incomplete, or was written with other parameters.
    """
    if workers < 0:
        raise ConfigError(f"workers = {workers}: expected 0 or more threads")
    parameters = Parameters(num_train, num_test, seed, size, num_frames, rate)
    target = out.resolve()
    if _is_complete(target, parameters):
        return out
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        draft = Path(folder) / "draft"
        _write(draft, parameters, workers)
        try:
            os.replace(draft, target)
        except OSError:
            # Another process may have put the same data there in the meantime.
            if not _is_complete(target, parameters):
                raise
    return out


def _is_complete(out: Path, parameters: Parameters) -> bool:
    """True: `out` is this data set. False: it is absent or empty. Else DataError."""
    advice = "Give another folder, or remove this one"
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / "data.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{out} exists and is no complete embedded data set: {out / 'data.json'} cannot be "
            f"read ({error}). {advice}"
        ) from error
    expected = _description(parameters)
    if found != expected:
        raise DataError(
            f"{out} was written with {_parameters_of(found)}; expected {_parameters_of(expected)}. "
            f"{advice}"
        )
    for video in _videos(parameters):
        if not (out / "videos" / video.video_id).is_file():
            raise DataError(f"{out} lacks videos/{video.video_id}, which was written. {advice}")
    return True


def _description(parameters: Parameters) -> dict[str, object]:
    return {"format": FORMAT, "parameters": asdict(parameters), "classes": list(CLASSES)}


def _parameters_of(description: object) -> str:
    parts = description if isinstance(description, dict) else {}
    return f"{parts.get('format')}, {json.dumps(parts.get('parameters'))}"


def _write(folder: Path, parameters: Parameters, workers: int) -> None:
    videos = list(_videos(parameters))
    for name in CLASSES:
        (folder / "videos" / name).mkdir(parents=True)
    write = partial(_write_one, folder / "videos", parameters)
    if workers:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(write, videos))
    else:
        for video in videos:
            write(video)
    _write_list(folder / "videos" / "videos.csv", videos)
    _write_splits(folder, parameters, videos)
    (folder / "data.json").write_text(json.dumps(_description(parameters), indent=2) + "\n")


def _videos(parameters: Parameters) -> Iterator[_Video]:
    """All videos; those of a small data set come first in a larger one of the same seed."""
    for place in range(parameters.sources_per_class):
        for class_index in range(len(CLASSES)):
            for take in range(VIDEOS_PER_SOURCE):
                yield _Video(class_index, place * len(CLASSES) + class_index, take)


def _write_one(folder: Path, parameters: Parameters, video: _Video) -> None:
    frames, sound = render_video(
        video.class_index,
        int(generator(parameters.seed, "video", video.source, video.take).integers(2**32)),
        source_seed=int(generator(parameters.seed, "source", video.source).integers(2**32)),
        size=parameters.size,
        num_frames=parameters.num_frames,
        rate=parameters.rate,
    )
    write_mp4(folder / video.video_id, frames, sound, rate=parameters.rate)


def _write_list(path: Path, videos: Sequence[_Video]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["video", "label", "group"])
        table.writerows([v.video_id, CLASSES[v.class_index], v.group] for v in videos)


def _write_splits(folder: Path, parameters: Parameters, videos: Sequence[_Video]) -> None:
    (folder / "splits").mkdir()
    for number in SPLITS:
        train = _training_sources(parameters, videos, number)
        for class_index, name in enumerate(CLASSES):
            own = [v for v in videos if v.class_index == class_index]
            lines = [
                f"{v.video_id.partition('/')[2]} {TRAIN if v.source in train else TEST} \n"
                for v in own
            ]
            (folder / "splits" / f"{name}_test_split{number}.txt").write_text("".join(lines))
        chosen = [v for v in videos if v.source in train]
        _write_list(folder / "videos" / f"train{number}.csv", chosen)


def _training_sources(parameters: Parameters, videos: Sequence[_Video], split: int) -> set[int]:
    num_train = parameters.num_train // (len(CLASSES) * VIDEOS_PER_SOURCE)
    chosen: set[int] = set()
    for class_index, name in enumerate(CLASSES):
        sources = sorted({v.source for v in videos if v.class_index == class_index})
        order = generator(parameters.seed, "split", split, name).permutation(sources)
        chosen.update(order[:num_train].tolist())
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 2 for an error of the user's, with its message on stderr."""
    standard = Parameters()
    parser = argparse.ArgumentParser(
        prog="python -m ssvideo_core.testing.synthetic",
        description="Write the embedded data set: mp4 files with sound, eight classes, splits.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--train", type=int, default=standard.num_train, help="training videos")
    parser.add_argument("--test", type=int, default=standard.num_test, help="test videos")
    parser.add_argument("--seed", type=int, default=standard.seed)
    parser.add_argument("--size", type=int, default=standard.size, help="height and width")
    parser.add_argument("--frames", type=int, default=standard.num_frames, help="of each video")
    parser.add_argument("--rate", type=int, default=standard.rate, help="frames a second")
    parser.add_argument("--workers", type=int, default=0, help="threads")
    options = parser.parse_args(argv)
    try:
        out = write_dataset(
            options.out,
            num_train=options.train,
            num_test=options.test,
            seed=options.seed,
            size=options.size,
            num_frames=options.frames,
            rate=options.rate,
            workers=options.workers,
        )
    except SSVideoError as error:
        print(error, file=sys.stderr)
        return EXIT_USER
    print(f"{out}: {options.train} training and {options.test} test videos, 3 splits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
