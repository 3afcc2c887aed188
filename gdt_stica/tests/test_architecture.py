from __future__ import annotations

import pytest
from gdt_stica.architecture import (
    Architecture,
    check_num_frames,
    from_options,
    map_frames,
)
from ssvideo_core.errors import ConfigError


def test_defaults_are_the_published_network() -> None:
    architecture = from_options({})
    assert architecture == Architecture(
        model="av_gdt", vid_base_arch="r2plus1d_18", aud_base_arch="resnet9", width=1.0
    )
    assert architecture.num_filters == 40
    assert from_options({"aud_spec_type": 2}).num_filters == 257


def test_round_trip() -> None:
    for architecture in (
        Architecture(model="finetune", num_classes=101, use_bn=True, width=0.25),
        Architecture(model="stica", num_layer=3, num_head=8, z_normalize=True),
        Architecture(model="vid_text_gdt", embedding_rows=50),
    ):
        assert from_options(architecture.to_json()) == architecture


def test_stica_has_the_defaults_of_its_own_training() -> None:
    architecture = from_options({"model": "stica"})
    assert (architecture.num_layer, architecture.num_head) == (2, 4)
    assert architecture.transformer_time_dim == 4
    assert architecture.num_filters == 257
    assert not architecture.z_normalize
    assert architecture.has_transformer
    assert from_options({"model": "stica", "z_normalize": True}).z_normalize


@pytest.mark.parametrize(
    ("options", "pooled"),
    [
        ({"model": "stica", "num_layer": 0}, False),
        ({"model": "finetune", "base": "stica", "num_layer": 1}, True),
        ({"model": "finetune", "base": "stica", "num_layer": 0}, False),
        ({"model": "finetune", "base": "av_gdt", "num_layer": 2}, False),
        ({"model": "av_gdt", "num_layer": 2}, False),
    ],
)
def test_what_pools_with_a_transformer(options, pooled) -> None:
    assert from_options(options).has_transformer == pooled


def test_frames_of_the_last_map() -> None:
    assert [map_frames(n) for n in (30, 60, 90, 120)] == [4, 8, 12, 15]
    assert [map_frames(n) for n in (1, 8, 9, 32)] == [1, 1, 2, 4]


def test_clips_as_long_as_the_transformer_takes() -> None:
    sixty = from_options({"model": "stica", "transformer_time_dim": 8})
    for num_frames in (57, 60, 64):
        check_num_frames(sixty, num_frames)
    with pytest.raises(ConfigError) as error:
        check_num_frames(sixty, 30)
    assert str(error.value) == (
        "clips of 30 frames make a map of 4, and the transformer takes transformer_time_dim=8: "
        "give clips of 57 to 64 frames, or transformer_time_dim=4 if the network was trained with "
        "these"
    )
    for other in (
        {"model": "stica", "num_layer": 0},
        {"model": "finetune", "base": "stica", "num_layer": 2, "transformer_time_dim": 8},
        {"model": "av_gdt"},
    ):
        check_num_frames(from_options(other), 30)


def test_whole_width_is_a_number() -> None:
    assert from_options({"width": 1}) == Architecture()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 1.0}, r"no architecture option widht; there are: model: av_gdt or"),
        ({"vid_base_arch": "r3d_18"}, r"'r3d_18': expected r2plus1d_18 or r2plus1d_34"),
        ({"aud_base_arch": None}, r"aud_base_arch=None: expected resnet9 or resnet18"),
        ({"use_mlp": "yes"}, r"use_mlp='yes': expected true or false"),
        ({"use_mlp": 1}, r"use_mlp=1: expected true or false"),
        ({"width": "small"}, r"width='small': expected a number"),
        ({"width": 0.01}, r"width=0.01: expected at least 1/64"),
        ({"width": float("nan")}, r"width=nan: expected at least 1/64"),
        ({"num_classes": 0}, r"num_classes=0: expected at least 1"),
        ({"num_classes": True}, r"num_classes=True: expected a whole number"),
        ({"num_layer": -1}, r"num_layer=-1: expected at least 0"),
        ({"transformer_time_dim": 0}, r"transformer_time_dim=0: expected at least 1"),
        ({"base": "finetune"}, r"base='finetune': expected av_gdt or vid_text_gdt or stica"),
        (
            {"model": "stica", "num_head": 3},
            r"num_head=3 does not divide the 512 channels .* give a divisor",
        ),
        (
            {"model": "finetune", "base": "stica", "num_layer": 1, "num_head": 6, "width": 0.25},
            r"num_head=6 does not divide the 128 channels",
        ),
        (
            {"model": "stica", "positional_emb": True, "transformer_time_dim": 65},
            r"transformer_time_dim=65: there are positions for 64 tokens",
        ),
        ({"aud_spec_type": 3}, r"aud_spec_type=3: expected 1 or 2"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        from_options(options)


def test_options_of_a_transformer_that_is_not_there() -> None:
    for model in ("av_gdt", "vid_text_gdt"):
        assert from_options({"model": model, "num_head": 3}).num_head == 3
    assert from_options({"model": "stica", "num_layer": 0, "num_head": 3}).num_layer == 0
