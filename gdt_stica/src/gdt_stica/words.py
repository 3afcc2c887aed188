"""Spoken words as numbers: the vocabulary of `dict.npy`, whose rows `word2vec.pth` has vectors for.

A word's number is its place in the vocabulary plus one; 0 stands for no word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssvideo_core.errors import WeightsError
from ssvideo_core.weights import read_weights

MAX_WORDS = 20
_WORD = re.compile(r"[\w']+")


class Vocabulary:
    """Words and their numbers. Of a word that is listed twice, the last place counts.

    words: in the order of the vectors. max_words: how many numbers a text becomes.
    """

    def __init__(self, words: Sequence[str], *, max_words: int = MAX_WORDS) -> None:
        self.max_words = max_words
        self._numbers = {word: place for place, word in enumerate(words, 1)}
        self.rows = len(words) + 1

    def numbers(self, text: str) -> NDArray[np.int64]:
        """[max_words] int64: the known words of a text, in order, cut or filled up with 0.

        A word is a run of letters, digits, _ and '. Case counts, as in the original: the captions
        are in small letters.
        """
        known = [self._numbers[word] for word in _WORD.findall(text) if word in self._numbers]
        found = np.zeros(self.max_words, np.int64)
        found[: len(known)] = known[: self.max_words]
        return found


def read_vocabulary(path: Path, *, max_words: int = MAX_WORDS) -> Vocabulary:
    """The vocabulary of a `dict.npy`: an array, or a pickled list, of words.

    Raises WeightsError for an absent or damaged file and for one that holds anything else.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; word2vec.zip has it. Name its folder by --word2vec_dir"
        )
    value = read_weights(path)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not (isinstance(value, list) and value and all(isinstance(word, str) for word in value)):
        raise WeightsError(
            f"{path}: holds a {type(value).__name__}, expected an array of words as in the "
            "original's dict.npy"
        )
    return Vocabulary(value, max_words=max_words)
