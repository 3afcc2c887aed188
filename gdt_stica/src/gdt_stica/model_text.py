"""GDT for video and text (arXiv 2003.04298), and the table of words that its texts need.

Axes: B clips, W words of a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.weights import read_weights
from ssvideo_torch.pixels import from_numpy
from torch import Tensor, nn

from gdt_stica.architecture import Architecture
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.text import TEXT_SIZE, WORD_SIZE, WordSets
from gdt_stica.networks.trunk import Network
from gdt_stica.networks.video import make_video_trunk

TEXT_HIDDEN = 512


class VideoTextGDT(nn.Module):
    """Video and sets of words, each to a projection of 256 numbers.

    dropout: of the heads, 0.3 in the original. text_side: False leaves out `text_network` and
    `mlp_t`, for what only embeds videos. word_table: (embedding_rows, 300), `load_word_table`;
    None leaves the table zeros, to be filled by `load_state_dict`.
    Raises ConfigError for a table of another size.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        dropout: float = 0.3,
        text_side: bool = True,
        word_table: Tensor | None = None,
    ):
        super().__init__()
        use_mlp = architecture.use_mlp
        self.norm_feat = architecture.norm_feat
        video = make_video_trunk(architecture)
        self.video_network = Network(video)
        self.mlp_v = make_head(video.feature_size, use_mlp=use_mlp, dropout=dropout)
        if text_side:
            self.text_network = WordSets(architecture.embedding_rows)
            self.mlp_t = make_head(TEXT_SIZE, use_mlp=use_mlp, dropout=dropout, hidden=TEXT_HIDDEN)
        if word_table is not None:
            self._fill(word_table)

    def _fill(self, word_table: Tensor) -> None:
        table = self.text_network.word_embd.weight
        if word_table.shape != table.shape:
            raise ConfigError(
                f"the table of words is {tuple(word_table.shape)}, expected {tuple(table.shape)}; "
                f"set embedding_rows={len(word_table)}, or take the table that this dictionary has"
            )
        table.data.copy_(word_table)

    def forward(self, video: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, H, W) pixels / 255 and (B, W) int64 ids, 0 for none, to (B, 256) each."""
        return self.project_video(video), self.project_text(words)

    def encode_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) pixels / 255 to (B, C): the trunk's pooled output."""
        embedding: Tensor = self.video_network(video)
        return embedding

    def project_video(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) pixels / 255 to (B, 256), of length 1 if `norm_feat`."""
        return self._normalised(self.mlp_v(self.encode_video(video)))

    def project_text(self, words: Tensor) -> Tensor:
        """(B, W) int64 ids to (B, 256), of length 1 if `norm_feat`."""
        return self._normalised(self.mlp_t(self.text_network(words)))

    def _normalised(self, projection: Tensor) -> Tensor:
        return F.normalize(projection, dim=1) if self.norm_feat else projection


def load_word_table(path: Path) -> Tensor:
    """The vectors of `word2vec.pth`, (rows, 300) float32; row 0 is the empty word.

    Read without running code of the file. Raises WeightsError for an absent file, a forbidden
    one, and one that is not one table of finite numbers.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; word2vec.zip has it. Name its folder by --word2vec_dir"
        )
    table = read_weights(path)
    found = (
        f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else type(table).__name__
    )
    if not isinstance(table, np.ndarray) or not _is_table(table):
        raise WeightsError(f"{path} holds {found}, expected floats of shape (words, {WORD_SIZE})")
    vectors = from_numpy(table).to(torch.float32)
    if not vectors.isfinite().all():
        raise WeightsError(f"{path}: some vectors are not finite; get the file again")
    return vectors


def _is_table(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.shape[1:] == (WORD_SIZE,) and len(array) > 1
