"""The contract of an encoder, on one that keeps it and on ones that do not."""

from __future__ import annotations

import hashlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.methods import Method
from ssvideo_core.testing.check_encoder import check, main, noise
from ssvideo_core.views import ClipSpec, Pixels, Samples, Spread

RGB = ClipSpec("rgb", Spread(4, 1.0), Pixels(16, 16, 12), "repeat_last")
SOUND = ClipSpec("sound", Samples(100, 1000), None, "zeros")
CLIPS = {"rgb": RGB, "sound": SOUND}


class Moments:
    """Mean and standard deviation of a clip."""

    feature_size = 2
    fingerprint = hashlib.sha256(b"moments").hexdigest()

    def __init__(self, clip: ClipSpec) -> None:
        self.clip = clip

    def embed(self, clips: np.ndarray) -> np.ndarray:
        sound = self.clip.modality == "sound"
        if clips.dtype != (np.float32 if sound else np.uint8) or clips.ndim != (2 if sound else 5):
            raise ValueError("wrong")
        rows = clips.reshape(len(clips), -1).astype(np.float64)
        return np.stack([rows.mean(axis=1), rows.std(axis=1)], axis=1).astype(np.float32)


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Method:
    module = ModuleType("moments_for_test")

    def load_encoder(weights: str, *, modality: str) -> Moments:
        if weights != "random":
            raise WeightsError(f"no weights {weights}")
        return Moments(CLIPS[modality])

    module.load_encoder = load_encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = {"rgb": "moments", "sound": "moments"}
    return Method("moments", "Moments", (), "numpy", f"{module.__name__}:load_encoder", names)


def problems(method: Method, modality: str = "rgb") -> dict[str, str]:
    found = check(method, modality, "random")
    return {name: problem for name, problem in found if problem is not None}


@pytest.mark.parametrize("modality", ["rgb", "sound"])
def test_a_good_encoder_has_no_problem(method: Method, modality: str) -> None:
    names = [name for name, _ in check(method, modality, "random")]
    assert len(names) == len(set(names)) == 11
    assert problems(method, modality) == {}


@pytest.mark.parametrize(
    ("name", "value", "failed", "message"),
    [
        ("feature_size", 3, "embeddings", "found float32 (3, 2), feature_size 3"),
        ("fingerprint", "0x1", "fingerprint", "found ('0x1', '0x1')"),
        (
            "embed",
            lambda self, clips: np.zeros((len(clips), 2), np.float32),
            "other clips give other values",
            "two clips have equal embeddings",
        ),
        (
            "embed",
            lambda self, clips: np.full((len(clips), 2), np.nan, np.float32),
            "embeddings",
            "6 values are NaN or infinite",
        ),
        (
            "embed",
            lambda self, clips: np.array([[c.sum() * len(clips)] * 2 for c in clips], np.float32),
            "values do not depend on the batch",
            "one by one they differ by 0.67 of the largest",
        ),
    ],
)
def test_broken_encoders(
    method: Method, monkeypatch, name: str, value: Any, failed: str, message: str
) -> None:
    monkeypatch.setattr(Moments, name, value)
    found = problems(method)
    (key,) = (key for key in found if key.startswith(failed))
    assert found[key] == message


@pytest.mark.parametrize(
    "clip",
    [
        ClipSpec("sound", Samples(100, 1000), Pixels(8, 8, 8), "zeros"),
        ClipSpec("sound", Samples(100, 0), None, "zeros"),
    ],
)
def test_impossible_clips(method: Method, monkeypatch, clip: ClipSpec) -> None:
    monkeypatch.setitem(CLIPS, "sound", clip)
    found = problems(method, "sound")
    assert found == {"its ClipSpec is possible": f"found {clip} for sound"}


def test_nothing_follows_an_encoder_that_does_not_load(method: Method) -> None:
    (found,) = check(method, "rgb", "best")
    assert found == ("embeds clips of its ClipSpec with weights 'best'", "no weights best")


def test_noise_is_the_same_always() -> None:
    clips = noise(RGB, 2)
    assert (clips.dtype, clips.shape) == (np.uint8, (2, 4, 12, 12, 3))
    np.testing.assert_array_equal(clips, noise(RGB, 2))
    sound = noise(SOUND, 2)
    assert (sound.dtype, sound.shape) == (np.float32, (2, 100))
    assert -1 <= sound.min() < -0.5 and 0.5 < sound.max() <= 1


def test_the_command(method: Method, monkeypatch, capsys) -> None:
    monkeypatch.setattr("ssvideo_core.testing.check_encoder.discover", lambda: {"moments": method})
    assert main(["moments", "--modality", "sound"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PASS sound: loads with weights 'random'"
    assert len(lines) == 11
    assert main(["moments", "--weights", "best"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"FAIL {modality}: embeds clips of its ClipSpec with weights 'best': no weights best"
        for modality in ("rgb", "sound")
    ]
    assert main(["nothing"]) == 2
    assert "no method 'nothing' is installed here; there is moments" in capsys.readouterr().err
