from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from shared_eval.schema import problems
from ssvideo_core.methods import Method, PublishedWeights

METHOD = Method(
    name="m",
    title="A method",
    arxiv=("2003.04298",),
    framework="torch",
    encoder="m.encoders:load_encoder",
    backbones={"rgb": "net"},
    weights=(PublishedWeights("w", "https://x/w.pth", "w.pth", "not stated", sha256="0" * 64),),
    protocols={"m-svm": "m.evaluation"},
)


def describe(method: Method = METHOD, **fields: Any) -> dict[str, Any]:
    """What `describe --json` would print: through JSON, tuples are lists."""
    return {**json.loads(json.dumps(method.describe())), "recipes": ["smoke"], **fields}


def test_a_good_description() -> None:
    assert problems(describe(), "m") == []
    assert problems(describe(replace(METHOD, weights=(), arxiv=(), protocols={})), "m") == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schema": 2}, "schema is 2, this version reads 1: install versions of m and shared_eval"),
        ({"name": "n"}, "name is 'n', expected 'm', what `python -m` calls it"),
        ({"title": ""}, "title is '', expected a text"),
        ({"arxiv": "2003"}, "arxiv is '2003', expected a list of texts"),
        ({"encoder": "m.encoders"}, "encoder is 'm.encoders', expected of the form"),
        ({"backbones": {}}, "backbones is {}, expected an object with a name for each of rgb"),
        ({"backbones": {"video": "net"}}, "backbones is {'video': 'net'}, expected"),
        ({"weights": {}}, "weights is {}, expected a list of objects"),
        ({"protocols": []}, "protocols is [], expected an object of texts"),
        ({"version": 1}, "version is 1, expected a text"),
        ({"recipes": None}, "recipes is None, expected a list of texts"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], expected: str) -> None:
    (problem,) = problems(describe(**fields), "m")
    assert problem.startswith(expected)


def test_missing_fields() -> None:
    record = describe()
    del record["version"], record["backbones"]
    assert [problem.partition(",")[0] for problem in problems(record, "m")] == [
        "backbones is missing",
        "version is missing",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"licence": ""}, "weights[0].licence is '', expected a text; 'not stated' if it is not"),
        ({"modalities": []}, "weights[0].modalities is [], expected a list of rgb, flow, sound"),
        ({"modalities": [{}]}, "weights[0].modalities is [{}], expected"),
        ({"sha256": "abc"}, "weights[0].sha256 is 'abc', expected null or 64 hex digits"),
        ({"architecture": None}, "weights[0].architecture is None, expected an object"),
    ],
)
def test_wrong_weights(fields: dict[str, Any], expected: str) -> None:
    record = describe()
    record["weights"][0].update(fields)
    (problem,) = problems(record, "m")
    assert problem.startswith(expected)


def test_equal_names_of_weights() -> None:
    record = describe(replace(METHOD, weights=METHOD.weights * 2))
    assert problems(record, "m") == ["weights has equal names: w, w"]
