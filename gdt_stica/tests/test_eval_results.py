"""Which epoch counts, and what stands in the table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.eval_results import EpochScores, best_of, correct_answers, means, record_results
from ssvideo_core.errors import ProtocolError
from ssvideo_core.results import Key, Result, read_results

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain_eval.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)


def epoch_of(number: int, right: int) -> EpochScores:
    answers = np.arange(10) < right
    return EpochScores(number, None, {"top1": answers, "top5": answers})


def test_the_best_epoch_is_the_earliest_of_the_highest() -> None:
    assert best_of([epoch_of(7, 4), epoch_of(8, 6), epoch_of(9, 6), epoch_of(10, 5)]).epoch == 8
    assert epoch_of(7, 4).accuracy == {"top1": 0.4, "top5": 0.4}


@pytest.mark.parametrize("classes", [3, 8])
def test_answers_are_the_plain_ones(classes: int) -> None:
    rng = np.random.default_rng(classes)
    scores = rng.integers(0, 4, (50, classes)).astype(np.float32)  # many are equal
    labels = rng.integers(classes, size=50)
    found = correct_answers(scores, labels)
    for name, k in (("top1", 1), ("top5", 5)):
        wanted = [plain.is_in_top(row, y, k) for row, y in zip(scores, labels, strict=True)]
        assert found[name].tolist() == wanted


def test_nan_is_no_score() -> None:
    with pytest.raises(ProtocolError, match="NaN"):
        correct_answers(np.array([[np.nan, 1.0]]), np.array([0]))


def result_of(split: str, protocol: str, value: float) -> Result:
    names = ("gdt_stica", "mine", "R(2+1)D-18", "rgb", "hmdb51")
    return Result(Key(*names, split, protocol, "top1"), value)


def test_means_are_over_folds_and_nothing_is_recorded_twice(tmp_path: Path) -> None:
    results = [result_of("1", "a", 0.5), result_of("2", "a", 0.7), result_of("1", "b", 0.1)]
    found = means(results)
    assert found["a"]["top1"] == pytest.approx(0.6)
    assert found["b"] == {"top1": 0.1}
    path = tmp_path / "results.jsonl"
    record_results(path, results[:2])
    record_results(path, results)
    assert read_results(path) == results
