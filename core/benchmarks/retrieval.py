"""Recall at UCF101's size against one query at a time: python core/benchmarks/retrieval.py

Prints CSV, a line a size of the features and plain way: queries a second by that way, by
`recall_at_k`, and the median of the rounds' ratios. Gallery 9537, queries 3783, ranks 1, 5, 10, 20,
50. The plain ways (`plain_retrieval`) are timed over --plain of the queries, their time for a query
being the same for all:

- `scikit-learn`: what SeLaVi does, a search by scikit-learn for each query and rank (target: 20)
- `sort`: the same searches as a product and a full sort in NumPy (target: 20)
- `one sort`: one such search for each query, which no original does: what is gained by blocks alone

Features are float32. All have --threads threads. Seconds are of the processor with one thread, so
that other work disturbs little, else of the clock; rounds alternate. First all must find the same
neighbours, and `nearest` exactly those of a full sort of sums in float64.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import plain_retrieval
from numpy.typing import NDArray
from ssvideo_core.evaluate.retrieval import Metric, nearest, recall_at_k
from ssvideo_core.features import unit_rows
from ssvideo_core.testing.benchmarks import publish, timed
from threadpoolctl import threadpool_limits

GALLERY, QUERIES, CLASSES, RANKS = 9537, 3783, 101, (1, 5, 10, 20, 50)
WAYS: dict[str, tuple[Callable[..., plain_retrieval.Neighbours], Metric]] = {
    "scikit-learn": (plain_retrieval.by_scikit_learn, "euclidean"),
    "sort": (plain_retrieval.by_sorting, "dot"),
    "one sort": (plain_retrieval.by_one_sort, "dot"),
}
METRICS: tuple[Metric, ...] = ("euclidean", "dot")
Features = tuple[NDArray[np.float32], NDArray[np.int64]]


def features(size: int) -> tuple[Features, Features]:
    """Queries and gallery, rows of length 1, with their labels."""
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(CLASSES, size)), rng.integers(0, CLASSES, GALLERY + QUERIES)
    rows = centres[labels] + 2 * rng.normal(size=(len(labels), size))
    x = unit_rows(rows).astype(np.float32)
    return (x[GALLERY:], labels[GALLERY:]), (x[:GALLERY], labels[:GALLERY])


def require_equal(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    sums = query.astype(np.float64) @ gallery.T.astype(np.float64)
    expected = np.argsort(-sums.astype(np.float32), axis=1, kind="stable")[:, : max(RANKS)]
    assert np.array_equal(nearest(query, gallery, max(RANKS)), expected)
    for plain, metric in WAYS.values():
        own = nearest(query, gallery, max(RANKS), metric=metric)
        for k, found in plain(query, gallery, RANKS).items():
            # Sums in float32 swap a few neighbours that are nearly equal.
            assert (found == own[:, :k]).mean() > 0.99


def measure(size: int, plain: int, rounds: int, threads: int) -> Iterator[tuple[object, ...]]:
    (query, query_labels), (gallery, labels) = features(size)
    require_equal(query[:20], gallery)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    recall = partial(recall_at_k, query, gallery, query_labels, labels, RANKS)
    for _ in range(rounds):
        own = {m: QUERIES / timed(partial(recall, metric=m), threads=threads)[0] for m in METRICS}
        for name, (search, metric) in WAYS.items():
            slow = plain / timed(partial(search, query[:plain], gallery, RANKS), threads=threads)[0]
            pairs[name].append((slow, own[metric]))
    for name, measured in pairs.items():
        slow, fast = (statistics.median(column) for column in zip(*measured, strict=True))
        ratio = statistics.median(own / other for other, own in measured)
        yield size, name, threads, f"{slow:.0f}", f"{fast:.0f}", f"{ratio:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plain", type=int, default=30, help="queries of the plain ways")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    def rows() -> Iterator[tuple[object, ...]]:
        for size in arguments.sizes:
            yield from measure(size, arguments.plain, arguments.rounds, arguments.threads)

    columns = ("size", "plain", "threads", "plain_per_s", "recall_at_k_per_s", "ratio")
    with threadpool_limits(arguments.threads):
        publish("retrieval", columns, rows(), packages=["numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
