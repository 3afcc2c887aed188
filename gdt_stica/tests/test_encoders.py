from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture, from_options
from gdt_stica.checkpoints import export
from gdt_stica.model import AudioVisualGDT, FineTuned
from gdt_stica.model_stica import STiCA
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread
from ssvideo_core.weights import fingerprint

from gdt_stica import load_encoder

SMALL = {"width": 1 / 16}
RGB = ClipSpec("rgb", Spread(4, 0.2), Pixels(24, 24, 24), "repeat_last")
SOUND = ClipSpec("sound", Samples(4800, 24000), None, "zeros")
CLIPS = {"rgb": RGB, "sound": SOUND}


def random_input(modality: str, count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(5)
    if modality == "rgb":
        return rng.integers(0, 256, (count, 4, 24, 24, 3), dtype=np.uint8)
    steps = np.round(3000 * rng.standard_normal((count, 4800)))
    return (steps / 32768).astype(np.float32)


def small(modality: str, **options: Any):
    return load_encoder(
        "random", modality=modality, architecture=SMALL, clip=CLIPS[modality], **options
    )


def twin(modality: str, architecture: Mapping[str, Any] = SMALL) -> AudioVisualGDT:
    """The model that `load_encoder("random", seed=0)` should hold."""
    torch.manual_seed(0)
    return AudioVisualGDT(Architecture(**architecture)).eval()


def plain_video_input(clips: np.ndarray) -> torch.Tensor:
    normalised = (clips.astype(np.float64) / 255 - 0.45) / 0.225
    return torch.from_numpy(np.moveaxis(normalised, -1, 1).astype(np.float32))


def plain_filters(num_filters: int) -> np.ndarray:
    top = 2595 * math.log10(1 + 12000 / 700)
    hertz = [700 * (10 ** (top * k / (num_filters + 1) / 2595) - 1) for k in range(num_filters + 2)]
    b = [math.floor(1025 * h / 24000) for h in hertz]
    filters = np.zeros((num_filters, 513))
    for j in range(num_filters):
        for i in range(b[j], b[j + 1]):
            filters[j, i] = (i - b[j]) / (b[j + 1] - b[j])
        for i in range(b[j + 1], b[j + 2]):
            filters[j, i] = (b[j + 2] - i) / (b[j + 2] - b[j + 1])
    return filters


def plain_sound_input(sound: np.ndarray, num_filters: int, z_normalize: bool) -> torch.Tensor:
    """One clip and one frame at a time, from samples that already are 16-bit steps."""
    filters = plain_filters(num_filters)
    rows = []
    for clip in sound.astype(np.float64) * 32768:
        x = np.append(clip[0], clip[1:] - 0.97 * clip[:-1])
        frames = [x[start : start + 480] for start in range(0, len(x) - 240, 240)]
        power = [np.abs(np.fft.rfft(frame, 1024)) ** 2 / 1024 for frame in frames]
        energies = np.array(power) @ filters.T
        rows.append(np.log(np.where(energies == 0, np.finfo(float).eps, energies)).T)
    spectrograms = np.stack(rows)[:, None]
    if z_normalize:
        spectrograms = (spectrograms - 1.93) / 17.89
    return torch.from_numpy(spectrograms.astype(np.float32))


def test_default_clips() -> None:
    assert load_encoder("random", architecture=SMALL).clip == ClipSpec(
        "rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last"
    )
    assert load_encoder("random", modality="sound", architecture=SMALL).clip == ClipSpec(
        "sound", Samples(24000, 24000), None, "zeros"
    )


@torch.no_grad()
def test_rgb_equals_plain_computation() -> None:
    clips = random_input("rgb")
    x, model = plain_video_input(clips), twin("rgb")
    for output, want in (
        ("embedding", model.video_network(x)),
        ("projection", torch.nn.functional.normalize(model.mlp_v(model.video_network(x)))),
        ("layer2", model.video_network.base(x, until="layer2")),
    ):
        encoder = small("rgb", output=output)
        got = encoder.embed(clips)
        assert got.dtype == np.float32
        assert got.shape == (3, encoder.feature_size)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("aud_spec_type", "num_filters"), [(1, 40), (2, 257)])
