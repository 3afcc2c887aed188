"""Every form of tolerance, just inside and just outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ssvideo_core.testing.tolerances import difference

WANT = np.array([[1.0, -2.0], [10.0, 4.0]])
SPREAD = np.array([[1.0, 2.0], [0.0, 4.0]])
TERMS = np.array([[0, 2], [1, 1], [1, 0], [2, 3]])
STORED = {"spread": SPREAD, "terms": TERMS}


HALF = WANT + np.array([9.0, 0.0])


def off(row: int, column: int, by: float) -> np.ndarray:
    got = WANT.copy()
    got[row, column] += by
    return got


WITHIN_AND_OUTSIDE: list[tuple[str, dict[str, Any], Any, Any, Any, str]] = [
    ("exact", {"exact": True}, WANT, WANT.copy(), off(0, 0, 1e-15), "1 of 4 elements differ"),
    (
        "exact shape",
        {"exact": True},
        np.array([1, 2]),
        [1, 2],
        [[1, 2]],
        r"shape \(1, 2\) instead of \(2,\)",
    ),
    ("exact text", {"exact": True}, np.array(["a", "b"]), ["a", "b"], ["a", "c"], r"at \[1\]"),
    ("exact bytes", {"exact": True}, np.array(["a"]), ["a"], np.array([b"a"]), "differ"),
    ("exact nan", {"exact": True}, np.array([np.nan]), np.array([np.nan]), np.array([0.0]), "nan"),
    ("exact number", {"exact": True}, 3, np.int64(3), 4, "4"),
    (
        "exact document",
        {"exact": True},
        {"a": [1, 2], "b": {"c": 3}},
        {"b": {"c": np.int32(3)}, "a": (1, np.array(2))},
        {"a": [1, 2], "b": {"c": 4}, "d": 0},
        r"1 extra \(d\), 1 different \(b\); b: \{'c': 4\} instead of \{'c': 3\}",
    ),
    ("exact list", {"exact": True}, ["x", "y"], ["x", "y"], ["y", "x"], "instead of"),
    (
        "set of rows",
        {"exact": True, "order": "set"},
        np.array([[1, 2], [0, 3], [1, 1]]),
        np.array([[1, 1], [1, 2], [0, 3]]),
        np.array([[1, 1], [1, 2], [1, 2]]),
        "differ",
    ),
    ("set of documents", {"exact": True, "order": "set"}, ["a", "b"], ["b", "a"], ["b", "b"], "a"),
    (
        "multiset per term",
        {"exact": True, "order": "multiset_per_term"},
        np.array([[1, 1], [2, 2], [3, 3], [4, 4], [4, 4], [5, 5]]),
        np.array([[2, 2], [1, 1], [3, 3], [5, 5], [4, 4], [4, 4]]),
        np.array([[3, 3], [2, 2], [1, 1], [4, 4], [4, 4], [5, 5]]),
        "differ",
    ),
    ("rtol", {"rtol": 0.1}, WANT, off(1, 0, 0.999), off(1, 0, 1.001), r"at \[1, 0\].*allowed 1"),
    ("rtol negative", {"rtol": 0.1}, WANT, off(0, 1, -0.199), off(0, 1, -0.201), "differ"),
    ("atol", {"atol": 0.5, "rtol": 0}, WANT, off(0, 0, 0.5), off(0, 0, 0.51), "allowed 0.5"),
    ("both", {"atol": 0.5, "rtol": 0.1}, WANT, off(1, 1, 0.89), off(1, 1, 0.91), "allowed 0.9"),
    ("rtol list", {"rtol": [0.1, 0.01]}, WANT, off(0, 0, 0.099), off(1, 0, 0.11), "allowed 0.1"),
    ("atol list", {"atol": [1, 0]}, WANT, off(0, 0, 0.9), off(1, 0, 0.1), "allowed 0"),
    ("null rtol", {"rtol": [0.1, None]}, WANT, off(1, 0, 1e9), off(1, 0, np.inf), "inf"),
    ("null atol", {"rtol": 0, "atol": [0, None]}, WANT, off(1, 0, 9), off(0, 0, 9), "differ"),
    ("null nan", {"rtol": [0.1, None]}, WANT, off(1, 0, 1), off(1, 0, np.nan), "nan"),
    ("wrong list", {"rtol": [0.1, 1, 1]}, WANT[:0], WANT[:0], WANT[:0], "do not fit axis 0"),
    ("of max", {"atol_of_max": 0.1}, WANT, off(0, 0, 0.99), off(0, 0, 1.01), "allowed 1"),
    ("of row", {"atol_of_row_max": 0.1}, WANT, off(0, 0, 0.19), off(0, 0, 0.21), "allowed 0.2"),
    (
        "of row of three axes",
        {"atol_of_row_max": 0.1},
        WANT[:, :, None] * [1.0, 3.0],
        WANT[:, :, None] * [1.0, 3.0] + np.array([0.59, 2.99])[:, None, None],
        WANT[:, :, None] * [1.0, 3.0] + np.array([0.61, 0])[:, None, None],
        "4 of 8",
    ),
    (
        "of last axis",
        {"atol_of_last_axis_max": 0.1},
        WANT[None],
        off(0, 0, 0.19)[None],
        off(0, 0, 0.21)[None],
        "allowed 0.2",
    ),
    (
        "times array",
        {"atol": 0.1, "rtol": 0, "atol_times_array": "spread"},
        WANT,
        off(1, 1, 0.39),
        off(1, 0, 0.01),
        "allowed 0",
    ),
    ("fraction", {"atol": 0, "fraction": 0.75}, WANT, off(0, 0, 9), HALF, "0.5000 pass"),
    ("fraction exact", {"exact": True, "fraction": 0.5}, WANT, HALF, WANT + 1, "0.0000"),
    ("min_equal", {"min_equal": 0.75}, WANT, off(0, 0, 9), HALF, "0.5000 of the elements"),
    ("mean_abs", {"mean_abs": 1}, WANT, off(0, 0, 3.9), off(0, 0, -4.1), "1.025, allowed 1"),
    ("max_abs", {"max_abs": 1}, WANT, WANT + 1, off(0, 0, 1.1), "largest absolute difference 1.1"),
    ("max and mean", {"mean_abs": 1, "max_abs": 3}, WANT, off(0, 0, 3), off(0, 0, 3.5), "largest"),
    (
        "min_value",
        {"mean_abs": 0.5, "min_value": 3},
        WANT,
        off(0, 0, 100),
        off(1, 0, 1.1),
        "mean absolute difference 0.55",
    ),
    ("scalar", {"rtol": 0.1, "atol_of_row_max": 0.1}, np.float32(2), 2.39, 2.41, r"at \[\]"),
    ("nan expected", {"rtol": 0.1}, np.array([np.nan]), np.array([np.nan]), np.array([1.0]), "nan"),
    ("inf expected", {"rtol": 0.1}, np.array([np.inf]), np.array([np.inf]), np.array([1.0]), "inf"),
]


@pytest.mark.parametrize("row", WITHIN_AND_OUTSIDE, ids=lambda row: row[0])
def test_form(row: tuple[str, dict[str, Any], Any, Any, Any, str]) -> None:
    name, tolerance, want, within, outside, message = row
    if name == "wrong list":
        within_text = None
    else:
        within_text = difference(within, want, tolerance, STORED.__getitem__)
    assert within_text is None
    with pytest.raises(AssertionError, match=message):
        assert_within(outside, want, tolerance)


def assert_within(got: Any, want: Any, tolerance: dict[str, Any]) -> None:
    text = difference(got, want, tolerance, STORED.__getitem__)
    assert text is None, text


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        ({"rtoll": 1}, "unknown forms: rtoll"),
        ({}, "no form that compares"),
        ({"fraction": 0.5}, "no form that compares"),
        ({"exact": True, "order": "any"}, "unknown order 'any'"),
    ],
)
def test_a_tolerance_that_cannot_be_read_is_a_difference(
    tolerance: dict[str, Any], message: str
) -> None:
    assert message in str(difference(WANT, WANT, tolerance))


def test_forms_are_combined() -> None:
    tolerance = {"rtol": 0.5, "max_abs": 1.0, "min_equal": 0.5}
    assert difference(off(0, 0, 0.4), WANT, tolerance) is None
    assert "largest" in str(difference(off(1, 0, 4), WANT, tolerance))
    assert "equal" in str(difference(WANT * 1.01, WANT, tolerance))


def test_no_row_above_min_value_compares_nothing_and_says_so() -> None:
    tolerance = {"mean_abs": 0.5, "min_value": 100}
    assert difference(WANT, WANT, tolerance) == "no row of the expected values exceeds 100"


def test_tensors_are_converted() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(WANT, requires_grad=True)
    assert difference(tensor, WANT, {"exact": True}) is None
    assert difference({"a": tensor[0]}, {"a": [1.0, -2.0]}, {"exact": True}) is None


def test_documents_that_only_lack_or_only_have_more_members() -> None:
    assert difference({"a": 1}, {"a": 1, "b": 2}, {"exact": True}) == "members 1 missing (b)"
    assert difference({"a": 1, "c": 2}, {"a": 1}, {"exact": True}) == "members 1 extra (c)"
