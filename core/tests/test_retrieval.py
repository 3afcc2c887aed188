from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssvideo_core.errors import ProtocolError
from ssvideo_core.evaluate import retrieval
from ssvideo_core.evaluate.retrieval import nearest, recall_at_k


def plain_nearest(
    query: np.ndarray, gallery: np.ndarray, k: int, metric: str = "dot"
) -> list[list[int]]:
    """A full sort of exact similarities: integers do not round."""
    result = []
    for q in query.astype(int):
        if metric == "dot":
            scores = [-int(q @ g) for g in gallery.astype(int)]
        else:
            scores = [int((q - g) @ (q - g)) for g in gallery.astype(int)]
        result.append(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:k])
    return result


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 9),
    entries=st.integers(1, 60),
    features=st.integers(1, 4),
    high=st.integers(1, 3),
    metric=st.sampled_from(["dot", "euclidean"]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_neighbours_equal_a_full_sort_with_ties(
    queries: int,
    entries: int,
    features: int,
    high: int,
    metric: str,
    seed: int,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    query = rng.integers(-high, high, size=(queries, features)).astype(np.float32)
    gallery = rng.integers(-high, high, size=(entries, features)).astype(np.float32)
    k = data.draw(st.integers(1, entries))
    old = retrieval.QUERIES_AT_ONCE, retrieval.BLOCK_VALUES
    try:  # small blocks: 4 queries against 7 entries, and less
        retrieval.QUERIES_AT_ONCE, retrieval.BLOCK_VALUES = 4, 28
        found = nearest(query, gallery, k, metric=metric)  # type: ignore[arg-type]
    finally:
        retrieval.QUERIES_AT_ONCE, retrieval.BLOCK_VALUES = old
    assert found.tolist() == plain_nearest(query, gallery, k, metric)


def test_copies_of_an_entry_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 333)).astype(np.float32)
    order = rng.integers(0, 50, 700)
    gallery = rows[order]
    found = nearest(rng.normal(size=(40, 333)).astype(np.float32), gallery, 300)
    for line in found:
        copies: dict[int, list[int]] = {}
        for entry in line:
            copies.setdefault(int(order[entry]), []).append(int(entry))
        for kept in copies.values():
            assert kept == sorted(kept)
        last = int(order[line[-1]])  # the copies that were cut off have the highest numbers
        everywhere = np.flatnonzero(order == last).tolist()
        assert copies[last] == everywhere[: len(copies[last])]


def test_answers_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    query = rng.normal(size=(70, 31)).astype(np.float32)
    gallery = rng.normal(size=(900, 31)).astype(np.float32)
    gallery[450:] = gallery[:450]
    whole = nearest(query, gallery, 30)
    for queries, values in ((1, 100), (13, 2000), (64, 40000)):
        monkeypatch.setattr(retrieval, "QUERIES_AT_ONCE", queries)
        monkeypatch.setattr(retrieval, "BLOCK_VALUES", values)
        np.testing.assert_array_equal(nearest(query, gallery, 30), whole)


def test_a_common_offset_does_not_hide_small_distances() -> None:
    rng = np.random.default_rng(2)
    gallery = (1000 + rng.normal(size=(80, 6))).astype(np.float32)
    query = (1000 + rng.normal(size=(5, 6))).astype(np.float32)
    distance = ((query[:, None].astype(float) - gallery) ** 2).sum(axis=2)
    np.testing.assert_array_equal(
        nearest(query, gallery, 80, metric="euclidean"), distance.argsort(1)
    )


def test_recall_equals_a_count_by_hand() -> None:
    gallery = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    query = np.array([[1.0, 0], [0, 1], [-1, 0.1]])
    found = recall_at_k(
        query, gallery, np.array(["b", "c", "d"]), np.array(["a", "b", "c", "c"]), (1, 2, 4)
    )
    assert found.neighbours.tolist() == [[0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 1, 0]]
    assert {k: hit.tolist() for k, hit in found.hits.items()} == {
        1: [False, True, False],
        2: [True, True, False],
        4: [True, True, False],
    }
    assert found.recall == {1: 1 / 3, 2: 2 / 3, 4: 2 / 3}


def test_what_has_no_neighbours_is_refused() -> None:
    x = np.ones((5, 3))
    with pytest.raises(ProtocolError, match="6 neighbours were asked for, but the gallery has 5"):
        nearest(x, x, 6)
    with pytest.raises(ProtocolError, match="0 neighbours were asked for"):
        nearest(x, x, 0)
    with pytest.raises(ProtocolError, match=r"queries \(5, 3\) and gallery \(5, 2\)"):
        nearest(x, x[:, :2], 1)
    with pytest.raises(ProtocolError, match=r"labels \(4,\) and \(5,\) do not belong to 5 queries"):
        recall_at_k(x, x, np.zeros(4), np.zeros(5), (1,))
    bad = x.copy()
    bad[3, 0] = np.inf
    with pytest.raises(
        ProtocolError, match="1 of 5 gallery rows hold NaN or infinity, first: row 3"
    ):
        nearest(x, bad, 1)


MILLION = """
import resource
import numpy as np
from ssvideo_core.evaluate.retrieval import nearest

rng = np.random.default_rng(0)
gallery = rng.standard_normal((1_000_000, 64), dtype=np.float32)
query = rng.standard_normal((2000, 64), dtype=np.float32)
wanted = rng.choice(1_000_000, 2000, replace=False)
gallery[wanted] = 3 * query
found = nearest(query, gallery, 50)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert (found[:, 0] == wanted).all()
for row in (0, 999, 1999):
    assert (np.argsort(-(gallery @ query[row]), kind="stable")[:50] == found[row]).all()
print(peak)
"""


def test_a_gallery_of_a_million_needs_less_than_2_gb() -> None:
    source = Path(retrieval.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MILLION],
        env={"PYTHONPATH": str(source), "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) * 1024 < 2e9
