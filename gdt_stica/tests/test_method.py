from __future__ import annotations

import json
import subprocess
import sys

import pytest
from gdt_stica.method import METHOD
from ssvideo_core.methods import resolve

import gdt_stica


def test_description_is_json() -> None:
    record = json.loads(json.dumps(METHOD.describe()))
    assert record["name"] == "gdt_stica"
    assert record["arxiv"] == ["2003.04298", "2103.10211"]
    assert record["backbones"] == {"rgb": "R(2+1)D-18", "sound": "ResNet-9"}
    addresses = {w["name"]: w["address"] for w in record["weights"]}
    assert addresses == {
        f"gdt_{data}": f"https://dl.fbaipublicfiles.com/GDT/gdt_{data}.pth"
        for data in ("K400", "HT100M", "IG65M")
    }
    assert {w["licence"] for w in record["weights"]} == {"CC-BY-NC 4.0"}


def test_references_resolve() -> None:
    assert resolve(METHOD.encoder) is gdt_stica.load_encoder
    assert callable(resolve(METHOD.convert))


def test_lazy_names() -> None:
    assert gdt_stica.METHOD is METHOD
    with pytest.raises(AttributeError, match="module 'gdt_stica' has no attribute 'encoder'"):
        _ = gdt_stica.encoder


def test_no_framework_before_an_encoder_is_asked_for() -> None:
    code = (
        "import sys, gdt_stica, gdt_stica.method, gdt_stica.architecture;"
        "from gdt_stica.__main__ import main;"
        "code = main(['describe', '--json']);"
        "print(code, [m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert json.loads(done.stdout[: done.stdout.rindex("}") + 1])["framework"] == "torch"
