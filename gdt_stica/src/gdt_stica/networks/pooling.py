"""From a map over space and time to one vector: an average, or STiCA's transformer over time."""

from __future__ import annotations

from torch import Tensor, nn

from gdt_stica.architecture import Architecture
from gdt_stica.networks.transformer import Transformer


class TimeTokens(nn.Module):
    """Maps (B, C, T, 1, 1) to tokens (B, T, C)."""

    def forward(self, pooled: Tensor) -> Tensor:
        return pooled.flatten(2).transpose(1, 2)


def make_pooling(
    size: int, architecture: Architecture, *, attention_dropout: float = 0.0
) -> nn.Sequential:
    """The pooling of maps (B, size, T, H, W) to (B, size), for any T, H and W.

    num_layer 0: the average over all positions. Otherwise every map, crops in time too, is averaged
    over space and brought to `transformer_time_dim` steps (longer maps are averaged, steps of
    shorter ones repeated), and the steps are the transformer's tokens. The original cuts them by
    another number, `num_sec`, and mixes clips where the two differ.
    """
    if architecture.num_layer == 0:
        return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
    return nn.Sequential(
        nn.AdaptiveAvgPool3d((architecture.transformer_time_dim, 1, 1)),
        TimeTokens(),
        Transformer(
            size,
            num_layer=architecture.num_layer,
            num_head=architecture.num_head,
            positional_emb=architecture.positional_emb,
            qkv_mha=architecture.qkv_mha,
            dropout=attention_dropout,
        ),
    )
