"""What the rest of the project knows of this method; pure data."""

from __future__ import annotations

from ssvideo_core.methods import Method

METHOD = Method(
    name="sixth_method",
    title="Histograms of colour and of change",
    arxiv=(),
    framework="numpy",
    encoder="sixth_method.encoder:load_encoder",
    backbones={"rgb": "histogram"},
    version="0.1.0",
)
