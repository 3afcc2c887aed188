"""The commands a user types, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gdt_stica.__main__ import main
from ssvideo_core.extract import embed_videos
from ssvideo_core.features import open_features
from ssvideo_core.testing.synthetic import write_dataset
from ssvideo_core.views import ClipSpec, Pixels, Spread

from gdt_stica import load_encoder

NARROW = {"width": 1 / 16}
FLAGS = ("--weights", "random", "--architecture", "width=0.0625", "--views", "2x1")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return write_dataset(folder, num_train=16, num_test=16, size=32, num_frames=16) / "videos"


@pytest.fixture(autouse=True)
def no_files_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path / "weights"))


def test_extract_rgb(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    small = ("--frames", "4", "--size", "24")
    assert main(["extract", *FLAGS, *small, "--videos", str(videos), "--out", str(out)]) == 0
    features = open_features(out)
    clip = ClipSpec("rgb", Spread(4, 1.0), Pixels(112, 112, 24), "repeat_last")
    encoder = load_encoder("random", architecture=NARROW, clip=clip)
    assert features.info.clip == clip
    assert features.info.fingerprint == encoder.fingerprint
    ids, matrix = features.matrix()
    assert len(ids) == 32
    want = embed_videos(encoder, [videos / i for i in ids], temporal=2, spatial=1)
    np.testing.assert_allclose(matrix, want, rtol=1e-5, atol=1e-6)


def test_extract_sound_with_and_without_workers(videos: Path, tmp_path: Path) -> None:
    matrices = []
    for workers in ("0", "2"):
        out = tmp_path / f"workers{workers}"
        flags = ["--modality", "sound", "--workers", workers, "--output", "projection"]
        assert main(["extract", *FLAGS, *flags, "--videos", str(videos), "--out", str(out)]) == 0
        matrices.append(open_features(out).matrix()[1])
    assert matrices[0].shape == (32, 256)
    np.testing.assert_array_equal(*matrices)


def test_recipe_smoke_extract(videos: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(videos), "--out", str(tmp_path)]
    assert main(["recipes", "run", "smoke-extract", *arguments]) == 0
    assert open_features(tmp_path / "features").info.feature_size == 128


def test_user_errors_are_one_message(videos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "features"
    for weights, message in (
        ("gdt_K400", "https://dl.fbaipublicfiles.com/GDT/gdt_K400.pth"),
        ("nowhere.pth", "published names: gdt_K400, gdt_HT100M, gdt_IG65M"),
    ):
        flags = ["--weights", weights, "--videos", str(videos), "--out", str(out)]
        assert main(["extract", *flags]) == 2
        assert message in capsys.readouterr().err
    flags = [*FLAGS[:2], "--architecture", "widht=1", "--videos", str(videos), "--out", str(out)]
    assert main(["extract", *flags]) == 2
    assert "no architecture option widht" in capsys.readouterr().err
    assert not out.exists()


def test_convert(tmp_path: Path, capsys) -> None:
    import torch
    from gdt_stica.architecture import Architecture
    from gdt_stica.model import AudioVisualGDT

    model = AudioVisualGDT(Architecture(**NARROW))
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    target = tmp_path / "w.safetensors"
    assert main(["convert", "--weights", str(tmp_path / "w.pth"), "--out", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    prints = {load_encoder(str(tmp_path / name)).fingerprint for name in ("w.pth", "w.safetensors")}
    assert len(prints) == 1
