"""Every ```python block of core's READMEs runs, from the first to the last of a file.

A block tagged `python needs=MODULE` uses a module of an extra; without the module it is left out.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ssvideo_core.blocks import MEAN_OF_VIEWS, Block, block_span, num_blocks
from ssvideo_core.datasets.official import official_videos
from ssvideo_core.datasets.splits import Split
from ssvideo_core.feature_writer import FeatureWriter
from ssvideo_core.features import clip_to_json
from ssvideo_core.testing.fake_videos import FakeEncoder
from ssvideo_core.testing.mp4 import write_mp4
from ssvideo_core.views import ClipSpec, Pixels, Spread

CORE = Path(__file__).parents[1]
FENCE = re.compile(
    r"^```python(?: needs=(?P<module>\w+))?\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)
CLIP = ClipSpec("rgb", Spread(4, 0.5), Pixels(40, 32, 16), "repeat_last")
MAX_LINES = 5  # of an example, without empty ones
CLASSES, PER_CLASS = ("run", "walk"), 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples read: videos, frames, an archive, weights and features."""
    root = tmp_path_factory.mktemp("data")
    videos = write_videos(root / "videos")
    write_frames(root / "frames")
    with zipfile.ZipFile(root / "videos.zip", "w") as archive:
        archive.write(videos[0], "run/0.mp4")
    layer = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}
    torch.save({"state_dict": layer}, root / "gdt_K400.pth")
    shutil.copy(videos[0], root / "a.mp4")
    (root / "my_splits").mkdir()
    for part, name in (("train", "run/0.mp4"), ("test", "run/1.mp4")):
        (root / f"my_splits/{part}list01.txt").write_text(f"{name} 1\n")
    write_hmdb51_features(root / "features/rgb")
    return root


def write_videos(folder: Path) -> list[Path]:
    """Half a second each: grey that depends on class and number, with a tone."""
    paths = []
    for number in range(len(CLASSES) * PER_CLASS):
        name = CLASSES[number // PER_CLASS]
        path = folder / name / f"{number % PER_CLASS}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 40 + 120 * (number // PER_CLASS) + 8 * (number % PER_CLASS)
        frames = np.full((20, 48, 64, 3), shade, np.uint8)
        frames[:, 10:30, 5:25] += np.arange(20, dtype=np.uint8)[:, None, None, None]
        sound = np.sin(np.arange(19200) / 9).astype(np.float32) / 2
        write_mp4(path, frames, sound, rate=25)
        paths.append(path)
    return paths


def write_frames(folder: Path) -> None:
    (folder / "run/a").mkdir(parents=True)
    for number in range(1, 5):
        picture = np.full((24, 32, 3), 50 * number, np.uint8)
        Image.fromarray(picture).save(folder / f"run/a/{number:05d}.jpg")


def write_hmdb51_features(folder: Path) -> None:
    """As `METHOD extract` leaves them after HMDB51, where the class is easy to see."""
    ids = official_videos("hmdb51")
    request = {
        "method": "toy",
        "weights": "random",
        "backbone": "none",
        "modality": "rgb",
        "kind": "features",
        "fingerprint": "f" * 64,
        "clip": clip_to_json(CLIP),
        "views": [10, 3],
        "keep": "video",
        "feature_size": 51,
        "batch_size": 8,
    }
    writer = FeatureWriter(folder, request, [(video, video.split("/")[0], None) for video in ids])
    values = hmdb51_values(ids)
    for number in range(num_blocks(len(ids))):
        videos = np.array(block_span(number, len(ids)), np.int64)
        view = np.full(len(videos), MEAN_OF_VIEWS, np.int32)
        writer.write(Block(number, values[videos], videos, view))
    assert writer.finish() is not None


def hmdb51_values(ids: tuple[str, ...]) -> NDArray[np.float32]:
    labels = np.unique([video.split("/")[0] for video in ids], return_inverse=True)[1]
    noise = np.random.default_rng(0).normal(size=(len(ids), 51)) / 10
    return (np.eye(51)[labels] + noise).astype(np.float32)


@pytest.fixture
def names(data: Path, tmp_path: Path) -> dict[str, Any]:
    """What the examples may use without making it themselves."""
    ids = [f"{name}/{number}.mp4" for name in CLASSES for number in range(PER_CLASS)]
    archive = data / "videos.zip"
    return {
        "__name__": "readme",
        "Path": Path,
        "video": data / "videos/run/0.mp4",
        "videos": data / "videos",
        "frames": data / "frames",
        "folder": tmp_path,
        "weights": data / "gdt_K400.pth",
        "archive": archive,
        "archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "encoder": FakeEncoder(CLIP),
        "split": Split("mine", "all", tuple(ids[::2]), tuple(ids[1::2])),
    }


@pytest.mark.parametrize("file", sorted(CORE.glob("README*.md")), ids=lambda file: file.name)
def test_every_example_runs(
    file: Path, data: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    text = file.read_text(encoding="utf-8")
    blocks = list(FENCE.finditer(text))
    assert len(blocks) > 3
    for block in blocks:
        assert sum(map(bool, block["body"].split("\n"))) <= MAX_LINES, block["body"]
        if block["module"] and find_spec(block["module"]) is None:
            continue
        line = text[: block.start("body")].count("\n")
        # Empty lines first, so that a traceback names the README's own line.
        code = compile("\n" * line + block["body"], str(file), "exec", dont_inherit=True)
        exec(code, names)
