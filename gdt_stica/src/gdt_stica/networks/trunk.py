"""What both trunks share: stages that run one after the other."""

from __future__ import annotations

from torch import Tensor, nn

from gdt_stica.architecture import first_channels

POOLED = "avgpool"


def channels(width: float) -> tuple[int, int, int, int]:
    """Channels of the four layers; width 1 gives 64, 128, 256, 512."""
    first = first_channels(width)
    return first, 2 * first, 4 * first, 8 * first


class Trunk(nn.Module):
    """A network whose child modules are its stages, in order, up to `avgpool`.

    feature_size: channels of the last layer.
    """

    feature_size: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Names that `forward` can stop at."""
        names = [name for name, _ in self.named_children()]
        return tuple(names[: names.index(POOLED) + 1])

    def forward(self, x: Tensor, until: str = POOLED) -> Tensor:
        """(B, channels, ...) to (B, C): `feature_map`, averaged over its positions."""
        return self.feature_map(x, until).flatten(2).mean(dim=2)

    def feature_map(self, x: Tensor, until: str = "layer4") -> Tensor:
        """(B, channels, ...) to the output of stage `until`, (B, C, ...), with its positions.

        Raises ValueError for a stage that does not exist. Later stages are not run.
        """
        if until not in self.stages:
            raise ValueError(f"no stage '{until}'; there are {', '.join(self.stages)}")
        for name, stage in self.named_children():
            x = stage(x)
            if name == until:
                break
        return x


class Network(nn.Module):
    """A trunk under the name `base`, a level that all published names have."""

    def __init__(self, base: Trunk):
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, ...) to (B, C): the trunk's pooled output."""
        embedding: Tensor = self.base(x)
        return embedding


class MapNetwork(Network):
    """A trunk that keeps the positions of its last map, for a pooling of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, ...) to (B, C, ...): the output of the last layer."""
        return self.base.feature_map(x)
