"""Files as the original programs write them, built from the key lists of its networks."""

from __future__ import annotations

import argparse
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from gdt_stica.architecture import Architecture, from_options
from gdt_stica.checkpoints import convert, export, read_checkpoint
from gdt_stica.model import build
from ssvideo_core.checkpoints import save_checkpoint
from ssvideo_core.errors import ConfigError, DataError, WeightsError
from ssvideo_core.run_weights import START_FILE, UNTRAINED_FILE
from ssvideo_core.testing.fill import fill
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread
from torch import Tensor, nn

from gdt_stica import load_encoder

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = "av_gdt__r2plus1d_18__resnet9__mlp"
RGB = ClipSpec("rgb", Spread(2, 0.1), Pixels(16, 16, 16), "repeat_last")
SOUND = ClipSpec("sound", Samples(2400, 24000), None, "zeros")
CLIPS = {"rgb": RGB, "sound": SOUND}
INPUTS = {
    "rgb": np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8),
    "sound": np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2400)).astype(np.float32),
}
SMALL = Architecture(width=1 / 16)
ONE_TOKEN = {"transformer_time_dim": 1}
STICA = from_options({"model": "stica", "width": 1 / 16, **ONE_TOKEN})
TEXT = Architecture(model="vid_text_gdt", embedding_rows=50, width=1 / 16)

State = Mapping[str, Tensor]


def listed_names(entry: str) -> dict[str, tuple[list[int], str]]:
    """Name to shape and dtype of a published network."""
    lists: dict[str, Any] = {}
    for file in ("state_dict_keys.json", "finetune_state_dict_keys.json"):
        lists |= json.loads((GOLDEN / file).read_text())
    return lists[entry]


def listed_state(entry: str) -> dict[str, Tensor]:
    """The tensors of a key list; a value depends on the name alone."""
    return {name: value_of(name, tuple(s)) for name, (s, _) in listed_names(entry).items()}


def value_of(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("pos_ids"):
        return torch.arange(shape[-1]).reshape(shape)
    return torch.from_numpy(fill(name, shape))


def small_state(architecture: Architecture = SMALL) -> dict[str, Tensor]:
    shapes = {k: tuple(v.shape) for k, v in build(architecture).state_dict().items()}
    return {k: value_of(k, shape) for k, shape in shapes.items()}


class WarmUp:
    """Its state holds a scheduler object, as the original's does."""

    def __init__(self, scheduler: Any):
        self.after_scheduler = scheduler

    def state_dict(self) -> dict[str, Any]:
        return {"multiplier": 8, "total_epoch": 10, "after_scheduler": self.after_scheduler}


def gdt_checkpoint(state: State, **flags: Any) -> dict[str, Any]:
    """What the original GDT program passes to `torch.save`."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [150, 175])
    return {
        "model": OrderedDict(state),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": WarmUp(scheduler).state_dict(),
        "epoch": 151,
        "args": argparse.Namespace(**{"lr": 0.01, "output_dir": "x", **flags}),
    }


def stica_checkpoint(state: State) -> dict[str, Any]:
    """STiCA's program saves a DistributedDataParallel's names."""
    prefixed = OrderedDict((f"module.{name}", t) for name, t in state.items())
    return {"epoch": 151, "state_dict": prefixed, "optimizer": {"state": {}, "param_groups": []}}


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


CONTAINERS: dict[str, tuple[Callable[[State], Any], Callable[[Any, Path], None], str]] = {
    "zip": (gdt_checkpoint, torch.save, "w.pth"),
    "legacy": (gdt_checkpoint, save_legacy, "w.pth"),
    "module": (stica_checkpoint, torch.save, "w.pth.tar"),
    "legacy-module": (stica_checkpoint, save_legacy, "checkpoint.pth.tar"),
    "bare": (OrderedDict, torch.save, "w.bin"),
    "module-inside": (
        lambda s: {"model": {k.replace(".base.", ".module.base."): v for k, v in s.items()}},
        torch.save,
        "w.pth",
    ),
}


def write(folder: Path, state: State, container: str = "zip") -> Path:
    make, save, name = CONTAINERS[container]
    path = folder / name
    save(make(state), path)
    return path


def embed(weights: str | Path, modality: str, **options: Any) -> np.ndarray:
    encoder = load_encoder(str(weights), modality=modality, clip=CLIPS[modality], **options)
    return encoder.embed(INPUTS[modality])


@torch.no_grad()
def plain_features(
    state: State, architecture: Architecture, modality: str
) -> dict[str, np.ndarray]:
    """Without any of the loader: PyTorch's own `load_state_dict` and `forward`."""
    model = build(architecture).eval()
    model.load_state_dict(state)
    random = load_encoder(
        "random", modality=modality, architecture=architecture.to_json(), clip=CLIPS[modality]
    )
    x = random._input(torch.from_numpy(INPUTS[modality]))
    pooling = getattr(model, "video_pooling", nn.Identity())
    if modality == "rgb":
        embedding, head = pooling(model.video_network(x)), model.mlp_v
    else:
        embedding, head = model.audio_network(x), model.mlp_a
    projection = nn.functional.normalize(head(embedding), dim=1)
    return {"embedding": embedding.numpy(), "projection": projection.numpy()}


@pytest.fixture(scope="module")
def published_state() -> dict[str, Tensor]:
    return listed_state(PUBLISHED)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory, published_state: State) -> Path:
    root = tmp_path_factory.mktemp("weights")
    (root / "gdt_stica").mkdir()
    torch.save(gdt_checkpoint(published_state), root / "gdt_stica" / "gdt_K400.pth")
    return root


