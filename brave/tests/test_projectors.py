"""z of an encoder is z of the model that it was trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.architecture import Architecture
from brave.checkpoints import export, named, read_checkpoint
from brave.encoders import load_encoder
from brave.inputs import network_input
from brave.model import BraVe, Embedding
from brave.projectors import find_projector, has_projector
from brave.views import ViewSpec
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps

WIDTH = 1 / 64
CLIPS = {
    "rgb": ClipSpec("rgb", Steps(2, 2, 25.0), Pixels(16, 16, 16), "loop"),
    "sound": ClipSpec("sound", Samples(1600, 16000), None, "zeros"),
    "flow": ClipSpec("flow", Steps(2, 2, 25.0), Pixels(16, 16, 16), "loop"),
}
VIEWS = {"rgb": "narrow", "sound": "audio", "flow": "flow"}
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (2, 2, 2, 16, 16, 3), dtype=np.uint8)
BATCHES: dict[str, np.ndarray] = {
    "rgb": PICTURES[0],
    "sound": RNG.uniform(-1, 1, (2, 1600)).astype(np.float32),
    "flow": PICTURES[1],
}


def small_model(*, separate_heads: bool) -> BraVe:
    broad = (
        ViewSpec("audio", "sound", 4, 4, 0, "audio_resnet", WIDTH),
        ViewSpec("flow", "flow", 2, 2, 16, "tsm_resnet", WIDTH),
    )
    narrow = ViewSpec("narrow", "rgb", 2, 2, 16, "tsm_resnet", WIDTH)
    return BraVe(narrow, broad, output_dims=4, hidden_size=8, separate_heads=separate_heads)


def write(folder: Path, *, separate_heads: bool) -> tuple[Path, dict[str, Embedding]]:
    """A file, and (z, h) of BATCHES by view."""
    model = small_model(separate_heads=separate_heads)
    params, state = model.init(jax.random.key(1))
    # Averages as from training, so that what they are used for shows.
    state = jax.tree.map(lambda a: a + np.float32(0.5) if a.dtype == np.float32 else a, state)
    path = folder / "encoder.safetensors"
    export(path, named(params), named(state), Architecture(WIDTH), clip=CLIPS["rgb"])
    inputs = {
        VIEWS[modality]: network_input(jnp.asarray(batch), CLIPS[modality], Architecture(WIDTH))
        for modality, batch in BATCHES.items()
    }
    return path, model.embeddings(params, state, inputs, train=False)[0]


@pytest.mark.parametrize("separate_heads", [False, True])
def test_projections_equal_the_models(separate_heads: bool, tmp_path: Path) -> None:
    path, embedded = write(tmp_path, separate_heads=separate_heads)
    for modality, batch in BATCHES.items():
        options: dict[str, Any] = {"modality": modality, "clip": CLIPS[modality]}
        encoder = load_encoder(str(path), output="projection", **options)
        assert encoder.feature_size == 4
        z, _ = embedded[VIEWS[modality]]
        np.testing.assert_allclose(encoder.embed(batch), z, rtol=1e-4, atol=1e-5)
        assert encoder.fingerprint != load_encoder(str(path), **options).fingerprint


def test_weights_without_a_projector() -> None:
    for modality in CLIPS:
        options = {"modality": modality, "architecture": {"width": WIDTH}}
        with pytest.raises(WeightsError, match="needs the projector 'shared_project/projector/"):
            load_encoder("random", output="projection", **options)
        with pytest.raises(ConfigError, match="output 'logits': these weights have embedding") as e:
            load_encoder("random", output="logits", **options)
        assert "projection" not in str(e.value)


def test_a_projector_of_other_features(tmp_path: Path) -> None:
    path, _ = write(tmp_path, separate_heads=False)
    found = read_checkpoint(str(path))
    assert has_projector(found)
    assert find_projector(found).network.hidden_size == 8
    name = "shared_project/projector/linear/w"
    wrong = {**found.params, name: np.zeros((33, 8), np.float32)}
    export(path, wrong, found.state, found.architecture, clip=CLIPS["rgb"])
    message = (
        r"(?s)encoder.safetensors, its projector: .* 1 of another shape: params/shared_project"
    )
    with pytest.raises(WeightsError, match=message.replace(" 1", "1")):
        load_encoder(str(path), output="projection")
    assert load_encoder(str(path)).feature_size == 32
