from __future__ import annotations

import json
import subprocess
import sys

import pytest
from brave.method import METHOD
from ssvideo_core.methods import resolve

import brave


def test_description_is_json() -> None:
    record = json.loads(json.dumps(METHOD.describe()))
    assert record["name"] == "brave"
    assert record["arxiv"] == ["2103.16559"]
    assert record["framework"] == "jax"
    networks = {"rgb": "TSM-ResNet-50", "sound": "ResNet-50", "flow": "TSM-ResNet-50"}
    assert record["backbones"] == networks
    assert {w["name"]: w["modalities"] for w in record["weights"]} == {
        "va-f-1x": ["rgb", "sound"],
        "va-f-2x": ["rgb", "sound"],
        "va-1x": ["rgb", "sound"],
        "vvvv-1x": ["rgb"],
    }
    address = "https://storage.googleapis.com/dm-jaxline/brave/"
    assert {w["name"]: (w["address"], w["architecture"]) for w in record["weights"]} == {
        "va-f-1x": (address + "29557527_2_0.npy", {"width": 1}),
        "va-f-2x": (address + "29509415_1_0.npy", {"width": 2}),
        "va-1x": (address + "29466668_1_0.npy", {"width": 1}),
        "vvvv-1x": (address + "29332798_5_0.npy", {"width": 1}),
    }
    assert {w["licence"] for w in record["weights"]} == {"not stated"}


def test_references_resolve() -> None:
    assert resolve(METHOD.encoder) is brave.load_encoder
    assert callable(resolve(METHOD.convert))


def test_lazy_names() -> None:
    assert brave.METHOD is METHOD
    with pytest.raises(AttributeError, match="module 'brave' has no attribute 'encoder'"):
        _ = brave.encoder


def test_no_framework_before_an_encoder_is_asked_for() -> None:
    code = (
        "import sys, brave, brave.method, brave.architecture;"
        "from brave.__main__ import main;"
        "code = main(['describe', '--json']);"
        "print(code, [m for m in ('jax', 'flax', 'optax', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert json.loads(done.stdout[: done.stdout.rindex("}") + 1])["framework"] == "jax"


def test_encoders_do_not_import_pytorch() -> None:
    code = "import sys, brave.encoders; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