@pytest.mark.parametrize("modality", ["rgb", "sound"])
def test_published_weights_by_name_and_path_and_export(
    modality, weights_folder, published_state, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(weights_folder))
    named = load_encoder("gdt_K400", modality=modality, clip=CLIPS[modality])
    assert named.published.licence == "CC-BY-NC 4.0"
    assert named.architecture == Architecture()
    assert named.feature_size == 512
    want = plain_features(published_state, Architecture(), modality)
    got = named.embed(INPUTS[modality])
    np.testing.assert_array_equal(got, want["embedding"])

    path = weights_folder / "gdt_stica" / "gdt_K400.pth"
    legacy = tmp_path / "legacy.pth"
    save_legacy(stica_checkpoint(published_state), legacy)
    convert("gdt_K400", tmp_path / "k400.safetensors")
    for other in (path, legacy, tmp_path / "k400.safetensors"):
        encoder = load_encoder(str(other), modality=modality, clip=CLIPS[modality])
        assert encoder.fingerprint == named.fingerprint
        assert encoder.published is None
        np.testing.assert_array_equal(encoder.embed(INPUTS[modality]), got)


def test_absent_published_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        load_encoder("gdt_IG65M")
    for part in (
        "https://dl.fbaipublicfiles.com/GDT/gdt_IG65M.pth",
        str(tmp_path / "gdt_stica" / "gdt_IG65M.pth"),
        "CC-BY-NC 4.0",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("modality", ["rgb", "sound"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, modality: str, tmp_path: Path) -> None:
    path = write(tmp_path, small_state(), container)
    for output, want in plain_features(small_state(), SMALL, modality).items():
        np.testing.assert_array_equal(embed(path, modality, output=output), want)
    assert read_checkpoint(str(path)).architecture == SMALL


def test_half_precision_is_loaded_as_float32(tmp_path) -> None:
    state = {k: t.half() if t.is_floating_point() else t for k, t in small_state().items()}
    path = write(tmp_path, state)
    want = plain_features({k: t.float() for k, t in state.items()}, SMALL, "rgb")
    np.testing.assert_array_equal(embed(path, "rgb"), want["embedding"])


@pytest.mark.parametrize(
    "options",
    [
        {"vid_base_arch": "r2plus1d_34"},
        {"aud_base_arch": "resnet18"},
        {"use_mlp": False},
        {"vid_base_arch": "r2plus1d_34", "aud_base_arch": "resnet18", "use_mlp": False},
        {"width": 0.25},
    ],
)
def test_architecture_from_names_and_shapes(options, tmp_path) -> None:
    architecture = Architecture(**{"width": 1 / 16, **options})
    path = write(tmp_path, small_state(architecture))
    assert read_checkpoint(str(path)).architecture == architecture
    for modality in ("rgb", "sound"):
        want = plain_features(small_state(architecture), architecture, modality)
        np.testing.assert_array_equal(
            embed(path, modality, output="projection"), want["projection"]
        )


@pytest.mark.parametrize(
    ("entry", "options"),
    [
        (
            "av_gdt__r2plus1d_34__resnet9__linear",
            {"vid_base_arch": "r2plus1d_34", "use_mlp": False},
        ),
        ("finetune_gdt__ucf101", {"model": "finetune", "num_classes": 101}),
        ("finetune_gdt__hmdb51_bn", {"model": "finetune", "num_classes": 51, "use_bn": True}),
        (
            "vid_text_gdt__r2plus1d_18__mlp__embedding50",
            {"model": "vid_text_gdt", "embedding_rows": 50},
        ),
        ("stica__layers2__mlp", {"model": "stica"}),
        (
            "stica__layers1__positional_qkv__mlp",
            {"model": "stica", "num_layer": 1, "positional_emb": True, "qkv_mha": True},
        ),
        (
            "finetune_stica__ucf101",
            {"model": "finetune", "base": "stica", "num_layer": 2, "num_classes": 101},
        ),
    ],
)
def test_architecture_of_key_lists(entry: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path, listed_state(entry))
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.architecture == from_options(options)
    encoder = load_encoder(str(path), clip=RGB, architecture=ONE_TOKEN)
    assert encoder.embed(INPUTS["rgb"]).shape == (2, 512)


@pytest.mark.parametrize(
    "entry", ["finetune_gdt__ucf101", "vid_text_gdt__r2plus1d_18__mlp__embedding50"]
)
def test_no_sound_side(entry: str, tmp_path: Path) -> None:
    names = listed_names(entry)
    shapes = {name: (1,) if name.endswith("bias") else (64, 1) for name in names}
    path = write(tmp_path, {name: torch.zeros(shape) for name, shape in shapes.items()})
    with pytest.raises(ConfigError, match="have no sound side"):
        load_encoder(str(path), modality="sound")


def test_flags_in_the_file_tell_what_tensors_do_not(tmp_path) -> None:
    flags = {"aud_spec_type": 7, "z_normalize": False, "norm_feat": False, "vid_base_arch": "wrong"}
    flags |= {"num_head": 8, "transformer_time_dim": "4"}
    path = tmp_path / "w.pth"
    torch.save(gdt_checkpoint(small_state(), **flags), path)
    want = Architecture(
        width=1 / 16, aud_spec_type=2, z_normalize=False, norm_feat=False, num_head=8
    )
    assert read_checkpoint(str(path)).architecture == want
    explicit = read_checkpoint(str(path), {"z_normalize": True})
    assert explicit.architecture.z_normalize
    assert explicit.architecture.aud_spec_type == 2
    convert(str(path), tmp_path / "w.safetensors")
    assert read_checkpoint(str(tmp_path / "w.safetensors")).architecture == want


def test_heads_may_be_absent(tmp_path) -> None:
    state = {k: t for k, t in small_state().items() if not k.startswith("mlp_")}
    path = write(tmp_path, state)
    want = plain_features(small_state(), SMALL, "rgb")
    np.testing.assert_array_equal(embed(path, "rgb"), want["embedding"])
    with pytest.raises(
        WeightsError, match=r"needs the head 'mlp_v\.\*', which these weights do not"
    ):
        load_encoder(str(path), output="projection")
    alone = load_encoder(str(path)).fingerprint
    assert load_encoder(str(write(tmp_path, small_state()))).fingerprint != alone


def test_one_side_may_be_absent(tmp_path) -> None:
    state = {k: t for k, t in small_state().items() if not k.startswith(("video_", "mlp_v"))}
    path = write(tmp_path, state)
    want = plain_features(small_state(), SMALL, "sound")
    np.testing.assert_array_equal(embed(path, "sound"), want["embedding"])
    with pytest.raises(WeightsError, match=r"no tensor is called 'video_network.base.…'"):
        load_encoder(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"video_network.base.layer3.1.conv2.1.bias": None},
            r"1 missing in the file: .*layer3.1.conv2.1.bias",
        ),
        (
            {"mlp_v.block_forward.8.bias": None},
            r"1 missing in the file: mlp_v.block_forward.8.bias",
        ),
        ({"mlp_v.other": torch.zeros(2)}, r"1 unknown to the network: mlp_v.other"),
        (
            {"video_network.base.layer4.0.conv1.0.0.weight": torch.zeros(3, 16, 1, 3, 3)},
            r"1 of another shape: .*\(file \[3, 16, 1, 3, 3\], network \[57, 16, 1, 3, 3\]\)",
        ),
        ({"video_network.base.stem.3.weight": None}, r"stem.3.weight' is absent"),
    ],
)
def test_a_side_fits_or_is_refused(change, message, tmp_path) -> None:
    state = {**small_state(), **change}
    path = write(tmp_path, {k: t for k, t in state.items() if t is not None})
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


