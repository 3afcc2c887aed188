"""docs/protocols.md says what the code does."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from ssvideo_core.protocols import PROTOCOLS


@pytest.fixture
def maker(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_protocols", root / "docs/make_protocols.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(maker: ModuleType) -> None:
    advice = "run python docs/make_protocols.py"
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), advice


def test_the_page_names_every_protocol_and_number(maker: ModuleType) -> None:
    text = maker.page()
    for protocol in PROTOCOLS.values():
        assert f"## {protocol.name}/{protocol.version}\n" in text
        for metric in protocol.metrics:
            assert metric in text


def test_a_new_version_makes_another_page(
    maker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = maker.page()
    changed = replace(PROTOCOLS["common-svm"], version=2)
    monkeypatch.setitem(PROTOCOLS, "common-svm", changed)
    assert maker.page() != before and "common-svm/2@10x3" in maker.page()
