from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.architecture import Architecture
from brave.backbones import MODALITIES, backbone_names, make_network
from brave.checkpoints import collections_of, convert, export, read_checkpoint
from brave.clips import CLIPS as PAPERS_CLIPS
from brave.config_files import PACKAGED, load_config
from brave.encoders import BraveEncoder, _program, load_narrow_backbone
from brave.experiment_settings import ExperimentSettings, settings_of
from brave.log_mel import log_mel
from brave.networks.audio_resnet import AudioResNet
from brave.networks.initial import draw_variables, variable_shapes
from brave.networks.tsm_resnet import OUTPUTS, UNITS, TSMResNet
from brave.training import make_model
from brave.training_state import TrainingState, export_encoder
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps
from ssvideo_core.weights import fingerprint

from brave import encoders, load_encoder

WIDTH = 1 / 64
SMALL = {"width": WIDTH}
RGB = ClipSpec("rgb", Steps(3, 2, 25.0), Pixels(20, 20, 20), "loop")
SOUND = ClipSpec("sound", Samples(1600, 16000), None, "zeros")
FLOW = ClipSpec("flow", Steps(3, 2, 25.0), Pixels(48, 40, 20), "loop")
SPECS = {"rgb": RGB, "sound": SOUND, "flow": FLOW}
RNG = np.random.default_rng(5)
CLIPS = RNG.integers(0, 256, (4, 3, 20, 20, 3), dtype=np.uint8)
BATCHES: dict[str, np.ndarray] = {
    "rgb": CLIPS,
    # Of different loudness, so that the features of the four differ.
    "sound": (RNG.uniform(-1, 1, (4, 1600)) * [[1], [0.1], [0.01], [0.001]]).astype(np.float32),
    "flow": RNG.integers(0, 256, (4, 3, 20, 20, 3), dtype=np.uint8),
}

every_modality = pytest.mark.parametrize("modality", MODALITIES)


def small(modality: str = "rgb", **options: Any) -> BraveEncoder:
    return load_encoder(
        "random", modality=modality, architecture=SMALL, clip=SPECS[modality], **options
    )


def seen(modality: str) -> np.ndarray:
    """What the network should see of BATCHES."""
    batch = BATCHES[modality]
    if modality == "sound":
        return np.asarray(log_mel(jnp.asarray(batch), rate_hz=16000))
    if modality == "flow":
        blue, green = batch[..., 2].astype(np.float64), batch[..., 1].astype(np.float64)
        return (0.5 * (np.stack([blue, green], axis=-1) * 2 / 255 - 1)).astype(np.float32)
    return (batch.astype(np.float64) / 255).astype(np.float32)


@functools.cache
def twin_variables(modality: str) -> dict[str, Any]:
    """Those that `load_encoder("random", seed=0)` should hold."""
    network = AudioResNet(width=WIDTH) if modality == "sound" else TSMResNet(WIDTH)
    x = jnp.asarray(seen(modality))
    return draw_variables(variable_shapes(network, x), jax.random.key(0))


