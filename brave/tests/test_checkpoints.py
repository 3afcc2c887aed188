"""Files as the original program writes them, built from the key lists of its networks."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brave.architecture import CLIP, Architecture
from brave.backbones import backbone_prefix, backbone_shapes, backbone_variables
from brave.checkpoints import (
    Checkpoint,
    collections_of,
    convert,
    export,
    model_variables,
    named,
    read_checkpoint,
)
from brave.clips import broad_clips
from brave.model import BraVe
from brave.networks.tsm_resnet import TSMResNet
from brave.released_files import RELEASED_CONFIG
from brave.training_state import TrainingState, to_tree
from brave.views import ViewSpec
from flax.traverse_util import flatten_dict, unflatten_dict
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.errors import ConfigError, DataError, WeightsError
from ssvideo_core.features import clip_to_json
from ssvideo_core.testing.fill import fill
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps
from ssvideo_core.weights import fingerprint, read_safetensors, read_weights, write_safetensors

from brave import load_encoder

GOLDEN = Path(__file__).parent / "golden"
SMALL = Architecture(width=1 / 64)
RGB = ClipSpec("rgb", Steps(2, 2, 25.0), Pixels(16, 16, 16), "loop")
INPUT = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
NARROW = "narrow_video_embedding/TSMResNetV2"
CONFIG = {**RELEASED_CONFIG, "dataset_shards": ["a", "b"], "step_broad": 7}

Tensors = dict[str, np.ndarray]


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """It depends on the published name alone."""
    filled = fill(name, shape, "haiku", squeeze_leading_ones=True)
    return filled.astype(np.int32) if name.endswith("/counter") else filled


def listed(file: str, architecture: Architecture) -> Tensors:
    """All names of a key list: the narrow backbone of this width, other modules as they are."""
    lists = json.loads((GOLDEN / file).read_text())
    shapes = {
        f"{collection}/{module}/{name}": tuple(shape)
        for collection in ("params", "state")
        for module, entries in lists[collection].items()
        for name, shape in entries.items()
    }
    narrow = backbone_shapes("rgb", architecture.width)
    assert narrow.keys() == {name for name in shapes if f"/{NARROW}/" in name}
    made = {name: value(name.partition("/")[2], shape) for name, shape in narrow.items()}
    return {name: made.get(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}


def small_tensors(width: float = SMALL.width) -> Tensors:
    """A narrow backbone, and one small array of each of the other modules."""
    narrow = backbone_shapes("rgb", width)
    made = {name: value(name.partition("/")[2], shape) for name, shape in narrow.items()}
    others = (
        "params/broad_audio_embedding/res_net_v2/~/initial_conv/w",
        "params/broad_flow_embedding/TSMResNetV2/tsm_resnet_stem/w",
        "params/shared_project/projector/linear/w",
        "params/shared_project_1/projector/linear/w",
        "state/shared_project/projector/batch_norm/~/mean_ema/average",
    )
    return {**made, **{name: value(name, (2, 3)) for name in others}}


def nested(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """{"params": {module: {name: array}}, "state": …}."""
    tree: dict[str, Any] = {"params": {}, "state": {}}
    for name, array in tensors.items():
        collection, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        tree[collection].setdefault(module, {})[parameter] = array
    return tree


def save(path: Path, tree: Any) -> Path:
    """As the original saves: a dictionary in an array without axes."""
    content = np.empty((), object)
    content[()] = tree
    np.save(path, content, allow_pickle=True)
    return path


class FlatMapping:
    """Stands for Haiku's: pickled as its class and one dict."""

    def __init__(self, content: dict[str, Any]):
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.content,)


class ConfigDict:
    """Stands for ml_collections': its entries are in an attribute."""

    def __init__(self, content: dict[str, Any]):
        fields = {k: ConfigDict(v) if isinstance(v, dict) else v for k, v in content.items()}
        self._fields, self._locked, self._type_safe = fields, True, True


