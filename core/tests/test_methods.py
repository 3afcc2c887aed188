from __future__ import annotations

import json

import pytest
from ssvideo_core import methods
from ssvideo_core.errors import ConfigError
from ssvideo_core.methods import Method, PublishedWeights, resolve

METHOD = Method(
    name="m",
    title="M",
    arxiv=("1",),
    framework="numpy",
    encoder="json:loads",
    backbones={"rgb": "none"},
    weights=(PublishedWeights("w", "https://x", "w.pth", "not stated"),),
)


def test_description_is_json() -> None:
    record = json.loads(json.dumps(METHOD.describe()))
    assert record["schema"] == methods.DESCRIBE_SCHEMA
    assert record["weights"][0]["licence"] == "not stated"


def test_encoder_is_resolved_late() -> None:
    assert METHOD.load_encoder('{"a": 1}') == {"a": 1}


def test_reference_form() -> None:
    with pytest.raises(ConfigError, match=r"'json\.loads' is not of the form"):
        resolve("json.loads")


def test_discover_is_sorted_by_name(monkeypatch) -> None:
    class Point:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> str:
            return f"method {self.name}"

    monkeypatch.setattr(methods, "entry_points", lambda group: [Point("b"), Point("a")])
    assert list(methods.discover().items()) == [("a", "method a"), ("b", "method b")]
