"""Texts as sets of words, for networks trained with video and text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORD_SIZE = 300
TEXT_SIZE = 2048


class WordSets(nn.Module):
    """Words (B, W), int64 rows of the table, to (B, 2048): the largest value over the words.

    The order of the words makes no difference. Row 0 stands for no word and takes part.
    word_embd: the table (num_rows, 300); it is not learned. Zeros until it is loaded.
    """

    def __init__(self, num_rows: int):
        super().__init__()
        self.word_embd = nn.Embedding(num_rows, WORD_SIZE, _weight=torch.zeros(num_rows, WORD_SIZE))
        self.word_embd.requires_grad_(False)
        self.fc1 = nn.Linear(WORD_SIZE, TEXT_SIZE)

    def forward(self, words: Tensor) -> Tensor:
        each = F.relu(self.fc1(self.word_embd(words)))  # (B, W, 2048)
        return each.amax(dim=1)
