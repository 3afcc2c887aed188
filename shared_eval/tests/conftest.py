from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from ssvideo_core.results import Key, Provenance, Result

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 210)}
ENCODER = """
import numpy as np
from ssvideo_core.errors import WeightsError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread


class Encoder:
    def __init__(self):
        self.clip = ClipSpec("rgb", Spread(2, 1.0), Pixels(16, 16, 16), "repeat_last")
        self.feature_size = 3
        self.fingerprint = "a" * 64

    def embed(self, clips):
        if clips.dtype != np.uint8 or clips.ndim != 5:
            raise ValueError(f"expected uint8 [B, T, S, S, 3], found {clips.dtype} {clips.shape}")
        return clips.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)


def load_encoder(weights, **options):
    if weights not in ("random", "good"):
        raise WeightsError(f"no weights '{weights}'; say random or good")
    return Encoder()
"""
METHOD = """
from ssvideo_core.methods import Method, PublishedWeights

METHOD = Method(
    name="{name}",
    title="Mean colour",
    arxiv=("0000.00000",),
    framework="numpy",
    encoder="{name}.encoder:load_encoder",
    backbones={{"rgb": "mean"}},
    weights=(PublishedWeights("good", "https://example.org/w", "w.npy", "CC-BY 4.0"),),
    version="1",
)
"""
MAIN = """
from ssvideo_core import commands
from {name}.method import METHOD

if __name__ == "__main__":
    raise SystemExit(commands.main(METHOD))
"""

AddMethod = Callable[..., None]


@pytest.fixture
def encoder_text() -> str:
    return ENCODER


@pytest.fixture
def method_text() -> str:
    return METHOD


@pytest.fixture
def add_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddMethod:
    """`add_method(name, encoder=…, method=…, main=…)`: a package that subprocesses find."""
    root = tmp_path / "packages"
    root.mkdir()
    # Without what is empty: an empty entry would be the current folder.
    places = filter(None, [str(root), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.syspath_prepend(root)
    monkeypatch.setenv("SSVIDEO_CACHE", str(tmp_path / "cache"))

    def add(name: str, *, encoder: str = ENCODER, method: str = METHOD, main: str = MAIN) -> None:
        files = {
            f"{name}/__init__.py": "",
            f"{name}/encoder.py": encoder,
            f"{name}/method.py": method.format(name=name),
            f"{name}/__main__.py": main.format(name=name),
            f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            f"{name}-1.dist-info/entry_points.txt": (
                f"[ssvideo.methods]\n{name} = {name}.method:METHOD\n"
            ),
        }
        for path, text in files.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text)

    return add


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 clips of noise around three colours in class folders, and list.csv with two splits."""
    root = tmp_path_factory.mktemp("data") / "a folder; with & signs"
    rng = np.random.default_rng(0)
    lines = ["video,label,split1,split2,group"]
    for label, colour in COLOURS.items():
        for number in range(9):
            name = f"{label}/{number}.mp4"
            frames = np.array(colour) + rng.integers(-30, 30, (4, 32, 32, 3))
            write_video(root / name, frames.clip(0, 255).astype(np.uint8))
            parts = ["test" if number % 3 == split else "train" for split in range(2)]
            lines.append(f"{name},{label},{','.join(parts)},{label}{number}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def write_video(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=4)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


CLIP = {
    "modality": "rgb",
    "time": {"kind": "Spread", "num_frames": 8, "span_s": 2.0},
    "pixels": {"short_side": 64, "crop": 64, "size": 56, "resample": "bilinear"},
    "when_short": "repeat_last",
}


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A result; every field of its key and provenance can be given by name."""

    def make(value: float = 0.5, **fields: Any) -> Result:
        key = Key(
            method=fields.pop("method", "m"),
            weights=fields.pop("weights", "w"),
            backbone=fields.pop("backbone", "net"),
            modality=fields.pop("modality", "rgb"),
            dataset=fields.pop("dataset", "hmdb51"),
            split=fields.pop("split", "1"),
            protocol=fields.pop("protocol", "common-svm/1@10x3"),
            metric=fields.pop("metric", "top1"),
        )
        provenance = Provenance(
            fingerprint=fields.pop("fingerprint", key.method + key.weights),
            data_hash=fields.pop("data_hash", "videos"),
            clip=fields.pop("clip", CLIP),
            options=fields.pop("options", {"output": "embedding"}),
            seed=fields.pop("seed", 0),
            fidelity="default",
            code_version="1",
        )
        interval: Sequence[float] | None = fields.pop("interval", (value - 0.1, value + 0.1))
        return Result(key, value, interval, fields.pop("n", 100), provenance=provenance, **fields)

    return make