FLAT = "haiku._src.data_structures"
CONFIG_DICT = "ml_collections.config_dict.config_dict"


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While a file is written, the stand-ins are found under the names of the real classes."""
    for module, stand_in in ((FLAT, FlatMapping), (CONFIG_DICT, ConfigDict)):
        made = types.ModuleType(module)
        setattr(made, stand_in.__name__, stand_in)
        monkeypatch.setitem(sys.modules, module, made)
        package = module.partition(".")[0]
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        monkeypatch.setattr(stand_in, "__module__", module)
    yield


def flat(tree: dict[str, Any]) -> FlatMapping:
    return FlatMapping({m: FlatMapping(entries) for m, entries in tree.items()})


def plain_file(tensors: Tensors) -> Any:
    return {**nested(tensors), "config": CONFIG}


def haiku_file(tensors: Tensors) -> Any:
    tree = nested({name: jnp.asarray(array) for name, array in tensors.items()})
    collections = {name: flat(modules) for name, modules in tree.items()}
    return {**collections, "config": ConfigDict(CONFIG)}


def mixed_file(tensors: Tensors) -> Any:
    """Only the outer mapping is Haiku's, and the options hold NumPy's numbers."""
    tree = {name: FlatMapping(modules) for name, modules in nested(tensors).items()}
    numbers = {k: np.int64(v) if isinstance(v, int) else v for k, v in CONFIG.items()}
    return {**tree, "config": {**numbers, "include_audio_in_broad_view": np.True_}}


CONTAINERS: dict[str, Callable[[Tensors], Any]] = {
    "plain": plain_file,
    "haiku": haiku_file,
    "mixed": mixed_file,
}


def write(folder: Path, tensors: Tensors, container: str = "plain") -> Path:
    return save(folder / "w.npy", CONTAINERS[container](tensors))


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    return write(tmp_path, small_tensors())


_network = jax.jit(TSMResNet(SMALL.width).apply)


def plain_features(tensors: Tensors) -> np.ndarray:
    """Without any of the loader."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        if f"/{NARROW}/" in name:
            *path, leaf = name.replace(f"{NARROW}/", "").split("/")
            place = tree
            for part in path:
                place = place.setdefault(part, {})
            place[leaf] = array
    return np.asarray(_network(tree, INPUT.astype(np.float32) / 255))


def embed(path: str | Path, **options: Any) -> np.ndarray:
    return load_encoder(str(path), clip=RGB, **options).embed(INPUT)


@pytest.fixture(scope="module")
def small_features() -> np.ndarray:
    return plain_features(small_tensors())


# ---- files as published -------------------------------------------------------------------


def test_published_weights_by_name_and_export(tmp_path, monkeypatch) -> None:
    """All names of the key list; shapes too, except those of the narrow backbone."""
    tensors = listed("checkpoint_va_w1.json", SMALL)
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path))
    (tmp_path / "brave").mkdir()
    save(tmp_path / "brave" / "29466668_1_0.npy", haiku_file(tensors))
    named = load_encoder("va-1x", clip=RGB)
    assert named.published.licence == "not stated"
    assert named.architecture == SMALL
    want = plain_features(tensors)
    assert want.std() > 0.1
    np.testing.assert_allclose(named.embed(INPUT), want, rtol=1e-5, atol=1e-5)
    convert("va-1x", tmp_path / "va.safetensors")
    exported = load_encoder(str(tmp_path / "va.safetensors"), clip=RGB)
    assert exported.fingerprint == named.fingerprint
    assert exported.published is None
    np.testing.assert_array_equal(exported.embed(INPUT), named.embed(INPUT))


def test_full_size_file(tmp_path) -> None:
    """The published names, shapes and container; nothing is computed."""
    architecture = Architecture(width=1)
    tensors = listed("checkpoint_va_w1.json", architecture)
    checkpoint = read_checkpoint(str(write(tmp_path, tensors, "haiku")))
    assert checkpoint.architecture == architecture
    assert checkpoint.tensors.keys() == tensors.keys()
    narrow = checkpoint.narrow_tensors()
    assert sum(a.size for name, a in narrow.items() if name.startswith("params/")) == 23_500_352
    for name, array in narrow.items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)
        assert array.dtype == tensors[name].dtype


def test_absent_published_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        load_encoder("va-f-2x")
    for part in (
        "https://storage.googleapis.com/dm-jaxline/brave/29509415_1_0.npy",
        str(tmp_path / "brave" / "29509415_1_0.npy"),
        "not stated",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, small_features, tmp_path: Path) -> None:
    path = write(tmp_path, small_tensors(), container)
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.architecture == SMALL
    assert checkpoint.config == CONFIG
    assert {name: a.tobytes() for name, a in checkpoint.tensors.items()} == {
        name: a.tobytes() for name, a in small_tensors().items()
    }
    np.testing.assert_allclose(embed(path), small_features, rtol=1e-5, atol=1e-5)


