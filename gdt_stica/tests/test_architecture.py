from __future__ import annotations

import pytest
from gdt_stica.architecture import Architecture, from_options
from ssvideo_core.errors import ConfigError


def test_defaults_are_the_published_network() -> None:
    architecture = from_options({})
    assert architecture == Architecture(
        model="av_gdt", vid_base_arch="r2plus1d_18", aud_base_arch="resnet9", width=1.0
    )
    assert architecture.num_filters == 40
    assert from_options({"aud_spec_type": 2}).num_filters == 257


def test_round_trip() -> None:
    architecture = Architecture(model="finetune", num_classes=101, use_bn=True, width=0.25)
    assert from_options(architecture.to_json()) == architecture


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
        ({"aud_spec_type": 3}, r"aud_spec_type=3: expected 1 or 2"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        from_options(options)