def test_wrong_explicit_architecture(tmp_path) -> None:
    path = write(tmp_path, small_state())
    with pytest.raises(WeightsError, match=r"r2plus1d_34.*\n?.*missing in the file"):
        load_encoder(str(path), architecture={"vid_base_arch": "r2plus1d_34"})


def test_unknown_depth(tmp_path) -> None:
    state = {k: t for k, t in small_state().items() if ".layer3.1." not in k}
    with pytest.raises(
        WeightsError,
        match=r"layer1 to 4 have \[2, 2, 1, 2\] blocks; expected r2plus1d_18: \[2, 2, 2",
    ):
        load_encoder(str(write(tmp_path, state)))


@pytest.mark.parametrize("modality", ["rgb", "sound"])
@pytest.mark.parametrize("container", ["module", "legacy-module", "zip"])
def test_stica(container: str, modality: str, tmp_path: Path) -> None:
    state = small_state(STICA)
    path = write(tmp_path, state, container)
    for output, want in plain_features(state, STICA, modality).items():
        got = embed(path, modality, output=output, architecture=ONE_TOKEN)
        np.testing.assert_array_equal(got, want)


def test_what_the_tensors_of_a_transformer_do_not_tell(tmp_path, caplog) -> None:
    path = write(tmp_path, small_state(STICA), "module")
    found = read_checkpoint(str(path)).architecture
    assert (found.num_head, found.transformer_time_dim) == (4, 4)
    assert "does not tell num_head and transformer_time_dim" in caplog.text
    assert "taken: num_head=4, transformer_time_dim=4" in caplog.text
    caplog.clear()
    given = {"num_head": 2, "transformer_time_dim": 8}
    convert(str(path), tmp_path / "a.safetensors", given)
    found = read_checkpoint(str(tmp_path / "a.safetensors")).architecture
    assert (found.num_head, found.transformer_time_dim) == (2, 8)
    read_checkpoint(str(write(tmp_path, small_state())))
    assert not caplog.text


