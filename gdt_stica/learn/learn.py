"""Whether GDT learns: python gdt_stica/learn/learn.py --out learn

The recipe `demo` on embedded data sets that it was not tuned on, several network seeds each, beside
the network it began as. Writes results.csv and curves.csv; the runs stay in --out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.checkpoints import export, read_checkpoint
from gdt_stica.encoders import GDTEncoder, load_encoder
from gdt_stica.inputs import video_input
from gdt_stica.model import AudioVisualGDT, build
from numpy.typing import NDArray
from ssvideo_core.methods import Encoder
from ssvideo_core.randomness import generator
from ssvideo_core.source import VideoEntry, VideoFiles
from ssvideo_core.testing.learning import (
    STATISTICS,
    UNTRAINED,
    Learner,
    Row,
    Videos,
    measure,
    write_curves,
    write_rows,
)
from ssvideo_core.testing.synthetic_scenes import CLASSES
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan
from torch import nn

CLIP = ClipSpec("rgb", Spread(8, 1.0), Pixels(56, 56, 56), "repeat_last")
ARCHITECTURE = Architecture(width=0.25)
BATCH = 16
LABEL_STEPS, LABEL_RATE, WEIGHT_DECAY = 160, 2e-3, 0.05
TEMPORAL = 5  # clips of each training video, over its whole length


def load(path: Path) -> GDTEncoder:
    return load_encoder(str(path))


def starts(run: Path, train: Videos) -> Mapping[str, Encoder]:
    untrained = load(run / "encoder-untrained.safetensors")
    return {UNTRAINED: untrained, STATISTICS: _with_statistics(run, read_clips(train))}


def read_clips(videos: Videos) -> NDArray[np.uint8]:
    """[V, clips, T, S, S, 3]."""
    source = VideoFiles(Path(), [VideoEntry(str(path)) for path in videos.paths])
    read = []
    for index in range(len(source)):
        views = plan(source.info(index), CLIP, temporal=TEMPORAL, spatial=1)
        read.append(np.stack([clip.frames for clip in source.read(index, views)]))
    return np.stack(read)


@torch.no_grad()
def _with_statistics(run: Path, clips: NDArray[np.uint8]) -> GDTEncoder:
    """The untrained encoder with the mean batch norm statistics of the data."""
    checkpoint = read_checkpoint(str(run / "encoder-untrained.safetensors"))
    model = _new_model()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in checkpoint.tensors.items()})
    trunk = model.video_network.base.train()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    order = generator(0, "statistics").permutation(len(clips))
    for part in np.array_split(order, len(clips) // BATCH):
        trunk(_input(clips[part, TEMPORAL // 2]))
    return _as_encoder(model)


def _new_model() -> AudioVisualGDT:
    model = build(ARCHITECTURE)
    assert isinstance(model, AudioVisualGDT)
    return model


def _as_encoder(model: AudioVisualGDT) -> GDTEncoder:
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.safetensors"
        export(path, tensors, ARCHITECTURE, {"rgb": CLIP})
        return load(path)


def _input(clips: NDArray[np.uint8]) -> torch.Tensor:
    return video_input(torch.from_numpy(clips), ARCHITECTURE, torch.device("cpu"))


def labelled(train: Videos, seed: int) -> Encoder:
    """The video trunk trained with labels, as an encoder."""
    clips, labels = read_clips(train), torch.from_numpy(train.labels)
    torch.manual_seed(seed)
    model = _new_model()
    trunk = model.video_network.base
    head = nn.Linear(trunk.feature_size, len(CLASSES))
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, LABEL_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LABEL_RATE, LABEL_STEPS)
    for step in range(LABEL_STEPS):
        rng = generator(seed, "labels", step)
        picked = rng.choice(len(clips), BATCH, replace=False)
        x = _input(clips[picked, rng.integers(TEMPORAL, size=BATCH)])
        x = x.flip(-1) if rng.random() < 0.5 else x
        loss = nn.functional.cross_entropy(head(trunk(x)), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return _as_encoder(model)


GDT = Learner("gdt_stica", load, starts, labelled)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("learn/gdt_stica"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the data")
    parser.add_argument("--network-seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows: list[Row] = []
    for seed in options.seeds:
        for row in measure(GDT, options.out, data_seed=seed, network_seeds=options.network_seeds):
            rows.append(row)
            print(row, flush=True)
            write_rows(rows, options.out / "results.csv")
    write_curves(options.out, options.out / "curves.csv")


if __name__ == "__main__":
    main()
