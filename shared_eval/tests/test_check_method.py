"""A good method passes every check; each broken one fails its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECKS = [
    "loads with weights 'random'",
    "its ClipSpec is possible",
    "fingerprint: 64 hex digits, the same twice",
    "embeddings: finite float32 [B, feature_size]",
    "the same clips give the same values",
    "values do not depend on the batch",
    "other clips give other values",
    "clips are left as they were",
    "a wrong dtype is a ValueError",
    "a wrong shape is a ValueError",
    "wrong weights are a WeightsError",
]
MEAN = "clips.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)"
REFUSES = "        if clips.dtype != np.uint8 or clips.ndim != 5:\n"


def check(method: str, *words: str) -> tuple[int, list[str], str]:
    command = [sys.executable, "-m", "shared_eval", "check-method", method, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_good_method_passes(add_method) -> None:
    add_method("colour_a")
    code, lines, errors = check("colour_a", "--python", sys.executable)
    assert lines == [
        "PASS describe: every field is there and of its type",
        *(f"PASS rgb: {name}" for name in CHECKS),
        "colour_a keeps the contract",
    ]
    assert (code, errors) == (0, "")


def broken(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({MEAN: MEAN + " + np.float32(np.random.rand())"},
         ["the same clips give the same values: two calls or loads differ",
          "values do not depend on the batch: one by one they differ by"]),
        ({MEAN: MEAN + " - clips.mean(dtype=np.float64).astype(np.float32)"},
         ["values do not depend on the batch: one by one they differ by"]),
        ({REFUSES: "        if clips.ndim != 5:\n"},
         ["a wrong dtype is a ValueError: was accepted"]),
        ({REFUSES: "        if clips.dtype != np.uint8:\n", "(1, 2, 3)": "(-4, -3, -2)"},
         ["a wrong shape is a ValueError: was accepted"]),
        ({"raise ValueError(f\"expected": "raise TypeError(f\"expected"},
         ["a wrong dtype is a ValueError: gave TypeError: expected uint8",
          "a wrong shape is a ValueError: gave TypeError: expected uint8"]),
        ({'raise WeightsError(f"no weights \'{weights}\'; say random or good")': "pass"},
         ["wrong weights are a WeightsError: text.pth was accepted"]),
        ({"raise WeightsError(f": "raise OSError(f"},
         ["wrong weights are a WeightsError: text.pth gave OSError: no weights"]),
        ({'"a" * 64': '"a" * 63'},
         ["fingerprint: 64 hex digits, the same twice: found ("]),
        ({'"a" * 64': "np.random.bytes(32).hex()"},
         ["fingerprint: 64 hex digits, the same twice: found ("]),
        ({MEAN: MEAN + " * 0"},
         ["other clips give other values: two clips have equal embeddings"]),
        ({MEAN: MEAN + " * np.float32('nan')"},
         ["embeddings: finite float32 [B, feature_size]: 9 values are NaN or infinite"]),
        ({"self.feature_size = 3": "self.feature_size = 4"},
         ["embeddings: finite float32 [B, feature_size]: found float32 (3, 3), feature_size 4"]),
        ({"Pixels(16, 16, 16)": "Pixels(0, 16, 16)"},
         ["its ClipSpec is possible: found ClipSpec("]),
        ({f"return {MEAN}": f"rows = {MEAN}; clips[:] = 0; return rows"},
         ["clips are left as they were: embed changed its argument",
          "the same clips give the same values"]),
        ({'if weights not in ("random", "good"):': "if True:"},
         ["embeds clips of its ClipSpec with weights 'random': no weights 'random'"]),
    ],
)  # fmt: skip
def test_broken_methods_fail(
    add_method, encoder_text: str, changes: dict[str, str], failed: list[str]
) -> None:
    add_method("colour_b", encoder=broken(encoder_text, changes))
    code, lines, errors = check("colour_b")
    found = [line.removeprefix("FAIL rgb: ") for line in lines if line.startswith("FAIL")]
    for wanted in failed:
        assert [line for line in found if line.startswith(wanted)], (wanted, lines, errors)
    assert code == 2
    assert lines[-1] == "colour_b does not keep the contract"


def test_a_wrong_description_fails(add_method, method_text: str) -> None:
    add_method("colour_c", method=method_text.replace('"CC-BY 4.0"', '""'))
    code, lines, _ = check("colour_c")
    assert lines[0].startswith("FAIL describe: weights[0].licence is '', expected a text")
    assert code == 2


def test_a_method_that_is_not_there() -> None:
    code, _, errors = check("colour_z")
    assert code == 2
    assert "shared_eval check-method: " in errors
    assert "has no method 'colour_z'" in errors


def test_an_encoder_that_is_not_there(add_method) -> None:
    add_method("colour_d")
    code, lines, _ = check("colour_d", "--weights", "best", "--modality", "rgb")
    assert code == 2
    assert (
        "FAIL rgb: embeds clips of its ClipSpec with weights 'best': no weights 'best'" in lines[1]
    )
