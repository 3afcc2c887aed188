"""Untrained variables, made in a second."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from brave.networks.layers import kernel_scale

Shapes = dict[str, Any]


def variable_shapes(network: nn.Module, example: Any = None) -> Shapes:
    """The "params" and "state" of a network as shapes and dtypes; computes nothing.

    example: what the network is called with; None: a clip of pictures.
    """
    smallest = jnp.zeros((1, 1, 8, 8, 3)) if example is None else example
    shapes: Shapes = jax.eval_shape(network.init, jax.random.key(0), smallest)
    return {name: shapes[name] for name in ("params", "state")}


def initial_variables(network: nn.Module, seed: int) -> dict[str, Any]:
    """Those of a network of clips of pictures, drawn as `draw_variables` does."""
    return draw_variables(variable_shapes(network), jax.random.key(seed))


def draw_variables(shapes: Shapes, key: Array) -> dict[str, Any]:
    """As from `network.init`: the same distributions and constants, other draws; NumPy arrays.

    All kernels are cut from one draw: compiling a draw for each of them takes ten seconds. It is
    made on the CPU, so that the device that will run the network does not matter.
    """
    flat = flatten_dict(shapes, sep="/")  # type: ignore[no-untyped-call]
    sizes = {name: math.prod(leaf.shape) for name, leaf in flat.items() if name.endswith("/w")}
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        draws = np.asarray(jax.random.truncated_normal(key, -2, 2, (sum(sizes.values()),)))
    ends = np.cumsum(list(sizes.values()))[:-1]
    kernels = dict(zip(sizes, np.split(draws, ends), strict=True))
    made = {}
    for name, leaf in flat.items():
        if name in kernels:
            scale = np.float32(kernel_scale(leaf.shape))
            made[name] = scale * kernels[name].reshape(leaf.shape)
        else:
            one = name.endswith(("/scale", "/var_ema/average"))
            made[name] = np.full(leaf.shape, one, leaf.dtype)
    nested: dict[str, Any] = unflatten_dict(made, sep="/")  # type: ignore[no-untyped-call]
    return nested
