"""The original code's values (tests/golden/CASES.md says what each kind is)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdt_stica.architecture import Architecture, from_options
from gdt_stica.model import AudioVisualGDT, FineTuned
from ssvideo_core.testing.cases import Case, reference_cases
from ssvideo_core.testing.fill import fill
from ssvideo_core.testing.rekey import rekey
from ssvideo_torch.filterbank import mel_filters
from torch import Tensor, nn

golden = reference_cases("gdt_stica")


def architecture_of(arch: Mapping[str, Any]) -> Architecture:
    """Options of the pooling belong to STiCA and are null for the other trunks."""
    names = Architecture.__dataclass_fields__
    return from_options({k: v for k, v in arch.items() if k in names and v is not None})


def build(arch: Mapping[str, Any], dropout: float) -> nn.Module:
    models: dict[str, Callable[..., nn.Module]] = {"av_gdt": AudioVisualGDT, "finetune": FineTuned}
    return models[arch["model"]](architecture_of(arch), dropout=dropout)


def filled(case: Case) -> nn.Module:
    model = build(case.arch, case.dropout).train(case.train)
    state = {k: torch.from_numpy(fill(k, tuple(s))) for k, (s, _) in case.state.items()}
    model.load_state_dict(state)
    return model


def summary(x: Tensor) -> np.ndarray:
    flat = x.detach().double().flatten()
    picks = flat[np.linspace(0, len(flat) - 1, 8).astype(int)]
    return np.concatenate([[flat.mean().item(), flat.std(correction=0).item()], picks.numpy()])


def record_layers(model: nn.Module, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Summaries that fill as the model runs; taken at once, since the next ReLU is in place."""
    found: dict[str, np.ndarray] = {}
    modules = dict(model.named_modules())
    for name in names:

        def hook(_m: nn.Module, _i: Any, out: Tensor, name: str = name) -> None:
            found[f"layer/{name}"] = summary(out)

        modules[name].register_forward_hook(hook)
    return found


@golden.kind("state_dict")
def _(case: Case) -> dict[str, Any]:
    with torch.device("meta"):
        state = build(case.arch, dropout=0.0).state_dict()
    names = {"torch.float32": "float32", "torch.int64": "int64"}
    return {"state": {k: [list(v.shape), names[str(v.dtype)]] for k, v in state.items()}}


@golden.kind("model_av_gdt")
def _(case: Case) -> dict[str, Any]:
    model = filled(case)
    wanted = [name.split("/", 1)[1] for name in case.outputs if name.startswith("layer/")]
    layers = record_layers(model, wanted)
    video, audio = torch.from_numpy(case.video), torch.from_numpy(case.audio)
    with torch.no_grad():
        projections = model(video, audio)
        after = {f"state_after/{k}": v.numpy().copy() for k, v in model.state_dict().items()}
        trunks = (
            {}
            if case.train
            else {
                "video_trunk": model.video_network(video).numpy(),
                "audio_trunk": model.audio_network(audio).numpy(),
            }
        )
    names = ("video_embedding", "audio_embedding")
    outputs = {n: p.numpy() for n, p in zip(names, projections, strict=True)}
    return {**outputs, **layers, **trunks, **after}


@golden.kind("finetune_model")
def _(case: Case) -> dict[str, Any]:
    with torch.no_grad():
        return {"logits": filled(case)(torch.from_numpy(case.video)).numpy()}


@golden.kind("filterbank")
def _(case: Case) -> dict[str, Any]:
    filters = mel_filters(
        case.num_filters, nfft=case.nfft, sample_rate_hz=case.sample_rate, high_hz=case.high_hz
    )
    used = filters > 0
    return {
        "filter_sum": filters.sum(axis=1),
        "first_bin": np.where(used.any(axis=1), used.argmax(axis=1), -1),
        "empty_filters": np.flatnonzero(~used.any(axis=1)),
    }


test_reference = golden.parametrised()


def test_other_names_files_and_order(tmp_path: Path) -> None:
    other = golden.moved(rekey(golden.folder, tmp_path / "gdt_stica"))
    checked = set()
    for case in other.cases:
        try:
            other.check(case, tmp_path)
            checked.add(case.kind)
        except pytest.skip.Exception:
            continue
    computed = {"state_dict", "model_av_gdt", "finetune_model", "filterbank"}
    assert checked <= computed
    covers = golden.pending.covers
    assert checked == {case.kind for case in golden.cases if not covers(case.kind, case.params)}
