"""What is done to training clips on the device: resize, mirror, change colours.

Nothing is drawn here: a clip comes with its `sampling.Augmentation`. B clips, T frames, H rows, W
columns, S pixels per side, 3 colours; values in [0, 1] unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from brave.images import interpolation
from brave.sampling import Augmentation

GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)

Arrays = dict[str, NDArray[Any]]


def stack(augmentations: Sequence[Augmentation]) -> Arrays:
    """The draws of B clips as one [B] array per field, float32 or bool."""
    rows = [asdict(augmentation) for augmentation in augmentations]
    return {
        name: np.array([row[name] for row in rows], bool if isinstance(value, bool) else np.float32)
        for name, value in rows[0].items()
    }


@jax.jit
def augment(frames: Array, grid: dict[str, Array], draws: dict[str, Array]) -> Array:
    """Training clips as the network sees them.

    frames: [B, T, H, W, 3] uint8, each clip in the top left corner. grid: from `resize_grid`;
    draws: from `stack`. Returns [B, T, S, S, 3] float32 in [0, 1].

    Clip after clip: a clip fills the device, what is not drawn is not computed, and only one clip
    has intermediate values. On a processor twice as fast as `vmap`, which computes every branch.
    """
    clips: Array = jax.lax.map(lambda clip: augment_clip(*clip), (frames, grid, draws))
    return clips


def augment_clip(clip: Array, grid: dict[str, Array], draw: dict[str, Array]) -> Array:
    """One clip of `augment`: [T, H, W, 3] uint8 to [T, S, S, 3] float32."""
    return change_look(resize(clip, grid) * np.float32(1 / 255), draw)


def change_look(clip: Array, draw: dict[str, Array]) -> Array:
    """Mirror, colours and grey as drawn for one clip, [T, S, S, 3] float32 in [0, 1]."""
    x: Array = jax.lax.cond(draw["flip"], flip, _same, clip)
    x = jax.lax.cond(draw["colour"], lambda x: change_colours(x, draw), _same, x)
    x = jax.lax.cond(draw["grey"], to_grey, _same, x)
    return x


def resize_grid(sizes: Sequence[tuple[int, int]], size: int) -> Arrays:
    """Neighbours and weights that scale B clips of (height, width) `sizes` to size x size.

    Made on the host, because a compiler that fuses the roundings would move the weights by 1e-5.
    """
    names = ("top", "bottom", "along_y", "left", "right", "along_x")
    rows = [(*interpolation(h, size), *interpolation(w, size)) for h, w in sizes]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def resize(clip: Array, grid: dict[str, Array]) -> Array:
    """`images.resize_bilinear` of [T, H, W, 3] uint8 to [T, S, S, 3] float32 in [0, 255].

    grid: of one clip, [S] each. Up to the last bit of float32: 3 to 7 times as fast as NumPy on one
    core, and the clip reaches the device in a quarter of the bytes (benchmarks/evaluation.py).
    """
    x = clip.astype(jnp.float32)
    x = _mix(x[:, :, grid["left"]], x[:, :, grid["right"]], grid["along_x"][:, None])
    return _mix(x[:, grid["top"]], x[:, grid["bottom"]], grid["along_y"][:, None, None])


def flip(clip: Array) -> Array:
    """Mirror [..., W, 3] left and right."""
    return clip[..., ::-1, :]


def change_colours(clip: Array, draw: dict[str, Array]) -> Array:
    """Brightness, saturation, contrast, hue, then clipped to [0, 1] once; clip: [T, H, W, 3]."""
    x = clip + draw["brightness"]
    x = change_saturation(x, draw["saturation"])
    x = change_contrast(x, draw["contrast"])
    return jnp.clip(change_hue(x, draw["hue"]), 0.0, 1.0)


def change_saturation(clip: Array, factor: Array | float) -> Array:
    """Multiply the saturation of HSV, limited to [0, 1]; hue and value stay. clip: [..., 3].

    A pixel whose largest colour is not above 0 becomes grey. Works on the distances from the
    largest colour, which the saturation scales all alike, so that no hue is computed.
    """
    largest, smallest = _extremes(clip)
    spread = largest - smallest
    wanted = jnp.clip(spread * factor, 0.0, jnp.maximum(largest, 0.0))
    return largest - (largest - clip) * (wanted / jnp.where(spread > 0, spread, 1.0))


def change_contrast(clip: Array, factor: Array | float) -> Array:
    """Stretch about the mean of each frame and colour; clip: [T, H, W, 3]."""
    mean = clip.mean(axis=(-3, -2), keepdims=True)
    return (clip - mean) * factor + mean


def change_hue(clip: Array, turn: Array | float) -> Array:
    """Turn the hue of HSV by a fraction of a whole turn; clip: [..., 3]."""
    largest, smallest = _extremes(clip)
    spread = largest - smallest
    red, green, blue = (clip[..., i : i + 1] for i in range(3))
    sector = jnp.where(
        largest == red,
        green - blue,
        jnp.where(largest == green, blue - red, red - green),
    ) / jnp.where(spread > 0, spread, 1.0)
    base = jnp.where(largest == red, 0.0, jnp.where(largest == green, 2.0, 4.0))
    hue = base + sector + 6.0 * turn  # in sixths of a turn
    place = hue + jnp.array([5.0, 3.0, 1.0])
    place -= 6.0 * jnp.floor(place / 6.0)  # several times as fast as jnp.mod
    return largest - spread * jnp.clip(jnp.minimum(place, 4.0 - place), 0.0, 1.0)


def to_grey(clip: Array) -> Array:
    """The weighted sum of the colours in all three of them; clip: [..., 3]."""
    grey = (clip * jnp.array(GREY_WEIGHTS, clip.dtype)).sum(axis=-1, keepdims=True)
    return jnp.broadcast_to(grey, clip.shape)


def _same(clip: Array) -> Array:
    return clip


def _extremes(clip: Array) -> tuple[Array, Array]:
    return clip.max(axis=-1, keepdims=True), clip.min(axis=-1, keepdims=True)


def _mix(first: Array, second: Array, weight: Array) -> Array:
    return first + (second - first) * weight
