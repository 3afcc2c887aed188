"""Values that follow from names: network parameters and inputs without any stored file.

The reference values in `tests/golden` were made with parameters and inputs of exactly these
rules (origin: `fill.py` beside the reference values), so they may never change. A parameter
depends on its published name and shape alone, an input on its tag and shape alone.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["torch", "haiku"]


def rng_for(name: str) -> np.random.Generator:
    """A generator seeded with the first 8 bytes of sha256(name), little endian."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed))


def inputs(tag: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard-normal float32 values that depend on `tag` and `shape` alone."""
    return rng_for("input:" + tag).standard_normal(shape).astype(np.float32)


def fill(
    name: str,
    shape: tuple[int, ...],
    layout: Layout = "torch",
    *,
    squeeze_leading_ones: bool = False,
) -> NDArray[Any]:
    """The value of the parameter or buffer `name`; float32, counters int64.

    By the last part of the name, separated by `.` or `/`:
    counters are 0; running variances uniform in [0.5, 1.5); arrays of two or more dimensions
    normal times sqrt(2 / fan_in); a 1-D weight or scale 1 + 0.1 normal; the rest 0.1 normal.

    layout: fan_in is the product of all dimensions but the first ("torch") or the last ("haiku").
    squeeze_leading_ones: fill a shape (1, ..., 1, C) as (C,), then reshape; BraVe's reference
        values need it for the gains, offsets and moving averages of batch normalisation.
    """
    if squeeze_leading_ones and len(shape) > 1 and set(shape[:-1]) == {1}:
        return fill(name, shape[-1:], layout).reshape(shape)
    leaf = name.replace("/", ".").split(".")[-1]
    if leaf in ("num_batches_tracked", "counter"):
        return np.zeros(shape, np.int64)
    rng = rng_for(name)
    if leaf == "running_var" or "var_ema" in name:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    x = rng.standard_normal(shape)
    if len(shape) >= 2:
        dims = shape[1:] if layout == "torch" else shape[:-1]
        x = x * math.sqrt(2.0 / max(1, math.prod(dims)))
    elif leaf in ("weight", "scale"):
        x = 1.0 + 0.1 * x
    else:
        x = 0.1 * x
    return np.asarray(x, np.float32)
