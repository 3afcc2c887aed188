"""The transformer that STiCA pools a video with (arXiv 2103.10211, section 3.3).

Axes: B clips, N tokens, D channels of a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt_stica.architecture import MAX_TOKENS

NORM_EPS = 1e-12
INITIAL_STD = 0.02


class SelfAttention(nn.Module):
    """Scaled dot products between all tokens, in `num_head` groups of channels.

    qkv_mha: values and outputs are mapped linearly too; otherwise values are the tokens
    themselves, and outputs stay as they are. dropout: of attention weights and of outputs.
    """

    def __init__(self, size: int, num_head: int, *, qkv_mha: bool = False, dropout: float = 0.0):
        super().__init__()
        self.num_head = num_head
        self.dropout = dropout
        self.q_lin = nn.Linear(size, size)
        self.k_lin = nn.Linear(size, size)
        self.v_lin = nn.Linear(size, size) if qkv_mha else nn.Identity()
        self.out_lin = nn.Linear(size, size) if qkv_mha else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        mixed = F.scaled_dot_product_attention(
            self._by_head(self.q_lin(tokens)),
            self._by_head(self.k_lin(tokens)),
            self._by_head(self.v_lin(tokens)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        outputs: Tensor = self.out_lin(mixed.transpose(1, 2).flatten(2))
        return F.dropout(outputs, self.dropout, self.training)

    def _by_head(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        return x.view(batch, tokens, self.num_head, -1).transpose(1, 2)  # (B, heads, N, D / heads)


class FeedForward(nn.Module):
    """(B, N, D) to (B, N, D), each token alone, with 4 D channels inside."""

    def __init__(self, size: int):
        super().__init__()
        self.lin1 = nn.Linear(size, 4 * size)
        self.lin2 = nn.Linear(4 * size, size)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.lin2(F.gelu(self.lin1(tokens)))
        return outputs


class Layer(nn.Module):
    """(B, N, D) to (B, N, D): attention, then a feed-forward part, each normed after its sum."""

    def __init__(self, size: int, num_head: int, *, qkv_mha: bool = False, dropout: float = 0.0):
        super().__init__()
        self.mha = SelfAttention(size, num_head, qkv_mha=qkv_mha, dropout=dropout)
        self.norm1 = nn.LayerNorm(size, eps=NORM_EPS)
        self.ffn = FeedForward(size)
        self.norm2 = nn.LayerNorm(size, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm1(tokens + self.mha(tokens))
        outputs: Tensor = self.norm2(tokens + self.ffn(tokens))
        return outputs


class Transformer(nn.Module):
    """Tokens (B, N, D) to (B, D): the output at the first token.

    positional_emb: a learned vector for each of up to 64 places is added to the tokens.
    num_head divides `size`. dropout: see `SelfAttention`; 0 in the original.
    """

    pos_ids: Tensor  # 0, 1, …: the original's state dict has it

    def __init__(
        self,
        size: int,
        *,
        num_layer: int = 2,
        num_head: int = 4,
        positional_emb: bool = False,
        qkv_mha: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.positional_emb = positional_emb
        self.transformer = nn.ModuleList(
            Layer(size, num_head, qkv_mha=qkv_mha, dropout=dropout) for _ in range(num_layer)
        )
        if positional_emb:
            self.register_buffer("pos_ids", torch.arange(MAX_TOKENS).unsqueeze(0))
            self.pos_embs = nn.ModuleList([nn.Embedding(MAX_TOKENS, size)])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.positional_emb:
            tokens = tokens + self.pos_embs[0](self.pos_ids[:, : tokens.shape[1]])
        for layer in self.transformer:
            tokens = layer(tokens)
        return tokens[:, 0]