def test_stand_ins_are_pickled_under_the_real_names(tmp_path) -> None:
    content = write(tmp_path, small_tensors(), "haiku").read_bytes()
    for name in (FLAT, CONFIG_DICT, "FlatMapping", "ConfigDict", "_reconstruct_array"):
        assert name.encode() in content


def test_nested_options_and_odd_values(tmp_path) -> None:
    config = {"a": {"b": (1, 2)}, "c": np.float32(0.5), "d": b"x", "e": np.arange(2)}
    tree = {**nested(small_tensors()), "config": ConfigDict(config)}
    found = read_checkpoint(str(save(tmp_path / "w.npy", tree))).config
    assert found == {"a": {"b": [1, 2]}, "c": 0.5, "d": "b'x'", "e": [0, 1]}


def test_options_may_be_absent(small_features, tmp_path) -> None:
    path = save(tmp_path / "w.npy", nested(small_tensors()))
    assert read_checkpoint(str(path)).config == {}
    np.testing.assert_allclose(embed(path), small_features, rtol=1e-5, atol=1e-5)


def test_only_the_narrow_backbone_is_needed(small_features, tmp_path) -> None:
    narrow = {name: a for name, a in small_tensors().items() if f"/{NARROW}/" in name}
    assert len(narrow) < len(small_tensors())
    path = write(tmp_path, narrow)
    np.testing.assert_allclose(embed(path), small_features, rtol=1e-5, atol=1e-5)
    whole = load_encoder(str(write(tmp_path, small_tensors())), clip=RGB)
    assert load_encoder(str(path), clip=RGB).fingerprint == whole.fingerprint


def test_half_precision_is_loaded_as_float32(tmp_path) -> None:
    tensors = {
        name: a.astype(np.float16) if a.dtype == np.float32 else a
        for name, a in small_tensors().items()
    }
    narrow = read_checkpoint(str(write(tmp_path, tensors))).narrow_tensors()
    for name, array in narrow.items():
        assert array.dtype == (np.int32 if name.endswith("/counter") else np.float32)
        np.testing.assert_array_equal(array, tensors[name])


@pytest.mark.parametrize("width", [1 / 32, 0.25])
def test_architecture_from_shapes(width: float, tmp_path: Path) -> None:
    path = write(tmp_path, small_tensors(width))
    assert read_checkpoint(str(path)).architecture == Architecture(width)


# ---- files that do not fit ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {f"params/{NARROW}/tsm_resnet_unit_1/block_3/conv_1/w": None},
            r"1 missing in the file: params/.*unit_1/block_3/conv_1/w",
        ),
        (
            {f"state/{NARROW}/batch_norm/~/var_ema/average": None},
            r"1 missing in the file: state/.*/batch_norm/~/var_ema/average",
        ),
        (
            {f"params/{NARROW}/tsm_resnet_unit_4/block_0/conv_0/w": np.zeros((1, 1, 2, 2))},
            r"1 unknown to the network: params/.*unit_4/block_0/conv_0/w",
        ),
        (
            {f"params/{NARROW}/batch_norm/scale": np.zeros((1, 1, 1, 5), np.float32)},
            r"1 of another shape: .*\(file \[1, 1, 1, 5\], network \[1, 1, 1, 32\]\)",
        ),
        (
            {f"params/{NARROW}/tsm_resnet_stem/w": None},
            r"no parameter is called 'narrow_.*stem/w', .* of rgb; those that are there: none; the "
            r"names start with narrow_video_embedding.* that can be read: width: 1, 2",
        ),
        (
            {f"params/{NARROW}/tsm_resnet_stem/w": np.zeros((8, 7, 7, 3, 1), np.float32)},
            r"is \(8, 7, 7, 3, 1\), expected \(7, 7, 3, 64 · width\)\. A further axis",
        ),
    ],
)
def test_the_backbone_fits_or_is_refused(change, message, tmp_path) -> None:
    tensors = {**small_tensors(), **change}
    path = write(tmp_path, {name: a for name, a in tensors.items() if a is not None})
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


