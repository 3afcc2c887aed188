"""What `METHOD describe --json` must say: names and types of its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ssvideo_core.methods import DESCRIBE_SCHEMA

MODALITIES = ("rgb", "flow", "sound")
_REFERENCE = re.compile(r"[\w.]+:\w+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
Test = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_words, value))


def _mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_words, value.values()))


def _modalities(value: Any) -> bool:
    return bool(value) and set(value) <= set(MODALITIES)


METHOD_FIELDS: Mapping[str, tuple[str, Test]] = {
    "name": ("a text", _words),
    "title": ("a text", _words),
    "arxiv": ("a list of texts", _texts),
    "framework": ("a text", _words),
    "encoder": (
        "of the form module:function",
        lambda value: _text(value) and bool(_REFERENCE.fullmatch(value)),
    ),
    "backbones": (
        "an object with a name for each of rgb, flow, sound that there is",
        lambda value: _mapping(value) and _modalities(value),
    ),
    "weights": (
        "a list of objects",
        lambda value: isinstance(value, list) and all(isinstance(w, dict) for w in value),
    ),
    "convert": ("a text", _text),
    "protocols": ("an object of texts", _mapping),
    "version": ("a text", _words),
    "recipes": ("a list of texts", _texts),
}
WEIGHTS_FIELDS: Mapping[str, tuple[str, Test]] = {
    "name": ("a text", _words),
    "address": ("a text", _words),
    "file": ("a text", _words),
    "licence": ("a text; 'not stated' if it is not", _words),
    "modalities": (
        "a list of rgb, flow, sound",
        lambda value: _texts(value) and _modalities(value),
    ),
    "architecture": ("an object", lambda value: isinstance(value, dict)),
    "sha256": (
        "null or 64 hex digits",
        lambda value: value is None or (_text(value) and bool(_SHA256.fullmatch(value))),
    ),
    "note": ("a text", _text),
}


def problems(record: Mapping[str, Any], method: str) -> list[str]:
    """What is wrong with the description of `method`, a sentence each; empty if nothing is."""
    schema = record.get("schema")
    if schema != DESCRIBE_SCHEMA:
        return [
            f"schema is {schema!r}, this version reads {DESCRIBE_SCHEMA}: install versions of "
            f"{method} and shared_eval that belong together"
        ]
    found = list(_check(record, METHOD_FIELDS, ""))
    if found:
        return found
    if record["name"] != method:
        found.append(f"name is {record['name']!r}, expected {method!r}, what `python -m` calls it")
    names = [weights.get("name") for weights in record["weights"]]
    for number, weights in enumerate(record["weights"]):
        found += _check(weights, WEIGHTS_FIELDS, f"weights[{number}].")
    if len(set(map(str, names))) < len(names):
        found.append(f"weights has equal names: {', '.join(map(str, names))}")
    return found


def _check(
    record: Mapping[str, Any], fields: Mapping[str, tuple[str, Test]], place: str
) -> Iterator[str]:
    for name, (expected, test) in fields.items():
        if name not in record:
            yield f"{place}{name} is missing, expected {expected}"
        elif not test(record[name]):
            yield f"{place}{name} is {record[name]!r}, expected {expected}"
