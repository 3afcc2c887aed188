"""Training GDT: what it changes, and one step.

A step is: bytes to the device, augmentation, projections of every copy, the objective, SGD. Nothing
is random but what `generator(seed, …)` gives for a sample or a step, so that a run that was killed
goes on, bit for bit, where its last checkpoint is.

Axes: B clips of this process, T frames, S pixels, F filters, W words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ssvideo_core.randomness import generator
from ssvideo_torch.parallel import parallel
from ssvideo_torch.precision import autocast, make_scaler
from ssvideo_torch.start import Process
from torch import Tensor, nn

from gdt_stica.objective import gather_copies, gdt_loss
from gdt_stica.optim import make_sgd

Copies = Mapping[int, tuple[Tensor, Tensor]]
"""Copy (0 V1, 1 R1, 2 V2, 3 R2) to its clips (B, 3, T, S, S) and what is compared with them:
spectrograms (B, 1, F, frames) or words (B, W)."""


class EveryCopy(nn.Module):
    """All copies in one call, because DistributedDataParallel expects one a step.

    Each copy is a batch of its own: batch norms see one after the other.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, copies: Copies) -> dict[int, tuple[Tensor, Tensor]]:
        """Copy to the projections of its video and its sound or text, (B, 256) each."""
        return {copy: self.network(*inputs) for copy, inputs in copies.items()}


@dataclass(frozen=True)
class TrainingState:
    """All that training changes; a checkpoint holds it whole.

    network: the bare model, `AudioVisualGDT` or `VideoTextGDT`, whose parameters `forward` shares.
    """

    network: nn.Module
    forward: nn.Module
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by name."""
        return {"network": self.network, "optimizer": self.optimizer, "scaler": self.scaler}


def make_state(
    network: nn.Module,
    process: Process,
    *,
    momentum: float,
    weight_decay: float,
    sync_bn: bool,
    precision: str,
) -> TrainingState:
    """A network on its device, ready for its first step.

    weight_decay: on every parameter, norms and biases too, as in the original (specification e).
    The audio trunk's unused classifier takes no part.
    """
    network.to(process.device).train()
    for name, parameter in network.named_parameters():
        if name.startswith("audio_network.base.fc."):
            parameter.requires_grad_(False)
    forward = parallel(EveryCopy(network), process, sync_bn=sync_bn)
    optimizer = make_sgd(network, momentum=momentum, weight_decay=weight_decay)
    return TrainingState(network, forward, optimizer, make_scaler(process.device, precision))


def train_step(
    state: TrainingState,
    copies: Copies,
    process: Process,
    *,
    step: int,
    rate: float,
    hypothesis: int,
    temperature: float,
    negatives: str,
    precision: str,
    seed: int,
) -> Tensor:
    """One update; returns this process' loss, a scalar on the device.

    All processes call it together. step: those done before. Dropout is drawn from (seed, step,
    rank).
    """
    torch.manual_seed(int(generator(seed, step, process.rank, "dropout").integers(2**62)))
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with autocast(process.device, precision):
        projections = state.forward(copies)
    video = {copy: _full_precision(v) for copy, (v, _) in projections.items()}
    other = {copy: _full_precision(a) for copy, (_, a) in projections.items()}
    remote_video, remote_other = gather_copies(video, other, process)
    loss = gdt_loss(
        video,
        other,
        remote_v=remote_video,
        remote_a=remote_other,
        hypothesis=hypothesis,
        temperature=temperature,
        negatives=negatives,
    ).loss
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return loss.detach()


def _full_precision(projection: Tensor) -> Tensor:
    """At least float32: similarities divided by a small temperature need its digits."""
    return projection.to(torch.promote_types(projection.dtype, torch.float32))
