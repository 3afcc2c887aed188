"""The smallest method, by its own numbers and through every subcommand it promises."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from sixth_method import encoder as module
from sixth_method.encoder import load_encoder
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.features import open_features
from ssvideo_core.results import read_results

COLOURS = {"red": (200, 40, 40), "blue": (40, 50, 200)}


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sixth_method", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True)


def plain(clip: np.ndarray) -> list[float]:
    """One clip with loops: shares of 64 colours, then of 16 sizes of change."""
    colours, changes = [0] * 64, [0] * 16
    frames = clip.tolist()
    for number, frame in enumerate(frames):
        for y, line in enumerate(frame):
            for x, pixel in enumerate(line):
                red, green, blue = (value // 64 for value in pixel)
                colours[16 * red + 4 * green + blue] += 1
                if number:
                    for channel in range(3):
                        before = frames[number - 1][y][x][channel]
                        changes[abs(pixel[channel] - before) // 16] += 1
    return [n / sum(colours) for n in colours] + [n / sum(changes) for n in changes]


def test_embed_equals_the_plain_version() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5, 3), dtype=np.uint8)
    found = load_encoder("none").embed(clips)
    np.testing.assert_allclose(found, [plain(clip) for clip in clips], rtol=1e-6)
    assert found.dtype == np.float32


def test_extremes() -> None:
    encoder = load_encoder("none")
    still = np.zeros((1, 8, 4, 4, 3), np.uint8)
    expected = np.zeros(80, np.float32)
    expected[[0, 64]] = 1  # black, no change
    np.testing.assert_array_equal(encoder.embed(still)[0], expected)
    flash = still.copy()
    flash[:, 1::2] = 255
    np.testing.assert_array_equal(np.flatnonzero(encoder.embed(flash)[0]), [0, 63, 64 + 15])
    assert encoder.embed(still[:, :1])[0, 64:].sum() == 0  # one frame: no change to count
    assert encoder.embed(still[:0]).shape == (0, encoder.feature_size)


@pytest.mark.parametrize(
    "clips",
    [
        np.zeros((1, 8, 4, 4, 3)),
        np.zeros((8, 4, 4, 3), np.uint8),
        np.zeros((1, 8, 3, 4, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(clips: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[B, T, S, S, 3\], found"):
        load_encoder("none").embed(clips)


def test_weights_and_options() -> None:
    assert load_encoder("none").fingerprint == load_encoder("random").fingerprint
    with pytest.raises(WeightsError, match=r"no weights 'best'; say --weights none"):
        load_encoder("best")
    for options in ({"modality": "sound"}, {"output": "logits"}, {"architecture": {"width": 2}}):
        with pytest.raises(ConfigError, match="one encoder"):
            load_encoder("none", **options)


def test_it_is_short() -> None:
    assert len(inspect.getsource(module).splitlines()) <= 60


def test_describe() -> None:
    record = json.loads(command("describe", "--json").stdout)
    assert record["name"] == "sixth_method"
    assert record["recipes"] == ["smoke"]
    assert record["weights"] == []


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two colours in class folders, with a split."""
    root = tmp_path_factory.mktemp("videos")
    rows = ["video,label,split"]
    for label, colour in COLOURS.items():
        (root / label).mkdir()
        for number in range(4):
            name = f"{label}/{number}.mp4"
            with av.open(str(root / name), "w") as file:
                stream = file.add_stream("libx264", rate=4)
                stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
                picture = np.full((32, 32, 3), np.array(colour) + 3 * number, np.uint8)
                for _ in range(4):
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    file.mux(stream.encode(frame))
                file.mux(stream.encode())
            rows.append(f"{name},{label},{'test' if number == 3 else 'train'}")
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    return root


def test_from_videos_to_a_number(videos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))
    data, out = videos / "list.csv", tmp_path / "out"
    done = command("recipes", "run", "smoke", "--data", data, "--out", out)
    assert done.returncode == 0, done.stderr
    features = open_features(out / "features")
    assert (features.info.weights, features.info.views) == ("none", (1, 1))
    ids, values = features.matrix()
    assert ids == [f"{label}/{number}.mp4" for label in COLOURS for number in range(4)]
    assert values.shape == (8, 80)
    protocol = ("evaluate", "--protocol", "common-retrieval@1x1", "--features", features.folder)
    files = ("--dataset", "two", "--split-files", data, "--out", out / "results.jsonl")
    done = command(*protocol, *files)
    assert done.returncode == 0, done.stderr
    results = {result.key.metric: result.value for result in read_results(out / "results.jsonl")}
    assert results["recall@1"] == 1.0


def test_errors_are_one_message(videos: Path, tmp_path: Path) -> None:
    words = ("--weights", "best", "--videos", videos, "--out", tmp_path / "f")
    done = command("extract", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "sixth_method extract: sixth_method has no weights"
    )
    assert "Traceback" not in done.stderr
