from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ssvideo_core.testing.fill import fill, inputs, rng_for


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "shape", "layout", "dtype", "expected"),
    [
        ("trunk.conv.weight", (2, 3, 2), "torch", np.float32, "9e6945c33f327798"),
        ("net/linear/w", (2, 3), "haiku", np.float32, "846057a85a0d8c05"),
        ("net/bn/scale", (4,), "haiku", np.float32, "4493977c2b93b123"),
        ("trunk.norm.weight", (4,), "torch", np.float32, "59af990c2125933d"),
        ("trunk.norm.bias", (4,), "torch", np.float32, "743ade89a467ff73"),
        ("trunk.norm.running_var", (4,), "torch", np.float32, "0e58908344c66e3a"),
        ("bn/~/var_ema/hidden", (4,), "haiku", np.float32, "e07a5d82ccf1a129"),
        ("trunk.norm.num_batches_tracked", (), "torch", np.int64, "af5570f5a1810b7a"),
    ],
)
def test_bytes_equal_those_the_reference_values_were_made_with(
    name: str, shape: tuple[int, ...], layout: str, dtype: type, expected: str
) -> None:
    value = fill(name, shape, layout)
    assert value.dtype == dtype
    assert value.shape == shape
    assert digest(value) == expected


def test_inputs_equal_those_the_reference_values_were_made_with() -> None:
    value = inputs("probe", (2, 3))
    assert value.dtype == np.float32
    assert digest(value) == "ccaa4e08d676bbb5"
    assert value[0, 0] == np.float32(-0.5723010301589966)


def test_fan_in_follows_the_layout() -> None:
    normal = rng_for("a.w").standard_normal((2, 3, 4))
    np.testing.assert_array_equal(
        fill("a.w", (2, 3, 4)), (normal * np.sqrt(2 / 12)).astype(np.float32)
    )
    np.testing.assert_array_equal(
        fill("a.w", (2, 3, 4), "haiku"), (normal * np.sqrt(2 / 6)).astype(np.float32)
    )


def test_leading_ones_are_squeezed_only_when_asked() -> None:
    flat = fill("net/bn/scale", (5,), "haiku")
    squeezed = fill("net/bn/scale", (1, 1, 5), "haiku", squeeze_leading_ones=True)
    np.testing.assert_array_equal(squeezed, flat.reshape(1, 1, 5))
    assert not np.array_equal(fill("net/bn/scale", (1, 1, 5), "haiku").ravel(), flat)
    matrix = fill("net/linear/w", (2, 5), "haiku", squeeze_leading_ones=True)
    np.testing.assert_array_equal(matrix, fill("net/linear/w", (2, 5), "haiku"))
