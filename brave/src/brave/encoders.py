"""Frozen networks for evaluation: clips or sound in, features out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec
from ssvideo_core.weights import fingerprint

from brave.architecture import UNIT_CHANNELS, Architecture, from_options
from brave.backbones import MODALITIES, backbone_variables, make_network, random_tensors
from brave.checkpoints import Checkpoint, collections_of, read_checkpoint
from brave.inputs import expected_input, network_input, unit_range
from brave.networks.heads import Projector
from brave.networks.tsm_resnet import EMBEDDING, UNITS
from brave.projectors import FoundProjector, find_projector, has_projector

RANDOM, PROJECTION = "random", "projection"


class Backbone:
    """The frozen backbone of a modality on one device; call it with what its network sees.

    variables: of `backbones.make_network`. output: "embedding", or a unit of `TSMResNet`.
    projector: what follows the embedding. feature_size: D. device: None is JAX's default. Raises
    ConfigError for a device that does not exist.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        architecture: Architecture,
        *,
        modality: str = "rgb",
        output: str = EMBEDDING,
        projector: FoundProjector | None = None,
        device: str | None = None,
    ):
        self.device = _device(device)
        self.feature_size = architecture.feature_size
        if output in UNITS:
            self.feature_size = int(UNIT_CHANNELS[UNITS.index(output)] * architecture.width)
        head = None
        if projector is not None:
            head = projector.network
            self.feature_size = head.output_dims
        trees = dict(variables), dict(projector.variables if projector else {})
        self._variables = jax.device_put(trees, self.device)
        self._run = _program(make_network(modality, architecture.width), output, head)

    def __call__(self, inputs: Any) -> NDArray[np.float32]:
        """(B, …) float32 to float32 [B, D].

        Evaluation mode, full float32, nothing random; a row does not depend on the others (1e-5).
        Each shape is compiled once.
        """
        with jax.default_matmul_precision("highest"):
            return np.array(self._run(*self._variables, jax.device_put(inputs, self.device)))


class NarrowBackbone(Backbone):
    """The narrow video backbone for the paper's own evaluation; call it with clips."""

    def __init__(
        self,
        variables: Mapping[str, Any],
        architecture: Architecture,
        *,
        device: str | None = None,
    ):
        super().__init__(variables, architecture, device=device)

    def __call__(self, inputs: Any) -> NDArray[np.float32]:
        """[B, T, H, W, 3], uint8 or float32 in [0, 1], to float32 [B, D], as `Backbone` does.

        Raises ValueError for another dtype or shape.
        """
        if inputs.dtype not in (np.uint8, np.float32) or inputs.ndim != 5 or not len(inputs):
            raise ValueError(
                f"clips are {inputs.dtype} {inputs.shape}, expected uint8 or float32 "
                "(B, T, H, W, 3) with B ≥ 1"
            )
        batch = jax.device_put(inputs, self.device)
        return super().__call__(unit_range(batch) if batch.dtype == jnp.uint8 else batch)


