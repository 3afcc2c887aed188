from __future__ import annotations

from typing import Any

import pytest
from brave.architecture import CLIP
from brave.clips import CLIPS, broad_clips
from brave.config_files import PACKAGED, load_config
from brave.experiment_settings import settings_of
from brave.released_files import RELEASED_CONFIG
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps


def test_the_papers_clips_are_those_of_its_configuration() -> None:
    assert {"rgb": CLIP, **broad_clips(RELEASED_CONFIG)} == CLIPS
    assert CLIPS["sound"] == ClipSpec("sound", Samples(491_520, 48_000), None, "zeros")
    assert CLIPS["flow"].time == Steps(64, 4, 25.0)


@pytest.mark.parametrize(
    ("narrow_size", "broad_size", "pixels"),
    [(224, 112, Pixels(256, 224, 112)), (56, 56, Pixels(64, 56, 56)), (32, 64, Pixels(73, 64, 64))],
)
def test_clips_of_a_training(narrow_size: int, broad_size: int, pixels: Pixels) -> None:
    changed = {
        "num_frames_broad": 16,
        "step_broad": 2,
        "input_video_sample_rate": 16,
        "input_audio_sample_rate": 16000,
        "image_size_narrow": narrow_size,
        "image_size_broad": broad_size,
    }
    words = [f"--config.model.{key}={value}" for key, value in changed.items()]
    assert broad_clips(settings_of(load_config(PACKAGED, words)).released_config()) == {
        "sound": ClipSpec("sound", Samples(32000, 16000), None, "zeros"),
        "flow": ClipSpec("flow", Steps(16, 2, 16.0), pixels, "loop"),
    }


@pytest.mark.parametrize("value", [None, 0, "64", [64]])
def test_a_config_that_does_not_tell(value: Any) -> None:
    assert broad_clips({**RELEASED_CONFIG, "num_frames_broad": value}) == {}
    assert broad_clips({}) == {}
