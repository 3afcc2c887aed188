"""Compare a result with its reference value under the tolerance of the manifest.

A tolerance is a mapping of one or more forms; all that are present must hold:

    exact                       equal values and shape (JSON: equal documents); "order": "set" the
                                same rows in any order, "multiset_per_term" the same rows in any
                                order within each term of `terms`
    rtol, atol                  abs(got - want) <= atol + rtol * abs(want); each may be a list along
                                axis 0, where null asks for a finite value only
    atol_of_max, atol_of_row_max, atol_of_last_axis_max
                                adds that times max abs(want) over the array, over the same index
                                of axis 0, over the last axis
    atol_times_array            atol is multiplied elementwise by that stored array
    fraction                    share of the elements that must pass the forms above
    min_equal                   same shape, share of equal elements
    mean_abs, max_abs           mean and maximum of abs(got - want); with min_value the mean is over
                                the rows (last axis) whose expected values all exceed it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tolerance = Mapping[str, Any]

CLOSE_FORMS = {
    "rtol", "atol", "atol_of_max", "atol_of_row_max", "atol_of_last_axis_max",
    "atol_times_array",
}  # fmt: skip
FORMS = CLOSE_FORMS | {
    "exact", "order", "fraction", "min_equal", "mean_abs", "max_abs", "min_value",
}  # fmt: skip
ORDERS = ("set", "multiset_per_term")


def difference(
    got: Any, want: Any, tolerance: Tolerance, stored: Callable[[str], Any] | None = None
) -> str | None:
    """None when `got` is within `tolerance` of `want`, else one line that says what differs.

    got, want: arrays, numbers, strings or JSON documents; tensors on the CPU are converted.
    stored: finds the other arrays of the case that a form names (`atol_times_array`, `terms`).
    A tolerance with an unknown form, or with none, is a difference.
    """
    unknown = sorted(tolerance.keys() - FORMS)
    if unknown or not tolerance.keys() - {"order", "fraction", "min_value"}:
        return f"the tolerance {dict(tolerance)} has " + (
            f"unknown forms: {', '.join(unknown)}" if unknown else "no form that compares"
        )
    got = _detached(got)
    if "exact" in tolerance and (isinstance(want, dict | list | str) or isinstance(got, dict)):
        return _document_difference(got, want, tolerance.get("order"))
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return f"shape {got.shape} instead of {want.shape}"
    checks = [
        _exact(got, want, tolerance, stored) if "exact" in tolerance else None,
        _close(got, want, tolerance, stored) if CLOSE_FORMS & tolerance.keys() else None,
        _equal_share(got, want, tolerance["min_equal"]) if "min_equal" in tolerance else None,
        _absolute(got, want, tolerance) if {"mean_abs", "max_abs"} & tolerance.keys() else None,
    ]
    return "; ".join(check for check in checks if check) or None


def _detached(value: Any) -> Any:
    """Tensors of any framework as NumPy arrays, without importing one."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return value


