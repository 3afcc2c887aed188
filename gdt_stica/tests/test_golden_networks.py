"""The original networks' values and names (tests/golden/CASES.md says what each kind is)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gdt_stica.architecture import Architecture, from_options
from gdt_stica.feature_crops import FeatureBoxes
from gdt_stica.model import build
from gdt_stica.networks.transformer import Transformer
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.rekey import check_renamed
from torch import Tensor, nn

TWO_TRUNKS = ("model_av_gdt", "model_vid_text_gdt", "model_stica")
KINDS = (*TWO_TRUNKS, "finetune_model", "transformer", "state_dict")

golden = reference_cases("gdt_stica", KINDS)


def architecture_of(arch: Mapping[str, Any]) -> Architecture:
    """Null options are of trunks that have none; num_sec is of the clip."""
    return from_options({k: v for k, v in arch.items() if v is not None and k != "num_sec"})


def filled_state(names: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Values by the published names; only positions are counted."""
    state = {}
    for name, (shape, _) in names.items():
        counted = torch.arange(shape[-1]).reshape(shape) if name.endswith("pos_ids") else None
        value = torch.from_numpy(fill(name, tuple(shape))) if counted is None else counted
        state[name.removeprefix(prefix)] = value
    return state


def filled(case: Case) -> nn.Module:
    model = build(architecture_of(case.arch), dropout=case.dropout).train(case.train)
    model.load_state_dict(filled_state(case.state))
    return model


def summary(x: Tensor) -> np.ndarray:
    flat = x.detach().double().flatten()
    picks = flat[np.linspace(0, len(flat) - 1, 8).astype(int)]
    return np.concatenate([[flat.mean().item(), flat.std(correction=0).item()], picks.numpy()])


def record_layers(model: nn.Module, outputs: Iterable[str]) -> dict[str, np.ndarray]:
    """Summaries that fill as the model runs; taken at once, since the next ReLU is in place."""
    found: dict[str, np.ndarray] = {}
    modules = dict(model.named_modules())
    for output in outputs:
        if not output.startswith("layer/"):
            continue

        def hook(_m: nn.Module, _i: Any, out: Tensor, output: str = output) -> None:
            found[output] = summary(out)

        modules[output.removeprefix("layer/")].register_forward_hook(hook)
    return found


def state_after(model: nn.Module) -> dict[str, np.ndarray]:
    return {f"state_after/{k}": v.numpy().copy() for k, v in model.state_dict().items()}


@golden.kind("state_dict")
def _(case: Case) -> dict[str, Any]:
    with torch.device("meta"):
        state = build(architecture_of(case.arch)).state_dict()
    names = {"torch.float32": "float32", "torch.int64": "int64"}
    return {"state": {k: [list(v.shape), names[str(v.dtype)]] for k, v in state.items()}}


@golden.kind("transformer")
def _(case: Case) -> dict[str, Any]:
    tokens = torch.from_numpy(case.tokens)
    transformer = Transformer(
        tokens.shape[2],
        num_layer=case.num_layer,
        num_head=case.num_head,
        positional_emb=case.positional_emb,
        qkv_mha=case.qkv_mha,
    ).eval()
    transformer.load_state_dict(filled_state(case.state, case.name_prefix))
    with torch.no_grad():
        return {"first_token": transformer(tokens).numpy()}


@golden.kind("model_av_gdt")
def _(case: Case) -> dict[str, Any]:
    model = filled(case)
    layers = record_layers(model, case.outputs)
    video, audio = torch.from_numpy(case.video), torch.from_numpy(case.audio)
    trunks = {}
    with torch.no_grad():
        projections = model(video, audio)
        after = state_after(model)
        if not case.train:
            trunks["video_trunk"] = model.video_network(video).numpy()
            trunks["audio_trunk"] = model.audio_network(audio).numpy()
    names = ("video_embedding", "audio_embedding")
    outputs = {n: p.numpy() for n, p in zip(names, projections, strict=True)}
    return {**outputs, **layers, **trunks, **after}


@golden.kind("model_vid_text_gdt")
def _(case: Case) -> dict[str, Any]:
    model = filled(case)
    layers = record_layers(model, case.outputs)
    with torch.no_grad():
        video, text = model(torch.from_numpy(case.video), torch.tensor(case.tokens))
    outputs = {"video_embedding": video.numpy(), "text_embedding": text.numpy()}
    return {**outputs, **layers, **state_after(model)}


@golden.kind("model_stica")
def _(case: Case) -> dict[str, Any]:
    model = filled(case)
    layers = record_layers(model, case.outputs)
    rows = case.get("boxes", {})
    sizes = {"space_large": 4, "space_small": 4, "time_large": 2, "time_small": 2}
    boxes = FeatureBoxes(
        **{k: np.array(rows.get(k, []), np.int64).reshape(-1, n) for k, n in sizes.items()}
    )
    with torch.no_grad():
        found = model(torch.from_numpy(case.video), torch.from_numpy(case.audio), boxes)
    outputs = {name: projections.numpy() for name, projections in found.items()}
    outputs |= {f"{name}_embedding": outputs.pop(name) for name in ("video", "audio")}
    return {**outputs, **layers, **state_after(model)}


@golden.kind("finetune_model")
def _(case: Case) -> dict[str, Any]:
    with torch.no_grad():
        return {"logits": filled(case)(torch.from_numpy(case.video)).numpy()}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path, each=1)
