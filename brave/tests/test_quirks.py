from __future__ import annotations

import pytest
from brave.config_files import PACKAGED, load_config
from brave.quirks import PLACEMENT, QUIRKS, markdown_table, resolve
from ssvideo_core.errors import ConfigError
from ssvideo_core.quirks import FIDELITIES


def test_every_quirk_is_a_key_that_fidelity_decides() -> None:
    config = load_config(PACKAGED)
    assert [config[quirk.name] for quirk in QUIRKS] == [""] * len(QUIRKS)
    for quirk in QUIRKS:
        assert quirk.released != quirk.fixed
        assert quirk.default in (quirk.released, quirk.fixed)


def test_a_value_wins_over_the_fidelity() -> None:
    given = {quirk.name: "" for quirk in QUIRKS}
    released = {quirk.name: quirk.released for quirk in QUIRKS}
    assert resolve("released", given, broad_video=True) == released
    for quirk in QUIRKS:
        found = resolve("released", {**given, quirk.name: quirk.fixed}, broad_video=False)
        assert found == {**released, quirk.name: quirk.fixed}
    first = QUIRKS[0]
    with pytest.raises(ConfigError, match=f"{first.name}=other: expected"):
        resolve("released", {**given, first.name: "other"}, broad_video=True)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_without_video_the_narrow_view_begins_with_the_others(fidelity: str) -> None:
    given = {quirk.name: "" for quirk in QUIRKS}
    meant = {quirk.name: quirk.value(fidelity) for quirk in QUIRKS}
    assert resolve(fidelity, given, broad_video=True) == meant
    assert resolve(fidelity, given, broad_video=False) == {**meant, PLACEMENT: "start"}


def test_the_table_has_a_line_for_each() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(QUIRKS)
    assert all(quirk.name in line for quirk, line in zip(QUIRKS, lines[2:], strict=True))