@pytest.mark.parametrize("z_normalize", [True, False])
def test_sound_equals_plain_computation(aud_spec_type, num_filters, z_normalize) -> None:
    sound = random_input("sound")
    options = {**SMALL, "aud_spec_type": aud_spec_type, "z_normalize": z_normalize}
    encoder = load_encoder("random", modality="sound", architecture=options, clip=SOUND)
    x = plain_sound_input(sound, num_filters, z_normalize)
    want = twin("sound").audio_network(x).numpy()
    np.testing.assert_allclose(encoder.embed(sound), want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_samples_are_those_of_a_16_bit_decoder() -> None:
    encoder = small("sound")
    silence = encoder.embed(np.zeros((1, 4800), np.float32))
    rng = np.random.default_rng(0)
    below_half_a_step = (rng.uniform(-0.49, 0.49, (1, 4800)) / 32768).astype(np.float32)
    np.testing.assert_array_equal(encoder.embed(below_half_a_step), silence)
    loud = np.where(rng.random((1, 4800)) < 0.5, -1.0, 32767 / 32768).astype(np.float32)
    np.testing.assert_array_equal(encoder.embed(loud * np.float32(1.5)), encoder.embed(loud))


@pytest.mark.parametrize("modality", ["rgb", "sound"])
@pytest.mark.parametrize("output", ["embedding", "projection", "layer1"])
def test_rows_do_not_depend_on_the_batch(modality: str, output: str) -> None:
    encoder = small(modality, output=output)
    batch = random_input(modality, 5)
    together = encoder.embed(batch)
    alone = np.concatenate([encoder.embed(batch[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(encoder.embed(batch), together)
    assert len(np.unique(together.round(4), axis=0)) == 5


def test_random_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = small("rgb"), small("rgb"), small("rgb", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    clips = random_input("rgb")
    np.testing.assert_array_equal(first.embed(clips), again.embed(clips))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert np.abs(first.embed(clips) - other.embed(clips)).max() > 0.01


def test_embedding_leaves_no_trace() -> None:
    encoder = small("sound")
    sound = random_input("sound")
    sound.setflags(write=False)
    kept = sound.copy()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = encoder.embed(sound)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(sound, kept)
    np.testing.assert_array_equal(encoder.embed(sound), first)
    assert torch.is_grad_enabled()


def test_fingerprint_is_of_trunk_and_head() -> None:
    state = {name: t.numpy() for name, t in twin("rgb").state_dict().items()}
    for modality, starts in (
        ("rgb", ("video_network.", "mlp_v.")),
        ("sound", ("audio_network.", "mlp_a.")),
    ):
        want = fingerprint({name: a for name, a in state.items() if name.startswith(starts)})
        for output in ("embedding", "projection", "layer3"):
            assert small(modality, output=output).fingerprint == want


def test_width() -> None:
    sizes = {"embedding": 32, "layer3": 16, "stem": 4, "projection": 256}
    for output, size in sizes.items():
        encoder = small("rgb", output=output)
        assert encoder.feature_size == size
        assert encoder.embed(random_input("rgb")).shape == (3, size)
    assert load_encoder("random", architecture={"width": 0.25}).feature_size == 128


def test_clip_may_be_replaced() -> None:
    encoder = load_encoder("random", architecture=SMALL)
    encoder.clip = RGB
    clips = random_input("rgb")
    np.testing.assert_array_equal(encoder.embed(clips), small("rgb").embed(clips))
    with pytest.raises(ConfigError, match="clip is of modality 'sound', the encoder of 'rgb'"):
        encoder.clip = SOUND
    with pytest.raises(ConfigError, match="clip is of modality 'sound', the encoder of 'rgb'"):
        load_encoder("random", architecture=SMALL, clip=SOUND)


@pytest.mark.parametrize(
    ("modality", "clips", "message"),
    [
        (
            "rgb",
            np.zeros((1, 4, 24, 24, 3), np.float32),
            "float32 (1, 4, 24, 24, 3), expected uint8",
        ),
        (
            "rgb",
            np.zeros((1, 5, 24, 24, 3), np.uint8),
            "uint8 (1, 5, 24, 24, 3), expected uint8 (B, 4, 24, 24, 3)",
        ),
        ("rgb", np.zeros((4, 24, 24, 3), np.uint8), "uint8 (4, 24, 24, 3), expected"),
        ("rgb", np.zeros((1, 3, 4, 24, 24), np.uint8), "uint8 (1, 3, 4, 24, 24), expected"),
        ("rgb", np.zeros((0, 4, 24, 24, 3), np.uint8), "with B ≥ 1"),
        ("sound", np.zeros((1, 4800), np.float64), "float64 (1, 4800), expected float32 (B, 4800)"),
        ("sound", np.zeros((1, 4800), np.int16), "int16 (1, 4800), expected float32"),
        ("sound", np.zeros((4800,), np.float32), "float32 (4800,), expected float32 (B, 4800)"),
        ("sound", np.zeros((2, 4799), np.float32), "float32 (2, 4799), expected"),
    ],
)
def test_wrong_input(modality: str, clips: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match="clips are") as error:
        small(modality).embed(clips)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "logits"}, r"output 'logits': these weights have embedding, stem, layer1, "),
        ({"output": "layer9"}, r"output 'layer9': these weights have .*, avgpool, projection"),
        ({"modality": "flow"}, r"modality 'flow': expected rgb or sound"),
        ({"device": "teapot"}, r"device 'teapot' cannot be used"),
        ({"architecture": {"depth": 3}}, r"no architecture option depth"),
        (
            {"modality": "sound", "architecture": {"model": "vid_text_gdt"}},
            r"networks of model 'vid_text_gdt' have no sound side",
        ),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder("random", **{"architecture": SMALL, **options})


@torch.no_grad()
@pytest.mark.parametrize("use_bn", [True, False])
@pytest.mark.parametrize("use_l2_norm", [True, False])
def test_fine_tuned(use_bn: bool, use_l2_norm: bool, tmp_path) -> None:
    options = Architecture(
        model="finetune", num_classes=7, use_bn=use_bn, use_l2_norm=use_l2_norm, **SMALL
    )
    torch.manual_seed(0)
    model = FineTuned(options).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    state = {name: t.numpy() for name, t in model.state_dict().items()}
    export(tmp_path / "encoder.safetensors", state, options)
    clips = random_input("rgb")
    x = plain_video_input(clips)
    encoder = load_encoder(str(tmp_path), output="logits", clip=RGB)
    assert encoder.feature_size == 7
    embedding = model.base(x)
    h = embedding / embedding.norm(dim=1, keepdim=True) if use_l2_norm else embedding
    if use_bn:
        bn = model.final_bn
        h = (h - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias
    linear = model.linear_layer if use_bn else model.classifier
    want = h @ linear.weight.T + linear.bias
    np.testing.assert_allclose(encoder.embed(clips), want.numpy(), rtol=1e-4, atol=1e-5)
    trunk = load_encoder(str(tmp_path), clip=RGB)
    np.testing.assert_allclose(trunk.embed(clips), embedding.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"output 'projection': these weights have .*, logits"):
        load_encoder(str(tmp_path), output="projection")
    with pytest.raises(ConfigError, match="model 'finetune' have no sound side"):
        load_encoder(str(tmp_path), modality="sound")


def test_fine_tuned_clip_is_that_of_the_fine_tuning() -> None:
    options = {"model": "finetune", **SMALL}
    assert load_encoder("random", architecture=options, output="logits").clip == ClipSpec(
        "rgb", Spread(32, 32 / 30), Pixels(128, 128, 128), "repeat_last"
    )


STICA = {"model": "stica", "num_layer": 1, "transformer_time_dim": 1, **SMALL}


@torch.no_grad()
def test_stica_rgb_equals_plain_computation() -> None:
    clips = random_input("rgb")
    x, options = plain_video_input(clips), from_options(STICA)
    torch.manual_seed(0)
    model = STiCA(options).eval()
    embedding = model.video_pooling(model.video_network(x))
    for output, want in (
        ("embedding", embedding),
        ("projection", torch.nn.functional.normalize(model.mlp_v(embedding))),
        ("layer2", model.video_network.base(x, until="layer2")),
        ("avgpool", model.video_network(x).mean(dim=(2, 3, 4))),
    ):
        encoder = load_encoder("random", architecture=STICA, clip=RGB, output=output)
        got = encoder.embed(clips)
        assert got.shape == (3, encoder.feature_size)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_stica_sound_equals_plain_computation() -> None:
    sound = random_input("sound")
    torch.manual_seed(0)
    model = STiCA(from_options(STICA)).eval()
    embedding = model.audio_network(plain_sound_input(sound, 257, False))
    for output, want in (
        ("embedding", embedding),
        ("projection", torch.nn.functional.normalize(model.mlp_a(embedding))),
    ):
        encoder = load_encoder(
            "random", modality="sound", architecture=STICA, clip=SOUND, output=output
        )
        np.testing.assert_allclose(encoder.embed(sound), want.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [4, 8, 12, 15])
def test_stica_clips_are_those_of_the_tokens(tokens: int) -> None:
    frames = {4: 30, 8: 60, 12: 90, 15: 120}[tokens]
    options = {"model": "stica", "transformer_time_dim": tokens, "width": 1 / 64}
    encoder = load_encoder("random", architecture=options)
    assert encoder.clip == ClipSpec(
        "rgb", Spread(frames, frames / 30), Pixels(112, 112, 112), "repeat_last"
    )
    sound = load_encoder("random", modality="sound", architecture=options)
    assert sound.clip.time == Samples(24000 * frames // 30, 24000)


def test_fine_tuned_stica_takes_the_frames_of_its_pre_training() -> None:
    options = {"model": "finetune", "base": "stica", "num_layer": 2, "transformer_time_dim": 8}
    encoder = load_encoder("random", architecture={**options, "width": 1 / 64})
    assert encoder.clip.time == Spread(60, 2.0)
    assert encoder.clip.pixels == Pixels(128, 128, 128)
    encoder.clip = RGB  # its published setting repeats the frames of shorter maps
    assert encoder.embed(random_input("rgb")).shape == (3, 8)


def test_stica_refuses_clips_of_another_duration() -> None:
    wrong = ClipSpec("rgb", Spread(30, 1.0), Pixels(24, 24, 24), "repeat_last")
    options = {**STICA, "transformer_time_dim": 8}
    with pytest.raises(
        ConfigError, match=r"clips of 30 frames make a map of 4, .* give clips of 57"
    ):
        load_encoder("random", architecture=options, clip=wrong)
    encoder = load_encoder("random", architecture=options)
    with pytest.raises(
        ConfigError, match=r"clips of 30 frames make a map of 4, .* give clips of 57"
    ):
        encoder.clip = wrong
    assert encoder.clip.time == Spread(60, 2.0)
    averaging = load_encoder("random", architecture={**options, "num_layer": 0}, clip=wrong)
    assert averaging.clip == wrong


@torch.no_grad()
def test_networks_trained_with_texts_see_pixels_divided_by_255() -> None:
    clips = random_input("rgb")
    options = {"model": "vid_text_gdt", **SMALL}
    got = load_encoder("random", architecture=options, clip=RGB).embed(clips)
    x = torch.from_numpy(np.moveaxis(clips / np.float32(255), -1, 1).copy())
    np.testing.assert_allclose(got, twin("rgb").video_network(x).numpy(), rtol=1e-4, atol=1e-5)


def test_exported_clip_wins_over_the_default(tmp_path) -> None:
    model = twin("rgb")
    path = tmp_path / "a.safetensors"
    state = {name: t.numpy() for name, t in model.state_dict().items()}
    export(path, state, Architecture(**SMALL), {"rgb": RGB})
    assert load_encoder(str(path)).clip == RGB
    assert load_encoder(str(path), modality="sound").clip.time == Samples(24000, 24000)
    other = ClipSpec("rgb", Spread(2, 0.1), Pixels(16, 16, 16), "repeat_last")
    assert load_encoder(str(path), clip=other).clip == other
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["architecture"]) == Architecture(**SMALL).to_json()
    assert json.loads(metadata["fingerprint"])["sound"] == small("sound").fingerprint