def test_stica_without_a_transformer_has_the_names_of_gdt(tmp_path) -> None:
    """The tensors do not tell which of the two it was; only spectrograms differ."""
    averaging = from_options({"model": "stica", "num_layer": 0, "width": 1 / 16})
    path = write(tmp_path, small_state(averaging), "module")
    assert read_checkpoint(str(path)).architecture == SMALL
    assert read_checkpoint(str(path), {"model": "stica"}).architecture == averaging
    convert(str(path), tmp_path / "a.safetensors", {"model": "stica"})
    assert read_checkpoint(str(tmp_path / "a.safetensors")).architecture == averaging


@pytest.mark.parametrize(
    ("drop", "options", "message"),
    [
        (
            "video_pooling.2.transformer.0.norm1.bias",
            {},
            r"1 missing in the file: video_pooling\.2\.transformer\.0\.norm1\.bias",
        ),
        ("video_pooling.2.transformer.0.", {}, r"12 missing in the file: video_pooling"),
        ("", {"model": "av_gdt"}, r"24 unknown to the network: video_pooling"),
        ("", {"num_layer": 1}, r"12 unknown to the network: video_pooling"),
        ("", {"qkv_mha": True}, r"8 missing in the file: .*mha\.out_lin"),
    ],
)
def test_the_whole_pooling_fits_or_is_refused(drop, options, message, tmp_path) -> None:
    state = {k: t for k, t in small_state(STICA).items() if not (drop and k.startswith(drop))}
    with pytest.raises(WeightsError, match=message):
        load_encoder(str(write(tmp_path, state)), architecture=options)


