"""ResNet-9 and ResNet-18 for spectrograms: blocks of pictures behind one input channel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gdt_stica.architecture import AUDIO_BLOCKS, Architecture
from gdt_stica.networks.blocks import SpectrogramBlock
from gdt_stica.networks.trunk import Trunk, channels


class SpectrogramResNet(Trunk):
    """Spectrograms (B, 1, F, T) to (B, 512 * width); any number F of filters and T of frames.

    blocks: of each of the four layers, (1, 1, 1, 1) for 9 layers, (2, 2, 2, 2) for 18.
    unused_classifier: adds `fc`, which never runs: the published ResNet-9 carries it.
    """

    def __init__(
        self,
        blocks: Sequence[int] = AUDIO_BLOCKS["resnet9"],
        width: float = 1.0,
        *,
        unused_classifier: bool = True,
    ):
        super().__init__()
        sizes = channels(width)
        self.feature_size = sizes[-1]
        self.conv1 = nn.Conv2d(1, sizes[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(sizes[0], sizes[0], blocks[0], stride=1)
        self.layer2 = _layer(sizes[0], sizes[1], blocks[1], stride=2)
        self.layer3 = _layer(sizes[1], sizes[2], blocks[2], stride=2)
        self.layer4 = _layer(sizes[2], sizes[3], blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        if unused_classifier:
            self.fc = nn.Linear(sizes[3], 1000)
        for name, module in self.named_modules():
            # The original replaces conv1 after this initialisation, so it keeps PyTorch's own.
            if isinstance(module, nn.Conv2d) and name != "conv1":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def make_audio_trunk(architecture: Architecture) -> SpectrogramResNet:
    """The trunk that `aud_base_arch` and `width` name, with random weights."""
    return SpectrogramResNet(
        AUDIO_BLOCKS[architecture.aud_base_arch],
        architecture.width,
        unused_classifier=architecture.aud_base_arch == "resnet9",
    )


def _layer(size_in: int, size_out: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = SpectrogramBlock(size_in, size_out, stride)
    rest = [SpectrogramBlock(size_out, size_out) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)
