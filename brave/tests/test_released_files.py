from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from brave.released_files import (
    RELEASED_CONFIG,
    read_released,
    released_config,
    with_dead_heads,
    write_released,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {
        "params/a/b/w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "params/a/b/offset": np.ones(1, np.float32),
        "state/a/b/~/mean_ema/counter": np.array(3, np.int32),
    }
    config = {**RELEASED_CONFIG, "step_broad": 7}
    write_released(tmp_path / "w.npy", tensors, config)
    found, read = read_released(tmp_path / "w.npy")
    assert read == config
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    content = np.load(tmp_path / "w.npy", allow_pickle=True).item()
    assert content["params"]["a/b"].keys() == {"w", "offset"}
    assert content["state"].keys() == {"a/b/~/mean_ema"}


@pytest.mark.parametrize(
    ("module", "width", "changed"),
    [
        ("broad_audio_embedding", 1.0, {}),
        (
            "broad_video_embedding",
            0.25,
            {
                "include_video_in_broad_view": True,
                "include_audio_in_broad_view": False,
                "tsm_resnet_width_multiplier": 0.25,
            },
        ),
    ],
)
def test_config_of_a_network(module: str, width: float, changed: dict[str, object]) -> None:
    found = released_config([f"{module}/a/w", "narrow_video_embedding/a/w"], width)
    assert found == {**RELEASED_CONFIG, **changed}
    assert type(found["tsm_resnet_width_multiplier"]) is (int if width == 1 else float)


@pytest.mark.parametrize(("broad", "copies"), [(1, 1), (2, 3), (0, 0)])
def test_dead_heads_are_copies(broad: int, copies: int) -> None:
    tensors = {"params/shared_project/projector/linear/w": 1, "state/shared_project/x/~/y/z": 2}
    others = {f"params/broad_{i}_embedding/a/w": 3 for i in range(broad)}
    made = with_dead_heads({**tensors, **others})
    added = {
        name.replace("shared_project", f"shared_project_{i}"): value
        for i in range(1, copies + 1)
        for name, value in tensors.items()
    }
    assert made == {**tensors, **others, **added}


def test_dead_heads_that_are_there_stay() -> None:
    tensors = {f"params/shared_project{end}/a/w": end for end in ("", "_1")}
    tensors["params/broad_audio_embedding/a/w"] = ""
    assert with_dead_heads(tensors) == tensors
    separate = {"params/narrow_project/a/w": 1, "params/broad_audio_project/a/w": 2}
    assert with_dead_heads(separate) == separate
