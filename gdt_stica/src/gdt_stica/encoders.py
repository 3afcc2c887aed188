"""Frozen networks for evaluation: clips or sound in, features out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.views import ClipSpec, Samples
from ssvideo_core.weights import fingerprint
from ssvideo_torch.pixels import from_numpy
from torch import Tensor

from gdt_stica.architecture import Architecture, check_num_frames, from_options
from gdt_stica.checkpoints import read_checkpoint
from gdt_stica.inputs import default_clip, sound_input, video_input
from gdt_stica.model import AudioVisualGDT, FineTuned, Model, build
from gdt_stica.model_stica import STiCA
from gdt_stica.networks.trunk import Trunk
from gdt_stica.sides import Side, side

RANDOM = "random"
Output = Callable[[Tensor], Tensor]


class GDTEncoder:
    """A frozen network of one modality; `load_encoder` makes it.

    clip: what `embed` expects; may be replaced before the first call (ConfigError for another
    modality, or a duration that STiCA's transformer does not take). feature_size: D.
    fingerprint: over all tensors of this modality's trunk, pooling and head (as far as the file
    has one), whatever the output; equal for an original's file and its export.
    published: the record, with the licence, of weights that were loaded by name.
    """

    def __init__(
        self,
        run: Output,
        *,
        architecture: Architecture,
        clip: ClipSpec,
        feature_size: int,
        fingerprint: str,
        device: torch.device,
        published: PublishedWeights | None,
    ):
        self.architecture = architecture
        self._clip = clip
        self.feature_size = feature_size
        self.fingerprint = fingerprint
        self.device = device
        self.published = published
        self._run = run

    @property
    def clip(self) -> ClipSpec:
        return self._clip

    @clip.setter
    def clip(self, clip: ClipSpec) -> None:
        check_clip(clip, self.architecture, self._clip.modality)
        self._clip = clip

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        """Features of a batch: uint8 [B, T, S, S, 3] or float32 [B, N] to float32 [B, D].

        Sound is in [-1, 1]. Evaluation mode, no gradients, full float32, nothing random; a row
        does not depend on the others (1e-5). Raises ValueError for another dtype or shape.
        """
        batch = from_numpy(self._checked(clips))
        with torch.inference_mode(), _exact_convolutions():
            features: NDArray[np.float32] = self._run(self._input(batch)).cpu().numpy()
        return features

    def _checked(self, clips: NDArray[Any]) -> NDArray[Any]:
        dtype, shape = _expected_input(self.clip)
        if clips.dtype != dtype or clips.shape[1:] != shape or not len(clips):
            sizes = ", ".join(map(str, ("B", *shape)))
            raise ValueError(
                f"clips are {clips.dtype} {clips.shape}, expected {dtype} ({sizes}) with B ≥ 1"
            )
        return clips

    def _input(self, batch: Tensor) -> Tensor:
        time = self.clip.time
        if isinstance(time, Samples):
            sound = batch.to(self.device)
            return sound_input(sound, self.architecture, sample_rate_hz=time.rate_hz)
        return video_input(batch, self.architecture, self.device)


def load_encoder(
    weights: str,
    *,
    modality: str = "rgb",
    architecture: Mapping[str, Any] | None = None,
    output: str = "embedding",
    clip: ClipSpec | None = None,
    device: str = "cpu",
    seed: int = 0,
    download: bool = False,
) -> GDTEncoder:
    """A frozen network of one modality.

    weights: "random", which `seed` determines, or what `checkpoints.read_checkpoint` takes: a
        published name, a file (an original's or our safetensors), a checkpoint, a run's folder.
    modality: "rgb" or "sound".
    architecture: options (`architecture.Architecture`) for what a file does not tell; they win
        over what it does tell.
    output: "embedding" (the trunk's pooled output; with STiCA's pooling that one), "projection"
        (the head's, of length 1), "logits" (fine-tuned networks), or a stage of the trunk such as
        "layer3", averaged over its positions.
    clip: replaces the input that the file or the pre-training states.
    download: fetch published weights that are absent.

    Raises WeightsError for an absent, forbidden or unfitting file, DataError for a folder without
    a whole checkpoint, ConfigError for options that do not exist or do not go together.
    """
    published: PublishedWeights | None = None
    clips: Mapping[str, ClipSpec] = {}
    if weights == RANDOM:
        options = from_options(architecture or {})
        part = side(options, modality)
        model = _random_model(options, seed)
    else:
        checkpoint = read_checkpoint(weights, architecture, download=download)
        published, clips, options = checkpoint.published, checkpoint.clips, checkpoint.architecture
        part = side(options, modality)
        model = _filled_model(options, checkpoint.side_tensors(modality))
    _keep_only(model, part)
    chosen = clip or clips.get(modality) or default_clip(options, modality)
    check_clip(chosen, options, modality)
    tensors = {name: t.numpy() for name, t in model.state_dict().items()}
    place = _move(model, device)
    run = _output_of(model, modality, output)
    return GDTEncoder(
        run,
        architecture=options,
        clip=chosen,
        feature_size=_feature_size(run, modality, place),
        fingerprint=fingerprint(tensors),
        device=place,
        published=published,
    )


def check_clip(clip: ClipSpec, architecture: Architecture, modality: str) -> None:
    """Raise ConfigError for a clip of another modality or duration than the network takes."""
    if clip.modality != modality:
        raise ConfigError(f"clip is of modality '{clip.modality}', the encoder of '{modality}'")
    if not isinstance(clip.time, Samples):
        check_num_frames(architecture, clip.time.num_frames)


def _random_model(architecture: Architecture, seed: int) -> Model:
    """A function of architecture and seed; PyTorch's global generators stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(architecture, text_side=False)


def _filled_model(architecture: Architecture, tensors: Mapping[str, NDArray[Any]]) -> Model:
    """What `tensors` do not name stays without memory."""
    with torch.device("meta"):
        model = build(architecture, text_side=False)
    state = {name: from_numpy(array) for name, array in tensors.items()}
    model.load_state_dict(state, strict=False, assign=True)
    return model


def _keep_only(model: Model, part: Side) -> None:
    """Remove what this modality does not use and what the file did not hold; freeze the rest."""
    for name, child in list(model.named_children()):
        tensors = list(child.state_dict().values())
        used = f"{name}.".startswith(part.prefixes) or part.trunk.startswith(f"{name}.")
        if tensors and (not used or any(t.is_meta for t in tensors)):
            delattr(model, name)
    model.eval().requires_grad_(False)


def _move(model: Model, device: str) -> torch.device:
    try:
        place = torch.device(device)
        model.to(place)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used: {error}") from None
    return place


def _output_of(model: Model, modality: str, output: str) -> Output:
    """The function from a network's input to the features that `output` names."""
    trunk, embedding, head, headed = _parts(model, modality)
    outputs: dict[str, Output] = {"embedding": embedding}
    outputs |= {stage: partial(trunk, until=stage) for stage in trunk.stages}
    if hasattr(model, head):
        outputs |= headed
    elif output in headed:
        raise WeightsError(
            f"output '{output}' needs the head '{head}.*', which these weights do not hold; "
            f"they have {', '.join(outputs)}"
        )
    if output not in outputs:
        raise ConfigError(f"output '{output}': these weights have {', '.join(outputs)}")
    return outputs[output]


def _parts(model: Model, modality: str) -> tuple[Trunk, Output, str, Mapping[str, Output]]:
    """The trunk, the embedding, the name of the head, and the outputs that need the head."""
    if isinstance(model, FineTuned):
        return model.base, model.encode_video, "classifier", {"logits": model}
    if modality == "sound" and isinstance(model, AudioVisualGDT | STiCA):
        network = model.audio_network
        project = model.embed_sound if isinstance(model, STiCA) else model.project_sound
        return network.base, network, "mlp_a", {"projection": project}
    return (
        model.video_network.base,
        model.encode_video,
        "mlp_v",
        {"projection": model.project_video},
    )


def _feature_size(run: Output, modality: str, device: torch.device) -> int:
    smallest = (1, 1, 40, 9) if modality == "sound" else (1, 3, 2, 16, 16)
    with torch.inference_mode():
        return run(torch.zeros(smallest, device=device)).shape[1]


def _expected_input(clip: ClipSpec) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape of one clip."""
    if isinstance(clip.time, Samples):
        return np.dtype(np.float32), (clip.time.num_samples,)
    assert clip.pixels is not None, "a ClipSpec of pictures has pixels"
    return np.dtype(np.uint8), (clip.time.num_frames, clip.pixels.size, clip.pixels.size, 3)


def _exact_convolutions() -> AbstractContextManager[None]:
    """Full float32 instead of TF32, and the same algorithm in every call."""
    manager: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return manager
