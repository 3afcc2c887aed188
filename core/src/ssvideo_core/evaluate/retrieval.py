"""Nearest neighbours among frozen features, and recall at k.

Q queries, G gallery entries, D features. Everything is exact; nothing larger than a block of
similarities is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ProtocolError

Metric = Literal["dot", "euclidean"]
QUERIES_AT_ONCE = 2048
BLOCK_VALUES = 8_000_000  # of a block of similarities or of gallery rows; 64 MB in float64


@dataclass(frozen=True)
class Recall:
    """recall: fraction of queries with a right neighbour among the first k, for every k.
    hits: [Q] bool for every k. neighbours: [Q, largest k] gallery numbers, nearest first.
    """

    recall: dict[int, float]
    hits: dict[int, NDArray[np.bool_]]
    neighbours: NDArray[np.int64]


def recall_at_k(
    query: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: NDArray[Any],
    gallery_labels: NDArray[Any],
    ks: Sequence[int],
    *,
    metric: Metric = "dot",
) -> Recall:
    """A query is right at k when any of its k nearest gallery entries has its label.

    query: [Q, D]; gallery: [G, D]; labels: [Q], [G] of any kind that compares. Raises ProtocolError
    as `nearest` does, and when labels and features do not match in number.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    if query_labels.shape != query.shape[:1] or gallery_labels.shape != gallery.shape[:1]:
        raise ProtocolError(
            f"labels {query_labels.shape} and {gallery_labels.shape} do not belong to "
            f"{len(query)} queries and {len(gallery)} gallery entries"
        )
    neighbours = nearest(query, gallery, max(ks), metric=metric)
    same = gallery_labels[neighbours] == query_labels[:, None]
    hits = {k: same[:, :k].any(axis=1) for k in ks}
    return Recall({k: float(hit.mean()) for k, hit in hits.items()}, hits, neighbours)


def nearest(
    query: NDArray[Any], gallery: NDArray[Any], k: int, *, metric: Metric = "dot"
) -> NDArray[np.int64]:
    """The k nearest gallery entries of every query, nearest first; of equal ones the lower number.

    query: [Q, D]; gallery: [G, D]; any floating dtype. metric: "dot" (largest dot product; cosine
    similarity for rows of length 1) or "euclidean" (smallest distance). Returns [Q, k] int64.
    Raises ProtocolError for NaN, other shapes, and k outside 1..G.

    Similarities are summed in float64 and compared as float32. A matrix product may round equal
    sums differently, depending on where they stand in it; comparing fewer digits than were summed
    makes copies of one gallery entry tie, so the answer does not depend on blocks or threads. Only
    Euclidean distances of nearly zero are left to rounding: they are differences of large sums.
    """
    _check(query, gallery, k)
    found = np.empty((len(query), k), np.int64)
    for start in range(0, len(query), QUERIES_AT_ONCE):
        block = slice(start, start + QUERIES_AT_ONCE)
        found[block] = _nearest_of_block(query[block].astype(np.float64), gallery, k, metric)
    return found


def _nearest_of_block(
    query: NDArray[np.float64], gallery: NDArray[Any], k: int, metric: Metric
) -> NDArray[np.int64]:
    """Walk once through the gallery, keeping the k best so far: [b, k]."""
    rows = max(k, BLOCK_VALUES // max(len(query), gallery.shape[1]))
    similarity = _similarity(query, gallery[:rows], metric)
    ids = _best(similarity, k)
    values = np.take_along_axis(similarity, ids, axis=1)
    for start in range(rows, len(gallery), rows):
        similarity = _similarity(query, gallery[start : start + rows], metric)
        # An equal value has a higher number than all that were kept: it cannot enter.
        row, column = np.nonzero(similarity > values[:, -1:])
        if not len(row):
            continue
        counts = np.bincount(row, minlength=len(query))
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        new_values = np.full((len(query), counts.max()), -np.inf, np.float32)
        new_ids = np.full(new_values.shape, -1, np.int64)
        new_values[row, place], new_ids[row, place] = similarity[row, column], start + column
        values, ids = np.hstack([values, new_values]), np.hstack([ids, new_ids])
        best = _best(values, k)
        values, ids = np.take_along_axis(values, best, 1), np.take_along_axis(ids, best, 1)
    return ids


def _best(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k largest values of each row, largest first, ties to the lower column."""
    smallest = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    kept = values >= smallest
    too_many = np.flatnonzero(np.count_nonzero(kept, axis=1) > k)
    if len(too_many):  # of the columns that equal the smallest kept value the last ones go
        equal = values[too_many] == smallest[too_many]
        room = k - np.count_nonzero(values[too_many] > smallest[too_many], axis=1)
        kept[too_many] &= ~equal | (equal.cumsum(axis=1) <= room[:, None])
    # Of the flat mask: for two axes `nonzero` takes ten times as long.
    columns = (np.flatnonzero(kept) % values.shape[1]).reshape(len(values), k)
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _similarity(
    query: NDArray[np.float64], gallery: NDArray[Any], metric: Metric
) -> NDArray[np.float32]:
    """[b, g]: the dot product, or minus half the squared distance."""
    gallery = gallery.astype(np.float64)
    products: NDArray[np.float64] = query @ gallery.T
    if metric == "euclidean":
        products -= 0.5 * (query**2).sum(axis=1)[:, None]
        products -= 0.5 * (gallery**2).sum(axis=1)
    return products.astype(np.float32)


def _check(query: NDArray[Any], gallery: NDArray[Any], k: int) -> None:
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ProtocolError(
            f"queries {query.shape} and gallery {gallery.shape} are not [Q, D], [G, D]"
        )
    if not 1 <= k <= len(gallery):
        raise ProtocolError(
            f"{k} neighbours were asked for, but the gallery has {len(gallery)} entries; "
            "ask for fewer"
        )
    for name, x in (("query", query), ("gallery", gallery)):
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise ProtocolError(
                f"{len(bad)} of {len(x)} {name} rows hold NaN or infinity, first: row {bad[0]}"
            )
