"""R(2+1)D: convolutions over space followed by convolutions over time.

The published trunk is torchvision's without its classifier; tests/test_networks.py compares
parameters and outputs with `torchvision.models.video.r2plus1d_18`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gdt_stica.architecture import VIDEO_BLOCKS, Architecture
from gdt_stica.networks.blocks import ClipBlock
from gdt_stica.networks.trunk import Trunk, channels


class R2Plus1D(Trunk):
    """Clips (B, 3, T, H, W) to (B, 512 * width); any T, H and W.

    blocks: of each of the four layers, (2, 2, 2, 2) for 18 layers, (3, 4, 6, 3) for 34. Channels
    between the two convolutions of a block follow from its first input and its output, once per
    block: ports of the 34-layer network that count them per convolution do not fit.
    30 frames of 112 x 112 make a last map of 4 x 7 x 7.
    """

    def __init__(self, blocks: Sequence[int] = VIDEO_BLOCKS["r2plus1d_18"], width: float = 1.0):
        super().__init__()
        sizes = channels(width)
        self.feature_size = sizes[-1]
        self.stem = _stem(sizes[0])
        self.layer1 = _layer(sizes[0], sizes[0], blocks[0], stride=1)
        self.layer2 = _layer(sizes[0], sizes[1], blocks[1], stride=2)
        self.layer3 = _layer(sizes[1], sizes[2], blocks[2], stride=2)
        self.layer4 = _layer(sizes[2], sizes[3], blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def make_video_trunk(architecture: Architecture) -> R2Plus1D:
    """The trunk that `vid_base_arch` and `width` name, with random weights."""
    return R2Plus1D(VIDEO_BLOCKS[architecture.vid_base_arch], architecture.width)


def _stem(size: int) -> nn.Sequential:
    middle = max(1, 45 * size // 64)
    return nn.Sequential(
        nn.Conv3d(3, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, size, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(size),
        nn.ReLU(inplace=True),
    )


def _layer(size_in: int, size_out: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = ClipBlock(size_in, size_out, stride)
    rest = [ClipBlock(size_out, size_out) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)
