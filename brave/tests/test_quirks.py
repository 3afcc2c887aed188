from __future__ import annotations

import pytest
from brave.config_files import PACKAGED, load_config
from brave.quirks import QUIRKS, markdown_table, resolve
from ssvideo_core.errors import ConfigError


def test_every_quirk_is_a_key_that_fidelity_decides() -> None:
    config = load_config(PACKAGED)
    assert [config[quirk.name] for quirk in QUIRKS] == [""] * len(QUIRKS)
    for quirk in QUIRKS:
        assert quirk.released != quirk.fixed
        assert quirk.default in (quirk.released, quirk.fixed)


def test_a_value_wins_over_the_fidelity() -> None:
    given = {quirk.name: "" for quirk in QUIRKS}
    assert resolve("released", given) == {quirk.name: quirk.released for quirk in QUIRKS}
    first = QUIRKS[0]
    assert resolve("released", {**given, first.name: first.fixed})[first.name] == first.fixed
    with pytest.raises(ConfigError, match=f"{first.name}=other: expected"):
        resolve("released", {**given, first.name: "other"})


def test_the_table_has_a_line_for_each() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(QUIRKS)
    assert all(quirk.name in line for quirk, line in zip(QUIRKS, lines[2:], strict=True))
