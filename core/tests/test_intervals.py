from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from ssvideo_core.errors import ProtocolError
from ssvideo_core.evaluate.intervals import bootstrap_interval, paired_difference

REPEATS = 1000


@pytest.mark.parametrize(("n", "p"), [(100, 0.5), (500, 0.3), (1530, 0.05), (1530, 0.6)])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int, p: float) -> None:
    rng = np.random.default_rng(n)
    covered = 0
    for repeat in range(REPEATS):
        low, high = bootstrap_interval(rng.random(n) < p, draws=2000, seed=repeat)
        covered += low <= p <= high
    assert 0.93 <= covered / REPEATS <= 0.97


@pytest.mark.parametrize(("groups", "size", "spread"), [(10, 100, 1000.0), (20, 10, 1.0)])
def test_few_groups_do_not_make_it_too_narrow(groups: int, size: int, spread: float) -> None:
    """Ten recordings of many nearly independent videos; twenty whose videos go together."""
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(groups), size)
    covered = 0
    for repeat in range(REPEATS):
        p = np.repeat(rng.beta(0.6 * spread, 0.4 * spread, groups), size)
        low, high = bootstrap_interval(rng.random(len(p)) < p, names, draws=2000, seed=repeat)
        covered += low <= 0.6 <= high
    assert 0.93 <= covered / REPEATS <= 0.98


@pytest.mark.parametrize("sizes", ["equal", "unequal"])
def test_with_groups_only_the_grouped_interval_covers_the_truth(sizes: str) -> None:
    """120 recordings of about 8 videos whose answers go together (Beta-binomial, p = 0.4)."""
    rng = np.random.default_rng(7)
    covered = {"grouped": 0, "plain": 0}
    for repeat in range(REPEATS):
        size = np.full(120, 8) if sizes == "equal" else rng.integers(1, 16, 120)
        groups = np.repeat(np.arange(120), size)
        correct = rng.random(len(groups)) < np.repeat(rng.beta(0.8, 1.2, 120), size)
        for name, chosen in (("grouped", groups), ("plain", None)):
            low, high = bootstrap_interval(correct, chosen, draws=2000, seed=repeat)
            covered[name] += low <= 0.4 <= high
    assert 0.93 <= covered["grouped"] / REPEATS <= 0.97
    assert covered["plain"] / REPEATS < 0.8


def test_the_interval_of_a_paired_difference_covers_the_truth() -> None:
    """Two classifiers on 80 groups of 5 videos: right with 0.6 and 0.5, mostly on the same ones.

    Ease is the mean of two uniform numbers: below 0.5 with probability 0.5, below 1 - 0.2 ** 0.5
    with probability 0.6; a classifier is right on the videos that are easier than its cut.
    """
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(80), 5)
    better, worse = 1 - 0.2**0.5, 0.5
    covered = 0
    for repeat in range(REPEATS):
        ease = np.repeat(rng.random(80), 5) * 0.5 + rng.random(400) * 0.5
        found = paired_difference(ease < better, ease < worse, groups, draws=2000, seed=repeat)
        covered += found.interval[0] <= 0.1 <= found.interval[1]
    assert 0.93 <= covered / REPEATS <= 0.97


def test_without_groups_it_is_jeffreys_interval() -> None:
    for right, n in ((0, 40), (3, 40), (20, 40), (39, 40), (400, 1530)):
        correct = np.arange(n) < right
        low, high = bootstrap_interval(correct, draws=400_000)
        expected = stats.beta.ppf([0.025, 0.975], right + 0.5, n - right + 0.5)
        assert (low, high) == pytest.approx(
            (min(expected[0], right / n), max(expected[1], right / n)), abs=1e-3
        )


def test_all_right_is_not_certainty() -> None:
    low, high = bootstrap_interval(np.ones(100, bool))
    assert 0.96 < low < 0.985 and high == 1.0
    low, high = bootstrap_interval(np.zeros(100, bool), np.repeat(np.arange(10), 10))
    assert low == 0.0 and 0.1 < high < 0.3


def test_merging_equal_groups_changes_nothing_but_the_draws() -> None:
    """One weight for each group, written out, against one for each kind of group."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 300)
    correct = rng.random(300) < 0.2 + 0.6 * (groups % 2)
    sums = np.array([correct[groups == g].sum() for g in range(40)], float)
    sizes = np.array([(groups == g).sum() for g in range(40)], float)
    p = correct.mean()
    worth = ((sums - p * sizes) ** 2).sum() / (300 * p * (1 - p))  # the design effect
    assert worth > 1
    weights = rng.exponential(size=(200_000, 40))
    prior = rng.gamma(0.5, size=(200_000, 2)) * worth
    means = (weights @ sums + prior[:, 0]) / (weights @ sizes + prior.sum(axis=1))
    means = p + (means - p) * np.sqrt(41 / rng.chisquare(39, 200_000))
    found = bootstrap_interval(correct, groups, draws=200_000)
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-3)


def test_names_of_groups_and_order_of_videos_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    correct, groups = rng.random(200) < 0.5, rng.integers(0, 30, 200)
    found = bootstrap_interval(correct, groups)
    order = rng.permutation(200)
    named = [("class", f"g{g}") for g in groups[order]]
    assert bootstrap_interval(correct[order], named) == found
    assert bootstrap_interval(correct, np.arange(200)) == bootstrap_interval(correct)
    assert bootstrap_interval(correct, groups, seed=1) != found


def test_a_wider_level_is_wider() -> None:
    correct = np.arange(50) < 20
    (a, b), (c, d) = bootstrap_interval(correct, level=0.9), bootstrap_interval(correct, level=0.99)
    assert c < a < 0.4 < b < d


def test_paired_difference_is_antisymmetric_and_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(1)
    first = rng.random(500) < 0.5
    second = first ^ (rng.random(500) < 0.04)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    turned = paired_difference(second, first, draws=100_000)
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=2e-3)
    low, high = bootstrap_interval(first)
    assert found.interval[1] - found.interval[0] < 0.6 * (high - low)
    same = paired_difference(first, first)
    assert same.value == 0 and same.interval[0] < 0 < same.interval[1]


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(ProtocolError, match="at least 2 independent groups, found 1"):
        bootstrap_interval([True, False], ["one", "one"])
    with pytest.raises(ProtocolError, match="at least 2 independent groups, found 0"):
        bootstrap_interval([])
    with pytest.raises(ProtocolError, match=r"\(3,\) values and 2 groups do not belong together"):
        bootstrap_interval([True, False, True], ["a", "b"])
    with pytest.raises(ProtocolError, match=r"values from 0 to 62.5 are not in \[0, 1\]"):
        bootstrap_interval(np.array([0, 62.5]))
    with pytest.raises(ProtocolError, match="values from nan to nan"):
        bootstrap_interval(np.array([0, np.nan, 1]))
    with pytest.raises(ProtocolError, match=r"answers \(2,\) and \(3,\) are not about the same"):
        paired_difference([True, False], [True, False, True])
