"""The original code's values for STiCA's objective (tests/golden/CASES.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gdt_stica.architecture import Architecture
from gdt_stica.feature_crops import FeatureBoxes, support
from gdt_stica.networks.heads import make_head
from gdt_stica.networks.pooling import make_pooling
from gdt_stica.stica_embeddings import embed_parts
from gdt_stica.stica_objective import Part, Term, pair_loss, plan_terms, stica_loss
from gdt_stica.stica_optim import iteration_rate
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.rekey import check_renamed
from torch import Tensor, nn

LOSSES = ("stica_pair_loss", "stica_step", "stica_step_released")
KINDS = (*LOSSES, "crop_support", "schedule_iteration")

golden = reference_cases("gdt_stica", KINDS)


class Heads(nn.Module):
    """What follows STiCA's trunks."""

    def __init__(self, case: Case):
        super().__init__()
        options = ("num_layer", "num_head", "positional_emb", "qkv_mha")
        architecture = Architecture(
            model="stica",
            transformer_time_dim=case.duration,
            **{name: case[name] for name in options},
        )
        size = case.feature_maps[0].shape[1]
        self.video_pooling = make_pooling(size, architecture, attention_dropout=case.dropout)
        self.mlp_v = make_head(size, dropout=case.dropout)
        self.mlp_a = make_head(size, dropout=case.dropout)
        self.train(case.train)
        self.load_state_dict(
            {k: torch.from_numpy(fill(k, tuple(shape))) for k, (shape, _) in case.state.items()}
        )


def leaves(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(x).requires_grad_() for x in arrays]


def summary(x: Tensor | None, like: Tensor) -> np.ndarray:
    flat = (torch.zeros_like(like) if x is None else x).double().flatten()
    picks = flat[np.linspace(0, len(flat) - 1, 8).astype(int)]
    return np.concatenate([[flat.mean().item(), flat.std(correction=0).item()], picks.numpy()])


def rows(boxes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    columns = {"space_large": 4, "space_small": 4, "time_large": 2, "time_small": 2}
    return {
        name: np.array(boxes.get(name, []), np.int64).reshape(-1, number)
        for name, number in columns.items()
    }


@golden.kind("stica_pair_loss")
def _(case: Case) -> dict[str, Any]:
    remote = [torch.from_numpy(x) for x in (case.v_remote, case.a_remote)]
    both = leaves((case.v, case.a))
    symmetric = pair_loss(*both, *remote, temperature=case.temperature)
    symmetric.backward()
    alone = leaves((case.v, case.a))
    asymmetric = pair_loss(*alone, remote[0], None, temperature=case.temperature)
    asymmetric.backward()
    assert alone[0].grad is None
    return {
        "sym_loss": symmetric,
        "sym_grad_v": both[0].grad,
        "sym_grad_a": both[1].grad,
        "asym_loss": asymmetric,
        "asym_grad_a": alone[1].grad,
    }


@golden.kind("crop_support")
def _(case: Case) -> dict[str, Any]:
    return vars(support((case.duration, case.map_size, case.map_size)))


def term_of(call: Mapping[str, Any]) -> Term:
    def part(side: Mapping[str, Any]) -> Part:
        return Part(side["view"], side["crop"], side["index"])

    return Term(call["term"], part(call["first"]), part(call["second"]), call["symmetric"])


@golden.kind("stica_step")
def _(case: Case) -> dict[str, Any]:
    heads, maps = Heads(case), leaves(case.feature_maps)
    (sound,) = leaves([case.audio_features])
    boxes = [FeatureBoxes(**rows(case.boxes[f"view{view}"])) for view in range(2)]
    terms = plan_terms(boxes, sound=case.alpha > 0)
    assert terms == tuple(term_of(call) for call in case.calls)
    assert all(
        call["temperature"] == (case.cross_modal_temp if "cross" in call["term"] else case.temp)
        for call in case.calls
    )

    def of_others(side: np.ndarray | None) -> Tensor | None:
        return None if side is None else torch.from_numpy(side)

    found = stica_loss(
        embed_parts(heads, maps, [sound] if case.alpha > 0 else [], boxes),
        terms,
        [tuple(of_others(call[f"remote_{n}"]) for n in ("first", "second")) for call in case.calls],
        temperature=case.temp,
        audio_temperature=case.cross_modal_temp,
        alpha=case.alpha,
    )
    found.loss.backward()
    parameters = dict(heads.named_parameters())
    out, query = "mlp_v.block_forward.8.weight", "video_pooling.2.transformer.0.mha.q_lin.weight"
    outputs = {
        "loss": found.loss,
        "call_losses": found.call_losses,
        "crop_losses": found.crop_losses,
        "crop_counters": found.crop_counters,
        "audiofeat_grad_stats": summary(sound.grad, sound),
        "mlp_v_out_weight_grad_stats": summary(parameters[out].grad, parameters[out]),
        **{f"featmap{v}_grad_stats": summary(maps[v].grad, maps[v]) for v in range(2)},
    }
    if query in parameters:
        stats = summary(parameters[query].grad, parameters[query])
        outputs["transf0_q_weight_grad_stats"] = stats
    return outputs


def drawn(found: Mapping[str, np.ndarray]) -> FeatureBoxes:
    """All small boxes are listed together; those of the first large box are used."""
    parts = dict(found)
    for place in ("space", "time"):
        small = parts[f"{place}_small"]
        used = len(small) // max(len(parts[f"{place}_large"]), 1)
        parts[f"{place}_small"], parts[f"{place}_unused"] = small[:used], small[used:]
    return FeatureBoxes(**parts)


@golden.kind("stica_step_released")
def _(case: Case) -> dict[str, Any]:
    heads = Heads(case)
    maps = [torch.from_numpy(x) for x in case.feature_maps]
    boxes = [drawn(rows(case.boxes_drawn[f"view{view}"])) for view in range(2)]
    embed_parts(heads, maps, [], boxes, passes="released")
    norm = heads.mlp_v.block_forward.get_submodule("4")
    return {
        "mlp_v_running_mean_after": norm.running_mean,
        "mlp_v_num_batches": norm.num_batches_tracked,
    }


@golden.kind("schedule_iteration")
def _(case: Case) -> dict[str, Any]:
    rates = [
        iteration_rate(
            iteration,
            iterations_per_epoch=case.iters_per_epoch,
            epochs=case.epochs,
            base_rate=case.base_lr,
            warmup_epochs=case.warmup_epochs,
            start_rate=case.start_warmup,
            final_rate=case.final_lr,
            kind="cosine" if case.cosine else "constant",
        )
        for iteration in range(case.iters_per_epoch * case.epochs)
    ]
    return {"lr": rates}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)