def test_video_and_text_by_name(tmp_path, monkeypatch) -> None:
    """Its text side may be absent, and is not looked at."""
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path))
    (tmp_path / "gdt_stica").mkdir()
    state = small_state(TEXT)
    video = {k: t for k, t in state.items() if k.startswith(("video_network", "mlp_v"))}
    wrong = {**video, "text_network.fc1.weight": torch.zeros(1)}
    prints = set()
    for tensors in (state, video, wrong):
        torch.save(gdt_checkpoint(tensors), tmp_path / "gdt_stica" / "gdt_HT100M.pth")
        encoder = load_encoder("gdt_HT100M", clip=RGB)
        assert encoder.architecture.model == "vid_text_gdt"
        assert encoder.published.name == "gdt_HT100M"
        prints.add(encoder.fingerprint)
    assert len(prints) == 1
    want = plain_features(state, TEXT, "rgb")["embedding"]
    np.testing.assert_array_equal(encoder.embed(INPUTS["rgb"]), want)
    with pytest.raises(ConfigError, match="have no sound side"):
        load_encoder("gdt_HT100M", modality="sound")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: torchvision.models.resnet18(weights=None).state_dict(),
            r"names start with conv1.weight, bn1.weight, .* that can be read: model: av_gdt or",
        ),
        (lambda: {"epoch": 3}, "no tensors in the weights file"),
        (lambda: [1, 2], "holds a list, expected named tensors"),
    ],
)
def test_other_files(content, message, tmp_path) -> None:
    path = tmp_path / "w.pth"
    torch.save(content(), path)
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


class Hostile:
    """Unpickling it with Python's own machinery would run a command."""

    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_hostile_file_is_refused_and_not_run(save, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    save({**gdt_checkpoint(small_state()), "extra": Hostile()}, path)
    with pytest.raises(WeightsError, match=r"names '?(posix|nt)\.system"):
        load_encoder(str(path))
    assert not (tmp_path / "hostile_was_here").exists()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", b"\x80\x02}q\x00."])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


def test_convert_both_ways(tmp_path) -> None:
    entry = "vid_text_gdt__r2plus1d_18__mlp__embedding50"
    state = listed_state(entry)
    path = write(tmp_path, state)
    convert(str(path), tmp_path / "a.safetensors")
    convert(str(tmp_path / "a.safetensors"), tmp_path / "b.pth")
    back = torch.load(tmp_path / "b.pth", weights_only=True)
    assert back["epoch"] == 0
    assert back["model"].keys() == state.keys()
    assert all(torch.equal(back["model"][name], t) for name, t in state.items())
    prints = {
        load_encoder(str(p)).fingerprint
        for p in (path, tmp_path / "a.safetensors", tmp_path / "b.pth")
    }
    assert len(prints) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.pth", "w.pth"]


