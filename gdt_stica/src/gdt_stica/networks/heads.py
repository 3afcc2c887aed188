"""From an embedding to the projection that the contrastive objectives compare."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

PROJECTION_SIZE = 256


class MLP(nn.Module):
    """(B, size) to (B, 256): dropout, linear, batch norm, ReLU, dropout, linear.

    hidden: outputs of the first linear layer; None: as many as inputs.
    The numbers in the parameters' names are those of the published weights.
    """

    def __init__(self, size: int, dropout: float = 0.3, *, hidden: int | None = None):
        super().__init__()
        hidden = hidden or size
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["1"] = nn.Dropout(dropout)
        layers["2"] = nn.Linear(size, hidden, bias=False)
        layers["4"] = nn.BatchNorm1d(hidden)
        layers["5"] = nn.ReLU(inplace=True)
        layers["7"] = nn.Dropout(dropout)
        layers["8"] = nn.Linear(hidden, PROJECTION_SIZE)
        self.block_forward = nn.Sequential(layers)

    def forward(self, embedding: Tensor) -> Tensor:
        projection: Tensor = self.block_forward(embedding)
        return projection


def make_head(
    size: int, *, use_mlp: bool = True, dropout: float = 0.3, hidden: int | None = None
) -> nn.Module:
    """The head of one modality: `MLP`, or a single linear layer to 256."""
    return MLP(size, dropout, hidden=hidden) if use_mlp else nn.Linear(size, PROJECTION_SIZE)
