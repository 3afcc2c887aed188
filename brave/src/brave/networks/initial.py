"""Untrained variables, made in a second."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from brave.networks.layers import kernel_scale
from brave.networks.tsm_resnet import TSMResNet

Shapes = dict[str, Any]


def variable_shapes(network: TSMResNet) -> Shapes:
    """The "params" and "state" of a network as shapes and dtypes; computes nothing."""
    smallest = jnp.zeros((1, 1, 8, 8, 3))
    shapes: Shapes = jax.eval_shape(network.init, jax.random.key(0), smallest)
    return {name: shapes[name] for name in ("params", "state")}


def initial_variables(network: TSMResNet, seed: int) -> dict[str, Any]:
    """As from `network.init`: the same distributions and constants, other draws; NumPy arrays.

    All kernels are cut from one draw: compiling a draw for each of them takes ten seconds. It is
    made on the CPU, so that the device that will run the network does not matter.
    """
    flat = flatten_dict(variable_shapes(network), sep="/")  # type: ignore[no-untyped-call]
    sizes = {name: math.prod(leaf.shape) for name, leaf in flat.items() if name.endswith("/w")}
    with jax.default_device(jax.devices("cpu")[0]):
        total = (sum(sizes.values()),)
        draws = np.asarray(jax.random.truncated_normal(jax.random.key(seed), -2, 2, total))
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
