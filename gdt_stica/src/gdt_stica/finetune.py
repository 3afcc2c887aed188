"""Fine-tuning a video network: what it begins with, its rates, and one step.

The network is `model.FineTuned`. Its parameters are of three kinds: "base" (the trunk),
"transformer" (STiCA's pooling) and "head" (classifier and its batch norm), each with a learning
rate and a weight decay of its own.

Axes: B clips of this process, T frames, S pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from ssvideo_core.errors import ConfigError, WeightsError
from ssvideo_core.weights import match_keys
from ssvideo_torch.parallel import parallel
from ssvideo_torch.pixels import from_numpy
from ssvideo_torch.precision import autocast, make_scaler
from ssvideo_torch.start import Process
from torch import Tensor

from gdt_stica.checkpoints import Checkpoint
from gdt_stica.detection import Tensors
from gdt_stica.model import FineTuned
from gdt_stica.optim import epoch_rate
from gdt_stica.sides import FINE_POOLING, POOLING
from gdt_stica.training_state import TrainingState, seed_dropout

KINDS = ("head", "base", "transformer")
WARM_UP_MULTIPLIER = 8.0  # what the warm-up ends at, times the rates
TRUNK, FINE_TRUNK = "video_network.base.", "base."


def begin_with(network: FineTuned, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Fill trunk and pooling; returns what the file holds besides, as names and counts.

    The file may be of any model here: its video trunk becomes `base`, its pooling `pooling_arch`.
    The head stays as it is. Raises WeightsError, with the names, when a tensor of trunk or pooling
    is absent or of another shape; nothing is filled then.
    """
    found = _renamed(checkpoint.tensors)
    expected = {k: tuple(t.shape) for k, t in network.state_dict().items() if kind_of(k) != "head"}
    starts = (FINE_TRUNK, *((FINE_POOLING,) if any(map(_is_pooling, expected)) else ()))
    used = {name: array for name, array in found.items() if name.startswith(starts)}
    try:
        match_keys(used, expected).require()
    except WeightsError as error:
        raise WeightsError(
            f"{checkpoint.path}: {error} Give the --model, --vid-base-arch, --num_layer, "
            "--positional_emb and --qkv_mha of its training"
        ) from None
    network.load_state_dict({k: from_numpy(a) for k, a in used.items()}, strict=False)
    return _counted(found.keys() - used.keys())


def load_fine_tuned(network: FineTuned, checkpoint: Checkpoint) -> None:
    """Fill the whole network. Raises WeightsError, with the names, unless the file is of it."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        match_keys(checkpoint.tensors, expected).require()
    except WeightsError as error:
        raise WeightsError(
            f"{checkpoint.path} is no network that was fine-tuned with these flags on these "
            f"classes: {error} What is only pre-trained is trained without --test-only"
        ) from None
    network.load_state_dict({k: from_numpy(a) for k, a in checkpoint.tensors.items()})


def kind_of(name: str) -> str:
    """Of `KINDS`, what a parameter of this name is."""
    if name.startswith(FINE_TRUNK):
        return "base"
    return "transformer" if _is_pooling(name) else "head"


def parameter_groups(network: FineTuned, weight_decay: Mapping[str, float]) -> list[dict[str, Any]]:
    """For an optimiser: one group a tensor, as the original makes them, with its "kind".

    weight_decay: by kind. Tensors that want no gradient have no group.
    """
    return [
        {"params": [parameter], "weight_decay": weight_decay[kind_of(name)], "kind": kind_of(name)}
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]


def fine_tuning_rate(
    epoch: int,
    base_rate: float,
    *,
    epochs: int = 12,
    warmup_epochs: int = 2,
    milestones: Sequence[int] = (6, 10),
    gamma: float = 0.05,
    schedule: str = "released",
) -> float:
    """The rate of an epoch, from 0: base_rate times 1, 4.5, 8, 8, 8, 8, 8, .4, .4, .4, .4, .02.

    These are the defaults; see `optim.epoch_rate`. Without warm-up nothing is multiplied.
    """
    return epoch_rate(
        epoch,
        base_rate,
        epochs=epochs,
        multiplier=WARM_UP_MULTIPLIER,
        warmup_epochs=warmup_epochs,
        milestones=milestones,
        gamma=gamma,
        schedule=schedule,
    )


@dataclass(frozen=True)
class TuningState(TrainingState[FineTuned]):
    """All that fine-tuning changes.

    frozen_norms: batch norms and dropout of trunk and pooling are as in evaluation.
    """

    frozen_norms: bool

    def train(self) -> None:
        """Training mode, where a test has left another one."""
        self.network.train()
        if self.frozen_norms:
            for name, child in self.network.named_children():
                child.train(kind_of(f"{name}.") == "head")


def make_state(
    network: FineTuned,
    process: Process,
    *,
    momentum: float,
    weight_decay: Mapping[str, float],
    head_only: bool,
    frozen_norms: bool,
    sync_bn: bool,
    precision: str,
) -> TuningState:
    """A network on its device, ready for its first step; see `TuningState`.

    weight_decay: by kind. sync_bn: batch statistics over all processes, else over each one's batch.
    """
    network.to(process.device).train()
    if head_only:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(kind_of(name) == "head")
    forward = parallel(network, process, sync_bn=sync_bn)
    groups = parameter_groups(network, weight_decay)
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=momentum)
    scaler = make_scaler(process.device, precision)
    return TuningState(network, forward, optimizer, scaler, frozen_norms)


def tuning_step(
    state: TuningState,
    clips: Tensor,
    labels: Tensor,
    process: Process,
    *,
    step: int,
    rates: Mapping[str, float],
    precision: str,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """One update; returns this process' loss and top-1 accuracy, scalars on the device.

    clips: (B, 3, T, S, S). labels: (B,) numbers of classes. rates: by kind. step: those done
    before. All processes call it together. Dropout is drawn from (seed, step, rank).
    """
    seed_dropout(process, seed=seed, step=step)
    state.train()
    for group in state.optimizer.param_groups:
        group["lr"] = rates[group["kind"]]
    with autocast(process.device, precision):
        logits = state.forward(clips)
    loss = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)
    state.update(loss)
    return loss.detach(), (logits.argmax(dim=1) == labels).float().mean()


def check_clips_of_step(batch_size: int, world_size: int, *, statistics_of_all: bool) -> None:
    """Raise ConfigError for a global batch that cannot be shared, or too small for batch norms."""
    if batch_size % world_size:
        raise ConfigError(
            f"--batch-size {batch_size}: clips of a step, shared by {world_size} processes; "
            f"expected a multiple of {world_size}"
        )
    if (batch_size if statistics_of_all else batch_size // world_size) < 2:
        raise ConfigError(
            f"--batch-size {batch_size}: batch norms need two clips of each of the {world_size} "
            "processes; give more, or --sync-bn yes"
        )


def _is_pooling(name: str) -> bool:
    return name.startswith(FINE_POOLING)


def _renamed(tensors: Tensors) -> dict[str, Any]:
    """With the names of a fine-tuned network where there are some."""
    found = {}
    for name, array in tensors.items():
        for before, after in ((TRUNK, FINE_TRUNK), (POOLING, FINE_POOLING)):
            if name.startswith(before):
                name = after + name.removeprefix(before)
        found[name] = array
    return found


def _counted(names: Any) -> tuple[str, ...]:
    """The first parts of the names with how many there are: "mlp_v (6)"."""
    starts = sorted(name.partition(".")[0] for name in names)
    return tuple(f"{start} ({starts.count(start)})" for start in dict.fromkeys(starts))