@pytest.mark.parametrize("ending", ["pth", "pth.tar"])
def test_convert_stica_both_ways(ending: str, tmp_path: Path) -> None:
    """As its program saves: the names of a DistributedDataParallel under "state_dict"."""
    options = {"model": "stica", "num_layer": 1, "positional_emb": True, "qkv_mha": True}
    architecture = from_options({**options, "width": 1 / 16, **ONE_TOKEN})
    state = small_state(architecture)
    path = write(tmp_path, state, "module")
    convert(str(path), tmp_path / "a.safetensors", ONE_TOKEN)
    assert read_checkpoint(str(tmp_path / "a.safetensors")).architecture == architecture
    convert(str(tmp_path / "a.safetensors"), tmp_path / f"b.{ending}")
    back = torch.load(tmp_path / f"b.{ending}", weights_only=True)
    assert back.keys() == {"epoch", "state_dict"}
    assert back["epoch"] == 0
    assert back["state_dict"].keys() == {f"module.{name}" for name in state}
    for name, tensor in state.items():
        stored = back["state_dict"][f"module.{name}"]
        assert stored.dtype == tensor.dtype
        assert torch.equal(stored, tensor)
    for modality in ("rgb", "sound"):
        prints = {
            load_encoder(str(tmp_path / p), modality=modality, architecture=ONE_TOKEN).fingerprint
            for p in (path.name, "a.safetensors", f"b.{ending}")
        }
        assert len(prints) == 1


@pytest.mark.parametrize("name", ["x.ckpt", "x", "x.tar"])
def test_convert_refuses_other_endings(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, small_state())
    with pytest.raises(
        ConfigError, match=r"expected a name that ends in \.safetensors, \.pth or \.pth\.tar"
    ):
        convert(str(path), tmp_path / name)


