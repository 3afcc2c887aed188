"""`batches` against a plain torch DataLoader: python core/benchmarks/training_loader.py [CLIPS]

A sample is what GDT trains on: two clips of 30 frames over 1 s at two random times of a video, at
112 x 112 pixels, each with its second of sound at 24 kHz. The plain loader does what the original
does: each clip opens the file, seeks, decodes to its end, and opens it again for the sound, which
is resampled as a whole. It is spared the original's search of the stream, its ffmpeg process and
its pictures in float32. Ours opens the file once for both clips and decodes a frame of both once.

Prints CSV: CPU seconds of a sample in one process; then, with workers, samples a second and the
share of the time in which they were waited for, where a step of some seconds follows each batch
(the process sleeps, as beside a GPU). Values are those of the median round, the ratio is the median
of the rounds' (above 1: ours is better). Same draws, same workers, one decoder thread, four of the
videos with sound in CLIPS, facts of the videos known. Rounds alternate. The first third of each
run, in which workers start, does not count. All batches are compared first. Without CLIPS the
videos of core/tests/data/clips are read.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ssvideo_core.batches import SampleLoader, Task, batches
from ssvideo_core.randomness import epoch_order, generator
from ssvideo_core.source import VideoFiles, open_source
from ssvideo_core.testing.benchmarks import publish
from ssvideo_core.video_index import VideoIndex
from ssvideo_core.views import SoundSpan, VideoInfo, View

if TYPE_CHECKING:  # else workers, which import this file, would import torch
    import torch

FRAMES, SIZE, SPAN_S, RATE_HZ = 30, 112, 1.0, 24000
SEED, BATCH, NUM_BATCHES = 0, 8, 12
VIDEOS = 4
CLIPS = Path(__file__).parents[1] / "tests/data/clips"
Content = tuple["torch.Tensor", ...]  # frames and sound of the first clip, then of the second


def two_clips(info: VideoInfo, rng: np.random.Generator) -> list[View]:
    """Central squares of two random seconds."""
    assert info.pts is not None
    side = min(info.height, info.width)
    box = (info.height - side) // 2, (info.width - side) // 2, side, side
    seconds = (info.pts - info.pts[0]) * float(info.time_base)
    views = []
    for start_s in rng.uniform(0, seconds[-1] - SPAN_S, size=2):
        wanted = start_s + np.arange(FRAMES) * SPAN_S / FRAMES
        frames = np.searchsorted(seconds, wanted, side="right") - 1
        sound = SoundSpan(float(start_s), round(SPAN_S * RATE_HZ), RATE_HZ)
        views.append(View(frames, box, (SIZE, SIZE), sound=sound))
    return views


class PlainVideos:
    """A data set of torch that opens a file for each thing it wants of it."""

    def __init__(self, paths: list[Path], infos: list[VideoInfo], epoch: int) -> None:
        self.paths, self.infos, self.epoch = paths, infos, epoch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Content:
        import torch

        path, info = self.paths[index], self.infos[index]
        content: list[NDArray[Any]] = []
        for view in two_clips(info, generator(SEED, self.epoch, index, "views")):
            content += [plain_frames(path, info, view), plain_sound(path, info, view)]
        return tuple(map(torch.from_numpy, content))


def plain_frames(path: Path, info: VideoInfo, view: View) -> NDArray[np.uint8]:
    assert view.frames is not None
    assert view.box is not None
    assert info.pts is not None
    pts = info.pts[view.frames].tolist()
    y, x, height, width = view.box
    pictures = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        container.seek(pts[0], stream=stream)
        for frame in container.decode(stream):
            if frame.pts in pts:
                pixels = frame.to_ndarray(format="rgb24")[y : y + height, x : x + width]
                image = Image.fromarray(np.ascontiguousarray(pixels))
                pictures[frame.pts] = np.asarray(
                    image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                )
            if frame.pts >= pts[-1]:
                break
    return np.stack([pictures[time] for time in pts])


def plain_sound(path: Path, info: VideoInfo, view: View) -> NDArray[np.float32]:
    assert view.sound is not None
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        chunks = [
            part.to_ndarray()[0]
            for frame in [*container.decode(audio=0), None]
            for part in resampler.resample(frame)
        ]
    start = round((view.sound.start_s - info.sound_start_s) * RATE_HZ)
    whole = np.concatenate([np.zeros(max(-start, 0), np.float32), *chunks])
    sound = whole[max(start, 0) :][: view.sound.num_samples]
    return np.pad(sound, (0, view.sound.num_samples - len(sound)))


def plain(videos: PlainVideos, workers: int) -> Iterator[Content]:
    from torch.utils.data import DataLoader

    order = epoch_order(SEED, videos.epoch, len(videos)).tolist()
    loader = DataLoader(
        videos,  # type: ignore[arg-type]  # has what a map-style data set needs
        BATCH,
        sampler=order,
        num_workers=workers,
        drop_last=True,
    )
    return (tuple(batch) for batch in loader)


def ours(load: SampleLoader, workers: int) -> Iterator[Content]:
    from ssvideo_torch.loader import to_device_ahead

    made = batches(
        load,
        num_samples=len(load),
        global_batch_size=BATCH,
        epochs=1,
        seed=SEED,
        workers=workers,
    )
    with closing(to_device_ahead(made, "cpu")) as loaded:
        for _, batch in loaded:
            contents = [(view.frames, view.sound) for view in batch.views]
            yield tuple(x for pair in contents for x in pair if x is not None)


class Measured(NamedTuple):
    samples_per_s: float
    waiting_share: float


def measure(contents: Iterable[Content], step_s: float) -> Measured:
    """From the end of the first third of the batches on."""
    skip, count, waiting_s = NUM_BATCHES // 3, 0, 0.0
    start = asked = time.perf_counter()
    for count, _ in enumerate(contents, start=1):
        now = time.perf_counter()
        waiting_s += now - asked
        time.sleep(step_s)
        asked = time.perf_counter()
        if count == skip:
            start, waiting_s = asked, 0.0
    elapsed_s = asked - start
    return Measured((count - skip) * BATCH / elapsed_s, waiting_s / elapsed_s)


def line(
    what: str, rounds: Sequence[tuple[float, float]], *, less_is_better: bool = False
) -> tuple[object, ...]:
    """rounds: ours and the other."""
    own, other = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(b / a if less_is_better else a / b for a, b in rounds)
    return what, f"{own:.3f}", f"{other:.3f}", f"{ratio:.2f}"


def cpu_seconds(load: SampleLoader, videos: PlainVideos) -> tuple[float, float]:
    """Of one sample in this process, ours and the other, over one batch."""
    start = time.process_time()
    for index in range(BATCH):
        load(Task(0, index))
    between = time.process_time()
    for index in range(BATCH):
        videos[index]
    return (between - start) / BATCH, (time.process_time() - between) / BATCH


def videos_with_sound(source: VideoFiles) -> list[int]:
    """The first videos that are long enough and whose times can be trusted."""
    infos = map(source.info, range(len(source)))
    usable = [
        k
        for k, info in enumerate(infos)
        if info.sound_rate_hz is not None and info.pts is not None and info.damage is None
    ]
    return usable[:VIDEOS]


def compare(
    load: SampleLoader, videos: PlainVideos, workers: int, rounds: int, steps: Sequence[float]
) -> Iterator[tuple[object, ...]]:
    import torch

    for first, second in zip(ours(load, workers), plain(videos, workers), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    cpu = [cpu_seconds(load, videos) for _ in range(rounds)]
    yield line("CPU s a sample", cpu, less_is_better=True)
    for step_s in steps:
        measured = [
            (measure(ours(load, workers), step_s), measure(plain(videos, workers), step_s))
            for _ in range(rounds)
        ]
        for name in Measured._fields:
            pairs = [(getattr(a, name), getattr(b, name)) for a, b in measured]
            waiting = name == "waiting_share"
            yield line(f"{name} (step {step_s:.2f} s)", pairs, less_is_better=waiting)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, nargs="?", default=CLIPS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=float, nargs="+", default=[0.0, 1.0], help="seconds")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(f"# {arguments.workers} workers")
    columns = ("measured", "batches", "dataloader", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(arguments.clips, index=VideoIndex(Path(folder) / "index.sqlite"))
        indices = np.resize(videos_with_sound(source), BATCH * NUM_BATCHES)
        load = SampleLoader(source, two_clips, seed=SEED, indices=indices)
        paths, infos = map(source.path, indices.tolist()), map(source.info, indices.tolist())
        videos = PlainVideos([*paths], [*infos], epoch=0)
        rows = compare(load, videos, arguments.workers, arguments.rounds, arguments.steps)
        publish("training_loader", columns, rows, packages=["torch", "av", "pillow", "numpy"])


if __name__ == "__main__":
    main()
