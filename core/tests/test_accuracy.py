from __future__ import annotations

import numpy as np
import pytest
from ssvideo_core.errors import ProtocolError
from ssvideo_core.evaluate.accuracy import group_average, label_ranks, top_k_accuracy


@pytest.mark.parametrize("ties", ["lower", "higher"])
def test_ranks_equal_a_sorted_list_with_ties(ties: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, size=(200, 7)).astype(np.float32)  # many ties
    labels = rng.integers(0, 7, 200)
    sign = 1 if ties == "lower" else -1
    expected = []
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(7), key=lambda c: (-row[c], sign * c))
        expected.append(order.index(label))
    ranks = label_ranks(scores, labels, ties=ties)  # type: ignore[arg-type]
    assert ranks.tolist() == expected
    shares = top_k_accuracy(scores, labels, (1, 3, 7, 50), ties=ties)  # type: ignore[arg-type]
    assert shares == {k: np.mean([rank < k for rank in expected]) for k in (1, 3, 7, 50)}
    assert shares[7] == shares[50] == 1.0


def test_lower_ties_agree_with_argmax() -> None:
    scores = np.zeros((3, 4))
    assert top_k_accuracy(scores, np.array([0, 1, 0]), (1,)) == {1: 2 / 3}
    assert top_k_accuracy(scores, np.array([3, 1, 0]), (1,), ties="higher") == {1: 1 / 3}


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    scores = np.zeros((4, 3))
    with pytest.raises(ProtocolError, match="labels run from 0 to 3, but there are 3 columns"):
        label_ranks(scores, np.array([0, 1, 2, 3]))
    with pytest.raises(ProtocolError, match="labels run from -1 to 1"):
        label_ranks(scores, np.array([0, 1, -1, 1]))
    with pytest.raises(ProtocolError, match=r"scores \(4, 3\) and labels \(3,\)"):
        label_ranks(scores, np.array([0, 1, 2]))
    scores[2, 1] = np.nan
    with pytest.raises(ProtocolError, match="1 of 4 rows of scores hold NaN, first: row 2"):
        label_ranks(scores, np.array([0, 1, 2, 0]))


def test_group_average_is_the_mean_of_consecutive_rows() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(12, 5)).astype(np.float32)
    labels = np.repeat([4, 1, 2], 4)
    means, found = group_average(scores, labels, 4)
    expected = [
        [sum(float(v) for v in scores[4 * g : 4 * g + 4, c]) / 4 for c in range(5)]
        for g in range(3)
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    assert means.dtype == np.float32
    assert found.tolist() == [4, 1, 2]


def test_groups_that_are_no_videos_are_refused() -> None:
    scores = np.zeros((6, 2))
    with pytest.raises(
        ProtocolError, match=r"6 rows of scores .* cannot be averaged in groups of 4"
    ):
        group_average(scores, np.zeros(6), 4)
    message = r"1 groups of 3 rows hold more than one label, first: group 1 with \[1, 1, 0\]"
    with pytest.raises(ProtocolError, match=message):
        group_average(scores, np.array([0, 0, 0, 1, 1, 0]), 3)
