"""What the embedded data set gives away: python core/benchmarks/synthetic_limits.py --seeds 0 1

Prints CSV: data seed, network seed, features, common-svm and recall@1 in percent, and the limit the
data set is built to keep. Chance is 12.5. All features come from the decoded mp4 files:

- histogram: 64 bins of RGB over all frames and pixels (`testing.learning`)
- sound: mean over time of 40 log mel energies
- untrained: R(2+1)D-18 at width 16 as it is initialised; untrained+BN: with the statistics of its
  batch norms taken from the training videos; labels: trained with labels for --steps of 16 clips

Networks see 8 frames over 1 s, resized to 56 x 56; two clips of a video, at its start and its end,
make a feature. One thread; about 2 minutes of CPU for each pair of seeds.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.datasets.splits import read_splits
from ssvideo_core.testing import learning
from ssvideo_core.testing.benchmarks import publish
from ssvideo_core.testing.synthetic import CLASSES, SOUND_RATE_HZ, write_dataset
from ssvideo_torch.filterbank import log_filter_bank
from torch import Tensor, nn

try:
    from gdt_stica.networks.video import R2Plus1D
except ModuleNotFoundError:
    raise SystemExit("the demo's network is not installed: pip install ./gdt_stica") from None

FRAMES, STRIDE, SIZE = 8, 2, 56
BATCH = 16
LEARNING_RATE, WEIGHT_DECAY, WARM_UP_STEPS = 2e-3, 0.05, 10
LIMITS = {
    "histogram": "at most 25 (svm and recall@1)",
    "sound": "at least 90 (svm)",
    "untrained": "at most 50 (svm and recall@1)",
    "untrained+BN": "at most 50 (svm and recall@1)",
    "labels": "at least 75 (svm)",
}


@dataclass(frozen=True)
class Part:
    """Videos and what was decoded of them.

    frames: [V, T, H, W, 3] uint8; sound: [V, N] in [-1, 1].
    """

    videos: learning.Videos
    frames: NDArray[np.uint8]
    sound: NDArray[np.float32]


def decode(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        blocks = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    return np.stack(frames), np.concatenate(blocks)


def read_part(folder: Path, ids: tuple[str, ...]) -> Part:
    videos = learning.read_part(folder, ids)
    decoded = [decode(path) for path in videos.paths]
    shortest = min(len(sound) for _, sound in decoded)
    frames = np.stack([frames for frames, _ in decoded])
    return Part(videos, frames, np.stack([sound[:shortest] for _, sound in decoded]))


def score(train: Part, test: Part, x_train: Any, x_test: Any) -> tuple[float, float]:
    """common-svm and recall@1 of two feature matrices, in percent."""
    scored = learning.score(train.videos, test.videos, x_train, x_test)
    return 100 * float(scored.svm.mean()), 100 * float(scored.recall_at_1.mean())


def mean_log_mel(part: Part) -> NDArray[np.float32]:
    scaled = torch.from_numpy(part.sound) * 32768
    energies = log_filter_bank(scaled, sample_rate_hz=SOUND_RATE_HZ, num_filters=40)
    return energies.mean(dim=2).numpy()


def clip(frames: NDArray[np.uint8], start: int, box: tuple[int, int, int]) -> Tensor:
    """(3, T, S, S) on the scale of the pre-training. box: upper edge, left edge, side in pixels."""
    y, x, side = box
    picked = frames[start : start + FRAMES * STRIDE : STRIDE, y : y + side, x : x + side]
    pixels = torch.from_numpy(picked).permute(0, 3, 1, 2).float()
    pixels = nn.functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
    return (pixels.transpose(0, 1) / 255 - 0.45) / 0.225


@torch.no_grad()
def embed(network: nn.Module, part: Part) -> NDArray[np.float32]:
    """The mean over two clips of the pooled output at length 1, [V, D]."""
    network.eval()
    whole = (0, 0, part.frames.shape[2])
    rows = []
    for i in range(0, len(part.frames), BATCH):
        views = [
            torch.stack([clip(v, start, whole) for v in part.frames[i : i + BATCH]])
            for start in (0, part.frames.shape[1] - FRAMES * STRIDE)
        ]
        rows.append(sum(nn.functional.normalize(network(view)) for view in views) / len(views))
    return torch.cat(rows).numpy()


def batches(part: Part, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random clips, crops and flips of every video once, in random order."""
    num_frames, size = part.frames.shape[1:3]
    order = rng.permutation(len(part.frames))
    for ids in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
        clips = []
        for video in part.frames[ids]:
            start = rng.integers(num_frames - FRAMES * STRIDE + 1)
            side = rng.integers(size * 3 // 4, size + 1)
            y, x = rng.integers(size - side + 1, size=2)
            picked = clip(video, start, (y, x, side))
            clips.append(picked.flip(3) if rng.random() < 0.5 else picked)
        yield torch.stack(clips), torch.from_numpy(part.videos.labels[ids])


@torch.no_grad()
def with_statistics_of(network: nn.Module, part: Part) -> nn.Module:
    """A copy whose batch norms have the mean statistics of the part's batches."""
    network = copy.deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None
    for clips, _ in batches(part, np.random.default_rng(0)):
        network(clips)
    return network


def train_with_labels(network: R2Plus1D, part: Part, steps: int, seed: int) -> None:
    """AdamW with a cosine."""
    head = nn.Linear(network.feature_size, len(CLASSES))
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(seed)
    epochs = chain.from_iterable(batches(part, rng) for _ in count())
    network.train()
    for step, (clips, labels) in enumerate(islice(epochs, steps)):
        warm = min(1, (step + 1) / WARM_UP_STEPS)
        rate = LEARNING_RATE * warm * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = rate
        loss = nn.functional.cross_entropy(head(network(clips)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(
    train: Part, test: Part, seed: int, steps: int
) -> Iterator[tuple[str, tuple[float, float]]]:
    colours = [learning.colour_histogram(part.videos) for part in (train, test)]
    yield "histogram", score(train, test, *colours)
    yield "sound", score(train, test, mean_log_mel(train), mean_log_mel(test))
    torch.manual_seed(seed)
    network = R2Plus1D(width=0.25)
    yield "untrained", score(train, test, embed(network, train), embed(network, test))
    fresh = with_statistics_of(network, train)
    yield "untrained+BN", score(train, test, embed(fresh, train), embed(fresh, test))
    train_with_labels(network, train, steps, seed)
    yield "labels", score(train, test, embed(network, train), embed(network, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the data")
    parser.add_argument("--network-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=156, help="of the training")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def rows() -> Iterator[tuple[object, ...]]:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                out = write_dataset(Path(folder) / "data", seed=seed)
                split = read_splits(out / "splits", dataset="synthetic")["1"]
                train, test = read_part(out, split.train), read_part(out, split.test)
                for network_seed in options.network_seeds:
                    for name, scores in measure(train, test, network_seed, options.steps):
                        limit = LIMITS[name]
                        yield seed, network_seed, name, *(f"{x:.1f}" for x in scores), limit

    columns = ("data_seed", "network_seed", "features", "svm", "recall@1", "limit")
    publish("synthetic_limits", columns, rows(), packages=["torch", "av", "numpy"])


if __name__ == "__main__":
    main()