def test_wrong_explicit_architecture(small_file) -> None:
    with pytest.raises(
        WeightsError, match=r"read as Architecture\(width=2.0, .*\n?.*of another sh"
    ):
        load_encoder(str(small_file), architecture={"width": 2})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"params": {}, "config": {}}, r"expected a dictionary of params, state and config, found"),
        ([1, 2], r"expected a dictionary of params, state and config, found list"),
        ({"params": {}, "state": {}}, r"no tensors in the weights file"),
        (
            {"params": {"resnet/conv": {"w": np.zeros((7, 7, 3, 64))}}, "state": {}},
            r"the names start with resnet/conv\. Architectures that can be read: width: 1, 2",
        ),
    ],
)
def test_other_files(content, message, tmp_path) -> None:
    path = save(tmp_path / "w.npy", content)
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


class Hostile:
    """Unpickling it with Python's own machinery would run a command."""

    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


def test_hostile_file_is_refused_and_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "w.npy", {**nested(small_tensors()), "config": Hostile()})
    with pytest.raises(WeightsError, match=r"names '?(posix|nt)\.system"):
        load_encoder(str(path))
    assert not (tmp_path / "hostile_was_here").exists()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", b"\x93NUMPY\x01\x00\x00\x00"])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


# ---- our files and the way back -----------------------------------------------------------


def test_convert_both_ways(tmp_path) -> None:
    path = write(tmp_path, small_tensors(), "haiku")
    convert(str(path), tmp_path / "a.safetensors")
    convert(str(tmp_path / "a.safetensors"), tmp_path / "b.npy")
    back = read_weights(tmp_path / "b.npy")
    assert back["config"] == CONFIG
    want = nested(small_tensors())
    for collection in ("params", "state"):
        assert back[collection].keys() == want[collection].keys()
        for module, entries in want[collection].items():
            assert back[collection][module].keys() == entries.keys()
            for name, array in entries.items():
                found = back[collection][module][name]
                np.testing.assert_array_equal(found, array)
                assert found.dtype == array.dtype
    names = ("w.npy", "a.safetensors", "b.npy")
    prints = {load_encoder(str(tmp_path / name)).fingerprint for name in names}
    assert len(prints) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_a_written_npy_names_no_foreign_class(tmp_path) -> None:
    path = write(tmp_path, small_tensors(), "haiku")
    convert(str(path), tmp_path / "b.npy")
    content = (tmp_path / "b.npy").read_bytes()
    header = content[: 10 + int.from_bytes(content[8:10], "little")]
    assert b"'descr': '|O'" in header
    assert b"'shape': ()" in header
    for name in (b"haiku", b"jax", b"ml_collections", b"brave", b"FlatMapping", b"ConfigDict"):
        assert name not in content


def test_config_of_weights_that_came_without_one(tmp_path) -> None:
    tensors = {
        name: a for name, a in small_tensors(1 / 32).items() if "broad_audio_embedding" not in name
    }
    tensors["params/broad_video_embedding/TSMResNetV2/tsm_resnet_stem/w"] = np.zeros((7, 7, 3, 2))
    convert(str(save(tmp_path / "w.npy", nested(tensors))), tmp_path / "b.npy")
    config = read_weights(tmp_path / "b.npy")["config"]
    assert config.keys() == RELEASED_CONFIG.keys()
    assert len(config) == 15
    assert config["tsm_resnet_width_multiplier"] == 1 / 32
    assert (config["include_video_in_broad_view"], config["include_audio_in_broad_view"]) == (
        True,
        False,
    )


