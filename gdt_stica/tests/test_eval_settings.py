"""What the flags of the fine-tuning command mean."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gdt_stica.architecture import Architecture
from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_settings import architecture_of, clip_of, eval_quirks, rates_of, sampler_of
from ssvideo_core import config as configs
from ssvideo_core.testing.fake_videos import FakeVideos
from ssvideo_core.views import Pixels, Spread

from gdt_stica import eval_settings

_spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain_eval.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)


def config_of(*words: str) -> EvalVideo:
    return configs.parse(EvalVideo, words, prog="eval_video")


def test_the_published_settings() -> None:
    config = config_of()
    assert clip_of(config).time == Spread(32, 32 / 30)
    assert clip_of(config).pixels == Pixels(128, 128, 128)
    sampler = sampler_of(config, eval_quirks(config))
    assert (sampler.num_views, sampler.num_sec, sampler.random_resize_crop) == (1, 0, True)
    assert (sampler.color_jitter, sampler.grayscale, sampler.gaussian) == (True, False, False)
    for epoch, factor in enumerate(plain.factors(12)):
        rates = rates_of(config, eval_quirks(config), epoch)
        wanted = {
            "head": 0.0025 * factor,
            "base": 0.00025 * factor,
            "transformer": 0.00025 * factor,
        }
        assert rates == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("words", [["--use-scheduler", "False"], ["--lr-warmup-epochs", "0"]])
def test_rates_that_are_not_multiplied(words: list[str]) -> None:
    config = config_of("--tsf_lr", "0.5", *words)
    rates = rates_of(config, eval_quirks(config), 0)
    assert rates == {"head": 0.0025, "base": 0.00025, "transformer": 0.5}


def test_exact_drops_come_an_epoch_earlier() -> None:
    config = config_of("--schedule", "exact", "--lr-milestones", "3,5")
    found = [rates_of(config, eval_quirks(config), epoch)["head"] / 0.0025 for epoch in range(7)]
    np.testing.assert_allclose(found, [1, 4.5, 8, 0.4, 0.4, 0.02, 0.02], rtol=1e-12)


@pytest.mark.parametrize(
    ("frames", "tokens"), [("16", 8), ("32", 8), ("60", 8), ("90", 12), ("120", 15)]
)
def test_tokens_follow_from_clips_of_more_than_32_frames(frames: str, tokens: int) -> None:
    architecture = architecture_of(config_of("--clip-len", frames), 51, model="stica")
    assert (architecture.transformer_time_dim, architecture.num_layer) == (tokens, 2)
    assert (architecture.base, architecture.num_classes) == ("stica", 51)


def test_only_stica_has_a_transformer() -> None:
    for model in ("av_gdt", "vid_text_gdt"):
        assert not architecture_of(config_of(), 101, model=model).has_transformer


def test_what_flags_do_not_say_is_as_in_the_weights() -> None:
    known = Architecture(model="stica", width=0.5, num_layer=1)
    found = architecture_of(config_of(), 101, model="stica", known=known)
    assert (found.width, found.num_layer) == (0.5, 1)
    flags = config_of("--width", "0.25", "--num_layer", "0")
    found = architecture_of(flags, 101, model="stica", known=known)
    assert (found.width, found.num_layer) == (0.25, 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"test_aug": "deterministic", "feature_bn": "frozen", "schedule": "released"}),
        (["--fidelity", "released"], {"test_aug": "released", "feature_bn": "released"}),
        (["--fidelity", "fixed"], {"schedule": "exact", "clip_colors": "fixed", "blur": "fixed"}),
        (
            ["--fidelity", "released", "--test-aug", "deterministic", "--feature-bn", "frozen"],
            {"test_aug": "deterministic", "feature_bn": "frozen", "random_crop": "released"},
        ),
    ],
)
def test_fidelity_and_what_overrides_it(words: list[str], expected: dict[str, str]) -> None:
    assert expected.items() <= eval_quirks(config_of(*words)).items()


def test_test_clips_are_ten_of_three_crops() -> None:
    config = config_of("--clip-len", "4", "--target-fps", "25", "--train-crop-size", "4")
    info = FakeVideos(1).info(0)  # 12 frames of 6 x 8 pixels
    views = eval_settings.draw_test_views(config, eval_quirks(config))(info, rng=None)
    assert len(views) == 30
    starts = [8 * clip // 10 for clip in range(10) for _ in range(3)]
    assert [int(view.frames[0]) for view in views] == starts
    offsets = [tuple(view.params["crop_offset"].tolist()) for view in views]
    assert offsets == 10 * plain.crops(4, 8 * 4 // 6, 4, 3)
