"""Retrieval as evaluation scripts have it: one query at a time, and a search for each rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Neighbours = dict[int, NDArray[np.int64]]  # by rank k: [Q, k] gallery rows, nearest first


def by_scikit_learn(query: NDArray[Any], gallery: NDArray[Any], ranks: Sequence[int]) -> Neighbours:
    """As SeLaVi: scikit-learn's index over the gallery is asked five times for every query."""
    index = NearestNeighbors(n_neighbors=max(ranks)).fit(gallery)
    found: dict[int, list[NDArray[np.int64]]] = {k: [] for k in ranks}
    for row in query:
        for k in ranks:
            found[k].append(index.kneighbors(row[None], k, return_distance=False)[0])
    return {k: np.array(rows) for k, rows in found.items()}


def by_sorting(query: NDArray[Any], gallery: NDArray[Any], ranks: Sequence[int]) -> Neighbours:
    """The same by dot products, without scikit-learn's checks: of equal ones the first."""
    found: dict[int, list[NDArray[np.int64]]] = {k: [] for k in ranks}
    for row in query:
        for k in ranks:
            found[k].append(np.argsort(-(gallery @ row), kind="stable")[:k])
    return {k: np.array(rows) for k, rows in found.items()}


def by_one_sort(query: NDArray[Any], gallery: NDArray[Any], ranks: Sequence[int]) -> Neighbours:
    """One query at a time, but one search for all ranks: better than what scripts have."""
    found = np.array([np.argsort(-(gallery @ row), kind="stable")[: max(ranks)] for row in query])
    return {k: found[:, :k] for k in ranks}
