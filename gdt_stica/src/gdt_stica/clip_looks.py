"""What is drawn for the picture of a view: where its crop lies, its colours, its blur.

Drawn in `clip_sampling` for training and in `eval_views` for the test; `clip_augmentations` applies
it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from gdt_stica.geometry import Box, central_crop, crop_of_area, scaled_size, source_box
from gdt_stica.sampling import COLOUR_RANGE, Params

AREA_RANGE = (0.14, 1.0)  # of the frame
RATIO_RANGE = (3 / 4, 4 / 3)  # width / height
CROP_TRIES = 10
JITTER_SHARE = 0.8  # of the clips


class Place(NamedTuple):
    """Where a crop lies and how it is scaled; (y, x) or (height, width) in pixels.

    box: what is read of a frame. source_size becomes scaled_size, and the crop lies at crop_offset
    of the result. box_offset: where the box lies in the source.
    """

    box: Box
    source_size: tuple[int, int]
    scaled_size: tuple[int, int]
    crop_offset: tuple[int, int]
    box_offset: tuple[int, int]


class ClipLook(NamedTuple):
    """What else is drawn for the frames of a view; nothing is changed by default.

    jitter_order: the operations 0 brightness, 1 contrast, 2 saturation, the first applied first;
    jitter_factors: the k-th belongs to the k-th operation applied. blur_sigma: pixels, 0 for none.
    """

    flip: bool = False
    jitter_order: tuple[int, ...] = (0, 1, 2)
    jitter_factors: tuple[float, ...] = (1.0, 1.0, 1.0)
    gray: bool = False
    blur_sigma: float = 0.0


class Draws(Protocol):
    """What draws a crop: a NumPy generator, or another one that a reference was made with."""

    def uniform(self, low: float, high: float, /) -> float: ...

    def integers(self, stop: int, /) -> int: ...


def random_resized_box(
    height: int, width: int, draws: Draws, *, area_range: tuple[float, float] = AREA_RANGE
) -> Box:
    """A box of a random share of the area and width / height of 3/4 to 4/3.

    Up to ten tries of an area (uniform) and a ratio (uniform in its logarithm), then, for the first
    that fits, of y and x; the largest box in the middle where none fits, as torchvision's
    RandomResizedCrop.
    """
    log_ratios = (math.log(RATIO_RANGE[0]), math.log(RATIO_RANGE[1]))
    for _ in range(CROP_TRIES):
        size = crop_of_area(height, width, draws.uniform(*area_range), draws.uniform(*log_ratios))
        if size is not None:
            y, x = (
                int(draws.integers(n - m + 1)) for n, m in zip((height, width), size, strict=True)
            )
            return y, x, *size
    return central_crop(height, width, RATIO_RANGE)


def resized_place(box: Box, crop_size: int) -> Place:
    """A box that is scaled to the whole crop."""
    return Place(box, box[2:], (crop_size, crop_size), (0, 0), (0, 0))


def cropped_place(
    height: int, width: int, *, short_side: int, crop_offset: tuple[int, int], crop_size: int
) -> Place:
    """A crop of a frame whose shorter side is scaled first."""
    box = source_box(
        height, width, short_side=short_side, crop_offset=crop_offset, crop_size=crop_size
    )
    size = scaled_size(height, width, short_side)
    return Place(box, (height, width), size, crop_offset, box[:2])


def draw_jitter(rng: np.random.Generator, *, used: bool) -> ClipLook:
    """Colours of 8 clips in 10 changed, nothing else; of none if not used, after the same draws."""
    wanted = bool(rng.uniform() < JITTER_SHARE) and used
    order = tuple(rng.permutation(3).tolist())
    factors = tuple((1 + rng.uniform(-COLOUR_RANGE, COLOUR_RANGE, size=3)).tolist())
    return ClipLook(jitter_order=order, jitter_factors=factors) if wanted else ClipLook()


def clip_params(place: Place, look: ClipLook) -> Params:
    """For `clip_augmentations.augment_clips`: arrays of fixed shapes.

    source_size [2], scaled_size [2], crop_offset [2], box_offset [2], jitter_order [3], all int64;
    flip (), gray () bool; jitter_factors [3], blur_sigma () float32.
    """
    whole = {**place._asdict(), "jitter_order": look.jitter_order}
    del whole["box"]
    return {
        **{name: np.array(value, np.int64) for name, value in whole.items()},
        "flip": np.array(look.flip),
        "gray": np.array(look.gray),
        "jitter_factors": np.array(look.jitter_factors, np.float32),
        "blur_sigma": np.array(look.blur_sigma, np.float32),
    }
