"""Whether GDT and STiCA learn: python gdt_stica/learn/learn.py --out learn

The recipe `demo` (GDT, hypothesis 1), the same with hypothesis 8, and `stica-demo` on embedded data
sets that they were not tuned on, several network seeds each, beside the network they began as.
Writes results.csv, cross_modal.csv (whether a video's nearest sound is of its class, and the other
way round) and curves.csv. Runs stay in --out and are not repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.checkpoints import export, read_checkpoint
from gdt_stica.encoders import GDTEncoder, load_encoder
from gdt_stica.inputs import video_input
from gdt_stica.model import build
from numpy.typing import NDArray
from ssvideo_core.evaluate.retrieval import nearest
from ssvideo_core.files import write_text
from ssvideo_core.methods import Encoder
from ssvideo_core.randomness import generator
from ssvideo_core.source import VideoEntry, VideoFiles
from ssvideo_core.testing.learning import (
    STATISTICS,
    UNTRAINED,
    Learner,
    Videos,
    show,
)
from ssvideo_core.testing.synthetic_scenes import CLASSES
from ssvideo_core.views import ClipSpec, Pixels, Spread, plan
from torch import nn

ARCHITECTURE = Architecture(width=0.25)
CLIP = ClipSpec("rgb", Spread(8, 1.0), Pixels(56, 56, 56), "repeat_last")
BATCH = 16
LABEL_STEPS, LABEL_RATE, WEIGHT_DECAY = 160, 2e-3, 0.05
TEMPORAL = 5  # clips of each training video, over its whole length


def load(path: Path) -> GDTEncoder:
    return load_encoder(str(path))


def starts(run: Path, train: Videos) -> Mapping[str, Encoder]:
    path = run / "encoder-untrained.safetensors"
    return {UNTRAINED: load(path), STATISTICS: _with_statistics(path, train)}


def read_clips(videos: Videos, clip: ClipSpec, *, temporal: int) -> NDArray[np.uint8]:
    """[V, temporal, T, S, S, 3]."""
    source = VideoFiles(Path(), [VideoEntry(str(path)) for path in videos.paths])
    read = []
    for index in range(len(source)):
        views = plan(source.info(index), clip, temporal=temporal, spatial=1)
        read.append(np.stack([found.frames for found in source.read(index, views)]))
    return np.stack(read)


@torch.no_grad()
def _with_statistics(path: Path, train: Videos) -> GDTEncoder:
    """The untrained encoder with the mean batch norm statistics of the data."""
    checkpoint = read_checkpoint(str(path))
    clip = checkpoint.clips["rgb"]
    clips = read_clips(train, clip, temporal=1)[:, 0]
    model = build(checkpoint.architecture)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in checkpoint.tensors.items()})
    trunk = model.video_network.base.train()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    order = generator(0, "statistics").permutation(len(clips))
    for part in np.array_split(order, len(clips) // BATCH):
        trunk(_input(clips[part], checkpoint.architecture))
    return _as_encoder(model, checkpoint.architecture, clip)


def _as_encoder(model: nn.Module, architecture: Architecture, clip: ClipSpec) -> GDTEncoder:
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.safetensors"
        export(path, tensors, architecture, {"rgb": clip})
        return load(path)


def _input(clips: NDArray[np.uint8], architecture: Architecture) -> torch.Tensor:
    return video_input(torch.from_numpy(clips), architecture, torch.device("cpu"))


def labelled(train: Videos, seed: int) -> Encoder:
    """The video trunk trained with labels, as an encoder."""
    clips, labels = read_clips(train, CLIP, temporal=TEMPORAL), torch.from_numpy(train.labels)
    torch.manual_seed(seed)
    model = build(ARCHITECTURE)
    trunk = model.video_network.base
    head = nn.Linear(trunk.feature_size, len(CLASSES))
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, LABEL_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LABEL_RATE, LABEL_STEPS)
    for step in range(LABEL_STEPS):
        rng = generator(seed, "labels", step)
        picked = rng.choice(len(clips), BATCH, replace=False)
        x = _input(clips[picked, rng.integers(TEMPORAL, size=BATCH)], ARCHITECTURE)
        x = x.flip(-1) if rng.random() < 0.5 else x
        loss = nn.functional.cross_entropy(head(trunk(x)), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return _as_encoder(model, ARCHITECTURE, CLIP)


def cross_modal(run: Path, test: Videos) -> dict[str, float]:
    """Percent of test videos whose nearest sound is of their class, and of sounds, whose video is.

    Nearest by the dot product of the projections that the objective compared; chance is 12.5.
    """
    path = str(run / "encoder.safetensors")
    video, sound = (
        test.features(load_encoder(path, modality=modality, output="projection"))
        for modality in ("rgb", "sound")
    )
    found = {}
    for name, query, gallery in (
        ("video to sound", video, sound),
        ("sound to video", sound, video),
    ):
        neighbours = nearest(query, gallery, 1)[:, 0]
        found[name] = 100 * float((test.labels[neighbours] == test.labels).mean())
    return found


# A run takes about 3, 6 and 20 minutes on two cores, all of them an hour.
LEARNERS = (
    Learner("GDT h1", "gdt_stica", load, starts, labelled),
    Learner(
        "GDT h8",
        "gdt_stica",
        load,
        starts,
        labelled,
        flags=("--hypothesis", "v_reversal_i_shift"),
        network_seeds=(0,),
    ),
    Learner(
        "STiCA",
        "gdt_stica",
        load,
        starts,
        labelled,
        recipe="stica-demo",
        data_seeds=(1,),
        network_seeds=(0,),
    ),
)


def main() -> None:
    lines = ["learner,data_seed,network_seed,query,recall_at_1"]

    def add_cross_modal(
        learner: Learner, run: Path, test: Videos, data_seed: int, network_seed: int
    ) -> None:
        for query, value in cross_modal(run, test).items():
            lines.append(f"{learner.name},{data_seed},{network_seed},{query},{value:.1f}")
            print(lines[-1], flush=True)
        write_text(run.parent / "cross_modal.csv", "\n".join(lines) + "\n")

    show(__doc__ or "", Path("learn/gdt_stica"), LEARNERS, also=add_cross_modal)


if __name__ == "__main__":
    main()
