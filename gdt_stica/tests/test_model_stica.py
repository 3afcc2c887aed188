from __future__ import annotations

import numpy as np
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes
from gdt_stica.model_stica import STiCA, cropped
from torch import Tensor, nn


def boxes_of(**rows: list[list[int]]) -> FeatureBoxes:
    sizes = {"space_large": 4, "space_small": 4, "time_large": 2, "time_small": 2}
    return FeatureBoxes(
        **{k: np.array(rows.get(k, []), np.int64).reshape(-1, n) for k, n in sizes.items()}
    )


@torch.no_grad()
def test_stica_embeds_crops_and_maps() -> None:
    torch.manual_seed(0)
    model = STiCA(Architecture(model="stica", num_layer=1, width=1 / 16, transformer_time_dim=2))
    model.eval()
    video, sound = torch.randn(2, 3, 16, 64, 64), torch.randn(2, 1, 40, 30)
    found = model(
        video, sound, boxes_of(space_small=[[0, 2, 1, 4], [1, 4, 0, 3]], time_small=[[1, 2]])
    )
    assert list(found) == ["space_small", "time_small", "video", "audio"]
    whole = model.video_network(video)
    assert whole.shape == (2, 32, 2, 4, 4)
    torch.testing.assert_close(whole, model.feature_map(video))
    torch.testing.assert_close(
        whole.mean(dim=(2, 3, 4)), model.video_network.base(video), rtol=1e-4, atol=1e-5
    )

    def project(x: Tensor) -> Tensor:
        raw = model.mlp_v(model.video_pooling(x))
        return raw / raw.norm(dim=1, keepdim=True)

    small = [project(whole[:, :, :, 0:2, 1:4]), project(whole[:, :, :, 1:4, 0:3])]
    torch.testing.assert_close(found["space_small"], torch.stack(small))
    torch.testing.assert_close(found["time_small"][0], project(whole[:, :, 1:2]))
    torch.testing.assert_close(found["video"], project(whole))
    torch.testing.assert_close(model.project_video(video), found["video"])
    raw = model.mlp_a(model.audio_network(sound))
    torch.testing.assert_close(found["audio"], raw / raw.norm(dim=1, keepdim=True))
    torch.testing.assert_close(model(video, sound)["video"], found["video"])


def test_every_crop_is_a_batch_of_its_own() -> None:
    torch.manual_seed(0)
    model = STiCA(Architecture(model="stica", width=1 / 64), dropout=0.0)
    boxes = boxes_of(space_large=[[0, 1, 0, 1]] * 2, time_small=[[0, 1]])
    model(torch.randn(2, 3, 16, 32, 32), torch.randn(2, 1, 40, 30), boxes)
    norms = {
        name: m.num_batches_tracked.item()
        for name, m in model.named_modules()
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm3d)
    }
    assert norms.pop("mlp_v.block_forward.4") == 4
    assert set(norms.values()) == {1}


def test_cropped() -> None:
    x = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    assert torch.equal(cropped(x, [1, 4, 2, 3]), x[:, :, :, 1:4, 2:3])
    assert torch.equal(cropped(x, [1, 3]), x[:, :, 1:3])
