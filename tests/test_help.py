"""`--help` answers before a framework, Hydra or scikit-learn is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "jax", "flax", "optax", "hydra", "sklearn", "scipy", "matplotlib")
CODE = """
import json, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "loaded": sorted(sys.modules)}))
"""


def run_help(*words: str) -> tuple[str, dict]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    shown, _, record = done.stdout.rstrip().rpartition("\n")
    return shown, json.loads(record)


def commands(name: str) -> list[tuple[str, ...]]:
    subcommands = {
        "ssvideo_core": (
            *("prepare", "check-data", "convert-data", "extract-flow", "export", "import-features"),
        ),
        "shared_eval": ("methods", "run", "compare", "check-method"),
    }
    method = ("describe", "extract", "evaluate", "recipes", "check-data", "convert")
    return [(), *((word,) for word in subcommands.get(name, method))]


PROGRAMS = (
    *("gdt_stica.main_gdt", "gdt_stica.main_stica", "gdt_stica.eval_video", "gdt_stica.audio_svm"),
    *("brave.evaluate_video_embeddings", "brave.download_hmdb", "brave.experiment"),
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_programs_is_light(program: str) -> None:
    shown, record = run_help(program, "--help")
    assert "usage" in shown
    assert record["code"] in (0, None)
    assert not [module for module in HEAVY if module in record["loaded"]]


def test_help_is_light(package) -> None:
    for name in package.imports:
        if name == "ssvideo_torch":
            continue
        for words in commands(name):
            shown, record = run_help(name, *words, "--help")
            assert "usage" in shown
            assert record["code"] in (0, None)
            heavy = [module for module in HEAVY if module in record["loaded"]]
            assert not heavy, (name, words)


def test_heavy_modules_would_be_seen() -> None:
    pytest.importorskip("torch")
    code = CODE.replace("import json,", "import torch, json,")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "ssvideo_core", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "torch" in json.loads(done.stdout.rstrip().rpartition("\n")[2])["loaded"]
