"""The projector makes what is predicted, the predictor what predicts it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from brave.networks.layers import BatchNorm, Linear

HIDDEN_SIZE = 4096


class Projector(nn.Module):
    """(B, D) to z (B, output_dims); normalised, with scale and offset, but not rectified."""

    output_dims: int
    hidden_size: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = Linear(self.hidden_size, name="linear")(x)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="batch_norm")(x, train=train))
        x = Linear(self.output_dims, name="linear_1")(x)
        return BatchNorm(axis_name=self.axis_name, name="batch_norm_1")(x, train=train)


class Predictor(nn.Module):
    """z (B, output_dims) to h of the same shape."""

    output_dims: int
    hidden_size: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = Linear(self.hidden_size, name="linear")(x)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="batch_norm")(x, train=train))
        return Linear(self.output_dims, name="linear_1")(x)


class ProjectAndPredict(nn.Module):
    """Features (B, D) to (z, h), both (B, output_dims) float32; h is predicted from z.

    Training updates "state" when it is mutable, once a call. axis_name, dtype: as in
    `tsm_resnet.TSMResNet`.
    """

    output_dims: int = 128
    hidden_size: int = HIDDEN_SIZE
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Array, *, train: bool = False) -> tuple[Array, Array]:
        sizes = (self.output_dims, self.hidden_size, self.axis_name)
        z = Projector(*sizes, name="projector")(features.astype(self.dtype), train=train)
        h = Predictor(*sizes, name="predictor")(z, train=train)
        return z.astype(jnp.float32), h.astype(jnp.float32)