def test_export_refuses_tensors_of_another_architecture(tmp_path) -> None:
    state = {name: t.numpy() for name, t in small_state().items()}
    with pytest.raises(WeightsError, match="of another shape"):
        export(tmp_path / "a.safetensors", state, Architecture())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"architecture": "{"}, "metadata 'architecture' is not JSON"),
        ({"clip": "[]"}, r"metadata 'clip' is \[\], expected an object"),
        ({"clip": '{"rgb": {"modality": "rgb"}}'}, "metadata 'clip' is no ClipSpec"),
    ],
)
def test_damaged_metadata(metadata, message, tmp_path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file(small_state(), path, metadata)
    with pytest.raises(WeightsError, match=message) as error:
        load_encoder(str(path))
    assert str(path) in str(error.value)


def test_safetensors_of_others(tmp_path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file(small_state(), path)
    want = plain_features(small_state(), SMALL, "rgb")
    np.testing.assert_array_equal(embed(path, "rgb"), want["embedding"])


UNTOLD = {"model": "stica", "width": 1 / 16, "num_head": 2, "norm_feat": False, **ONE_TOKEN}


def write_run(folder: Path, began: str = UNTRAINED_FILE) -> tuple[Architecture, Path]:
    """What a run has before its end; its checkpoints hold tensors only."""
    architecture = from_options(UNTOLD)
    state = {name: tensor.numpy() for name, tensor in small_state(architecture).items()}
    first = {name: np.zeros_like(array) for name, array in state.items()}
    folder.mkdir()
    export(folder / began, first, architecture, CLIPS)
    save_checkpoint(folder / "checkpoints", 3, {"network": first}, facts={})
    newest = save_checkpoint(folder / "checkpoints", 12, {"network": state}, facts={})
    export(folder.with_suffix(".safetensors"), state, architecture, CLIPS)
    return architecture, newest


@pytest.mark.parametrize("began", [UNTRAINED_FILE, START_FILE])
@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/ckpt-00000012"])
def test_a_run_without_an_end_is_its_newest_checkpoint(
    inside: str, began: str, tmp_path: Path, caplog
) -> None:
    """What its tensors do not tell, and its clips, are those that it began with."""
    architecture, newest = write_run(tmp_path / "run", began)
    run = str(tmp_path / "run" / inside)
    found = read_checkpoint(run)
    assert (found.path, found.architecture, found.clips) == (newest, architecture, CLIPS)
    convert(run, tmp_path / "converted.safetensors")
    for modality in ("rgb", "sound"):
        encoders = [
            load_encoder(str(path), modality=modality)
            for path in (tmp_path / "run.safetensors", run, tmp_path / "converted.safetensors")
        ]
        assert len({encoder.fingerprint for encoder in encoders}) == 1
        assert {encoder.clip for encoder in encoders} == {CLIPS[modality]}
    assert not caplog.text


def test_options_win_over_what_a_run_began_with(tmp_path) -> None:
    write_run(tmp_path / "run")
    found = read_checkpoint(str(tmp_path / "run"), {"norm_feat": True})
    assert found.architecture == from_options({**UNTOLD, "norm_feat": True})


def test_an_earlier_checkpoint_is_that_one(tmp_path) -> None:
    write_run(tmp_path / "run")
    found = read_checkpoint(str(tmp_path / "run" / "checkpoints" / "ckpt-00000003"))
    assert not any(array.any() for array in found.tensors.values())


def test_a_checkpoint_without_its_run_is_read_with_a_warning(tmp_path, caplog) -> None:
    _, newest = write_run(tmp_path / "run")
    moved = newest.rename(tmp_path / newest.name)
    found = read_checkpoint(str(moved))
    assert (found.architecture.num_head, dict(found.clips)) == (4, {})
    assert f"{moved} is not in the folder of its run" in caplog.text


def test_a_published_name_is_no_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "gdt_K400")
    with pytest.raises(WeightsError, match="are not on this machine"):
        read_checkpoint("gdt_K400")


def test_folders_without_a_network(tmp_path) -> None:
    with pytest.raises(DataError, match="no checkpoint; expected a folder ckpt-STEP"):
        load_encoder(str(tmp_path))
    save_checkpoint(tmp_path, 1, {"other": {"network": np.zeros(2)}}, facts={})
    with pytest.raises(WeightsError, match="a checkpoint without a network"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "named", "other"),
    [
        (SMALL, "av_gdt", None),
        (
            Architecture(model="vid_text_gdt", embedding_rows=50, width=1 / 16),
            *2 * ["vid_text_gdt"],
        ),
        (STICA, "stica", "stica"),
        (from_options({"model": "stica", "num_layer": 0, "width": 1 / 16}), "stica", None),
        (Architecture(model="finetune", width=1 / 16), "av_gdt", None),
        (from_options({"model": "finetune", "base": "stica", "num_layer": 1}), "stica", "stica"),
    ],
)
def test_what_a_network_was_trained_as(architecture, named, other, tmp_path) -> None:
    """Our files tell it; the tensors of others only where STiCA has a transformer."""
    path = write(tmp_path, small_state(architecture))
    assert read_checkpoint(str(path)).trained_as == other
    state = {name: tensor.numpy() for name, tensor in small_state(architecture).items()}
    export(tmp_path / "ours.safetensors", state, architecture)
    assert read_checkpoint(str(tmp_path / "ours.safetensors")).trained_as == named


def test_published_names_tell_what_they_are(weights_folder, monkeypatch) -> None:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(weights_folder))
    assert read_checkpoint("gdt_K400").trained_as == "av_gdt"
