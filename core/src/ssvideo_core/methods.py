"""What a method is to the rest of the project: pure data, found by its entry point.

A package registers its `Method` under the entry point group `ssvideo.methods`. Nothing here
imports a method's framework: `encoder` is resolved when an encoder is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError
from ssvideo_core.views import ClipSpec

ENTRY_POINT_GROUP = "ssvideo.methods"
DESCRIBE_SCHEMA = 1


class Encoder(Protocol):
    """A frozen network of one modality.

    embed: uint8 [B, T, S, S, 3] (rgb and colour-coded flow) or float32 [B, N] in [-1, 1] (sound)
        to float32 [B, feature_size]; normalisation and spectrograms happen inside. Raises
        ValueError for another dtype or shape. The same clip gives the same row in any batch (1e-5).
    clip: what `embed` expects; a caller may replace it before the first call (--frames, --size).
    fingerprint: sha256 over the encoder's tensors (`weights.fingerprint`).
    """

    clip: ClipSpec
    feature_size: int
    fingerprint: str

    def embed(self, clips: NDArray[Any]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class PublishedWeights:
    """A file the paper's authors published.

    architecture: the options with which `load_encoder` builds the network.
    sha256: None while unknown. licence: as its authors state it, or "not stated".
    """

    name: str
    address: str
    file: str
    licence: str
    modalities: tuple[str, ...] = ("rgb",)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Method:
    """Everything other packages know of a method.

    name: of the import package. encoder: "module:function" of its `load_encoder`.
    backbones: what the default encoder of each modality is called in tables.
    convert: "module:function" of `convert(source, target, architecture)` between the published and
    our format, or "". protocols, commands: own protocol, own subcommand to the module whose
    `main(argv)` runs it. Recipes live as TOML files in `NAME/recipes/`.
    """

    name: str
    title: str
    arxiv: tuple[str, ...]
    framework: str
    encoder: str
    backbones: Mapping[str, str]
    weights: tuple[PublishedWeights, ...] = ()
    convert: str = ""
    protocols: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    version: str = "0"

    def load_encoder(self, weights: str, **options: Any) -> Encoder:
        """Resolve `encoder` and call it. Imports the framework."""
        return resolve(self.encoder)(weights, **options)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        """A JSON-ready description; the only thing another process needs to drive the method."""
        return {"schema": DESCRIBE_SCHEMA, **asdict(self)}


def resolve(reference: str) -> Callable[..., Any]:
    """Import "module:name". Raises ConfigError when the reference is not of that form."""
    module, separator, name = reference.partition(":")
    if not separator:
        raise ConfigError(f"'{reference}' is not of the form module:function")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def discover() -> dict[str, Method]:
    """The installed methods by name, sorted. Imports each package, but no framework."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {name: found[name].load() for name in sorted(found)}
