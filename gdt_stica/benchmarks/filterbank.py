"""Spectrograms per second against the original's way, with one thread for NumPy's products too:

    OPENBLAS_NUM_THREADS=1 python gdt_stica/benchmarks/filterbank.py

Equality is asserted first. Prints CSV; times are of the processor, with one thread for both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from measuring import median_seconds
from plain_filterbank import log_filter_bank as plain_log_filter_bank
from ssvideo_core.testing.benchmarks import publish
from ssvideo_torch.filterbank import log_filter_bank

RATE = 24_000
CLIPS = 32
REPEATS = 9


def compare(num_filters: int, seconds: int) -> tuple[float, float]:
    """Clips per second: plain, ours."""
    rng = np.random.default_rng(0)
    sound = np.round(3000 * rng.standard_normal((CLIPS, seconds * RATE))).astype(np.int16)
    batch = torch.from_numpy(sound)

    def plain() -> np.ndarray:
        return np.stack([plain_log_filter_bank(clip, RATE, num_filters) for clip in sound])

    def ours() -> torch.Tensor:
        return log_filter_bank(batch, sample_rate_hz=RATE, num_filters=num_filters)

    np.testing.assert_allclose(ours().numpy(), plain(), rtol=1e-5, atol=1e-5)
    plain_s, ours_s = (median_seconds(way, repeats=REPEATS) for way in (plain, ours))
    return CLIPS / plain_s, CLIPS / ours_s


def rows() -> Iterator[list[object]]:
    for num_filters, seconds in ((40, 1), (257, 1), (257, 2)):
        plain, ours = compare(num_filters, seconds)
        yield [num_filters, seconds, f"{plain:.0f}", f"{ours:.0f}", f"{ours / plain:.2f}"]


def main() -> None:
    torch.set_num_threads(1)
    columns = ("filters", "seconds", "plain_per_s", "ours_per_s", "ratio")
    publish("filterbank", columns, rows(), packages=("torch", "numpy"))


if __name__ == "__main__":
    main()