def _plain(value: Any) -> Any:
    """What `value` looks like after a round trip through JSON."""
    value = _detached(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _document_difference(got: Any, want: Any, order: str | None) -> str | None:
    got, want = _plain(got), _plain(want)
    if order == "set" and isinstance(want, list) and isinstance(got, list):
        got, want = (sorted(rows, key=json.dumps) for rows in (got, want))
    if got == want:
        return None
    if isinstance(got, dict) and isinstance(want, dict):
        missing, extra = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
        other = [key for key in want if key in got and got[key] != want[key]]
        texts = [
            f"{len(keys)} {what} ({', '.join(keys[:5])}{', …' if len(keys) > 5 else ''})"
            for what, keys in (("missing", missing), ("extra", extra), ("different", other))
            if keys
        ]
        first = [f"; {key}: {got[key]!r:.80} instead of {want[key]!r:.80}" for key in other[:1]]
        return "members " + ", ".join(texts) + "".join(first)
    return f"{got!r:.200} instead of {want!r:.200}"


def _same(got: Array, want: Array) -> NDArray[np.bool_]:
    """Elementwise equality; NaN equals NaN."""
    same = np.broadcast_to(np.asarray(got == want), want.shape)
    if got.dtype.kind == want.dtype.kind == "f":
        same = same | (np.isnan(got) & np.isnan(want))
    return same


def _exact(
    got: Array, want: Array, tolerance: Tolerance, stored: Callable[[str], Any] | None
) -> str | None:
    order = tolerance.get("order")
    if order not in (None, *ORDERS):
        return f"unknown order '{order}'; known: {', '.join(ORDERS)}"
    if order == "set":
        got, want = _sorted_rows(got), _sorted_rows(want)
    if order == "multiset_per_term":
        if stored is None:
            return "order 'multiset_per_term' needs the stored array 'terms'"
        ends = np.cumsum(np.asarray(stored("terms"))[:, -1].astype(np.int64))
        got, want = (
            np.concatenate([_sorted_rows(part) for part in np.split(rows, ends)])
            for rows in (got, want)
        )
    return _report(_same(got, want), got, want, None, tolerance.get("fraction", 1.0))


def _sorted_rows(rows: Array) -> Array:
    """Rows along axis 0 in a canonical order."""
    if not rows.size or not rows.ndim:
        return rows
    return rows[np.lexsort(rows.reshape(len(rows), -1).T[::-1])]


def _close(
    got: Array, want: Array, tolerance: Tolerance, stored: Callable[[str], Any] | None
) -> str | None:
    g, w = got.astype(np.float64), want.astype(np.float64)
    atol, rtol = (_along_first_axis(tolerance.get(form, 0.0), w.shape) for form in ("atol", "rtol"))
    if atol is None or rtol is None:
        return f"the lists of {dict(tolerance)} do not fit axis 0 of the shape {w.shape}"
    finite_only = np.isnan(atol) | np.isnan(rtol)
    if "atol_times_array" in tolerance:
        if stored is None:
            return "atol_times_array needs the stored arrays of the case"
        atol = atol * np.asarray(stored(tolerance["atol_times_array"]), np.float64)
    with np.errstate(invalid="ignore"):
        allowed = np.broadcast_to(atol + rtol * np.abs(w) + _of_maximum(w, tolerance), w.shape)
        passed = _same(g, w) | (np.isfinite(w) & (np.abs(g - w) <= allowed))
    passed = np.where(finite_only, np.isfinite(g), passed)
    return _report(passed, g, w, allowed, tolerance.get("fraction", 1.0))


def _of_maximum(want: NDArray[np.float64], tolerance: Tolerance) -> NDArray[np.float64] | float:
    """What the three atol_of_…max forms add; broadcasts to the shape of `want`."""
    size = np.abs(want)
    axes = {
        "atol_of_max": None,
        "atol_of_row_max": tuple(range(1, size.ndim)),
        "atol_of_last_axis_max": -1 if size.ndim else None,
    }
    present = [form for form in axes if form in tolerance and size.size]
    return sum((tolerance[form] * size.max(axes[form], keepdims=True) for form in present), 0.0)


def _along_first_axis(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """A scalar or a list along axis 0, ready to broadcast to `shape`; null becomes NaN."""
    tolerance = np.array(value, np.float64)
    if tolerance.ndim:
        if tolerance.ndim > 1 or len(tolerance) != (shape[0] if shape else -1):
            return None
        tolerance = tolerance.reshape(-1, *(1,) * (len(shape) - 1))
    return np.broadcast_to(tolerance, shape)


def _report(
    passed: NDArray[np.bool_], got: Array, want: Array, allowed: Array | None, fraction: float
) -> str | None:
    share = float(np.mean(passed)) if passed.size else 1.0
    if share >= fraction:
        return None
    failed = ~np.atleast_1d(passed)
    excess = np.atleast_1d(np.zeros(got.shape))
    if allowed is not None:
        with np.errstate(invalid="ignore"):
            excess = np.nan_to_num(np.atleast_1d(np.abs(got - want) - allowed), nan=np.inf)
    worst = np.unravel_index(np.argmax(np.where(failed, excess, -np.inf)), failed.shape)
    at = tuple(int(i) for i in worst) if np.ndim(passed) else ()
    text = f"{failed.sum()} of {failed.size} elements differ; at {list(at)}: "
    text += f"{got[at]!r} instead of {want[at]!r}"
    if allowed is not None:
        text += f", allowed {float(allowed[at]):.3g}"
    return text + (f"; {share:.4f} pass, {fraction} must" if fraction < 1 else "")


def _equal_share(got: Array, want: Array, least: float) -> str | None:
    share = float(_same(got, want).mean()) if got.size else 1.0
    return None if share >= least else f"{share:.4f} of the elements are equal, {least} must be"


def _absolute(got: Array, want: Array, tolerance: Tolerance) -> str | None:
    w = want.astype(np.float64)
    error = np.abs(got.astype(np.float64) - w)
    counted = error
    if "min_value" in tolerance:
        counted = error[(w > tolerance["min_value"]).all(axis=-1)]
    if error.size and not counted.size:
        return f"no row of the expected values exceeds {tolerance.get('min_value')}"
    mean, largest = (
        float(f(x)) if x.size else 0.0 for f, x in ((np.mean, counted), (np.max, error))
    )
    if not mean <= tolerance.get("mean_abs", np.inf):
        return f"mean absolute difference {mean:.4g}, allowed {tolerance['mean_abs']}"
    if not largest <= tolerance.get("max_abs", np.inf):
        return f"largest absolute difference {largest:.4g}, allowed {tolerance['max_abs']}"
    return None
