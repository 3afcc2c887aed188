"""Draws that depend on what is drawn, not on when: no generator state exists to be lost."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """A generator that is a function of its arguments alone.

    keys: whole numbers (epoch, index, step) and a purpose such as "views"; text enters by CRC-32.
    The same keys in the same order give the same stream on every machine and in every process.
    """
    entropy = [k if isinstance(k, int) else zlib.crc32(k.encode()) for k in keys]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *entropy])))


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """A permutation of range(n) for one epoch."""
    return generator(seed, epoch, "order").permutation(n)
