from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from shared_eval.items import (
    Item,
    is_untrained,
    options_of,
    python_of,
    read_items,
    read_method_options,
    read_pythons,
)
from ssvideo_core.errors import ConfigError


def test_items_without_files() -> None:
    assert read_items(["a, b@published", "c@mine=published"]) == [
        Item("a", "random", "random"),
        Item("b", "published", "published"),
        Item("c", "published", "mine"),
    ]


def test_items_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = hashlib.sha256(b"x").hexdigest()
    for name in ("w.pth", "encoder-untrained.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "run-1").mkdir()
    assert read_items(["a@w.pth,a@new=w.pth,a@encoder-untrained.safetensors,a@run-1"]) == [
        Item("a", str(tmp_path / "w.pth"), "w", content),
        Item("a", str(tmp_path / "w.pth"), "new", content),
        Item("a", str(tmp_path / "encoder-untrained.safetensors"), "untrained", content),
        Item("a", str(tmp_path / "run-1"), "run-1"),
    ]


def test_untrained_labels() -> None:
    assert is_untrained("random")
    assert is_untrained("untrained")
    assert is_untrained("untrained-8x56")
    assert not is_untrained("random-forest")


def test_file_names_are_safe() -> None:
    assert Item("a", "/x/y z.pth", "../y z").file_name == "a-.._y_z"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "name at least one method"),
        (["a b"], "'a b' is not of the form METHOD, METHOD@WEIGHTS or METHOD@LABEL=WEIGHTS"),
        (["a@"], "'a@' is not of the form"),
        (["a,b,a@random"], "has a@random more than once; give labels"),
    ],
)
def test_wrong_items(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_items(texts)


def test_pythons() -> None:
    pythons = read_pythons([f"a={sys.executable}"])
    assert python_of("a", pythons) == Path(sys.executable)
    assert python_of("b", pythons) == Path(sys.executable)
    with pytest.raises(ConfigError, match="no program /no/such/python; give the interpreter"):
        read_pythons(["a=/no/such/python"])
    with pytest.raises(ConfigError, match="'a' is not of the form METHOD=PATH"):
        read_pythons(["a"])


def test_method_options() -> None:
    options = read_method_options(["a=--architecture width=0.25", "a@x=--output 'layer 3'"])
    assert options_of(Item("a", "random", "random"), options) == ("--architecture", "width=0.25")
    assert options_of(Item("a", "y", "x"), options)[2:] == ("--output", "layer 3")
    assert options_of(Item("b", "y", "x"), options) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "is neither METHOD=FLAGS"),
        ("a=width", "is neither METHOD=FLAGS"),
        ("a=--output 'x", "No closing quotation"),
        ("a=--architecture b=1 --out /tmp", "give --out to shared_eval run itself"),
        ("a=--weights=b", "give --weights=b to shared_eval run itself"),
    ],
)
def test_wrong_method_options(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_method_options([text])