@pytest.mark.parametrize("name", ["x.npz", "x", "x.pkl"])
def test_convert_refuses_other_endings(name: str, small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.safetensors or \.npy"):
        convert(str(small_file), tmp_path / name)


def test_export_refuses_tensors_of_another_architecture(small_file, tmp_path) -> None:
    found = read_checkpoint(str(small_file))
    with pytest.raises(WeightsError, match="of another shape"):
        export(tmp_path / "a.safetensors", found.params, found.state, Architecture())
    assert not (tmp_path / "a.safetensors").exists()


def test_exported_clip_and_metadata(small_file, tmp_path) -> None:
    from safetensors import safe_open

    found = read_checkpoint(str(small_file))
    path = tmp_path / "encoder.safetensors"
    export(path, found.params, found.state, found.architecture, clip=RGB)
    encoder = load_encoder(str(tmp_path))
    assert encoder.clip == RGB
    other = ClipSpec("rgb", Steps(4, 2, 25.0), Pixels(16, 16, 16), "loop")
    assert load_encoder(str(path), clip=other).clip == other
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["method"] == "brave"
    assert json.loads(metadata["architecture"]) == SMALL.to_json()
    assert json.loads(metadata["fingerprint"]) == {"rgb": encoder.fingerprint}
    assert load_encoder(str(small_file)).clip == CLIP


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"architecture": "{"}, "metadata 'architecture' is not JSON"),
        ({"clip": "[]"}, r"metadata 'clip' is \[\], expected an object"),
        ({"clip": '{"rgb": {"modality": "rgb"}}'}, "metadata 'clip' is no ClipSpec"),
    ],
)
def test_damaged_metadata(metadata, message, tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, small_tensors(), metadata)
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


def test_variables_are_those_of_the_network() -> None:
    names = backbone_shapes("rgb", SMALL.width)
    tensors = {name: value(name.partition("/")[2], shape) for name, shape in names.items()}
    checkpoint = Checkpoint(Path("w"), *collections_of(tensors), architecture=SMALL)
    made = backbone_variables(checkpoint.narrow_tensors(), "rgb")
    unit = made["params"]["tsm_resnet_unit_0"]["block_0"]
    np.testing.assert_array_equal(
        unit["conv_0"]["w"], tensors[f"params/{NARROW}/tsm_resnet_unit_0/block_0/conv_0/w"]
    )
    average = made["state"]["batch_norm"]["~"]["mean_ema"]["average"]
    np.testing.assert_array_equal(average, tensors[f"state/{NARROW}/batch_norm/~/mean_ema/average"])


# ---- whole models -------------------------------------------------------------------------

MODEL = BraVe(
    ViewSpec("narrow", "rgb", 2, 2, 16, "tsm_resnet", SMALL.width),
    (ViewSpec("audio", "sound", 4, 4, 0, "audio_resnet", SMALL.width),),
    output_dims=4,
    hidden_size=8,
)


def test_a_model_through_both_formats(tmp_path) -> None:
    params, state = MODEL.init(jax.random.key(0))
    export(tmp_path / "a.safetensors", named(params), named(state), SMALL, clip=RGB)
    convert(str(tmp_path / "a.safetensors"), tmp_path / "b.npy", dead_heads=True)
    assert "shared_project_1/predictor/linear" in read_weights(tmp_path / "b.npy")["params"]
    for name in ("a.safetensors", "b.npy"):
        found = model_variables(read_checkpoint(str(tmp_path / name)), MODEL)
        for tree, want in zip(found, (params, state), strict=True):
            leaves, expected = (flatten_dict(t, sep="/") for t in (tree, want))
            assert leaves.keys() == expected.keys()
            for path, leaf in leaves.items():
                np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
                assert leaf.dtype == expected[path].dtype


def test_a_model_of_other_views(tmp_path) -> None:
    params, state = MODEL.init(jax.random.key(0))
    export(tmp_path / "a.safetensors", named(params), named(state), SMALL)
    flow = ViewSpec("flow", "flow", 4, 4, 16, "tsm_resnet", SMALL.width)
    other = BraVe(MODEL.narrow, (flow,), output_dims=4, hidden_size=8)
    with pytest.raises(
        WeightsError, match=r"(?s)a\.safetensors, for the views narrow, flow: .*445 missing"
    ):
        model_variables(read_checkpoint(str(tmp_path / "a.safetensors")), other)


# ---- other backbones ------------------------------------------------------------------------

SOUND = ClipSpec("sound", Samples(1280, 16000), None, "zeros")
SMALL_CONFIG = {
    **RELEASED_CONFIG,
    "num_frames_broad": 4,
    "step_broad": 2,
    "image_size_broad": 16,
    "image_size_narrow": 16,
    "input_video_sample_rate": 100,
    "input_audio_sample_rate": 16000,
    "num_spectrogram_bins": 24,
    "fft_step": 80,
}


def tensors_of(modality: str, width: float = 1 / 32) -> Tensors:
    shapes = backbone_shapes(modality, width)
    return {name: value(name.partition("/")[2], shape) for name, shape in shapes.items()}


