"""SGD and the learning rate of an epoch, for pre-training and fine-tuning.

The rate is a function of the epoch, so a run that goes on needs no scheduler's state. The original
steps PyTorch's schedulers; their closed forms are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from gdt_stica.choices import check_choice

KINDS = ("multi_step", "cosine")
SCHEDULES = ("released", "exact")
WARM_UPS = ("released", "nonzero")


def make_sgd(
    network: nn.Module, *, momentum: float = 0.9, weight_decay: float = 1e-5
) -> torch.optim.SGD:
    """SGD over every parameter that wants a gradient, in one group.

    Weight decay acts on norms and biases too, as in the original. The rate is 0 until a
    step sets that of its epoch.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(parameters, lr=0.0, momentum=momentum, weight_decay=weight_decay)


def epoch_rate(
    epoch: int,
    base_rate: float,
    *,
    epochs: int,
    multiplier: float,
    warmup_epochs: int = 10,
    kind: str = "multi_step",
    milestones: Sequence[int] = (150, 175),
    gamma: float = 0.1,
    schedule: str = "released",
    warm_up: str = "nonzero",
) -> float:
    """The learning rate of an epoch (counted from 0).

    base_rate: of one process. multiplier: what the warm-up ends at, times base_rate: the number of
    processes in pre-training, 8 in fine-tuning. Without warm-up (0 epochs) nothing is multiplied,
    as in the original. epochs: of the whole run.
    kind: "multi_step" multiplies by gamma at each of `milestones` (epochs), "cosine" falls slowly.

    schedule: "released" is one epoch late after a warm-up: a milestone of 150 acts in epoch 151,
    and the cosine's half period is all epochs from the end of the warm-up on, so it ends above 0.
    "exact" acts at the milestone, and the cosine would reach 0 in the epoch after the last.
    warm_up: where it starts when multiplier is 1; any other multiplier starts at base_rate.
    "released": at rate 0, an epoch in which nothing but the batch norms learns. "nonzero": at the
    first of warmup_epochs + 1 equal steps. Raises ConfigError for unknown choices.
    """
    check_choice(f"kind '{kind}'", kind, KINDS)
    check_choice(f"schedule '{schedule}'", schedule, SCHEDULES)
    check_choice(f"warm_up '{warm_up}'", warm_up, WARM_UPS)
    if epoch <= warmup_epochs and warmup_epochs > 0:
        return base_rate * _warm_up_factor(epoch, warmup_epochs, multiplier, warm_up)
    late = 1 if schedule == "released" and warmup_epochs > 0 else 0
    peak = base_rate * (multiplier if warmup_epochs > 0 else 1.0)
    if kind == "multi_step":
        return peak * gamma ** sum(milestone <= epoch - late for milestone in milestones)
    length = epochs if schedule == "released" else epochs - warmup_epochs
    return peak * (1 + math.cos(math.pi * (epoch - warmup_epochs - late) / length)) / 2


def _warm_up_factor(epoch: int, warmup_epochs: int, multiplier: float, warm_up: str) -> float:
    if multiplier != 1:
        return 1 + (multiplier - 1) * epoch / warmup_epochs
    if warm_up == "released":
        return epoch / warmup_epochs
    return (epoch + 1) / (warmup_epochs + 1)
