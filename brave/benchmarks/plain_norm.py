"""Statistics of a batch norm over devices as the original takes them: one mean after the other."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax


def statistics(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    """Mean and variance over all but the last axis; two collectives if there is an axis_name."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes, keepdims=True)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    squares = jnp.mean(jnp.square(x), axes, keepdims=True)
    if axis_name is not None:
        squares = lax.pmean(squares, axis_name)
    return mean, squares - jnp.square(mean)