class BraveEncoder:
    """A frozen backbone under the project's contract; `load_encoder` makes it.

    clip: what `embed` expects; may be replaced before the first call (ConfigError for another
    modality). feature_size: D. fingerprint: over all tensors of the backbone, whatever the output,
    and with "projection" of the projector; equal for an original's file and its export.
    published: the record, with the licence, of weights loaded by name.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        architecture: Architecture,
        clip: ClipSpec,
        fingerprint: str,
        published: PublishedWeights | None,
    ):
        self.architecture = architecture
        self._clip = clip
        self.feature_size = backbone.feature_size
        self.fingerprint = fingerprint
        self.published = published
        self._backbone = backbone

    @property
    def clip(self) -> ClipSpec:
        return self._clip

    @clip.setter
    def clip(self, clip: ClipSpec) -> None:
        check_modality(clip, self._clip.modality)
        self._clip = clip

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        """Features of a batch: uint8 [B, T, S, S, 3] or float32 [B, N] to float32 [B, D].

        Flow is in the colours of CoCLR (`inputs.flow_input`), sound in [-1, 1]. Evaluation mode,
        full float32, nothing random; a row does not depend on the others (1e-5). The batch is
        filled up to a power of two, so that few programs are compiled.
        Raises ValueError for another dtype or shape than `clip` says.
        """
        dtype, shape = expected_input(self.clip)
        if clips.dtype != dtype or clips.shape[1:] != shape or not len(clips):
            sizes = ", ".join(map(str, ("B", *shape)))
            raise ValueError(
                f"clips are {clips.dtype} {clips.shape}, expected {dtype} ({sizes}) with B ≥ 1"
            )
        missing = (1 << (len(clips) - 1).bit_length()) - len(clips)
        filled = np.pad(clips, ((0, missing), *((0, 0),) * len(shape))) if missing else clips
        batch = jax.device_put(filled, self._backbone.device)
        inputs = network_input(batch, self.clip, self.architecture)
        return self._backbone(inputs)[: len(clips)].copy()


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
    """A frozen backbone of one modality.

    weights: a published name, a file (an original's or our safetensors), a folder that holds
        `encoder.safetensors`, or "random", which `seed` determines.
    modality: "rgb", the narrow view's; "sound" or "flow", those of the broad views "audio" and
        "flow".
    architecture: options (`architecture.Architecture`); they win over what a file tells.
    output: "embedding" (pooled features of the last unit, normalised); of rgb and flow a unit such
        as "tsm_resnet_unit_2", averaged over its positions; "projection", z of the heads in the
        file.
    clip: replaces the input that the file, or else the paper's evaluation or training, states.
    device: "cpu", "cuda", "cuda:1", …
    download: fetch published weights that are absent.

    Raises WeightsError for an absent, forbidden or unfitting file and for one without this
    backbone or the projector, ConfigError for options that do not exist or do not go together.
    """
    if modality not in MODALITIES:
        raise ConfigError(f"modality '{modality}': expected {', '.join(MODALITIES)}")
    if weights == RANDOM:
        checkpoint = _untrained(from_options(architecture or {}), modality, seed)
    else:
        checkpoint = read_checkpoint(weights, architecture, modality=modality, download=download)
    check_modality(clip or checkpoint.clip, modality)
    _check_output(output, checkpoint)
    tensors = checkpoint.backbone_tensors()
    projector = find_projector(checkpoint) if output == PROJECTION else None
    backbone = Backbone(
        backbone_variables(tensors, modality),
        checkpoint.architecture,
        modality=modality,
        output=output,
        projector=projector,
        device=device,
    )
    return BraveEncoder(
        backbone,
        architecture=checkpoint.architecture,
        clip=clip or checkpoint.clip,
        fingerprint=fingerprint({**tensors, **(projector.tensors if projector else {})}),
        published=checkpoint.published,
    )


def load_narrow_backbone(checkpoint: Checkpoint, *, device: str | None = None) -> NarrowBackbone:
    """The backbone of a checkpoint for the paper's own evaluation.

    Raises WeightsError for one without its tensors, ConfigError for a device that does not exist.
    """
    variables = backbone_variables(checkpoint.narrow_tensors(), "rgb")
    return NarrowBackbone(variables, checkpoint.architecture, device=device)


def check_modality(clip: ClipSpec, modality: str) -> None:
    """Raise ConfigError for a clip of another modality."""
    if clip.modality != modality:
        raise ConfigError(f"clip is of modality '{clip.modality}', the encoder of '{modality}'")


def _untrained(architecture: Architecture, modality: str, seed: int) -> Checkpoint:
    tensors = random_tensors(modality, architecture.width, seed)
    params, state = collections_of(tensors)
    return Checkpoint(Path(RANDOM), params, state, architecture, modality=modality)


def _check_output(output: str, checkpoint: Checkpoint) -> None:
    """Raise ConfigError for an output that no file of this modality could have."""
    units = () if checkpoint.modality == "sound" else UNITS
    known = (EMBEDDING, *units, *([PROJECTION] if has_projector(checkpoint) else []))
    if output not in (*known, PROJECTION):
        raise ConfigError(f"output '{output}': these weights have {', '.join(known)}")


@functools.cache
def _program(network: nn.Module, output: str, projector: Projector | None) -> Callable[..., Array]:
    """Shared by all encoders of equal networks, so that each shape of a batch is compiled once."""
    # The network of sound has no units to choose from.
    chosen: dict[str, Any] = {"output": output} if output in UNITS else {}

    def run(variables: Mapping[str, Any], head: Mapping[str, Any], inputs: Array) -> Array:
        features = network.apply(variables, inputs, **chosen)
        if projector is not None:
            features = projector.apply(head, features, train=False)
        assert isinstance(features, Array), "evaluation changes no variables"
        return features

    return jax.jit(run)


def _device(name: str | None) -> jax.Device:
    if name is None:
        return jax.devices()[0]
    kind, _, number = name.partition(":")
    try:
        return jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(f"device '{name}' cannot be used: {error}") from None
