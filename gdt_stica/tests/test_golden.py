"""GDT's values in the original code (tests/golden/CASES.md says what each kind is)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gdt_stica.augmentations import augment, jitter
from gdt_stica.geometry import scaled_size, source_box, uniform_crop
from gdt_stica.objective import HYPOTHESES, Copies, Term, gdt_loss, plan_terms
from gdt_stica.optim import epoch_rate
from gdt_stica.sampling import Look, video_params
from gdt_stica.spectrograms import masked, spectrograms
from gdt_stica.timing import clip_length, clip_start, decode_indices, sound_slice
from ssvideo_core.testing.cases import Case, load_cases, reference_cases
from ssvideo_core.testing.rekey import check_renamed
from ssvideo_torch.filterbank import mel_filters
from torch import Tensor

CLIPS = ("decode", "short_side_resize", "uniform_crop", "gdt_augment", "color_op")
SOUND = ("filterbank", "spectrogram", "spec_augment")
KINDS = (*CLIPS, *SOUND, "gdt_nce", "schedule_epoch")
golden = reference_cases("gdt_stica", KINDS)


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


@golden.kind("decode")
def _(case: Case) -> dict[str, Any]:
    stored = case.num_source_frames
    length = clip_length(
        case.fps,
        num_frames=case.num_frames,
        target_fps=case.target_fps,
        sample_rate=case.sample_rate,
    )
    start = case.get("start_draw")
    if start is None:
        start = clip_start(case.clip_idx, case.num_clips, length=length, num_source_frames=stored)
    frames = decode_indices(
        start,
        length=length,
        num_frames=case.num_frames,
        num_source_frames=stored,
        duration=stored * case.tick if case.has_duration else None,
        pts=np.arange(stored) * case.tick,
    )
    return {"frame_indices": frames}


@golden.kind("short_side_resize")
def _(case: Case) -> dict[str, Any]:
    return {"hw": [scaled_size(height, width, size) for height, width, size in case.rows]}


@golden.kind("uniform_crop")
def _(case: Case) -> dict[str, Any]:
    return {"yx": [uniform_crop(*row) for row in case.rows]}


@golden.kind("gdt_augment")
def _(case: Case) -> dict[str, Any]:
    draws = case.draws
    look = Look(
        short_side=round(draws["short_side"]),
        crop_offset=tuple(draws["crop_yx"]),
        flip=draws["flip_u"] < 0.5,
        jitter_order=tuple(draws["jitter_order"]),
        jitter_factors=tuple(1 + offset for offset in draws["jitter_offsets"]),
    )
    height, width = case.frames.shape[1:3]
    y, x, high, wide = source_box(
        height,
        width,
        short_side=look.short_side,
        crop_offset=look.crop_offset,
        crop_size=case.crop_size,
    )
    params = video_params(look, source_size=(height, width), box_offset=(y, x))
    clips = augment(
        torch.from_numpy(case.frames[None, :, y : y + high, x : x + wide].copy()),
        torch.tensor([[high, wide]]),
        {name: torch.from_numpy(value[None]) for name, value in params.items()},
        crop_size=case.crop_size,
    )
    clip = clips[0].numpy()
    rows, columns = case.stride
    per_frame = clip.astype(np.float64)
    return {
        "out_shape": clip.shape,
        "out_sub": clip[:, :, ::rows, ::columns],
        "out_stats_per_frame": np.stack([per_frame.mean((2, 3)), per_frame.std((2, 3))]),
    }


@golden.kind("color_op")
def _(case: Case) -> dict[str, Any]:
    """One operation is the jitter with factors 1 for the others; grayscale is saturation 0."""
    names = ["brightness", "contrast", "saturation"]
    op, factor = ("saturation", 0.0) if case.op == "grayscale" else (case.op, case.factor)
    order = [names.index(op), *(k for k, name in enumerate(names) if name != op)]
    x = torch.from_numpy(case.x)
    how, clips = ("released", x) if case.layout == "cthw" else ("per_frame", x.transpose(0, 1))
    factors = torch.tensor([[factor, 1.0, 1.0]])
    out = jitter(clips[None].clone(), torch.tensor([order]), factors, how=how)[0]
    return {"out": out.numpy() if case.layout == "cthw" else out.transpose(0, 1).numpy()}


def masks_of(rows: Sequence[Sequence[float]]) -> Tensor:
    """Draws [width, first] to rows (first, width), for a batch of one clip."""
    return torch.tensor([[first, int(width)] for width, first in rows]).reshape(1, -1, 2).long()


@golden.kind("spec_augment")
def _(case: Case) -> dict[str, Any]:
    rows, frequency_masks = case.draws["masks"], case.num_freq_masks
    marked = masked(
        torch.ones(case.shape), masks_of(rows[:frequency_masks]), masks_of(rows[frequency_masks:])
    )[0]
    zero = (marked == 0).numpy()
    return {
        "mask_zero_rows": np.flatnonzero(zero.all(axis=1)),
        "mask_zero_cols": np.flatnonzero(zero.all(axis=0)),
    }


@golden.kind("spectrogram")
def _(case: Case) -> dict[str, Any]:
    draws = case.draws
    num_samples = case.num_sec * case.sample_rate
    part = sound_slice(
        case.fr_sec + (draws["temporal_jitter"] or 0.0),
        num_samples=num_samples,
        stored_samples=len(case.wave),
        rate_hz=case.sample_rate,
        when_short="released" if case.released else "zeros",
    )
    wave = case.wave[part].astype(np.float32) / 32768
    if not case.released:
        wave = np.pad(wave, (0, num_samples - len(wave)))
    frequency_masks = case.aug_audio[0] if case.aug_audio else 0
    params = {
        "volume": torch.tensor([draws["volume"] or 1.0], dtype=torch.float64),
        "frequency_masks": masks_of(draws["masks"][:frequency_masks]),
        "time_masks": masks_of(draws["masks"][frequency_masks:]),
    }
    found = spectrograms(
        torch.from_numpy(wave)[None],
        params,
        sample_rate_hz=case.sample_rate,
        num_filters=case.num_filters,
        z_normalize=case.z_normalize,
    )[0].numpy()
    whole = found.astype(np.float64)
    rows, columns = case.stride
    return {
        "shape": found.shape,
        "spec": found[:, ::rows, ::columns],
        "mean_std": [whole.mean(), whole.std()],
        "row_mean": whole[0].mean(axis=1),
    }


@golden.kind("gdt_nce")
def _(case: Case) -> dict[str, Any]:
    hypothesis, options = HYPOTHESES[case.hypothesis], {"negatives": case.negatives}
    parts = {m: [torch.from_numpy(x) for x in case.features[m]] for m in ("v", "a")}
    own = {m: ranks[case.local_rank].requires_grad_() for m, ranks in parts.items()}
    others = [rank for rank in range(case.world_size) if rank != case.local_rank]

    def remote(modality: str) -> Copies:
        ranks = [parts[modality][rank] for rank in others]
        return {copy: torch.cat([x[copy] for x in ranks]) for copy in hypothesis.copies}

    found = gdt_loss(
        *({copy: own[m][copy] for copy in hypothesis.copies} for m in ("v", "a")),
        remote_v=remote("v"),
        remote_a=remote("a"),
        hypothesis=case.hypothesis,
        temperature=case.temperature,
        **options,
    )
    found.loss.backward()
    terms, negatives = [], []
    for call, (pair, plan) in enumerate(
        zip(hypothesis.pair_losses, plan_terms(case.hypothesis, **options), strict=True)
    ):
        for term in plan:
            rows = negative_rows(term, case.local_rank, others, case.batch)
            role = int(term.query_copy != pair.copies[0])
            sides = ("va".index(term.query), term.query_copy, "va".index(term.key), term.key_copy)
            terms.append((call, role, *sides, len(rows)))
            negatives += rows
    return {
        "loss": found.loss,
        "call_losses": found.call_losses,
        "grad_v": own["v"].grad,
        "grad_a": own["a"].grad,
        "terms": terms,
        "negatives": negatives,
    }


def negative_rows(
    term: Term, local_rank: int, others: Sequence[int], batch: int
) -> list[tuple[int, int, int, int]]:
    """(modality, rank, copy, sample) of all extra negatives of a softmax."""
    copies = [(local_rank, copy) for copy in term.local_negatives]
    copies += [(rank, copy) for copy in term.remote_negatives for rank in others]
    modality = "va".index(term.key)
    return [(modality, rank, copy, sample) for rank, copy in copies for sample in range(batch)]


@golden.kind("schedule_epoch")
def _(case: Case) -> dict[str, Any]:
    options = {
        "epochs": case.epochs,
        "multiplier": case.multiplier,
        "warmup_epochs": case.warmup_epochs,
        "kind": case.type,
        "milestones": case.milestones,
        "gamma": case.gamma,
    }
    if case.released:
        options["warm_up"] = "released"
    epochs = range(case.epochs)
    return {"lr": [[epoch_rate(e, base, **options) for base in case.base_lrs] for e in epochs]}


test_reference = golden.parametrised()


def test_nothing_depends_on_the_names_in_a_folder(tmp_path: Path) -> None:
    check_renamed(golden, tmp_path)


def test_every_kind_has_an_adapter() -> None:
    """Kinds are shared among the test files called test_golden*."""
    tests = Path(__file__).parent
    text = "".join(path.read_text() for path in tests.glob("test_golden*.py"))
    cases = load_cases(tests / "golden")
    assert {case.kind for case in cases} == set(re.findall(r'@golden\.kind\("(\w+)"\)', text))
