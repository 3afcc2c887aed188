from __future__ import annotations

import dataclasses

import pytest
from gdt_stica.config import MainGDT
from gdt_stica.eval_config import EvalVideo
from gdt_stica.quirks import (
    ALL_QUIRKS,
    COMMANDS,
    FIDELITIES,
    QUIRKS,
    markdown_table,
    quirks_of,
    resolve,
)
from gdt_stica.stica_config import MainSTiCA
from ssvideo_core.errors import ConfigError

NAMES = {
    "main_gdt": {"negatives", "schedule", "warm_up", "color_jitter", "random_crop"},
    "main_stica": {"random_crop", "feature_crops", "crop_passes", "clip_colors", "blur"},
    "eval_video": {"schedule", "random_crop", "clip_colors", "blur", "test_aug", "feature_bn"},
}
MENDED = {
    "main_gdt": {"warm_up"},
    "main_stica": {"crop_passes"},
    "eval_video": {"test_aug", "feature_bn"},
}


def test_names_values_and_defaults() -> None:
    assert {command: {q.name for q in quirks_of(command)} for command in COMMANDS} == NAMES
    assert quirks_of("main_gdt") == QUIRKS
    assert len(ALL_QUIRKS) == len({quirk.name for quirk in ALL_QUIRKS})
    for quirk in ALL_QUIRKS:
        assert quirk.commands
        assert set(quirk.commands) <= set(COMMANDS)
        assert quirk.released == "released"
        assert quirk.fixed != quirk.released
        assert quirk.default in (quirk.released, quirk.fixed)


@pytest.mark.parametrize("command", COMMANDS)
def test_fidelity_picks_a_column(command: str) -> None:
    quirks = quirks_of(command)
    released = resolve("released", {}, command=command)
    assert released == {quirk.name: "released" for quirk in quirks}
    fixed = resolve("fixed", {}, command=command)
    assert fixed == {quirk.name: quirk.fixed for quirk in quirks}
    chosen = resolve("default", {}, command=command)
    assert {name for name, value in chosen.items() if value != "released"} == MENDED[command]


def test_without_a_command_it_is_main_gdt() -> None:
    assert resolve("default", {}) == resolve("default", {}, command="main_gdt")


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
    with pytest.raises(ConfigError, match="quirk negatives: expected one of random_crop, "):
        resolve("default", {"negatives": "unique"}, command="main_stica")
    with pytest.raises(ConfigError, match="command main: expected one of main_gdt, main_stica, "):
        resolve("default", {}, command="main")


CONFIGS = {"main_gdt": MainGDT, "main_stica": MainSTiCA, "eval_video": EvalVideo}


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_offer_the_values(command: str) -> None:
    flags = {field.name: field.metadata for field in dataclasses.fields(CONFIGS[command])}
    assert tuple(flags["fidelity"]["choices"]) == FIDELITIES
    for quirk in quirks_of(command):
        assert set(flags[quirk.name]["choices"]) == {quirk.released, quirk.fixed}


def test_the_table_has_a_line_for_every_quirk() -> None:
    header, rule, *lines = markdown_table().splitlines()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    assert header.count("|") == rule.count("|") == 7
    assert cells == [
        [q.name, "`, `".join(q.commands), q.released, q.fixed, q.default, q.why] for q in ALL_QUIRKS
    ]
