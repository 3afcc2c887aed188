"""Vocabularies: what is a word, and which files hold some."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.words import Vocabulary, read_vocabulary
from ssvideo_core.errors import WeightsError

WORDS = ["cut", "the", "don't", "onion"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("cut the onion", [1, 2, 4, 0, 0]),
        ("Cut THE onion", [4, 0, 0, 0, 0]),  # the captions are in small letters
        ("don't-cut;\tonion?", [3, 1, 4, 0, 0]),
        ("the the the the the the cut", [2, 2, 2, 2, 2]),
        ("unknown", [0, 0, 0, 0, 0]),
        ("", [0, 0, 0, 0, 0]),
    ],
)
def test_numbers(text: str, numbers: list[int]) -> None:
    found = Vocabulary(WORDS, max_words=5).numbers(text)
    assert found.dtype == np.int64
    assert found.tolist() == numbers


def test_of_a_repeated_word_the_last_place_counts() -> None:
    vocabulary = Vocabulary(["a", "b", "a"], max_words=2)
    assert vocabulary.numbers("a b").tolist() == [3, 2]
    assert vocabulary.rows == 4


def test_files(tmp_path: Path) -> None:
    """Arrays of text, arrays of objects, pickled lists."""
    np.save(tmp_path / "text.npy", np.array(WORDS))
    np.save(tmp_path / "objects.npy", np.array(WORDS, object), allow_pickle=True)
    (tmp_path / "list.npy").write_bytes(pickle.dumps(WORDS))
    for path in tmp_path.iterdir():
        vocabulary = read_vocabulary(path)
        assert vocabulary.numbers("onion cut")[:3].tolist() == [4, 1, 0]
        assert (vocabulary.rows, vocabulary.max_words) == (5, 20)


@pytest.mark.parametrize(
    "value", [np.arange(3), np.array([["a", "b"]]), np.array([], "<U1"), {"a": 1}]
)
def test_what_is_no_vocabulary(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "dict.npy", value, allow_pickle=True)
    with pytest.raises(WeightsError, match="expected an array of words"):
        read_vocabulary(tmp_path / "dict.npy")


def test_nothing_of_a_file_runs(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "dict.npy").write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(WeightsError, match=r"dict\.npy"):
        read_vocabulary(tmp_path / "dict.npy")
    assert not (tmp_path / "ran").exists()


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"dict\.npy: no such file.* --word2vec_dir"):
        read_vocabulary(tmp_path / "dict.npy")
