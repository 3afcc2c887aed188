"""Which network a fold begins with, by flags and by weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture, from_options
from gdt_stica.checkpoints import export, read_checkpoint
from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_data import Fold
from gdt_stica.eval_weights import make_network, model_of
from gdt_stica.model import build
from gdt_stica.training_state import arrays_of
from ssvideo_core import config as configs
from ssvideo_core.errors import ConfigError

NONE = np.array([], np.int64)
FOLD = Fold("hmdb51", "1", None, NONE, NONE, ("blink", "jump"), {})
NARROW = {"width": 1 / 32}
GDT = Architecture(**NARROW)
STICA = from_options({"model": "stica", "num_layer": 1, **NARROW})
AVERAGED = from_options({"model": "stica", "num_layer": 0, **NARROW})
TUNED = {"model": "finetune", "num_classes": 2, **NARROW}


def config_of(*words: str) -> EvalVideo:
    return configs.parse(EvalVideo, words, prog="eval_video")


def weights(folder: Path, architecture: Architecture, *, ours: bool) -> Path:
    """Of the names alone, or of our format, which tells the model too."""
    network = build(architecture)
    path = folder / f"mine.{'safetensors' if ours else 'pth'}"
    if ours:
        export(path, arrays_of(network), architecture)
    else:
        torch.save({"model": network.state_dict(), "epoch": 3}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "ours", "words", "model", "num_layer"),
    [
        (STICA, False, (), "stica", 1),
        (STICA, True, (), "stica", 1),
        (STICA, True, ("--model", "stica"), "stica", 1),
        (STICA, True, ("--num_layer", "0"), "stica", 0),
        (AVERAGED, True, (), "stica", 0),
        (AVERAGED, False, (), "av_gdt", 0),
        (AVERAGED, False, ("--model", "stica"), "stica", 0),
        (GDT, False, (), "av_gdt", 0),
        (GDT, True, ("--model", "av_gdt"), "av_gdt", 0),
    ],
)
def test_the_model_is_that_of_the_weights(
    architecture: Architecture,
    ours: bool,
    words: tuple[str, ...],
    model: str,
    num_layer: int,
    tmp_path: Path,
) -> None:
    checkpoint = read_checkpoint(str(weights(tmp_path, architecture, ours=ours)))
    network, unused = make_network(config_of(*words), FOLD, checkpoint)
    assert (network.architecture.base, network.architecture.num_layer) == (model, num_layer)
    left = {name.partition(" ")[0] for name in unused}
    pooled = {"video_pooling", "pooling_arch"} if num_layer or not architecture.num_layer else set()
    assert not left & pooled
    trunk = checkpoint.tensors["video_network.base.stem.0.weight"]
    np.testing.assert_array_equal(network.base.stem[0].weight.detach().numpy(), trunk)


def test_without_weights_it_is_gdt_unless_told() -> None:
    assert model_of(config_of(), None) == "av_gdt"
    assert model_of(config_of("--model", "stica"), None) == "stica"


@pytest.mark.parametrize(
    ("architecture", "ours", "given", "told"),
    [
        (STICA, False, "av_gdt", "stica"),
        (STICA, True, "vid_text_gdt", "stica"),
        (AVERAGED, True, "av_gdt", "stica"),
        (GDT, True, "stica", "av_gdt"),
        (Architecture(**TUNED, base="stica", num_layer=1), False, "av_gdt", "stica"),
        (Architecture(**TUNED), True, "stica", "av_gdt"),
    ],
)
def test_a_model_that_the_weights_contradict(
    architecture: Architecture, ours: bool, given: str, told: str, tmp_path: Path
) -> None:
    path = weights(tmp_path, architecture, ours=ours)
    with pytest.raises(ConfigError, match=f"--model {given}: {path} is of {told}; give") as error:
        make_network(config_of("--model", given), FOLD, read_checkpoint(str(path)))
    assert f"--model {told}" in str(error.value)


def test_a_fine_tuned_network_is_tested_as_what_it_is(tmp_path: Path) -> None:
    architecture = Architecture(**TUNED, base="stica", num_layer=1, transformer_time_dim=8)
    path = str(weights(tmp_path, architecture, ours=True))
    config = config_of("--test-only", "--resume", path)
    network, unused = make_network(config, FOLD, read_checkpoint(path))
    assert network.architecture == architecture
    assert unused == ()
