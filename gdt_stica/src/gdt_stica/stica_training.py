"""Training STiCA: the state before its first step, and one step.

A step is: bytes to the device, augmentation, embeddings of both views, of their crops and of their
sound, the objective, SGD. Nothing is random but what `generator(seed, …)` gives for a sample or a
step, so that a run that was killed goes on, bit for bit, where its last checkpoint is.

Axes: B clips of this process, T frames, S pixels, F filters.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssvideo_core.randomness import generator
from ssvideo_torch.parallel import parallel
from ssvideo_torch.precision import make_scaler
from ssvideo_torch.start import Process
from torch import Tensor

from gdt_stica.feature_crops import FeatureBoxes, MapSize, draw_boxes
from gdt_stica.model_stica import STiCA
from gdt_stica.optim import make_sgd
from gdt_stica.stica_embeddings import StepEmbeddings
from gdt_stica.stica_objective import stica_step_loss
from gdt_stica.training_state import TrainingState, seed_dropout

MOMENTUM = 0.9
VIEWS = 2
UNUSED = "audio_network.base.fc."  # a classifier in the published state dict
SOUND_SIDE = ("audio_network.", "mlp_a.")


def make_state(
    network: STiCA,
    process: Process,
    *,
    weight_decay: float,
    sound: bool,
    passes: str,
    precision: str,
) -> TrainingState[STiCA]:
    """A network on its device, ready for its first step.

    weight_decay: on every parameter, norms and biases too, as in the original (specification e).
    sound: whether the loss has terms with sound; without them its side of the network stays as it
    is. passes: of the crops, see `StepEmbeddings`. Batch norms take their statistics over all
    processes.
    """
    network.to(process.device).train()
    still = (UNUSED,) if sound else SOUND_SIDE
    for name, parameter in network.named_parameters():
        if name.startswith(still):
            parameter.requires_grad_(False)
    forward = parallel(StepEmbeddings(network, passes=passes), process, sync_bn=True)
    optimizer = make_sgd(network, momentum=MOMENTUM, weight_decay=weight_decay)
    return TrainingState(network, forward, optimizer, make_scaler(process.device, precision))


def draw_step_boxes(
    process: Process,
    *,
    seed: int,
    step: int,
    num_large: int,
    num_small: int,
    num_large_t: int,
    num_small_t: int,
    map_size: MapSize,
    rule: str,
) -> list[FeatureBoxes]:
    """The crops of both views in a step, the same for all clips of this process.

    Drawn from (seed, step, rank), anew for each view. The other arguments are those of
    `feature_crops.draw_boxes`.
    """
    rng = generator(seed, step, process.rank, "crops")
    return [
        draw_boxes(
            rng,
            num_large=num_large,
            num_small=num_small,
            num_large_t=num_large_t,
            num_small_t=num_small_t,
            map_size=map_size,
            rule=rule,
        )
        for _ in range(VIEWS)
    ]


def train_step(
    state: TrainingState[STiCA],
    videos: Sequence[Tensor],
    spectrograms: Tensor | None,
    boxes: Sequence[FeatureBoxes],
    process: Process,
    *,
    step: int,
    rate: float,
    temperature: float,
    alpha: float,
    precision: str,
    seed: int,
) -> dict[str, Tensor]:
    """One update; returns `StepLoss.scalars` of this process: scalars on the device.

    videos: of both views, (B, 3, T, S, S). spectrograms: of both, (B, 1, F, frames); None if
    alpha is 0. boxes: of both views. All processes call it together. step: those done before.
    Dropout is drawn from (seed, step, rank).
    """
    seed_dropout(process, seed=seed, step=step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    found = stica_step_loss(
        state.forward,
        videos,
        spectrograms,
        boxes,
        process,
        temperature=temperature,
        alpha=alpha,
        precision=precision,
    )
    state.update(found.loss)
    return found.scalars()