def metadata_of(path: Path) -> dict[str, Any]:
    _, metadata = read_safetensors(path)
    names = ("architecture", "clip", "fingerprint", "config")
    return {name: json.loads(metadata[name]) for name in names}


def test_convert_keeps_and_states_all_backbones(tmp_path: Path) -> None:
    """Each by the width of its own, with the clips that the training of the file had."""
    tensors = {**tensors_of("rgb", 1 / 64), **tensors_of("sound"), **tensors_of("flow")}
    save(tmp_path / "w.npy", {**nested(tensors), "config": SMALL_CONFIG})
    convert(str(tmp_path / "w.npy"), tmp_path / "a.safetensors")
    convert(str(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    convert(str(tmp_path / "b.safetensors"), tmp_path / "c.npy")
    assert metadata_of(tmp_path / "a.safetensors") == metadata_of(tmp_path / "b.safetensors")
    clips = {"rgb": CLIP, "sound": SOUND, "flow": broad_clips(SMALL_CONFIG)["flow"]}
    for modality, clip in clips.items():
        prints = set()
        for name in ("w.npy", "a.safetensors", "b.safetensors", "c.npy"):
            encoder = load_encoder(str(tmp_path / name), modality=modality)
            prints.add(encoder.fingerprint)
            assert encoder.clip == clip
            width = 1 / 64 if modality == "rgb" else 1 / 32
            assert encoder.architecture == Architecture(width, 24, 80)
            assert encoder.feature_size == 2048 * width
        assert prints == {fingerprint(tensors_of(modality, width))}
        assert prints == {metadata_of(tmp_path / "a.safetensors")["fingerprint"][modality]}


def test_stated_clips_win(tmp_path: Path) -> None:
    tensors = {**tensors_of("rgb"), **tensors_of("sound")}
    stated = ClipSpec("sound", Samples(320, 8000), None, "zeros")
    metadata = {
        "config": json.dumps(SMALL_CONFIG),
        "clip": json.dumps({"sound": clip_to_json(stated)}),
        "architecture": json.dumps({"fft_step": 40}),
    }
    write_safetensors(tmp_path / "a.safetensors", tensors, metadata)
    convert(str(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    for name in ("a", "b"):
        encoder = load_encoder(str(tmp_path / f"{name}.safetensors"), modality="sound")
        assert encoder.clip == stated
        assert encoder.architecture == Architecture(1 / 32, 24, 40)


def test_a_file_of_sound_alone(tmp_path: Path) -> None:
    params, state = collections_of(tensors_of("sound"))
    path = tmp_path / "encoder.safetensors"
    export(path, params, state, Architecture(1 / 32), clip=SOUND)
    assert metadata_of(path)["clip"].keys() == {"sound"}
    convert(str(path), tmp_path / "w.npy")
    convert(str(tmp_path / "w.npy"), tmp_path / "b.safetensors")
    for name in ("encoder.safetensors", "w.npy", "b.safetensors"):
        encoder = load_encoder(str(tmp_path / name), modality="sound")
        assert encoder.fingerprint == fingerprint(tensors_of("sound"))
        with pytest.raises(WeightsError, match="no backbone of rgb; those that are there: sound;"):
            load_encoder(str(tmp_path / name))
    with pytest.raises(WeightsError, match="of another shape"):
        export(path, params, state, SMALL, clip=SOUND)


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        (
            "sound",
            r"no parameter is called 'broad_audio.*initial_conv/w', so there is no backbone ",
        ),
        ("flow", r"no parameter is called 'broad_flow.*stem/w', .* of flow; those .*: rgb; the na"),
    ],
)
def test_an_absent_backbone(modality: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, tensors_of("rgb"))
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path), modality=modality)
    assert str(path) in str(error.value)


def test_a_broken_backbone_is_kept_but_not_stated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = f"state/{backbone_prefix('sound')}batch_norm/~/var_ema/average"
    tensors = {**tensors_of("rgb"), **tensors_of("sound")}
    del tensors[missing]
    path = write(tmp_path, tensors)
    convert(str(path), tmp_path / "a.safetensors")
    assert "broad_audio_embedding/res_net_v2/ is kept, but cannot be loaded" in caplog.text
    assert metadata_of(tmp_path / "a.safetensors")["fingerprint"].keys() == {"rgb"}
    assert metadata_of(tmp_path / "a.safetensors")["clip"].keys() == {"rgb"}
    assert read_safetensors(tmp_path / "a.safetensors")[0].keys() == tensors.keys()
    with pytest.raises(WeightsError, match=f"1 missing in the file: {missing}"):
        load_encoder(str(path), modality="sound")


