"""The subcommands on a tiny method without a framework, on real videos."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ssvideo_core import commands
from ssvideo_core.errors import ConfigError
from ssvideo_core.methods import Method, PublishedWeights
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread

MODULE = '''
"""A method whose embedding is the mean colour."""
import numpy as np
from ssvideo_core.errors import WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Spread

class MeanColour:
    clip = ClipSpec("rgb", Spread(4, 1.0), Pixels(32, 32, 32), "repeat_last")
    feature_size = 3
    fingerprint = "0" * 64

    def embed(self, clips):
        return clips.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)

def load_encoder(weights, **options):
    if weights != "random":
        raise WeightsError(f"{weights}: no such weights; say 'random'")
    return MeanColour()
'''
CONVERT = """
from pathlib import Path
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import weights_folder

def convert(weights, target, architecture=None):
    path = weights_folder("mean_colour") / "w.pth" if weights == "paper" else Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: absent")
    target.write_bytes(path.read_bytes())
"""
RECIPE = """
about = "one clip each"
command = "extract"
[flags]
"--weights" = "random"
"--views" = "1x1"
"--videos" = "{data}"
"--out" = "{out}/features"
"""


@pytest.fixture
def method(tmp_path: Path, monkeypatch) -> Method:
    folder = tmp_path / "packages" / "mean_colour"
    (folder / "recipes").mkdir(parents=True)
    (folder / "__init__.py").write_text(MODULE)
    (folder / "recipes" / "quick.toml").write_text(RECIPE)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    sys.modules.pop("mean_colour", None)
    return Method(
        name="mean_colour",
        title="Mean colour",
        arxiv=(),
        framework="numpy",
        encoder="mean_colour:load_encoder",
        backbones={"rgb": "mean"},
        weights=(PublishedWeights("paper", "https://x/w.pth", "w.pth", "CC-BY-NC 4.0"),),
    )


@pytest.fixture
def videos(tmp_path: Path, clips: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("odd_321x241_vp9.mp4", "rotated90_nasa.mp4"):
        shutil.copy(clips / name, folder)
    return folder


def test_usage_names_every_command(method: Method, capsys) -> None:
    assert commands.main(method, ["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("describe", "extract", "evaluate", "recipes", "check-data", "convert"):
        assert f"\n  {name} " in shown
    assert commands.main(method, []) == 2
    assert commands.main(method, ["extrakt"]) == 2
    assert "no command 'extrakt'; there is describe, extract" in capsys.readouterr().err


def test_describe(method: Method, capsys) -> None:
    assert commands.main(method, ["describe", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["name"] == "mean_colour"
    assert record["recipes"] == ["quick"]
    assert commands.main(method, ["describe"]) == 0
    assert "paper: https://x/w.pth (licence: CC-BY-NC 4.0)" in capsys.readouterr().out


def test_extract_writes_features(method: Method, videos: Path, tmp_path: Path, capsys) -> None:
    from ssvideo_core.features import open_features

    words = ["--weights", "random", "--videos", str(videos), "--out", str(tmp_path / "f")]
    assert commands.main(method, ["extract", *words, "--views", "2x1", "--size", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"features: {tmp_path / 'f'}"
    assert lines[-1] == f"{tmp_path / 'f'}: 2 of 2 videos, 0 failed"
    ids, values = open_features(tmp_path / "f").matrix()
    assert ids == ["odd_321x241_vp9.mp4", "rotated90_nasa.mp4"]
    assert values.shape == (2, 3)


def test_user_errors_are_one_message(method: Method, videos: Path, tmp_path: Path, capsys) -> None:
    words = ["--weights", "best", "--videos", str(videos), "--out", str(tmp_path / "f")]
    assert commands.main(method, ["extract", *words]) == 2
    assert "mean_colour extract: best: no such weights" in capsys.readouterr().err
    words = ["--weights", "random", "--videos", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert commands.main(method, ["extract", *words]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_recipes(method: Method, videos: Path, tmp_path: Path, capsys) -> None:
    assert commands.main(method, ["recipes", "list"]) == 0
    assert "one clip each" in capsys.readouterr().out
    assert commands.main(method, ["recipes", "show", "quick"]) == 0
    assert "python -m mean_colour extract --weights random" in capsys.readouterr().out
    run = ["recipes", "run", "quick", "--data", str(videos), "--out", str(tmp_path / "run")]
    assert commands.main(method, run) == 0
    assert (tmp_path / "run" / "features" / "features.json").exists()
    assert "--views 1x1" in (tmp_path / "run" / "command.txt").read_text()
    assert commands.main(method, run) == 0
    assert commands.main(method, [*run, "--", "--views", "2x1"]) == 2
    assert "was made with other settings" in capsys.readouterr().err
    assert commands.main(method, ["recipes", "run", "quick"]) == 2
    assert "needs --data" in capsys.readouterr().err
    assert commands.main(method, ["recipes", "play"]) == 2


def test_a_recipe_has_a_folder_for_each_setting(
    method: Method, videos: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["recipes", "run", "quick", "--data", str(videos)]
    assert commands.main(method, run) == 0
    assert commands.main(method, [*run, "--", "--views", "2x1"]) == 0
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert folder.name.startswith("quick-")
        assert (folder / "features" / "features.json").exists()


def test_a_recipe_of_a_program_leaves_the_record_to_it(
    method: Method, tmp_path: Path, monkeypatch
) -> None:
    package = tmp_path / "packages" / "mean_colour"
    (package / "train.py").write_text("def main(argv):\n    return len(argv)\n")
    recipe = 'about = ""\ncommand = "train"\n[flags]\n"--output_dir" = "{out}"\n'
    (package / "recipes" / "train.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    assert commands.main(method, ["recipes", "run", "train", "--", "--more", "1"]) == 4
    assert not (tmp_path / "runs").exists()


def test_check_data(method: Method, clips: Path, videos: Path, capsys) -> None:
    assert commands.main(method, ["check-data", "--videos", str(videos)]) == 0
    shutil.copy(clips / "broken" / "zero_bytes.mp4", videos)
    assert commands.main(method, ["check-data", "--videos", str(videos)]) == 2
    assert "zero_bytes.mp4" in capsys.readouterr().out


def test_a_wrong_flag_leaves_the_folder_free(
    method: Method, videos: Path, tmp_path: Path, capsys
) -> None:
    words = [
        "extract",
        "--weights",
        "random",
        "--videos",
        str(videos),
        "--out",
        str(tmp_path / "f"),
    ]
    assert commands.main(method, [*words, "--frames", "0"]) == 2
    assert "num_frames of a clip is 0" in capsys.readouterr().err
    assert commands.main(method, [*words, "--views", "1x1"]) == 0


def test_nothing_but_failures_is_no_success(
    method: Method, clips: Path, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    shutil.copy(clips / "broken" / "zero_bytes.mp4", folder)
    words = ["extract", "--weights", "random", "--videos", str(folder)]
    assert commands.main(method, [*words, "--out", str(tmp_path / "f")]) == 2
    assert "1 of 1 videos failed" in capsys.readouterr().err


def test_an_index_that_cannot_be_used_is_no_bad_video(
    method: Method, videos: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "file"))
    words = ["extract", "--weights", "random", "--videos", str(videos)]
    assert commands.main(method, [*words, "--out", str(tmp_path / "f")]) == 2
    assert "$SSVIDEO_CACHE" in capsys.readouterr().err


def test_paths_that_cannot_be_written(method: Method, videos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    data = ["--weights", "random", "--videos", str(videos), "--views", "1x1"]
    assert commands.main(method, ["extract", *data, "--out", str(tmp_path / "features")]) == 0
    own = ["--protocol", "common-svm@1x1", "--features", str(tmp_path / "features")]
    for words in (
        ["extract", *data, "--out", str(tmp_path / "file")],
        ["extract", *data, "--out", str(tmp_path / "file" / "below")],
        ["extract", *data, "--out", str(tmp_path / ("long" * 100))],
        ["recipes", "run", "quick", "--data", str(videos), "--out", str(tmp_path / "file")],
        ["evaluate", *own, "--dataset", "hmdb51", "--out", str(tmp_path)],
        ["evaluate", *own, "--dataset", "hmdb51", "--out", str(tmp_path / "file" / "x.jsonl")],
    ):
        capsys.readouterr()
        assert commands.main(method, words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1, words


def test_evaluate_asks_for_splits_and_a_known_protocol(
    method: Method, tmp_path: Path, capsys
) -> None:
    words = ["evaluate", "--features", str(tmp_path)]
    assert commands.main(method, [*words, "--protocol", "best"]) == 2
    assert "best" in capsys.readouterr().err
    assert commands.main(method, [*words, "--protocol", "common-svm"]) == 2
    assert "--dataset hmdb51 or ucf101, or --split-files" in capsys.readouterr().err


def test_recipes_help(method: Method, capsys) -> None:
    assert commands.main(method, ["recipes", "--help"]) == 0
    assert "list | show NAME | run NAME" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        commands.main(method, ["recipes", "run", "--help"])
    assert end.value.code == 0
    assert "--data" in capsys.readouterr().out
    assert commands.main(method, ["recipes", "show", "quick", "--loud"]) == 2
    assert commands.main(method, ["recipes", "list", "--loud"]) == 2


def test_convert_needs_weights(method: Method, tmp_path: Path, capsys) -> None:
    words = ["convert", "--weights", "w.pth", "--out", str(tmp_path / "w.safetensors")]
    assert commands.main(method, words) == 2
    assert "no weights to convert" in capsys.readouterr().err


def test_convert_fetches_published_weights_when_asked(
    method: Method, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Whatever a method's function does then, the file is there."""
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "packages" / "mean_colour" / "files.py").write_text(CONVERT)
    (tmp_path / "published.pth").write_bytes(b"weights")
    (tmp_path / "own.pth").write_bytes(b"mine")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/published.pth"
        record = replace(method.weights[0], address=address)
        method = replace(method, convert="mean_colour.files:convert", weights=(record,))
        out = tmp_path / "w.safetensors"
        words = ["convert", "--out", str(out), "--weights"]
        assert commands.main(method, [*words, "paper"]) == 2
        assert "absent" in capsys.readouterr().err
        assert commands.main(method, [*words, "paper", "--download", "yes"]) == 0
        assert out.read_bytes() == b"weights"
        assert commands.main(method, [*words, str(tmp_path / "own.pth"), "--download"]) == 0
        assert out.read_bytes() == b"mine"
        server.shutdown()


def test_convert_names_no_format_of_one_framework(method: Method, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        commands.main(method, ["convert", "--help"])
    assert end.value.code == 0
    assert ".pth" not in capsys.readouterr().out


def test_override_clip() -> None:
    rgb = ClipSpec("rgb", Spread(30, 1.0), Pixels(112, 112, 112), "repeat_last")
    assert commands.override_clip(rgb, frames=None, size=None) == rgb
    small = commands.override_clip(rgb, frames=8, size=56)
    assert small == ClipSpec("rgb", Spread(8, 1.0), Pixels(112, 112, 56), "repeat_last")
    sound = ClipSpec("sound", Samples(24000, 24000), None, "zeros")
    with pytest.raises(ConfigError, match="--frames"):
        commands.override_clip(sound, frames=8, size=None)
    with pytest.raises(ConfigError, match="--size"):
        commands.override_clip(sound, frames=None, size=56)
