from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from brave.architecture import CLIP
from brave.checkpoints import export, narrow_names, read_checkpoint
from brave.encoders import BraveEncoder, _program, load_narrow_backbone
from brave.networks.initial import initial_variables
from brave.networks.tsm_resnet import OUTPUTS, TSMResNet
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps
from ssvideo_core.weights import fingerprint

from brave import encoders, load_encoder

WIDTH = 1 / 64
SMALL = {"width": WIDTH}
RGB = ClipSpec("rgb", Steps(3, 2, 25.0), Pixels(20, 20, 20), "loop")
CLIPS = np.random.default_rng(5).integers(0, 256, (4, 3, 20, 20, 3), dtype=np.uint8)


def small(**options: Any) -> BraveEncoder:
    return load_encoder("random", architecture=SMALL, clip=RGB, **options)


@functools.cache
def twin_features(output: str) -> np.ndarray:
    """Of the network that `load_encoder("random", seed=0)` should hold."""
    run = jax.jit(functools.partial(TSMResNet(WIDTH).apply, output=output))
    x = (CLIPS.astype(np.float64) / 255).astype(np.float32)
    return np.asarray(run(initial_variables(TSMResNet(WIDTH), 0), x))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    collections: dict[str, dict[str, np.ndarray]] = {"params": {}, "state": {}}
    for name, leaf in narrow_names(initial_variables(TSMResNet(WIDTH), 0)).items():
        collection, _, rest = name.partition("/")
        collections[collection][rest] = leaf
    export(path, **collections, architecture=small().architecture, clip=RGB)
    return path


def test_default_clip_is_that_of_the_papers_evaluation() -> None:
    assert load_encoder("random", architecture=SMALL).clip == CLIP


@pytest.mark.parametrize("output", ["embedding", "tsm_resnet_unit_1"])
def test_features_equal_the_network(output: str) -> None:
    encoder = small(output=output)
    found = encoder.embed(CLIPS)
    assert found.dtype == np.float32
    assert found.shape == (4, encoder.feature_size)
    assert len(np.unique(found.round(5), axis=0)) == 4
    np.testing.assert_allclose(found, twin_features(output), rtol=1e-5, atol=1e-6)


def test_published_width_by_default() -> None:
    encoder = load_encoder("random")
    assert encoder.feature_size == 2048
    assert encoder.architecture.width == 1


def test_rows_do_not_depend_on_the_batch() -> None:
    encoder = small()
    together = encoder.embed(CLIPS)
    alone = np.concatenate([encoder.embed(clip[None]) for clip in CLIPS])
    scale = np.abs(together).max(axis=1, keepdims=True)
    assert (np.abs(together - alone) / scale).max() <= 1e-5
    np.testing.assert_array_equal(encoder.embed(CLIPS), together)


def test_batches_are_filled_up_to_a_power_of_two() -> None:
    encoder = small()
    whole = encoder.embed(CLIPS)
    compiled = _program(WIDTH, "embedding")._cache_size()
    np.testing.assert_array_equal(encoder.embed(CLIPS[:3]), whole[:3])
    small(seed=1).embed(CLIPS[1:])
    assert _program(WIDTH, "embedding")._cache_size() == compiled


def test_only_the_encoder_fills_batches_up(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def run(_: Any, clips: jax.Array) -> jax.Array:
        ran.append(len(clips))
        return clips[:, 0, 0, 0]

    monkeypatch.setattr(encoders, "_program", lambda *_: run)
    assert load_narrow_backbone(read_checkpoint(str(small_file)))(CLIPS[:3]).shape == (3, 3)
    assert load_encoder(str(small_file)).embed(CLIPS[:3]).shape == (3, 3)
    assert ran == [3, 4]


def test_random_weights_are_a_function_of_the_seed() -> None:
    first, again, other = small(), small(), small(seed=1)
    np.testing.assert_array_equal(first.embed(CLIPS), again.embed(CLIPS))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert np.abs(first.embed(CLIPS) - other.embed(CLIPS)).max() > 1e-3


def test_embedding_leaves_no_trace() -> None:
    clips = CLIPS.copy()
    clips.setflags(write=False)
    found = small().embed(clips)
    np.testing.assert_array_equal(clips, CLIPS)
    assert found.flags.writeable
    assert found.base is None


def test_fingerprint_is_of_the_whole_backbone() -> None:
    want = fingerprint(narrow_names(initial_variables(TSMResNet(WIDTH), 0)))
    for output in OUTPUTS:
        assert small(output=output).fingerprint == want


def test_feature_sizes() -> None:
    sizes = [load_encoder("random", architecture=SMALL, output=o).feature_size for o in OUTPUTS]
    assert dict(zip(OUTPUTS, sizes, strict=True)) == {
        "embedding": 32,
        "tsm_resnet_unit_0": 4,
        "tsm_resnet_unit_1": 8,
        "tsm_resnet_unit_2": 16,
        "tsm_resnet_unit_3": 32,
    }


def test_clip_may_be_replaced() -> None:
    encoder = load_encoder("random", architecture=SMALL)
    encoder.clip = RGB
    np.testing.assert_array_equal(encoder.embed(CLIPS), small().embed(CLIPS))
    sound = ClipSpec("sound", Samples(24000, 24000), None, "zeros")
    with pytest.raises(ConfigError, match="clip is of modality 'sound', the encoder of 'rgb'"):
        load_encoder("random", architecture=SMALL, clip=sound)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (CLIPS.astype(np.float32), "float32 (4, 3, 20, 20, 3), expected uint8 (B, 3, 20, 20, 3)"),
        (CLIPS[:, :2], "uint8 (4, 2, 20, 20, 3), expected uint8 (B, 3, 20, 20, 3)"),
        (CLIPS[0], "uint8 (3, 20, 20, 3), expected"),
        (np.moveaxis(CLIPS, -1, 1), "uint8 (4, 3, 3, 20, 20), expected"),
        (CLIPS[:0], "with B ≥ 1"),
    ],
)
def test_wrong_input(clips: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match="clips are") as error:
        small().embed(clips)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "logits"}, r"output 'logits': these weights have embedding, tsm_resnet_unit_0"),
        ({"modality": "sound"}, r"modality 'sound': this version embeds pictures only"),
        ({"modality": "flow"}, r"modality 'flow': .* expected rgb"),
        ({"device": "teapot"}, r"device 'teapot' cannot be used"),
        ({"device": "cpu:x"}, r"device 'cpu:x' cannot be used"),
        ({"device": "cpu:99"}, r"device 'cpu:99' cannot be used"),
        ({"architecture": {"depth": 3}}, r"no architecture option depth"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder("random", **{"architecture": SMALL, **options})


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
