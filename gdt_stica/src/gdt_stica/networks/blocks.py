"""Residual blocks of two convolutions, for pictures over time and for spectrograms.

They are torchvision's `BasicBlock`s, names and values (tests/test_networks.py). They stand here
because importing torchvision takes longer than importing PyTorch, in every process. The order of
their layers is torchvision's too: a seed gives the same weights.
"""

from __future__ import annotations

from torch import Tensor, nn


class ClipBlock(nn.Module):
    """(B, size_in, T, H, W) to (B, size_out, ...), each of the last three divided by `stride`.

    Both convolutions have as many channels between space and time as the first one's sizes give.
    """

    def __init__(self, size_in: int, size_out: int, stride: int = 1):
        super().__init__()
        middle = 27 * size_in * size_out // (9 * size_in + 3 * size_out)
        first = space_then_time(size_in, middle, size_out, stride)
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(size_out), nn.ReLU(inplace=True))
        second = space_then_time(size_out, middle, size_out, 1)
        self.conv2 = nn.Sequential(second, nn.BatchNorm3d(size_out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(size_in, size_out, 1, stride=stride, bias=False),
                nn.BatchNorm3d(size_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + shortcut)
        return out


class SpectrogramBlock(nn.Module):
    """(B, size_in, F, T) to (B, size_out, ...), both of the last two divided by `stride`."""

    def __init__(self, size_in: int, size_out: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(size_in, size_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(size_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(size_out)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(size_in, size_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(size_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(inner)) + shortcut)
        return out


def space_then_time(size_in: int, middle: int, size_out: int, stride: int) -> nn.Sequential:
    """A convolution of 1 x 3 x 3, batch norm, ReLU, a convolution of 3 x 1 x 1."""
    return nn.Sequential(
        nn.Conv3d(size_in, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, size_out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )
