from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from brave.views import ViewSpec, check_views
from ssvideo_core.errors import ConfigError

NARROW = ViewSpec("narrow", "rgb", 16, 2, 224, "tsm_resnet")
VIDEO = ViewSpec("video", "rgb", 64, 4, 112, "tsm_resnet", 2)
SOUND = ViewSpec("audio", "sound", 64, 4, 0, "audio_resnet")
FLOW = ViewSpec("flow", "flow", 64, 4, 112, "tsm_resnet", 0.25)


@pytest.mark.parametrize(
    ("view", "module", "size", "channels"),
    [
        (NARROW, "narrow_video_embedding", 2048, 3),
        (VIDEO, "broad_video_embedding", 4096, 3),
        (SOUND, "broad_audio_embedding", 2048, 1),
        (FLOW, "broad_flow_embedding", 512, 2),
        (replace(VIDEO, name="video_2"), "broad_video_2_embedding", 4096, 3),
    ],
)
def test_what_follows_from_a_view(view, module, size, channels) -> None:
    assert (view.module, view.feature_size, view.channels) == (module, size, channels)


@pytest.mark.parametrize(
    ("view", "options", "message"),
    [
        (VIDEO, {"name": "Video/1"}, "view 'Video/1': expected a name of small letters"),
        (VIDEO, {"name": ""}, "view '': expected a name"),
        (VIDEO, {"modality": "audio"}, "modality 'audio', expected rgb, flow, sound"),
        (VIDEO, {"backbone": "audio_resnet"}, "cannot see rgb, expected 'tsm_resnet'"),
        (SOUND, {"backbone": "tsm_resnet"}, "cannot see sound, expected 'audio_resnet'"),
        (VIDEO, {"num_frames": 0}, "num_frames=0, expected 1 or more"),
        (VIDEO, {"step": -1}, "step=-1, expected 1 or more"),
        (FLOW, {"image_size": 0}, "view 'flow': image_size=0, expected 1 or more"),
        (VIDEO, {"width": 0.3}, "width=0.3: expected a multiple of 1/64"),
        (SOUND, {"width": 0}, "expected a multiple of 1/64"),
    ],
)
def test_wrong_views(view, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(view, **options)


@pytest.mark.parametrize("broad", [[VIDEO], [SOUND, FLOW], [VIDEO, replace(VIDEO, name="video_2")]])
def test_views_that_go_together(broad) -> None:
    check_views(NARROW, broad)


@pytest.mark.parametrize(
    ("narrow", "broad", "message"),
    [
        (VIDEO, [SOUND], "the narrow view is 'video' of rgb, expected 'narrow' of rgb"),
        (replace(FLOW, name="narrow"), [SOUND], "'narrow' of flow, expected 'narrow' of rgb"),
        (NARROW, [], "the broad views are none; expected one or more"),
        (NARROW, [VIDEO, VIDEO], r"are \['video', 'video'\]; expected one or more, with different"),
        (NARROW, [SOUND, NARROW], r"are \['audio', 'narrow'\]; expected"),
    ],
)
def test_views_that_do_not(narrow, broad, message) -> None:
    with pytest.raises(ConfigError, match=message):
        check_views(narrow, broad)


def test_settings_import_no_framework() -> None:
    script = (
        "import sys, brave.views, brave.optimizer_settings\n"
        "print(sorted({'jax', 'flax', 'optax'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")
