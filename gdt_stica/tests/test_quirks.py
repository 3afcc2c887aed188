from __future__ import annotations

import dataclasses

import pytest
from gdt_stica.config import MainGDT
from gdt_stica.quirks import FIDELITIES, QUIRKS, markdown_table, resolve
from ssvideo_core.errors import ConfigError

NAMES = {"negatives", "schedule", "warm_up", "color_jitter", "random_crop"}


def test_names_values_and_defaults() -> None:
    assert {quirk.name for quirk in QUIRKS} == NAMES
    assert len(QUIRKS) == len(NAMES)
    for quirk in QUIRKS:
        assert quirk.released == "released"
        assert quirk.fixed != quirk.released
        assert quirk.default in (quirk.released, quirk.fixed)


def test_fidelity_picks_a_column() -> None:
    assert set(resolve("released", {}).values()) == {"released"}
    assert resolve("fixed", {}) == {quirk.name: quirk.fixed for quirk in QUIRKS}
    mended = {name for name, value in resolve("default", {}).items() if value != "released"}
    assert mended == {"warm_up"}


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_an_option_that_was_given_wins(fidelity: str) -> None:
    given = {"negatives": "unique", "random_crop": "inclusive", "schedule": None}
    values = resolve(fidelity, given)
    assert (values["negatives"], values["random_crop"]) == ("unique", "inclusive")
    assert values["schedule"] == resolve(fidelity, {})["schedule"]


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="--fidelity exact: expected one of default, released"):
        resolve("exact", {})
    with pytest.raises(ConfigError, match="quirk blur: expected one of negatives, "):
        resolve("default", {"blur": "released"})
    with pytest.raises(ConfigError, match="--negatives all: expected one of released, unique"):
        resolve("default", {"negatives": "all"})


def test_flags_offer_the_values() -> None:
    flags = {field.name: field.metadata for field in dataclasses.fields(MainGDT)}
    assert tuple(flags["fidelity"]["choices"]) == FIDELITIES
    for quirk in QUIRKS:
        if quirk.name in flags:
            assert set(flags[quirk.name]["choices"]) == {quirk.released, quirk.fixed}


def test_the_table_has_a_line_for_every_quirk() -> None:
    header, rule, *lines = markdown_table().splitlines()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    assert header.count("|") == rule.count("|") == 6
    assert cells == [[q.name, q.released, q.fixed, q.default, q.why] for q in QUIRKS]
