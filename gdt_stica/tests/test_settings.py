"""What the flags of main_gdt mean."""

from __future__ import annotations

from dataclasses import fields

import pytest
from gdt_stica.config import MainGDT
from gdt_stica.settings import OF_SOUND, OF_TEXT, idle_flags
from ssvideo_core import config as configs
from ssvideo_core.recipes import load_recipes

TEXT = ("--model", "vid_text_gdt", "--dataset", "ht100m", "--ht100m_caption_root", "captions")


def config_of(*words: str) -> MainGDT:
    return configs.parse(MainGDT, words, prog="main_gdt")


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ((), []),
        (TEXT, []),
        ((*TEXT, "--decode_audio", "False", "--sample_rate", "2", "--center_crop", "yes"), []),
        (
            (*TEXT, "--z_normalize", "no", "--num_sec", "1", "--color_jitter", "per_frame"),
            ["--color_jitter", "--z_normalize"],
        ),
        (
            (*TEXT, "--short_side", "128", "160", "--target_fps", "32"),
            ["--target_fps", "--short_side"],
        ),
        (("--num_candidates", "2", "--center_crop", "False"), ["--num_candidates"]),
        (("--ht100m_caption_root", "x", "--z_normalize", "no"), ["--ht100m_caption_root"]),
    ],
)
def test_flags_of_the_other_model(words: tuple[str, ...], idle: list[str]) -> None:
    assert idle_flags(config_of(*words)) == idle


def test_they_are_fields() -> None:
    assert {*OF_SOUND, *OF_TEXT} <= {field.name for field in fields(MainGDT)}


@pytest.mark.parametrize("name", [n for n in load_recipes("gdt_stica") if n.startswith("gdt-")])
def test_published_commands_have_none(name: str) -> None:
    words = load_recipes("gdt_stica")[name].arguments(data="DATA", out="OUT")
    assert idle_flags(config_of(*words)) == []
