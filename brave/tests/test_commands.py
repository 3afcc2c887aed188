"""The commands a user types, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from brave.__main__ import main
from brave.architecture import Architecture
from brave.backbones import random_tensors
from brave.checkpoints import collections_of, export
from ssvideo_core.extract import embed_videos
from ssvideo_core.features import mean_of_views, open_features
from ssvideo_core.source import open_source
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps, plan

from brave import load_encoder

NARROW = {"width": 1 / 64}
FLAGS = ("--weights", "random", "--architecture", "width=0.015625", "--views", "2x1")
SIZE = ("--frames", "4", "--size", "24")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return write_dataset(folder, num_train=16, num_test=16, size=32, num_frames=12) / "videos"


@pytest.fixture(autouse=True)
def no_files_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path / "weights"))


def test_extract_with_and_without_workers(videos: Path, tmp_path: Path) -> None:
    matrices = []
    for workers in ("0", "2"):
        out = tmp_path / f"workers{workers}"
        flags = ["--workers", workers, "--videos", str(videos), "--out", str(out)]
        assert main(["extract", *FLAGS, *SIZE, *flags]) == 0
        features = open_features(out)
        ids, matrix = features.matrix()
        matrices.append(matrix)
    np.testing.assert_array_equal(*matrices)
    clip = ClipSpec("rgb", Steps(4, 2, 25.0), Pixels(256, 224, 24), "loop")
    encoder = load_encoder("random", architecture=NARROW, clip=clip)
    assert features.info.clip == clip
    assert features.info.fingerprint == encoder.fingerprint
    assert len(ids) == 32
    want = embed_videos(encoder, [videos / i for i in ids], temporal=2, spatial=1)
    np.testing.assert_allclose(matrices[0], want, rtol=1e-5, atol=1e-6)


def write_sound(folder: Path) -> tuple[Path, ClipSpec]:
    """A file with a backbone of sound, and the short clip that it was made for."""
    clip = ClipSpec("sound", Samples(3200, 16000), None, "zeros")
    params, state = collections_of(random_tensors("sound", 1 / 64, seed=2))
    path = folder / "sound.safetensors"
    export(path, params, state, Architecture(1 / 64), clip=clip)
    return path, clip


def test_extract_sound(videos: Path, tmp_path: Path) -> None:
    path, clip = write_sound(tmp_path)
    place = ["--videos", str(videos), "--out", str(tmp_path / "out"), "--views", "2x1"]
    flags = ["--weights", str(path), "--modality", "sound", *place]
    assert main(["extract", *flags]) == 0
    features = open_features(tmp_path / "out")
    assert (features.info.modality, features.info.clip) == ("sound", clip)
    ids, matrix = features.matrix()
    assert matrix.shape == (32, 32)
    assert len(np.unique(matrix, axis=0)) == 32
    encoder = load_encoder(str(path), modality="sound")
    assert features.info.fingerprint == encoder.fingerprint
    want = embed_videos(encoder, [videos / i for i in ids], temporal=2, spatial=1)
    np.testing.assert_allclose(matrix, want, rtol=1e-5, atol=1e-6)


def test_extract_flow(tmp_path: Path) -> None:
    """From folders of pictures, as `formats.convert_flow` writes them."""
    rng = np.random.default_rng(0)
    for video in ("one", "two"):
        folder = tmp_path / "flow" / video
        folder.mkdir(parents=True)
        for number in range(1, 7):
            picture = np.full((30, 40, 3), rng.integers(0, 256, 3), np.uint8)
            (folder / f"flow_{number:05d}.jpg").write_bytes(simplejpeg.encode_jpeg(picture))
    place = ["--videos", str(tmp_path / "flow"), "--out", str(tmp_path / "out")]
    assert main(["extract", *FLAGS, *SIZE, "--modality", "flow", *place]) == 0
    features = open_features(tmp_path / "out")
    clip = ClipSpec("flow", Steps(4, 4, 25.0), Pixels(256, 224, 24), "loop")
    assert features.info.clip == clip
    ids, matrix = features.matrix()
    encoder = load_encoder("random", modality="flow", architecture=NARROW, clip=clip)
    source = open_source(tmp_path / "flow")
    for row, name in zip(matrix, ids, strict=True):
        index = [source.entry(i).video_id for i in range(2)].index(name)
        views = plan(source.info(index), clip, temporal=2, spatial=1)
        clips = [one.frames for one in source.read(index, views)]
        want = mean_of_views(encoder.embed(np.stack(clips)), "features")
        np.testing.assert_allclose(row, want, rtol=1e-5, atol=1e-6)


def test_recipe_smoke(videos: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(videos), "--out", str(tmp_path)]
    assert main(["recipes", "run", "smoke", *arguments]) == 0
    assert open_features(tmp_path / "features").info.feature_size == 512


def test_user_errors_are_one_message(videos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "features"
    place = ["--videos", str(videos), "--out", str(out)]
    for flags, message in (
        (
            ["--weights", "va-1x"],
            "https://storage.googleapis.com/dm-jaxline/brave/29466668_1_0.npy",
        ),
        (["--weights", "nowhere.npy"], "published names: va-f-1x, va-f-2x, va-1x, vvvv-1x"),
        ([*FLAGS[:2], "--architecture", "widht=1"], "no architecture option widht"),
        (
            ["--weights", str(write_sound(tmp_path)[0])],
            "no backbone of rgb; those that are there: sound",
        ),
        ([*FLAGS[:2], "--modality", "sound", "--frames", "4"], "a clip of sound has samples"),
        ([*FLAGS[:4], "--output", "projection"], "needs the projector"),
    ):
        assert main(["extract", *flags, *place]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_convert(tmp_path: Path, capsys) -> None:
    tree: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "state": {}}
    for name, leaf in random_tensors("rgb", 1 / 64, seed=0).items():
        collection, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        tree[collection].setdefault(module, {})[parameter] = leaf
    np.save(tmp_path / "w.npy", np.array(tree, dtype=object), allow_pickle=True)
    target = tmp_path / "w.safetensors"
    assert main(["convert", "--weights", str(tmp_path / "w.npy"), "--out", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    prints = {load_encoder(str(tmp_path / name)).fingerprint for name in ("w.npy", "w.safetensors")}
    assert prints == {load_encoder("random", architecture=NARROW).fingerprint}