# ---- checkpoints of a run -------------------------------------------------------------------

TOLD = Architecture(1 / 64, 24, 80)
RUN_CLIPS = {"rgb": RGB, "sound": ClipSpec("sound", Samples(320, 8000), None, "zeros")}


def write_run(folder: Path) -> tuple[Tensors, Path]:
    """What a run has before its end; its checkpoints hold arrays only."""
    tensors = {**tensors_of("rgb", 1 / 64), **tensors_of("sound", 1 / 64)}
    first = collections_of({name: np.zeros_like(array) for name, array in tensors.items()})
    folder.mkdir()
    untrained = folder / "encoder-untrained.safetensors"
    broad = {"sound": RUN_CLIPS["sound"]}
    export(untrained, *first, TOLD, clip=RGB, broad=broad, config=SMALL_CONFIG)
    for step, parts in ((2, first), (4, collections_of(tensors))):
        params, state = (unflatten_dict(part, sep="/") for part in parts)
        tree = to_tree(TrainingState(params, state, {"count": np.array(3)}))
        newest = save_checkpoint(folder / "checkpoints", step, tree, facts={})
    return tensors, newest


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/ckpt-00000004"])
def test_a_run_without_an_end_is_its_newest_checkpoint(inside: str, tmp_path: Path, caplog) -> None:
    """What its arrays do not tell is what the run began with."""
    tensors, newest = write_run(tmp_path / "run")
    run = str(tmp_path / "run" / inside)
    found = read_checkpoint(run)
    assert (found.path, found.architecture, found.clips) == (newest, TOLD, RUN_CLIPS)
    assert found.config == SMALL_CONFIG
    assert found.tensors.keys() == tensors.keys()
    convert(run, tmp_path / "a.safetensors")
    convert(run, tmp_path / "b.npy")
    assert read_weights(tmp_path / "b.npy")["config"] == SMALL_CONFIG
    for modality, clip in RUN_CLIPS.items():
        for path in (run, tmp_path / "a.safetensors"):
            encoder = load_encoder(str(path), modality=modality)
            assert encoder.fingerprint == fingerprint(tensors_of(modality, 1 / 64))
            assert (encoder.clip, encoder.architecture) == (clip, TOLD)
    assert not caplog.text


def test_an_earlier_checkpoint_is_that_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    found = read_checkpoint(str(tmp_path / "run" / "checkpoints" / "ckpt-00000002"))
    assert not any(array.any() for array in found.tensors.values())


def test_the_end_of_a_run_wins_over_its_checkpoints(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "encoder.safetensors"
    export(path, *collections_of(tensors_of("rgb", 1 / 32)), Architecture(1 / 32))
    assert read_checkpoint(str(tmp_path / "run")).path == path


def test_a_checkpoint_without_its_run_is_read_with_a_warning(tmp_path: Path, caplog) -> None:
    tensors, newest = write_run(tmp_path / "run")
    moved = newest.rename(tmp_path / newest.name)
    found = read_checkpoint(str(moved))
    assert (found.architecture, found.clip) == (SMALL, CLIP)
    assert found.tensors.keys() == tensors.keys()
    assert f"{moved} is not in the folder of its run" in caplog.text


def test_folders_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint; expected a folder ckpt-STEP"):
        read_checkpoint(str(tmp_path))
    other = save_checkpoint(tmp_path / "checkpoints", 1, {"network": {}, "params": {}}, facts={})
    with pytest.raises(WeightsError, match="ckpt-00000001: a checkpoint without state of networks"):
        read_checkpoint(str(other))


def test_damaged_metadata_of_a_run_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "encoder-untrained.safetensors"
    write_safetensors(path, small_tensors(), {"clip": '{"rgb": {"modality": "rgb"}}'})
    with pytest.raises(
        WeightsError, match=r"encoder-untrained\.safetensors: its metadata 'clip' is"
    ):
        read_checkpoint(str(tmp_path / "run"))
