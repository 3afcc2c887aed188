from __future__ import annotations

import math

import pytest
import torch
import torchvision
from gdt_stica.architecture import AUDIO_BLOCKS, VIDEO_BLOCKS, Architecture
from gdt_stica.model import AudioVisualGDT, FineTuned
from gdt_stica.networks.audio import SpectrogramResNet
from gdt_stica.networks.heads import MLP, make_head
from gdt_stica.networks.trunk import Trunk, channels
from gdt_stica.networks.video import R2Plus1D
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock as ImageBlock
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet


def torchvision_video(layers: int) -> nn.Module:
    if layers == 18:
        network = torchvision.models.video.r2plus1d_18(weights=None)
    else:
        network = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem)
    network.fc = nn.Identity()
    return network


def torchvision_audio(layers: int) -> nn.Module:
    network = torchvision.models.ResNet(ImageBlock, list(AUDIO_BLOCKS[f"resnet{layers}"]))
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    if layers == 18:
        network.fc = nn.Identity()
    return network


def randomise_statistics(network: nn.Module) -> None:
    """Fresh batch norms are the identity; these are not."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


@pytest.mark.parametrize("layers", [18, 34])
def test_video_trunk_is_torchvisions(layers: int) -> None:
    ours, theirs = R2Plus1D(VIDEO_BLOCKS[f"r2plus1d_{layers}"]).eval(), torchvision_video(layers)
    randomise_statistics(ours)
    theirs.eval().load_state_dict(ours.state_dict())
    clips = torch.randn(2, 3, 4, 24, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(clips), theirs(clips))


@pytest.mark.parametrize("layers", [9, 18])
def test_audio_trunk_is_torchvisions(layers: int) -> None:
    ours = SpectrogramResNet(AUDIO_BLOCKS[f"resnet{layers}"], unused_classifier=layers == 9).eval()
    theirs = torchvision_audio(layers).eval()
    randomise_statistics(ours)
    theirs.load_state_dict(ours.state_dict())
    theirs.fc = nn.Identity()
    spectrograms = torch.randn(2, 1, 40, 99, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(spectrograms), theirs(spectrograms))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts() -> None:
    with torch.device("meta"):
        assert count(R2Plus1D()) == count(torchvision_video(18)) == 31_300_125
        assert count(R2Plus1D(VIDEO_BLOCKS["r2plus1d_34"])) == count(torchvision_video(34))
        assert count(SpectrogramResNet()) == count(torchvision_audio(9))
        assert count(MLP(512)) == 512 * 512 + 2 * 512 + 512 * 256 + 256
        assert count(make_head(512, use_mlp=False)) == 512 * 256 + 256


def test_width_scales_every_layer() -> None:
    assert channels(1.0) == (64, 128, 256, 512)
    assert channels(0.25) == (16, 32, 64, 128)
    with torch.device("meta"):
        network = R2Plus1D(width=0.25)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert network.feature_size == 128
    assert shapes["stem.0.weight"] == (11, 3, 1, 7, 7)
    for name, size_in, size_out in (
        ("layer1.0", 16, 16),
        ("layer2.0", 16, 32),
        ("layer4.1", 128, 128),
    ):
        middle = 27 * size_in * size_out // (9 * size_in + 3 * size_out)
        assert shapes[f"{name}.conv1.0.0.weight"] == (middle, size_in, 1, 3, 3)
        assert shapes[f"{name}.conv2.0.0.weight"] == (middle, size_out, 1, 3, 3)


class LastMap(nn.Module):
    """Stands in for the pooling and keeps the size of what comes in."""

    size: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        self.size = tuple(x.shape[2:])
        return x


@pytest.mark.parametrize(("frames", "last"), [(30, 4), (60, 8), (90, 12), (120, 15)])
def test_last_map_of_published_clip_sizes(frames: int, last: int) -> None:
    network = R2Plus1D(width=1 / 64).eval()
    network.avgpool = LastMap()
    with torch.no_grad():
        network(torch.zeros(1, 3, frames, 112, 112))
    assert network.avgpool.size == (last, 7, 7)


@pytest.mark.parametrize("trunk", [R2Plus1D(width=1 / 32), SpectrogramResNet(width=1 / 32)])
def test_stages(trunk: Trunk) -> None:
    trunk.eval()
    x = torch.randn(2, 3, 4, 20, 20) if isinstance(trunk, R2Plus1D) else torch.randn(2, 1, 40, 30)
    assert trunk.stages[-1] == "avgpool"
    assert "fc" not in trunk.stages
    expected = x
    with torch.no_grad():
        for name in trunk.stages:
            expected = getattr(trunk, name)(expected.clone())
            pooled = expected.mean(dim=tuple(range(2, expected.ndim)))
            torch.testing.assert_close(trunk(x, until=name), pooled)
        torch.testing.assert_close(trunk(x), pooled)
        torch.testing.assert_close(trunk(x), trunk.feature_map(x).flatten(2).mean(2))
    with pytest.raises(ValueError, match=r"no stage 'layer5'; there are .*layer4, avgpool"):
        trunk(x, until="layer5")


def test_initial_values() -> None:
    video, audio = R2Plus1D(), SpectrogramResNet()
    for weight, fan_out in (
        (video.stem[0].weight, 45 * 7 * 7),
        (video.layer4[1].conv2[0][3].weight, 512 * 3),
        (audio.layer4[0].conv1.weight, 512 * 9),
    ):
        torch.testing.assert_close(weight.std().item(), math.sqrt(2 / fan_out), rtol=0.05, atol=0)
    # conv1 keeps PyTorch's own: uniform within 1 / sqrt(fan_in)
    assert audio.conv1.weight.abs().max().item() <= 1 / 7
    torch.testing.assert_close(audio.conv1.weight.std().item(), 1 / 7 / 3**0.5, rtol=0.05, atol=0)
    norms = [m for m in video.modules() if isinstance(m, nn.BatchNorm3d)]
    assert all((n.weight == 1).all() and (n.bias == 0).all() for n in norms)
    classifier = FineTuned(Architecture(model="finetune", num_classes=7)).classifier
    torch.testing.assert_close(classifier.weight @ classifier.weight.T, torch.eye(7))
    assert (classifier.bias == 0).all()


def test_projections_have_length_one_if_asked() -> None:
    video, sound = torch.randn(2, 3, 2, 16, 16), torch.randn(2, 1, 40, 20)
    for norm_feat in (True, False):
        model = AudioVisualGDT(Architecture(width=1 / 16, norm_feat=norm_feat)).eval()
        with torch.no_grad():
            projections = model(video, sound)
            for projection, head, network, x in (
                (projections[0], model.mlp_v, model.video_network, video),
                (projections[1], model.mlp_a, model.audio_network, sound),
            ):
                raw = head(network(x))
                assert projection.shape == (2, 256)
                expected = raw / raw.norm(dim=1, keepdim=True) if norm_feat else raw
                torch.testing.assert_close(projection, expected)


def test_dropout_only_in_training() -> None:
    model = FineTuned(Architecture(model="finetune", num_classes=5, width=1 / 16, use_dropout=True))
    clip = torch.randn(2, 3, 2, 16, 16)
    with torch.no_grad():
        embedding = model.eval().base(clip)
        torch.testing.assert_close(model(clip), model.classifier(embedding))
        model.train()
        kept = [(model.dropout(torch.ones(10_000)) > 0).float().mean().item() for _ in range(3)]
    torch.testing.assert_close(sum(kept) / 3, 0.1, atol=0.02, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("num_layer", [0, 2])
def test_fine_tuned_from_stica(num_layer: int) -> None:
    torch.manual_seed(0)
    options = Architecture(
        model="finetune",
        base="stica",
        num_layer=num_layer,
        transformer_time_dim=8,
        num_classes=5,
        width=1 / 16,
    )
    model = FineTuned(options).eval()
    video = torch.randn(2, 3, 16, 32, 32)
    pooled = model.pooling_arch(model.base.feature_map(video))
    assert pooled.shape == (2, 32)
    torch.testing.assert_close(model(video), model.classifier(pooled))
    average = model.base(video)
    assert torch.allclose(pooled, average, rtol=1e-4, atol=1e-5) == (num_layer == 0)
    assert any(name.startswith("pooling_arch.") for name in model.state_dict()) == (num_layer > 0)
