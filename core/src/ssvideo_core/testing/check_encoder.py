"""Whether an installed method's encoders keep the contract of `methods.Encoder`.

`python -m ssvideo_core.testing.check_encoder METHOD` runs where the method's framework is installed
and prints one line a check: PASS or FAIL, modality, what is demanded, what was found instead.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvideo_core import config as configs
from ssvideo_core.errors import (
    EXIT_OK,
    EXIT_USER,
    ConfigError,
    SSVideoError,
    WeightsError,
    exit_code,
)
from ssvideo_core.methods import Encoder, Method, discover
from ssvideo_core.randomness import generator
from ssvideo_core.views import ClipSpec, Samples

CLIPS = 3
TOLERANCE = 1e-5  # of the largest value of a row


@dataclass(frozen=True)
class CheckEncoder:
    """Check a method's encoders on clips of noise; exit 2 if any check fails."""

    method: str = configs.option(help="name of an installed method")
    weights: str = configs.option("random", help="published name, file, or 'random'")
    modality: str = configs.option("", help="one encoder instead of all of the method's")


def main(argv: Sequence[str] | None = None) -> int:
    """`METHOD [--weights W] [--modality M]`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    words = ["--method", *words] if words and not words[0].startswith("-") else words
    config = configs.parse(CheckEncoder, words, prog="check_encoder")
    return exit_code("check_encoder", lambda: _check_all(config))


def _check_all(config: CheckEncoder) -> int:
    """Print a line a check; the exit code is 0 if all passed."""
    methods, passed = discover(), True
    if config.method not in methods:
        known = ", ".join(methods) or "none"
        raise ConfigError(f"no method '{config.method}' is installed here; there is {known}")
    method = methods[config.method]
    for modality in [config.modality] if config.modality else method.backbones:
        for name, problem in check(method, modality, config.weights):
            passed &= problem is None
            line = f"PASS {modality}: {name}" if problem is None else f"FAIL {modality}: {name}"
            print(line if problem is None else f"{line}: {problem}", flush=True)
    return EXIT_OK if passed else EXIT_USER


def check(method: Method, modality: str, weights: str) -> Iterator[tuple[str, str | None]]:
    """(what is demanded, None or what was found instead), one pair a check.

    There are no further checks of an encoder that cannot be loaded, or whose values are unusable.
    """
    try:
        encoder, again = (method.load_encoder(weights, modality=modality) for _ in range(2))
        yield f"loads with weights '{weights}'", None
        clips = noise(encoder.clip, CLIPS)
        rows = encoder.embed(clips).copy()
    except (SSVideoError, ValueError) as error:
        yield f"embeds clips of its ClipSpec with weights '{weights}'", str(error)
        return
    prints = (encoder.fingerprint, again.fingerprint)
    hexadecimal = re.fullmatch(r"[0-9a-f]{64}", str(prints[0])) and prints[0] == prints[1]
    untouched = np.array_equal(clips, noise(encoder.clip, CLIPS))
    same = all(np.array_equal(rows, each.embed(clips), equal_nan=True) for each in (encoder, again))
    apart = not np.array_equal(rows[0], rows[1])
    other = clips.astype(np.float64 if clips.dtype == np.float32 else np.float32)
    problem = _values(rows, encoder.feature_size)
    yield "its ClipSpec is possible", _clip(encoder.clip, modality)
    yield "fingerprint: 64 hex digits, the same twice", None if hexadecimal else f"found {prints}"
    yield "embeddings: finite float32 [B, feature_size]", problem
    if problem is not None:
        return
    yield "the same clips give the same values", None if same else "two calls or loads differ"
    yield "values do not depend on the batch", _batch(encoder, clips, rows)
    yield "other clips give other values", None if apart else "two clips have equal embeddings"
    yield "clips are left as they were", None if untouched else "embed changed its argument"
    yield "a wrong dtype is a ValueError", _refused(ValueError, lambda: encoder.embed(other))
    yield "a wrong shape is a ValueError", _refused(ValueError, lambda: encoder.embed(clips[0]))
    yield "wrong weights are a WeightsError", _wrong_weights(method, modality)


def noise(clip: ClipSpec, count: int) -> NDArray[Any]:
    """The same clips always: uint8 [B, T, S, S, 3], or float32 [B, N] in [-1, 1).

    Raises ValueError for a clip of frames without pixels.
    """
    rng = generator(0, "check-encoder")
    if isinstance(clip.time, Samples):
        return rng.uniform(-1, 1, (count, clip.time.num_samples)).astype(np.float32)
    if clip.pixels is None:
        raise ValueError(f"a clip of {clip.modality} needs pixels, found {clip}")
    side = clip.pixels.size
    return rng.integers(0, 256, (count, clip.time.num_frames, side, side, 3), dtype=np.uint8)


def _clip(clip: ClipSpec, modality: str) -> str | None:
    sound = isinstance(clip.time, Samples)
    agree = clip.modality == modality and sound == (modality == "sound") == (clip.pixels is None)
    values = [*astuple(clip.time), *(astuple(clip.pixels) if clip.pixels else ())]
    positive = all(value > 0 for value in values if isinstance(value, int | float))
    return None if agree and positive else f"found {clip} for {modality}"


def _values(rows: NDArray[Any], feature_size: int) -> str | None:
    if rows.dtype != np.float32 or rows.shape != (CLIPS, feature_size):
        return f"found {rows.dtype} {rows.shape}, feature_size {feature_size}"
    bad = np.count_nonzero(~np.isfinite(rows))
    return f"{bad} values are NaN or infinite" if bad else None


def _batch(encoder: Encoder, clips: NDArray[Any], rows: NDArray[Any]) -> str | None:
    alone = np.concatenate([encoder.embed(clip[None]).copy() for clip in clips])
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    worst = float((np.abs(rows - alone) / scale).max())
    return None if worst <= TOLERANCE else f"one by one they differ by {worst:.2g} of the largest"


def _wrong_weights(method: Method, modality: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.pth"
        text.write_text("no weights")
        for wrong in (text, text.with_name("absent.pth")):
            load = partial(method.load_encoder, str(wrong), modality=modality)
            if problem := _refused(WeightsError, load):
                return f"{wrong.name} {problem}"
    return None


def _refused(expected: type[Exception], call: Callable[[], Any]) -> str | None:
    try:
        call()
    except expected:
        return None
    except Exception as error:  # any other error is what was found
        return f"gave {type(error).__name__}: {error}"
    return "was accepted"


if __name__ == "__main__":
    raise SystemExit(main())
