"""The network that a fold of `eval_video` begins with, or that it tests."""

from __future__ import annotations

from pathlib import Path

import torch
from ssvideo_core.errors import ConfigError

from gdt_stica.architecture import Architecture
from gdt_stica.checkpoints import Checkpoint, read_checkpoint
from gdt_stica.eval_config import EvalVideo
from gdt_stica.eval_data import Fold
from gdt_stica.eval_settings import DEFAULT_MODEL, architecture_of
from gdt_stica.finetune import begin_with, load_fine_tuned
from gdt_stica.flags import spelled
from gdt_stica.model import FineTuned

RANDOM = "random"


def fold_folder(root: Path, dataset: str, name: str) -> Path:
    """Where a fold of the run `root` lies."""
    return root / f"{dataset}-fold{name}"


def weights_of(config: EvalVideo, fold: Fold) -> str:
    """The weights that a fold begins with, or that are tested; "" for random ones.

    The folder of a run of several folds, for --test-only, stands for each fold's own network.
    Raises ConfigError for one network and several folds: it knows test videos of the others.
    """
    if not config.test_only:
        return config.weights_path
    of_fold = fold_folder(Path(config.tested_weights), fold.dataset, fold.name)
    if of_fold.is_dir():
        return str(of_fold)
    if len(config.fold) > 1:
        raise ConfigError(
            f"--test-only: {config.tested_weights} is one network, and the training videos of its "
            "fold are test videos of the others; give that --fold, or the folder of a run with "
            f"{of_fold.name} and the others"
        )
    return config.tested_weights


def name_of(weights: str) -> str:
    """What results call them: a published name, a file's or folder's name, or "random"."""
    if not weights or not Path(weights).exists():
        return weights or RANDOM
    path = Path(weights).resolve()
    return path.name if path.is_dir() else Path(path.name.removesuffix(".tar")).stem


def read_weights(config: EvalVideo, fold: Fold) -> Checkpoint | None:
    """What `weights_of` names; None for random weights."""
    weights = weights_of(config, fold)
    return read_checkpoint(weights, download=config.download) if weights else None


def model_of(config: EvalVideo, checkpoint: Checkpoint | None) -> str:
    """What the network was before: --model, else what the weights tell.

    Raises ConfigError, naming both, where they differ.
    """
    told = None if checkpoint is None else checkpoint.trained_as
    if checkpoint is not None and config.model and told and config.model != told:
        raise ConfigError(
            f"--model {config.model}: {checkpoint.path} is of {told}; give --model {told} or "
            "nothing (--num_layer 0 averages the video where stica has a transformer)"
        )
    return config.model or told or DEFAULT_MODEL


def make_network(
    config: EvalVideo, fold: Fold, checkpoint: Checkpoint | None
) -> tuple[FineTuned, tuple[str, ...]]:
    """The network before training, or the one that is tested; and what of the file is not used.

    Random parts are drawn from --seed. Raises ConfigError and WeightsError for a file that does not
    fit.
    """
    known = None if checkpoint is None else checkpoint.architecture
    model = model_of(config, checkpoint)
    architecture = architecture_of(config, len(fold.classes), model=model, known=known)
    torch.manual_seed(config.seed)
    network = FineTuned(architecture, attention_dropout=config.dp)
    if checkpoint is None or known is None:
        return network, ()
    if config.test_only:
        load_fine_tuned(network, checkpoint)
        unused: tuple[str, ...] = ()
    else:
        unused = begin_with(network, checkpoint)
    _check_told(config, architecture, checkpoint)
    return network, unused


def _check_told(config: EvalVideo, wanted: Architecture, checkpoint: Checkpoint) -> None:
    """Raise ConfigError where flags differ from what no tensor shows, but our files tell."""
    known = checkpoint.architecture
    names = ["use_l2_norm"] if config.test_only else []
    if known.has_transformer and wanted.has_transformer:
        names += ["num_head"] + (["transformer_time_dim"] if config.test_only else [])
    for name in names if checkpoint.stated else ():
        told, given = getattr(known, name), getattr(wanted, name)
        if told != given:
            raise ConfigError(
                f"{spelled(config, name)} {given}: {checkpoint.path} was trained with {told}"
            )