@functools.cache
def twin_features(modality: str, output: str) -> np.ndarray:
    if modality == "sound":
        run = jax.jit(AudioResNet(width=WIDTH).apply)
    else:
        run = jax.jit(functools.partial(TSMResNet(WIDTH).apply, output=output))
    return np.asarray(run(twin_variables(modality), seen(modality)))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbones of `twin_variables`, all three."""
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    tensors: dict[str, np.ndarray] = {}
    for modality in MODALITIES:
        tensors |= backbone_names(twin_variables(modality), modality)
    export(path, *collections_of(tensors), architecture=Architecture(WIDTH), clip=RGB)
    return path


@every_modality
def test_default_clip_is_the_papers(modality: str) -> None:
    encoder = load_encoder("random", modality=modality, architecture=SMALL)
    assert encoder.clip == PAPERS_CLIPS[modality]


@pytest.mark.parametrize(
    ("modality", "output"),
    [
        ("rgb", "embedding"),
        ("rgb", "tsm_resnet_unit_1"),
        ("sound", "embedding"),
        ("flow", "embedding"),
    ],
)
def test_features_equal_the_network(modality: str, output: str) -> None:
    encoder = small(modality, output=output)
    found = encoder.embed(BATCHES[modality])
    assert found.dtype == np.float32
    assert found.shape == (4, encoder.feature_size)
    assert len(np.unique(found.round(5), axis=0)) == 4
    want = twin_features(modality, output)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@every_modality
def test_published_width_by_default(modality: str) -> None:
    encoder = load_encoder("random", modality=modality)
    assert encoder.feature_size == 2048
    assert encoder.architecture.width == 1


@every_modality
def test_rows_do_not_depend_on_the_batch(modality: str) -> None:
    encoder, batch = small(modality), BATCHES[modality]
    together = encoder.embed(batch)
    alone = np.concatenate([encoder.embed(clip[None]) for clip in batch])
    scale = np.abs(together).max(axis=1, keepdims=True)
    assert (np.abs(together - alone) / scale).max() <= 1e-5
    np.testing.assert_array_equal(encoder.embed(batch), together)


@every_modality
def test_batches_are_filled_up_to_a_power_of_two(modality: str) -> None:
    encoder, batch = small(modality), BATCHES[modality]
    whole = encoder.embed(batch)
    program = _program(make_network(modality, WIDTH), "embedding", None)
    compiled = program._cache_size()
    np.testing.assert_array_equal(encoder.embed(batch[:3]), whole[:3])
    small(modality, seed=1).embed(batch[1:])
    assert program._cache_size() == compiled >= 1


def test_only_the_encoder_fills_batches_up(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def run(_: Any, __: Any, clips: jax.Array) -> jax.Array:
        ran.append(len(clips))
        return clips[:, 0, 0, 0]

    monkeypatch.setattr(encoders, "_program", lambda *_: run)
    assert load_narrow_backbone(read_checkpoint(str(small_file)))(CLIPS[:3]).shape == (3, 3)
    assert load_encoder(str(small_file)).embed(CLIPS[:3]).shape == (3, 3)
    assert ran == [3, 4]


@every_modality
def test_random_weights_are_a_function_of_the_seed(modality: str) -> None:
    batch = BATCHES[modality]
    first, again, other = small(modality), small(modality), small(modality, seed=1)
    np.testing.assert_array_equal(first.embed(batch), again.embed(batch))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert np.abs(first.embed(batch) - other.embed(batch)).max() > 1e-3


@every_modality
def test_embedding_leaves_no_trace(modality: str) -> None:
    clips = BATCHES[modality].copy()
    clips.setflags(write=False)
    found = small(modality).embed(clips)
    np.testing.assert_array_equal(clips, BATCHES[modality])
    assert found.flags.writeable
    assert found.base is None


def test_fingerprint_is_of_the_whole_backbone() -> None:
    for modality, outputs in (("rgb", OUTPUTS), ("flow", OUTPUTS), ("sound", OUTPUTS[:1])):
        want = fingerprint(backbone_names(twin_variables(modality), modality))
        for output in outputs:
            assert small(modality, output=output).fingerprint == want


def test_feature_sizes() -> None:
    sizes = [load_encoder("random", architecture=SMALL, output=o).feature_size for o in OUTPUTS]
    assert dict(zip(OUTPUTS, sizes, strict=True)) == {
        "embedding": 32,
        "tsm_resnet_unit_0": 4,
        "tsm_resnet_unit_1": 8,
        "tsm_resnet_unit_2": 16,
        "tsm_resnet_unit_3": 32,
    }


@every_modality
def test_clip_may_be_replaced(modality: str) -> None:
    encoder = load_encoder("random", modality=modality, architecture=SMALL)
    encoder.clip = SPECS[modality]
    batch = BATCHES[modality]
    np.testing.assert_array_equal(encoder.embed(batch), small(modality).embed(batch))
    other = SPECS["rgb" if modality == "sound" else "sound"]
    message = f"clip is of modality '{other.modality}', the encoder of '{modality}'"
    with pytest.raises(ConfigError, match=message):
        encoder.clip = other
    with pytest.raises(ConfigError, match=message):
        load_encoder("random", modality=modality, architecture=SMALL, clip=other)


def test_the_rate_of_sound_matters() -> None:
    encoder = small("sound")
    encoder.clip = ClipSpec("sound", Samples(1600, 8000), None, "zeros")
    found = encoder.embed(BATCHES["sound"])
    assert np.abs(found - twin_features("sound", "embedding")).max() > 1e-3


@pytest.mark.parametrize(
    ("modality", "clips", "message"),
    [
        ("rgb", CLIPS.astype(np.float32), "float32 (4, 3, 20, 20, 3), expected uint8 (B, 3, 20, "),
        ("rgb", CLIPS[:, :2], "uint8 (4, 2, 20, 20, 3), expected uint8 (B, 3, 20, 20, 3)"),
        ("rgb", CLIPS[0], "uint8 (3, 20, 20, 3), expected"),
        ("rgb", np.moveaxis(CLIPS, -1, 1), "uint8 (4, 3, 3, 20, 20), expected"),
        ("rgb", CLIPS[:0], "with B ≥ 1"),
        ("flow", CLIPS[..., :2], "uint8 (4, 3, 20, 20, 2), expected uint8 (B, 3, 20, 20, 3)"),
        ("sound", BATCHES["sound"].astype(np.float64), "float64 (4, 1600), expected float32 (B, "),
        ("sound", BATCHES["sound"][:, 1:], "float32 (4, 1599), expected float32 (B, 1600)"),
        ("sound", BATCHES["sound"][0], "float32 (1600,), expected"),
        ("sound", BATCHES["sound"][:0], "with B ≥ 1"),
    ],
)
def test_wrong_input(modality: str, clips: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match="clips are") as error:
        small(modality).embed(clips)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "logits"}, r"output 'logits': these weights have embedding, tsm_resnet_unit_0"),
        (
            {"modality": "sound", "output": UNITS[0]},
            r"output 'tsm_resnet_unit_0': these weights have embedding$",
        ),
        ({"modality": "depth"}, r"modality 'depth': expected rgb, sound, flow"),
        ({"device": "teapot"}, r"device 'teapot' cannot be used"),
        ({"device": "cpu:x"}, r"device 'cpu:x' cannot be used"),
        ({"device": "cpu:99"}, r"device 'cpu:99' cannot be used"),
        ({"architecture": {"depth": 3}}, r"no architecture option depth"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder("random", **{"architecture": SMALL, **options})


@every_modality
def test_a_file_equals_what_it_was_made_of(modality: str, small_file: Path, tmp_path: Path) -> None:
    convert(str(small_file), tmp_path / "w.npy")
    want = small(modality)
    for path in (small_file, tmp_path / "w.npy"):
        encoder = load_encoder(str(path), modality=modality, clip=SPECS[modality])
        assert encoder.fingerprint == want.fingerprint
        batch = BATCHES[modality]
        np.testing.assert_array_equal(encoder.embed(batch), want.embed(batch))


def test_narrow_backbone_for_the_papers_evaluation(small_file: Path) -> None:
    backbone = load_narrow_backbone(read_checkpoint(str(small_file)))
    assert backbone.feature_size == 32
    want = small().embed(CLIPS)
    np.testing.assert_array_equal(backbone(CLIPS), want)
    scaled = (CLIPS.astype(np.float64) / 255).astype(np.float32)
    np.testing.assert_allclose(backbone(scaled), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(load_encoder(str(small_file.parent)).embed(CLIPS), want)
    for wrong in (CLIPS.astype(np.float64), CLIPS[0], CLIPS[:0]):
        with pytest.raises(ValueError, match=r"expected uint8 or float32 \(B, T, H, W, 3\)"):
            backbone(wrong)
    with pytest.raises(WeightsError, match="published names: va-f-1x, va-f-2x, va-1x, vvvv-1x"):
        load_encoder("nowhere.npy")


# ---- files of a training ------------------------------------------------------------------


def training(*broad: str) -> ExperimentSettings:
    values = {
        "broad_views": ",".join(broad),
        "num_frames_narrow": 2,
        "step_narrow": 1,
        "image_size_narrow": 16,
        "num_frames_broad": 5,
        "step_broad": 2,
        "image_size_broad": 8,
        "input_video_sample_rate": 100,
        "input_audio_sample_rate": 16000,
        "num_spectrogram_bins": 24,
        "fft_step": 80,
        "tsm_resnet_width_multiplier": WIDTH,
        "audio_resnet_width_multiplier": 1 / 32,
        "separate_heads": True,
        "head_hidden_size": 8,
        "output_dims": 4,
    }
    words = [f"--config.model.{key}={value}" for key, value in values.items()]
    return settings_of(load_config(PACKAGED, words))


def test_a_run_has_an_encoder_of_each_view(tmp_path: Path) -> None:
    """With the clip that it was trained with, and the width and the bins of its own."""
    settings = training("audio", "flow")
    params, state = make_model(settings).init(jax.random.key(3))
    path = tmp_path / "encoder.safetensors"
    export_encoder(path, TrainingState(params, state, None), settings)
    clips = {
        "rgb": settings.clip,
        "sound": ClipSpec("sound", Samples(1600, 16000), None, "zeros"),
        "flow": ClipSpec("flow", Steps(5, 2, 100.0), Pixels(18, 16, 8), "loop"),
    }
    loaded = {modality: load_encoder(str(tmp_path), modality=modality) for modality in MODALITIES}
    assert {modality: encoder.clip for modality, encoder in loaded.items()} == clips
    assert {encoder.feature_size for encoder in loaded.values()} == {32, 64}
    assert read_checkpoint(str(path)).clips == clips
    module = "broad_audio_embedding"
    variables = {"params": params[module]["res_net_v2"], "state": state[module]["res_net_v2"]}
    wave = BATCHES["sound"]
    spectrograms = log_mel(jnp.asarray(wave), rate_hz=16000, num_bins=24, fft_step=80)
    want = jax.jit(AudioResNet(width=1 / 32).apply)(variables, spectrograms)
    found = loaded["sound"].embed(wave)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


def test_a_run_without_sound(tmp_path: Path) -> None:
    settings = training("video", "flow")
    params, state = make_model(settings).init(jax.random.key(3))
    export_encoder(tmp_path / "encoder.safetensors", TrainingState(params, state, None), settings)
    with pytest.raises(WeightsError, match="no backbone of sound; those that are there: rgb, flow"):
        load_encoder(str(tmp_path), modality="sound")
    assert read_checkpoint(str(tmp_path)).clips.keys() == {"rgb", "flow"}
