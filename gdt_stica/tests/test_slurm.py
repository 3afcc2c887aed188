"""The batch scripts: their positional arguments end in flags that the commands take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from gdt_stica.config import MainGDT
from gdt_stica.eval_config import EvalVideo
from gdt_stica.stica_config import MainSTiCA
from ssvideo_core.config import parse
from ssvideo_core.recipes import load_recipes

SCRIPTS = Path(__file__).parents[1] / "slurm"
CONFIGS = {
    "gdt_stica.main_gdt": MainGDT,
    "gdt_stica.main_stica": MainSTiCA,
    "gdt_stica.eval_video": EvalVideo,
}
Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script with an srun and a python that write their words down; gives configurations."""
    written = tmp_path / "words"
    for name in ("srun", "python"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "" >> "{written}"\n')
        stub.chmod(0o755)

    def run(script: str, *words: str, **variables: str) -> list[Any]:
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", str(SCRIPTS / script), *words]
        subprocess.run(command, env={"PATH": path, **variables}, check=True, capture_output=True)
        found = []
        for call in written.read_text().removesuffix("\n\n").split("\n\n"):
            words_of = call.split("\n")
            at = words_of.index("-m")
            found.append(parse(CONFIGS[words_of[at + 1]], words_of[at + 2 :], prog="test"))
        return found

    return run


def test_gdt_on_kinetics(run: Run) -> None:
    (config,) = run("pretrain_gdt_k400.sh", "my_run", "v_shift", DATA_ROOT="k400", SAV_FOLDER="out")
    assert config.hypothesis == 4
    assert (config.root_dir, config.output_dir) == (Path("k400"), Path("out/my_run"))
    assert (config.batch_size, config.lr, config.epochs, config.lr_milestones) == (
        8, 1e-2, 201, (251,),
    )  # fmt: skip


def test_gdt_on_howto100m(run: Run) -> None:
    (config,) = run("pretrain_gdt_ht100m.sh")
    assert (config.model, config.dataset, config.sample_rate) == ("vid_text_gdt", "ht100m", 2)
    assert not config.decode_audio
    assert (config.batch_size, config.hypothesis) == (12, 1)


def test_stica(run: Run) -> None:
    (config,) = run("pretrain_stica.sh", *["60", "2", "2", "4", "1", "2", "2"])
    assert (config.num_frames, config.num_sec_aud, config.num_sec) == (60, 2, 2)
    assert (config.num_large_crops, config.num_small_crops) == (2, 4)
    assert (config.num_small_tcrops, config.num_large_tcrops) == (1, 2)
    assert (config.num_layer, config.transformer_time_dim) == (2, 8)
    assert (config.base_lr, config.start_warmup, config.epochs) == (0.64, 0.01, 151)


@pytest.mark.parametrize("frames", ["30", "90", "120"])
def test_stica_with_other_lengths(run: Run, frames: str) -> None:
    (config,) = run("pretrain_stica.sh", frames)
    assert config.num_frames == int(frames)


def test_fine_tuning_takes_both_data_sets(run: Run) -> None:
    configs = run("eval.sh", *["w.pth", "out", "199", "60", "stica", "1,3"], UCF101_ROOT="u")
    assert [config.dataset for config in configs] == ["hmdb51", "ucf101"]
    assert [config.output_dir for config in configs] == [Path("out/hmdb51"), Path("out/ucf101")]
    assert all(config.clip_len == 60 and config.model == "stica" for config in configs)
    assert configs[1].root_dir == Path("u")


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("eval.sh", ["w.pth"], "usage: bash eval.sh WEIGHTS_PATH"),
        ("pretrain_stica.sh", ["45"], "expected 30, 60, 90 or 120"),
    ],
)
def test_wrong_words_end_a_script(script: str, words: list[str], message: str) -> None:
    command = ["bash", str(SCRIPTS / script), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("script", "words", "recipe"),
    [
        ("pretrain_gdt_k400.sh", [], "gdt-k400"),
        ("pretrain_gdt_ht100m.sh", [], "gdt-ht100m"),
        ("pretrain_stica.sh", ["30", "1", "2", "4", "1", "2", "0"], "stica-k400"),
        ("pretrain_stica.sh", ["60", "2", "2", "4", "1", "2", "2"], "stica-k400-60"),
    ],
)
def test_a_recipe_has_the_settings_of_a_script(
    run: Run, script: str, words: list[str], recipe: str
) -> None:
    (config,) = run(script, *words)
    flags = load_recipes("gdt_stica")[recipe].arguments(data="DATA", out="OUT")
    found = parse(type(config), flags, prog="test")
    for field in fields(config):
        value = getattr(config, field.name)
        if not field.metadata["operational"] and not isinstance(value, Path):
            assert getattr(found, field.name) == value, field.name


@pytest.mark.parametrize("name", load_recipes("gdt_stica"))
def test_recipes_are_read(name: str) -> None:
    recipe = load_recipes("gdt_stica")[name]
    if (command := f"gdt_stica.{recipe.command}") in CONFIGS:
        parse(CONFIGS[command], recipe.arguments(data="DATA", out="OUT"), prog="test")
