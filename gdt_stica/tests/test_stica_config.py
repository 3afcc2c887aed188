"""The flags of main_stica and what they refuse."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from gdt_stica.architecture import AUDIO_BLOCKS, VIDEO_BLOCKS
from gdt_stica.config import MainGDT
from gdt_stica.flags import ignored_flags
from gdt_stica.quirks import STICA, quirks_of
from gdt_stica.stica_config import MainSTiCA
from ssvideo_core import config as configs
from ssvideo_core.errors import ConfigError
from ssvideo_core.recipes import load_recipes

ORIGINAL = """
dataset_name kinetics; num_frames 30; target_fps 30; sample_rate 1; train_crop_size 112;
test_crop_size 112; colorjitter True; use_grayscale True; use_gaussian True; num_sec_aud 1;
num_sec 1; aud_sample_rate 24000; audio_augtype none; aud_spec_type 2; use_volume_jittering True;
use_audio_temp_jittering False; z_normalize False; epochs 150; batch_size 16; base_lr 0.01;
temp 0.5; final_lr 0; wd 1e-5; warmup_epochs 10; start_warmup 1e-3; use_warmup_scheduler True;
use_lr_scheduler False; multi_crop True; use_random_resize_crop True; cross_modal_alpha 0.5;
num_large_crops 2; num_small_crops 0; num_large_tcrops 0; num_small_tcrops 0; num_layer 2; dp 0.0;
num_head 4; positional_emb False; qkv_mha False; transformer_time_dim 4; vid_base_arch r2plus1d_18;
aud_base_arch resnet9; use_mlp True; mlp_dim 256; workers 10; checkpoint_freq 20; use_fp16 False;
seed 31; dist_url env://; bash False
"""
WITHOUT_DEFAULT = """
root_dir dump_path num_train_clips dual_data lr_milestones lr_gamma use_lars sync_bn resume
test_only eval_freq
"""
DEFAULTS = dict(entry.split() for entry in ORIGINAL.split(";") if entry.strip())


def read(*words: str) -> MainSTiCA:
    return configs.parse(MainSTiCA, words, prog="main_stica")


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_flag_has_its_original_default(name: str) -> None:
    found = getattr(MainSTiCA(), name)
    text = DEFAULTS[name]
    expected = text == "True" if isinstance(found, bool) else type(found)(text)
    assert found == expected
    assert getattr(read(f"--{name}", text), name) == expected


def test_flags_that_have_none_here_are_there() -> None:
    flags = {f.metadata["flags"][0] for f in dataclasses.fields(MainSTiCA)}
    assert {f"--{name}" for name in WITHOUT_DEFAULT.split()} <= flags


def test_the_networks_that_are_always_taken_exist() -> None:
    assert MainSTiCA().vid_base_arch in VIDEO_BLOCKS
    assert MainSTiCA().aud_base_arch in AUDIO_BLOCKS


def test_shared_flags_read_as_in_main_gdt() -> None:
    gdt, stica = MainGDT.__dataclass_fields__, MainSTiCA.__dataclass_fields__
    shared = {"seed", "device", "local_rank", "resume_anyway", "precision", "fidelity", "workers"}
    for name in shared:
        assert stica[name].metadata == gdt[name].metadata
    assert (MainSTiCA().seed, MainGDT().seed) == (31, 0)


def test_flags_without_effect_are_named() -> None:
    assert ignored_flags(MainSTiCA()) == []
    given = read("--use_lars", "--vid_base_arch", "r2plus1d_34", "--resume", "x", "--sync_bn", "no")
    assert ignored_flags(given) == ["--vid_base_arch", "--sync_bn", "--resume", "--use_lars"]
    assert configs.digest(given) == configs.digest(MainSTiCA())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_frames": 60}, "last 2 s; give --num_sec 2"),
        ({"num_sec": 3}, "last 1 s; give --num_sec 1"),
        ({"num_head": 0}, "--num_head 0: expected more than 0"),
        ({"multi_crop": False}, "STiCA compares two views of a clip"),
        ({"cross_modal_alpha": 1.5}, "--cross_modal_alpha 1.5: expected 0 to 1"),
        ({"temp": 0.0}, "--temp 0.0: expected more than 0"),
        ({"dp": 1.0}, "--dp 1.0: expected 0 up to below 1"),
        ({"num_layer": -1}, "--num_layer -1: expected 0 or more"),
        ({"warmup_epochs": -1}, "--warmup_epochs -1: expected 0 or more"),
        ({"base_lr": float("nan")}, "--base_lr nan: expected 0 or more"),
        ({"num_sec_aud": 0}, "--num_sec_aud 0: expected more than 0"),
        ({"aud_sample_rate": 96000}, "expected 1000 to 51200"),
        ({"num_data_samples": 0}, "--num_data_samples 0: expected more than 0"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MainSTiCA(**flags)
    assert message in str(caught.value)


def test_every_quirk_of_the_command_is_an_option() -> None:
    fields = {field.name: field for field in dataclasses.fields(MainSTiCA)}
    for quirk in quirks_of(STICA):
        assert fields[quirk.name].default is None
        assert set(fields[quirk.name].metadata["choices"]) == {quirk.released, quirk.fixed}
    assert "crop_passes" in {quirk.name for quirk in quirks_of(STICA)}


def test_precision() -> None:
    assert read().network_precision == "float32"
    assert read("--use_fp16", "true").network_precision == "float16"
    assert read("--use_fp16", "true", "--precision", "bfloat16").network_precision == "bfloat16"


@pytest.mark.parametrize(
    "name", [name for name in load_recipes("gdt_stica") if name.startswith("stica-")]
)
def test_recipes_can_be_read(name: str) -> None:
    config = read(*load_recipes("gdt_stica")[name].arguments(data="DATA", out="OUT"))
    assert str(config.root_dir) == "DATA"
    assert str(config.dump_path) == "OUT"


def test_reading_flags_imports_no_framework() -> None:
    code = "import sys; from gdt_stica.main_stica import main; main(['--help'])\n"
    ended = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))\n"
    done = subprocess.run([sys.executable, "-c", ended + code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "False"
    assert "--num_small_tcrops" in done.stdout
