"""Neighbours at UCF101's size against one query at a time: python core/benchmarks/retrieval.py

Prints CSV: numbers of a feature, queries a second by a full sort of the gallery for each query
(float32, timed over --plain queries of the 3783), by `nearest`, and the median of the rounds'
ratios (target: 20). Gallery 9537, 50 neighbours. Both may use all cores; rounds alternate. With
float64 sums both must find the same neighbours first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np
import plain_retrieval
from named_csv import publish
from numpy.typing import NDArray
from ssvideo_core.evaluate.retrieval import nearest
from ssvideo_core.features import unit_rows

GALLERY, QUERIES, K = 9537, 3783, 50


def features(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Queries and gallery of 101 classes, rows of length 1."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(101, size))
    rows = centres[rng.integers(0, 101, GALLERY + QUERIES)]
    rows = unit_rows(rows + 2 * rng.normal(size=rows.shape)).astype(np.float32)
    return rows[GALLERY:], rows[:GALLERY]


def require_equal(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    sums = query.astype(np.float64) @ gallery.T.astype(np.float64)
    expected = np.argsort(-sums.astype(np.float32), axis=1, kind="stable")[:, :K]
    assert np.array_equal(nearest(query, gallery, K), expected)
    plain = plain_retrieval.nearest(query, gallery, K)
    assert (plain == expected).mean() > 0.99  # float32 sums swap a few that are nearly equal


def measure(size: int, plain: int, rounds: int) -> tuple[object, ...]:
    query, gallery = features(size)
    require_equal(query[:100], gallery)
    pairs = []
    for _ in range(rounds):
        start = time.perf_counter()
        plain_retrieval.nearest(query[:plain], gallery, K)
        middle = time.perf_counter()
        nearest(query, gallery, K)
        end = time.perf_counter()
        pairs.append((plain / (middle - start), QUERIES / (end - middle)))
    slow, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(own / other for other, own in pairs)
    return size, f"{slow:.0f}", f"{fast:.0f}", f"{ratio:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plain", type=int, default=QUERIES, help="queries of the plain way")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    def rows() -> Iterator[tuple[object, ...]]:
        for size in arguments.sizes:
            yield measure(size, arguments.plain, arguments.rounds)

    columns = ("size", "one_by_one_per_s", "nearest_per_s", "ratio")
    publish("retrieval", columns, rows(), packages=["numpy"])


if __name__ == "__main__":
    main()
