from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from brave.clips import broad_clips, training_clips
from brave.config_files import PACKAGED, load_config
from brave.experiment_settings import (
    ExperimentSettings,
    check_one_source,
    record_of,
    settings_of,
)
from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec, Pixels, Samples, Steps


def settings(*overrides: str) -> ExperimentSettings:
    return settings_of(load_config(PACKAGED, [f"--config.{word}" for word in overrides]))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.broad_views=(1,2)", "model.broad_views has 1, expected words, such as .*=video,au"),
        ("model.dataset_shards=(5,)", "model.dataset_shards has 5, expected words"),
        ("experiment.eval_modes=(5,)", "experiment.eval_modes has 5, expected words"),
        ("experiment.probe_train_shards=[['a']]", r"probe_train_shards has \('a',\), expected wor"),
        ("experiment.probe_test_shards=(None,)", "probe_test_shards has None, expected words"),
        ("experiment.probe_svm_regularization=-1", "regularization=-1.0, expected a number above"),
        ("experiment.probe_svm_regularization=0", "regularization=0.0, expected a number above 0"),
        ("experiment.probe_svm_regularization=nan", "regularization=nan, expected a finite number"),
        ("model.input_video_sample_rate=0", "video_sample_rate=0.0, expected a number above 0"),
        ("model.input_video_sample_rate=-25", "video_sample_rate=-25.0, expected a number above 0"),
        ("model.input_video_sample_rate=nan", "video_sample_rate=nan, expected a finite number"),
        ("model.input_video_sample_rate=inf", "video_sample_rate=inf, expected a finite number"),
        ("model.input_audio_sample_rate=0", "audio_sample_rate=0, expected 1 or more"),
        ("random_seed=-1", "random_seed=-1, expected 0 or more"),
        ("random_seed=4294967296", "random_seed=4294967296, expected 0 to 4294967295"),
        ("random_seed=99999999999999999999", "expected 0 to 4294967295"),
        ("optimizer.weight_decay=nan", "optimizer.weight_decay=nan, expected a finite number"),
        ("optimizer.schedule.boundaries_and_scales=((1e999,1),)", "are lists of pairs"),
    ],
)
def test_values_that_make_no_sense(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(word)


def test_the_last_seed_is_one() -> None:
    assert settings("random_seed=4294967295")["random_seed"] == 2**32 - 1


# ---- broad views ----------------------------------------------------------------------------


def forms(words: str) -> dict[str, tuple[int, ...]]:
    found = settings(f"model.broad_views={words}").broad
    return {view.name: (view.num_frames, view.step, view.image_size) for view in found}


def test_each_broad_view_may_have_a_form_of_its_own() -> None:
    assert forms("video:32:3:96,video_2,audio:128:2,flow:8:1:64") == {
        "video": (32, 3, 96),
        "video_2": (64, 4, 112),
        "audio": (128, 2, 112),
        "flow": (8, 1, 64),
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("video:64", "has 'video:64', expected 'video' or 'video:' and .*num_frames:step:image_si"),
        ("video:64:4", "has 'video:64:4', expected"),
        ("audio:64:4:112", r"has 'audio:64:4:112', expected .* whole numbers num_frames:step, su"),
        ("video:64:4:x", "has 'video:64:4:x', expected"),
        ("video:-1:4:112", "has 'video:-1:4:112', expected"),
        ("video:0:4:112", "view 'video': num_frames=0, expected 1 or more"),
        ("video:64:4:112,video:32:4:112", "with different names"),
        ("depth:64:4:112", "names that begin with video, audio, flow"),
    ],
)
def test_forms_that_are_none(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        forms(word)


def test_encoders_of_a_run_see_its_own_views() -> None:
    """The released options, of one form for all, say it when there is one form."""
    mixed = settings("model.broad_views=flow:8:1:256,audio:100:2")
    sound = ClipSpec("sound", Samples(384_000, 48_000), None, "zeros")
    flow = ClipSpec("flow", Steps(8, 1, 25.0), Pixels(293, 256, 256), "loop")
    assert training_clips(mixed) == {"sound": sound, "flow": flow}
    assert broad_clips(mixed.released_config())["flow"] == flow
    alone = settings("model.broad_views=audio:100:2")
    assert training_clips(alone) == {"sound": sound}
    assert broad_clips(alone.released_config())["sound"] == sound
    assert training_clips(settings("model.broad_views=video,video_2")) == {}


# ---- where the narrow view begins ------------------------------------------------------------


@pytest.mark.parametrize("fidelity", ["default", "fixed"])
@pytest.mark.parametrize(
    ("views", "placement"),
    [
        ("audio", "start"),
        ("audio,flow", "start"),
        ("video", "random"),
        ("audio,video_2:8:4:16", "random"),
    ],
)
def test_the_narrow_view_begins_anywhere_when_a_broad_one_is_video(
    views: str, placement: str, fidelity: str
) -> None:
    words = [f"model.broad_views={views}", f"fidelity={fidelity}"]
    assert settings(*words).placement == placement
    assert settings(*words)["model.narrow_placement"] == placement
    for given in ("start", "random"):
        assert settings(*words, f"model.narrow_placement={given}").placement == given


def test_the_released_trainer_begins_all_views_together() -> None:
    assert settings("model.broad_views=video,audio", "fidelity=released").placement == "start"


def test_the_original_flag_of_a_broad_video_view_counts_too() -> None:
    assert settings("model.include_video_in_broad_view=yes").placement == "random"


# ---- what a run records ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "videos"), [(["model.dataset_shards=a*"], None), ([], Path("videos"))]
)
def test_data_comes_from_one_place(shards: Sequence[str], videos: Path | None) -> None:
    record: Any = record_of(settings(*shards), videos, {})
    assert record.videos == videos


def test_data_from_two_places_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--videos and .*\.dataset_shards are both given"):
        check_one_source(settings("model.dataset_shards=a*"), Path("videos"))
