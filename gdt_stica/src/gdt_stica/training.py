"""Training GDT: the state before its first step, and one step.

A step is: bytes to the device, augmentation, projections of every copy, the objective, SGD. Nothing
is random but what `generator(seed, …)` gives for a sample or a step, so that a run that was killed
goes on, bit for bit, where its last checkpoint is.

Axes: B clips of this process, T frames, S pixels, F filters, W words.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ssvideo_torch.parallel import parallel
from ssvideo_torch.precision import autocast, make_scaler
from ssvideo_torch.start import Process
from torch import Tensor, nn

from gdt_stica.objective import gather_copies, gdt_loss
from gdt_stica.optim import make_sgd
from gdt_stica.training_state import TrainingState, seed_dropout

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


def make_state(
    network: nn.Module,
    process: Process,
    *,
    momentum: float,
    weight_decay: float,
    sync_bn: bool,
    precision: str,
) -> TrainingState[nn.Module]:
    """A network on its device, ready for its first step.

    network: `AudioVisualGDT` or `VideoTextGDT`. weight_decay: on every parameter, norms and biases
    too, as in the original (specification e). The audio trunk's unused classifier takes no part.
    """
    network.to(process.device).train()
    for name, parameter in network.named_parameters():
        if name.startswith("audio_network.base.fc."):
            parameter.requires_grad_(False)
    forward = parallel(EveryCopy(network), process, sync_bn=sync_bn)
    optimizer = make_sgd(network, momentum=momentum, weight_decay=weight_decay)
    return TrainingState(network, forward, optimizer, make_scaler(process.device, precision))


def train_step(
    state: TrainingState[nn.Module],
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
    seed_dropout(process, seed=seed, step=step)
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
    state.update(loss)
    return loss.detach()


def _full_precision(projection: Tensor) -> Tensor:
    """At least float32: similarities divided by a small temperature need its digits."""
    return projection.to(torch.promote_types(projection.dtype, torch.float32))
