"""The words of flags are read, or refused with the form they should have."""

from __future__ import annotations

import pytest
from ssvideo_core import command_flags


@pytest.mark.parametrize("text", ["", "10", "0x3", "ax3", "10x-1"])
def test_views_form(text: str) -> None:
    with pytest.raises(ValueError, match="10x3"):
        command_flags.read_grid(text)


def test_seed_form() -> None:
    assert command_flags.read_seed("4294967295") == 2**32 - 1
    for text in ("4294967296", "9" * 30, "-1", "x"):
        with pytest.raises(ValueError, match=f"'{text}' is not a"):
            command_flags.read_seed(text)


@pytest.mark.parametrize("text", ["", "4/4", "a/b", "1"])
def test_shard_form(text: str) -> None:
    with pytest.raises(ValueError, match="0/4"):
        command_flags.read_shard(text)


def test_options() -> None:
    wanted = {"width": 0.25, "use_mlp": False, "video": "r2plus1d_34"}
    assert command_flags.read_options("width=0.25,use_mlp=false,video=r2plus1d_34") == wanted
    with pytest.raises(ValueError, match="name=value"):
        command_flags.read_options("width")
