"""Whether BraVe learns: python brave/learn/learn.py --out learn

The recipe `demo` (V/A) for longer and with larger batches, and the same with a broad view of
pictures (V/V), on embedded data sets that they were not tuned on, beside the network they began as.
Times include writing shards and compiling. Writes results.csv and curves.csv. Runs stay in --out
and are not repeated.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from brave.architecture import Architecture
from brave.backbones import backbone_names, backbone_variables
from brave.checkpoints import collections_of, export, read_checkpoint
from brave.config_files import PACKAGED, PREFIX, load_config
from brave.encoders import BraveEncoder, load_encoder
from brave.experiment_settings import settings_of
from brave.networks.initial import initial_variables
from brave.networks.tsm_resnet import TSMResNet
from numpy.typing import NDArray
from ssvideo_core.methods import Encoder
from ssvideo_core.randomness import generator
from ssvideo_core.recipes import find_recipe
from ssvideo_core.source import VideoEntry, VideoFiles
from ssvideo_core.testing.learning import (
    STATISTICS,
    UNTRAINED,
    Learner,
    Videos,
    show,
)
from ssvideo_core.testing.synthetic_scenes import CLASSES
from ssvideo_core.views import ClipSpec, plan

WIDTH = 0.25
BATCH = 16
LABEL_STEPS, LABEL_RATE, WEIGHT_DECAY = 160, 2e-3, 0.05
TEMPORAL = 5  # clips of each training video, over its whole length
LONGER = (  # than the two minutes of the demo
    *("--config.training_steps", "500", "--config.experiment.global_batch_size", "32"),
    *("--config.optimizer.schedule.warmup_steps", "30"),
)
VIDEO_VIEW = (  # what the demo's broad view of sound becomes
    *("--config.model.broad_views", "video", "--config.model.image_size_broad", "32"),
)
NETWORK = TSMResNet(WIDTH)


def load(path: Path) -> BraveEncoder:
    return load_encoder(str(path))


def starts(run: Path, train: Videos) -> Mapping[str, Encoder]:
    untrained = load(run / "encoder-untrained.safetensors")
    return {UNTRAINED: untrained, STATISTICS: _with_statistics(run, train)}


def read_clips(videos: Videos, clip: ClipSpec) -> NDArray[np.uint8]:
    """[V, clips, T, S, S, 3]."""
    source = VideoFiles(Path(), [VideoEntry(str(path)) for path in videos.paths])
    read = []
    for index in range(len(source)):
        views = plan(source.info(index), clip, temporal=TEMPORAL, spatial=1)
        read.append(np.stack([clip.frames for clip in source.read(index, views)]))
    return np.stack(read)


@jax.jit
def _statistics(variables: Any, clips: jax.Array) -> Any:
    """The moving averages after one more batch."""
    _, after = NETWORK.apply(variables, clips / 255.0, train=True, mutable=["state"])
    return after["state"]


def _with_statistics(run: Path, train: Videos) -> BraveEncoder:
    """The untrained encoder with the batch norm statistics of the data."""
    checkpoint = read_checkpoint(str(run / "encoder-untrained.safetensors"))
    clip = checkpoint.clips["rgb"]
    variables = backbone_variables(checkpoint.narrow_tensors(), "rgb")
    clips = read_clips(train, clip)
    order = generator(0, "statistics").permutation(len(clips))
    for part in np.split(order, len(clips) // BATCH):
        variables["state"] = _statistics(variables, clips[part, TEMPORAL // 2])
    return _as_encoder(variables, clip)


def _as_encoder(variables: Mapping[str, Any], clip: ClipSpec) -> BraveEncoder:
    tensors = {n: np.asarray(leaf) for n, leaf in backbone_names(variables, "rgb").items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.safetensors"
        export(path, *collections_of(tensors), Architecture(WIDTH), clip=clip)
        return load(path)


def labelled(clip: ClipSpec, train: Videos, seed: int) -> Encoder:
    """The narrow backbone trained with labels, as an encoder."""
    clips = read_clips(train, clip)
    schedule = optax.cosine_onecycle_schedule(LABEL_STEPS, LABEL_RATE)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
    variables = initial_variables(NETWORK, seed)
    size = Architecture(WIDTH).feature_size
    head = {"w": np.zeros((size, len(CLASSES)), np.float32), "b": np.zeros(len(CLASSES))}
    params, state = {"network": variables["params"], "head": head}, variables["state"]
    momentum = optimizer.init(params)

    def loss_of(params: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        inputs = {"params": params["network"], "state": state}
        features, after = NETWORK.apply(inputs, x / 255.0, train=True, mutable=["state"])
        scores = features @ params["head"]["w"] + params["head"]["b"]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, y)
        return losses.mean(), after["state"]

    @jax.jit
    def step(params: Any, state: Any, momentum: Any, x: jax.Array, y: jax.Array) -> Any:
        gradients, state = jax.grad(loss_of, has_aux=True)(params, state, x, y)
        updates, momentum = optimizer.update(gradients, momentum, params)
        return optax.apply_updates(params, updates), state, momentum

    for number in range(LABEL_STEPS):
        rng = generator(seed, "labels", number)
        picked = rng.choice(len(clips), BATCH, replace=False)
        x = clips[picked, rng.integers(TEMPORAL, size=BATCH)]
        x = x[..., ::-1, :] if rng.random() < 0.5 else x
        labels = jnp.asarray(train.labels[picked])
        params, state, momentum = step(params, state, momentum, x, labels)
    return _as_encoder({"params": params["network"], "state": state}, clip)


def demo_clip() -> ClipSpec:
    """What the demo's encoders see."""
    flags = find_recipe("brave", "demo").flags.items()
    words = [f"{flag}={value}" for flag, value in flags if flag.startswith(PREFIX)]
    return settings_of(load_config(PACKAGED, words)).clip


_LABELLED = functools.partial(labelled, demo_clip())
# A run takes about 10 minutes on two cores, all of them an hour.
LEARNERS = (
    Learner("BraVe V-A", "brave", load, starts, _LABELLED, flags=LONGER, network_seeds=(0, 1)),
    Learner(
        "BraVe V-V",
        "brave",
        load,
        starts,
        _LABELLED,
        flags=(*LONGER, *VIDEO_VIEW),
        data_seeds=(1,),
        network_seeds=(0,),
    ),
)


if __name__ == "__main__":
    show(__doc__ or "", Path("learn/brave"), LEARNERS)
