"""Frozen networks for evaluation: clips in, features out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec, Samples
from ssvideo_core.weights import fingerprint

from brave.architecture import CLIP, UNIT_CHANNELS, Architecture, from_options
from brave.checkpoints import Checkpoint, narrow_names, narrow_variables, read_checkpoint
from brave.networks.initial import initial_variables
from brave.networks.tsm_resnet import EMBEDDING, OUTPUTS, UNITS, TSMResNet

RANDOM = "random"


class NarrowBackbone:
    """A frozen narrow video backbone on one device; call it with clips.

    feature_size: D. device: None is JAX's default. Raises ConfigError for a device or an output
    that does not exist.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        architecture: Architecture,
        *,
        output: str = EMBEDDING,
        device: str | None = None,
    ):
        if output not in OUTPUTS:
            raise ConfigError(f"output '{output}': these weights have {', '.join(OUTPUTS)}")
        self.device = _device(device)
        self.feature_size = architecture.feature_size
        if output in UNITS:
            self.feature_size = int(UNIT_CHANNELS[UNITS.index(output)] * architecture.width)
        self._variables = jax.device_put(dict(variables), self.device)
        self._run = _program(architecture.width, output)

    def __call__(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        """[B, T, H, W, 3], uint8 or float32 in [0, 1], to float32 [B, D].

        Evaluation mode, full float32, nothing random; a row does not depend on the others (1e-5).
        Each shape is compiled once. Raises ValueError for another dtype or shape.
        """
        if clips.dtype not in (np.uint8, np.float32) or clips.ndim != 5 or not len(clips):
            raise ValueError(
                f"clips are {clips.dtype} {clips.shape}, expected uint8 or float32 "
                "(B, T, H, W, 3) with B ≥ 1"
            )
        batch = jax.device_put(clips, self.device)
        if batch.dtype == jnp.uint8:
            batch = _unit_range(batch)
        with jax.default_matmul_precision("highest"):
            return np.array(self._run(self._variables, batch))


class BraveEncoder:
    """A narrow video backbone under the project's contract; `load_encoder` makes it.

    clip: what `embed` expects; may be replaced before the first call. feature_size: D.
    fingerprint: over all tensors of the backbone, whatever the output; equal for an original's
    file and its export. published: the record, with the licence, of weights loaded by name.
    """

    def __init__(
        self,
        backbone: NarrowBackbone,
        *,
        architecture: Architecture,
        clip: ClipSpec,
        fingerprint: str,
        published: PublishedWeights | None,
    ):
        self.architecture = architecture
        self.clip = clip
        self.feature_size = backbone.feature_size
        self.fingerprint = fingerprint
        self.published = published
        self._backbone = backbone

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        """Features of a batch: uint8 [B, T, S, S, 3] to float32 [B, D], as `NarrowBackbone` does.

        The batch is filled up to a power of two, so that few programs are compiled.
        Raises ValueError for another dtype or shape than `clip` says.
        """
        shape = _clip_shape(self.clip)
        if clips.dtype != np.uint8 or clips.shape[1:] != shape or not len(clips):
            sizes = ", ".join(map(str, ("B", *shape)))
            raise ValueError(
                f"clips are {clips.dtype} {clips.shape}, expected uint8 ({sizes}) with B ≥ 1"
            )
        missing = (1 << (len(clips) - 1).bit_length()) - len(clips)
        filled = np.pad(clips, ((0, missing), *((0, 0),) * 4)) if missing else clips
        return self._backbone(filled)[: len(clips)].copy()


def load_encoder(
    weights: str,
    *,
    modality: str = "rgb",
    architecture: Mapping[str, Any] | None = None,
    output: str = EMBEDDING,
    clip: ClipSpec | None = None,
    device: str = "cpu",
    seed: int = 0,
    download: bool = False,
) -> BraveEncoder:
    """A frozen narrow video backbone.

    weights: a published name, a file (an original's or our safetensors), a folder that holds
        `encoder.safetensors`, or "random", which `seed` determines.
    modality: "rgb".
    architecture: options (`architecture.Architecture`); they win over what a file tells.
    output: "embedding" (pooled features of the last unit, normalised), or a unit such as
        "tsm_resnet_unit_2", averaged over its positions.
    clip: replaces the input that the file or the paper's evaluation states.
    device: "cpu", "cuda", "cuda:1", …
    download: fetch published weights that are absent.

    Raises WeightsError for an absent, forbidden or unfitting file, ConfigError for options that
    do not exist or do not go together.
    """
    if modality != "rgb":
        raise ConfigError(f"modality '{modality}': this version embeds pictures only; expected rgb")
    published: PublishedWeights | None = None
    stated: ClipSpec | None = None
    if weights == RANDOM:
        options = from_options(architecture or {})
        tensors = narrow_names(initial_variables(TSMResNet(options.width), seed))
    else:
        checkpoint = read_checkpoint(weights, architecture, download=download)
        published, options = checkpoint.published, checkpoint.architecture
        stated, tensors = checkpoint.clips.get(modality), checkpoint.narrow_tensors()
    chosen = clip or stated or CLIP
    if chosen.modality != modality:
        raise ConfigError(f"clip is of modality '{chosen.modality}', the encoder of '{modality}'")
    backbone = NarrowBackbone(narrow_variables(tensors), options, output=output, device=device)
    return BraveEncoder(
        backbone,
        architecture=options,
        clip=chosen,
        fingerprint=fingerprint(tensors),
        published=published,
    )


def load_narrow_backbone(checkpoint: Checkpoint, *, device: str | None = None) -> NarrowBackbone:
    """The backbone of a checkpoint for the paper's own evaluation.

    Raises WeightsError for one without its tensors, ConfigError for a device that does not exist.
    """
    variables = narrow_variables(checkpoint.narrow_tensors())
    return NarrowBackbone(variables, checkpoint.architecture, device=device)


@functools.cache
def _program(width: float, output: str) -> Callable[[Mapping[str, Any], Array], Array]:
    """Shared by all encoders of a width, so that each shape of a batch is compiled once."""
    network = TSMResNet(width)

    def run(variables: Mapping[str, Any], clips: Array) -> Array:
        features = network.apply(variables, clips, output=output)
        assert isinstance(features, Array), "evaluation changes no variables"
        return features

    return jax.jit(run)


@jax.jit
def _unit_range(clips: Array) -> Array:
    """uint8 to float32 in [0, 1]."""
    scaled: Array = clips.astype(jnp.float32) * jnp.float32(1 / 255)
    return scaled


def _clip_shape(clip: ClipSpec) -> tuple[int, ...]:
    assert clip.pixels is not None, "a ClipSpec of pictures has pixels"
    assert not isinstance(clip.time, Samples), "a ClipSpec of pictures has frames"
    return clip.time.num_frames, clip.pixels.size, clip.pixels.size, 3


def _device(name: str | None) -> jax.Device:
    if name is None:
        return jax.devices()[0]
    kind, _, number = name.partition(":")
    try:
        return jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(f"device '{name}' cannot be used: {error}") from None
