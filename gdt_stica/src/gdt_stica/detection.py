"""Which network a file holds, by the names and shapes of its tensors and the flags stored in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from ssvideo_core.errors import WeightsError

from gdt_stica.architecture import AUDIO_BLOCKS, VIDEO_BLOCKS, choices
from gdt_stica.sides import FINE_POOLING, POOLING

Tensors = Mapping[str, NDArray[Any]]
WORDS = "text_network.word_embd.weight"


def detect(tensors: Tensors, path: Path) -> dict[str, Any]:
    """The options that names and shapes tell.

    Raises WeightsError when they are of no network here, listing the choices.
    """
    video = next(
        (p for p in ("video_network.base.", "base.") if f"{p}stem.0.weight" in tensors), ""
    )
    audio = "audio_network.base." if "audio_network.base.conv1.weight" in tensors else ""
    if not video and not audio:
        raise WeightsError(
            f"{path}: no tensor is called video_network.base.*, audio_network.base.* or base.*; "
            f"the names start with {name_starts(tensors)}. Architectures that can be read: "
            f"{choices()}"
        )
    found = _model(tensors, video) | _pooling(tensors)
    if video:
        found["vid_base_arch"] = _trunk(tensors, video, VIDEO_BLOCKS, path)
        found["width"] = _channels(tensors, f"{video}stem.3.weight", path) / 64
    if audio:
        found["aud_base_arch"] = _trunk(tensors, audio, AUDIO_BLOCKS, path)
        found.setdefault("width", _channels(tensors, f"{audio}conv1.weight", path) / 64)
    if WORDS in tensors:
        found["embedding_rows"] = _channels(tensors, WORDS, path)
    if "mlp_v.weight" in tensors or "mlp_a.weight" in tensors:
        found["use_mlp"] = False
    for name, use_bn in (("linear_layer.weight", True), ("classifier.weight", False)):
        if name in tensors:
            found |= {"num_classes": _channels(tensors, name, path), "use_bn": use_bn}
    return found


def told_by_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Of an original's flags those that its tensors do not tell."""
    switches = ("norm_feat", "z_normalize", "use_l2_norm", "use_dropout")
    found: dict[str, Any] = {n: flags[n] for n in switches if isinstance(flags.get(n), bool)}
    numbers = ("num_head", "transformer_time_dim")
    found |= {n: flags[n] for n in numbers if type(flags.get(n)) is int}
    if isinstance(flags.get("aud_spec_type"), int):
        found["aud_spec_type"] = 1 if flags["aud_spec_type"] == 1 else 2
    return found


def name_starts(tensors: Tensors) -> str:
    """The first parts of the names, for messages."""
    starts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in tensors))
    return ", ".join(starts[:8]) + (", …" if len(starts) > 8 else "")


def _model(tensors: Tensors, video: str) -> dict[str, Any]:
    """Nothing where names do not tell: STiCA without a transformer has those of "av_gdt"."""
    starts = {name.split(".")[0] for name in tensors}
    if video == "base.":
        stica = {"base": "stica"} if "pooling_arch" in starts else {}
        return {"model": "finetune", **stica}
    if "video_pooling" in starts:
        return {"model": "stica"}
    return {"model": "vid_text_gdt"} if starts & {"text_network", "mlp_t"} else {}


def _pooling(tensors: Tensors) -> dict[str, Any]:
    """Of STiCA's transformer what its names tell; not the heads, nor the number of tokens."""
    names = [name for name in tensors if name.startswith((POOLING, FINE_POOLING))]
    layers = {m[1] for name in names if (m := re.search(r"\.transformer\.(\d+)\.", name))}
    return {
        "num_layer": len(layers),
        "positional_emb": any(".pos_embs." in name for name in names),
        "qkv_mha": any(".mha.v_lin." in name for name in names),
    }


def _trunk(tensors: Tensors, prefix: str, known: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """The trunk whose numbers of blocks per layer are those in the names."""
    blocks = [
        len({m[1] for name in tensors if (m := re.match(rf"{prefix}layer{k}\.(\d+)\.", name))})
        for k in (1, 2, 3, 4)
    ]
    for name, counts in known.items():
        if tuple(blocks) == counts:
            return name
    listed = "; ".join(f"{name}: {list(counts)}" for name, counts in known.items())
    raise WeightsError(f"{path}: {prefix}layer1 to 4 have {blocks} blocks; expected {listed}")


def _channels(tensors: Tensors, name: str, path: Path) -> int:
    if name not in tensors or tensors[name].ndim < 2:
        shape = tensors[name].shape if name in tensors else "absent"
        raise WeightsError(f"{path}: '{name}' is {shape}, expected the weights of a layer")
    return int(tensors[name].shape[0])
