"""The commands a user types, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from brave.__main__ import main
from ssvideo_core.extract import embed_videos
from ssvideo_core.features import open_features
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import ClipSpec, Pixels, Steps

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
        ([*FLAGS[:2], "--modality", "sound"], "this version embeds pictures only"),
    ):
        assert main(["extract", *flags, *place]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_convert(tmp_path: Path, capsys) -> None:
    from brave.checkpoints import narrow_names
    from brave.networks.initial import initial_variables
    from brave.networks.tsm_resnet import TSMResNet

    tree: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "state": {}}
    for name, leaf in narrow_names(initial_variables(TSMResNet(1 / 64), 0)).items():
        collection, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        tree[collection].setdefault(module, {})[parameter] = leaf
    np.save(tmp_path / "w.npy", np.array(tree, dtype=object), allow_pickle=True)
    target = tmp_path / "w.safetensors"
    assert main(["convert", "--weights", str(tmp_path / "w.npy"), "--out", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    prints = {load_encoder(str(tmp_path / name)).fingerprint for name in ("w.npy", "w.safetensors")}
    assert prints == {load_encoder("random", architecture=NARROW).fingerprint}
