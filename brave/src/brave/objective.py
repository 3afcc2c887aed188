"""The loss: every view predicts the other's projection (section 3 of the paper).

    L(x, y)      = mean over clips of ½ ‖x/‖x‖ − y/‖y‖‖²  =  mean(1 − cos(x, y))
    broad view m   L(h_m, sg(z_n))      the broad predicts the narrow
                   L(h_n, sg(z_m))      the narrow predicts the broad
    loss         = mean over these two terms of all broad views

sg stops the gradient: z learns only through its own h. There are no negatives.

Axes: B clips, D output_dims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array, lax

from brave.model import BraVe, Embedding, Tree
from brave.views import NARROW

# The released trainer logs the terms under these numbers.
RELEASED_NUMBERS = {"video": "1", "audio": "2"}


def regression_loss(x: Array, y: Array, *, epsilon: float = 1e-5) -> Array:
    """Mean over clips of half the squared distance of the normalised rows; a float32 scalar.

    x, y: (B, D). 0 when rows point the same way, 1 when orthogonal, 2 when opposite. A row with a
    norm of at most epsilon is divided by epsilon instead and its norm has no gradient, so a row of
    zeros counts ½ against a longer one.
    """
    difference = _normalised(x, epsilon) - _normalised(y, epsilon)
    return jnp.mean(0.5 * jnp.sum(jnp.square(difference), axis=-1))


def _normalised(x: Array, epsilon: float) -> Array:
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # The choice is made before the root, whose gradient at 0 is infinite.
    return x / jnp.sqrt(jnp.where(squares > epsilon**2, squares, epsilon**2))


def pair_losses(embeddings: Mapping[str, Embedding], broad: Sequence[str]) -> dict[str, Array]:
    """The two terms of each broad view, in order, under the names they are logged by.

    embeddings: (z, h), each (B, D), of the view "narrow" and of the views `broad`.
    Names: loss_b_to_n_SUFFIX, where the broad view predicts, and loss_n_to_b_SUFFIX; SUFFIX is 1
    for the view "video", 2 for "audio", else the view's name.
    """
    z_narrow, h_narrow = embeddings[NARROW]
    terms = {}
    for name in broad:
        z_broad, h_broad = embeddings[name]
        suffix = RELEASED_NUMBERS.get(name, name)
        terms[f"loss_b_to_n_{suffix}"] = regression_loss(h_broad, lax.stop_gradient(z_narrow))
        terms[f"loss_n_to_b_{suffix}"] = regression_loss(h_narrow, lax.stop_gradient(z_broad))
    return terms


def mean_loss(terms: Mapping[str, Array]) -> Array:
    """The loss from the terms of `pair_losses`."""
    return jnp.mean(jnp.stack(list(terms.values())))


def total_loss(
    model: BraVe, params: Tree, state: Tree, inputs: Mapping[str, Array]
) -> tuple[Array, tuple[dict[str, Array], Tree]]:
    """(loss, (metrics, state after the step)) of a batch in training mode.

    inputs: as in `BraVe.embeddings`. metrics: "loss" and every term, float32 scalars. Made for
    `jax.value_and_grad(total_loss, argnums=1, has_aux=True)`. On the devices of `model.axis_name`
    loss, metrics and gradients are those of a device's share of the batch; average them over the
    axis. The state is then the same on all of them.
    """
    embeddings, after = model.embeddings(params, state, inputs, train=True)
    terms = pair_losses(embeddings, [view.name for view in model.broad])
    loss = mean_loss(terms)
    return loss, ({"loss": loss, **terms}, after)
